"""`sideways demo`: the rules side by side, on waves, then on real video (there, one also over two ranks)."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from sideways.errors import InputError
from sideways.studies.mpirun import mpirun
from sideways.training.config import Config
from sideways.training.recipes import load_recipe
from sideways.training.report.plots import plot_comparison
from sideways.training.report.result import Result
from sideways.training.several import train_many

RULES = {  # what the table calls it → the ending of the recipe's name
    "Sideways, chain": "chain",
    "Skip-Sideways": "skip",
    "exact bptt, same skip network": "bptt",
    "backpropagation per frame, chain": "backprop",
}
TASKS = {"waves": ("Direction of moving waves", 150), "pan": ("Direction of a pan over real video", 300)}  # and clips
QUICK = 10  # how many times fewer clips a quick demo trains on


def demo(directory: Path, quick: bool, processes: int) -> None:
    """Train every rule on both tasks, one seed each; print a table for each task, and draw all of it."""
    if directory.exists():
        if not (directory / "waves-chain" / "config.json").exists():
            raise InputError(f"{directory} exists and holds no demo: choose another --out")
        shutil.rmtree(directory)
    runs = {}
    chance = {}
    for task, (title, clips) in TASKS.items():
        jobs = []
        for ending in RULES.values():
            name = f"{task}-{ending}"
            config = Config.from_tables(load_recipe(name), name)
            clips_here = clips // QUICK if quick else clips
            evaluation = max(1, config.evaluation_clips // QUICK) if quick else config.evaluation_clips
            jobs.append((replace(config, clips=clips_here, evaluation_clips=evaluation), directory / name))
        results = train_many(jobs, processes, title)
        config, _ = skip = jobs[list(RULES).index("Skip-Sideways")]
        over_ranks = on_two_ranks(*skip) if task == "pan" else None
        print(f"\n{title}: {clips_here} clips of 18 frames × {config.batch} samples, one seed")
        print(f"\n{table(results, over_ranks)}\n")
        runs[title] = {rule: [job[1]] for rule, job in zip(RULES, jobs, strict=True)}
        chance[title] = results[0].chance or 0.0
    picture = directory / "accuracy.png"
    plot_comparison(runs, chance, picture)
    print(f"± is the standard error over held-out clips; ms per frame of one sample, {processes} runs side by side;")
    print("memory: peak of activations, scratch and messages while training on one clip.")
    if quick:
        print("A quick demo: too few clips to learn much. `sideways demo` trains on ten times as many.")
    print(f"Plot: {picture}   Runs: {directory}/")


def on_two_ranks(config: Config, directory: Path) -> Result:
    """The same run under `mpirun -n 2`, in a directory beside it."""
    name = f"{directory.name}-2-ranks"
    print("Once more with its units on two ranks (mpirun -n 2):")
    changed = {"clips": config.clips, "evaluation-clips": config.evaluation_clips}
    options = [part for option, value in changed.items() for part in (f"--{option}", str(value))]
    print(mpirun(2, "mpi", [directory.name, *options, "--runs", str(directory.parent.absolute()), "--name", name]))
    return Result(**json.loads((directory.parent / name / "results.json").read_text()))


def table(results: list[Result], over_ranks: Result | None = None) -> str:
    """The results of the rules, a row each, in the order of `RULES`; then those of Skip-Sideways on two ranks."""
    rules = [*RULES, *(["Skip-Sideways, two ranks"] if over_ranks else [])]
    width = max(map(len, RULES))
    lines = [f"{'rule':<{width}}  held-out accuracy  chance  ms/frame  peak activations"]
    for rule, result in zip(rules, [*results, *([over_ranks] if over_ranks else [])], strict=True):
        score = f"{result.accuracy:.3f} ± {result.accuracy_error:.3f}"
        speed = f"{result.milliseconds_per_frame:.3f}"
        memory = "" if result.activation_megabytes is None else f"{result.activation_megabytes:.1f} MB"
        lines.append(f"{rule:<{width}}  {score:>17}  {result.chance:>6.2f}  {speed:>8}  {memory:>16}".rstrip())
    return "\n".join(lines)
