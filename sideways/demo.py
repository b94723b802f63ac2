"""`sideways demo`: the rules side by side, on waves and then on real video; ends with a table and a plot."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from sideways.config import Config
from sideways.errors import InputError
from sideways.plots import plot_comparison
from sideways.recipes import load_recipe
from sideways.training import Result, train_many

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
        print(f"\n{title}: {clips_here} clips of 18 frames × 32 samples, one seed\n\n{table(results)}\n")
        runs[title] = {rule: [job[1]] for rule, job in zip(RULES, jobs, strict=True)}
        chance[title] = results[0].chance
    picture = directory / "accuracy.png"
    plot_comparison(runs, chance, picture)
    print(f"± is the standard error over held-out clips; ms per frame of one sample, {processes} runs side by side;")
    print("memory: peak of activations, scratch and messages while training on one clip.")
    if quick:
        print("A quick demo: too few clips to learn much. `sideways demo` trains on ten times as many.")
    print(f"Plot: {picture}   Runs: {directory}/")


def table(results: list[Result]) -> str:
    """The results of the rules, a row each, in the order of `RULES`."""
    width = max(map(len, RULES))
    lines = [f"{'rule':<{width}}  held-out accuracy  chance  ms/frame  peak activations"]
    for rule, result in zip(RULES, results, strict=True):
        score = f"{result.accuracy:.3f} ± {result.accuracy_error:.3f}"
        speed, memory = f"{result.milliseconds_per_frame:.3f}", f"{result.activation_megabytes or 0:.1f} MB"
        lines.append(f"{rule:<{width}}  {score:>17}  {result.chance:>6.2f}  {speed:>8}  {memory:>16}")
    return "\n".join(lines)
