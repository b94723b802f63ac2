"""`sideways demo`: four rules side by side on two tasks; on real video, Skip-Sideways runs once more on two ranks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from sideways.errors import InputError
from sideways.studies.mpirun import mpirun
from sideways.tables import aligned
from sideways.training.config import Config
from sideways.training.recipes import load_recipe
from sideways.training.report.plots import plot_comparison
from sideways.training.report.result import Result
from sideways.training.several import train_many

SKIP = "Skip-Sideways"
RULES = {  # name in the table → variant of the recipe
    "Sideways, chain": "chain",
    SKIP: "skip",
    "exact bptt, same skip network": "bptt",
    "backpropagation per frame, chain": "backprop",
}
TASKS = {  # recipe → (title, training clips)
    "waves": ("Direction of moving waves", 150),
    "pan": ("Direction of a pan over real video", 300),
}
QUICK = 10  # a quick demo trains on this many times fewer clips
HEAD = ("rule", "held-out accuracy", "chance", "ms/frame", "peak activations")


def demo(directory: Path, quick: bool, processes: int) -> None:
    """Train every rule on both tasks, one seed each; print a table for each task, and plot the accuracies.

    directory: receives the runs and the plot; the runs of an earlier demo are replaced. Raises `InputError` if the
    directory holds anything else.
    """
    if directory.exists():
        if not (directory / "waves-chain" / "config.json").exists():
            raise InputError(f"{directory} exists and holds no demo: choose another --out")
        shutil.rmtree(directory)
    runs, chance = {}, {}
    for task, (title, clips) in TASKS.items():
        jobs = {rule: job(f"{task}-{variant}", clips, directory, quick) for rule, variant in RULES.items()}
        results = train_many(list(jobs.values()), processes, title)
        config, run = jobs[SKIP]
        over_ranks = on_two_ranks(config, run) if task == "pan" else None
        print(f"\n{title}: {config.clips} clips of 18 frames × {config.batch} samples, one seed")
        print(f"\n{table(results, over_ranks)}\n")
        runs[title] = {rule: [path] for rule, (_, path) in jobs.items()}
        chance[title] = results[0].chance or 0.0
    picture = directory / "accuracy.png"
    plot_comparison(runs, chance, picture)
    print(f"± is the standard error over held-out clips; ms per frame of one sample, {processes} runs side by side;")
    print("memory: peak of activations, scratch and messages while training on one clip.")
    if quick:
        print("A quick demo: too few clips to learn much. `sideways demo` trains on ten times as many.")
    print(f"Plot: {picture}   Runs: {directory}/")


def job(recipe: str, clips: int, directory: Path, quick: bool) -> tuple[Config, Path]:
    """The config of a recipe with this many training clips, ten times fewer if quick, and its run's directory."""
    config = Config.from_tables(load_recipe(recipe), recipe)
    evaluation_clips = config.evaluation_clips
    if quick:
        clips, evaluation_clips = clips // QUICK, max(1, evaluation_clips // QUICK)
    return replace(config, clips=clips, evaluation_clips=evaluation_clips), directory / recipe


def on_two_ranks(config: Config, directory: Path) -> Result:
    """Repeat the run of this directory under `mpirun -n 2`, in a directory beside it."""
    name = f"{directory.name}-2-ranks"
    print("Skip-Sideways once more, with its units on two ranks (mpirun -n 2):")
    changed = {"clips": config.clips, "evaluation-clips": config.evaluation_clips}
    options = [part for option, value in changed.items() for part in (f"--{option}", str(value))]
    print(mpirun(2, "mpi", [directory.name, *options, "--runs", str(directory.parent.absolute()), "--name", name]))
    return Result(**json.loads((directory.parent / name / "results.json").read_text()))


def table(results: list[Result], over_ranks: Result | None = None) -> str:
    """A row for each rule, in the order of `RULES`, and one for Skip-Sideways on two ranks."""
    named = list(zip(RULES, results, strict=True))
    if over_ranks:
        named.append((f"{SKIP}, two ranks", over_ranks))
    return aligned(HEAD, [_row(rule, result) for rule, result in named])


def _row(rule: str, result: Result) -> tuple[str, ...]:
    megabytes = result.activation_megabytes
    return (
        rule,
        f"{result.accuracy:.3f} ± {result.accuracy_error:.3f}",
        f"{result.chance:.2f}",
        f"{result.milliseconds_per_frame:.3f}",
        "" if megabytes is None else f"{megabytes:.1f} MB",
    )
