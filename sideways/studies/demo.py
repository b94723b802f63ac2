"""`sideways demo`: six runs side by side on each of two tasks; on real video, one of them once more on two ranks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sideways.errors import InputError
from sideways.studies.mpirun import command_of, mpirun
from sideways.tables import aligned
from sideways.training.config import Config
from sideways.training.parameters import read_arrays
from sideways.training.recipes import load_recipe
from sideways.training.report.plots import plot_comparison
from sideways.training.report.result import Result, read_result
from sideways.training.several import train_many

RULES = {  # name in the table → variant of the recipe
    "Sideways, chain": "chain",
    "backpropagation per frame, chain": "backprop",
    "Skip-Sideways": "skip",
    "Delayed, every loss (n = 1)": "delayed",
    "Delayed, every 9th loss (n = 2D-1)": "marked",
    "exact bptt": "bptt",
}
OVER_RANKS = ("Delayed, every 9th loss, two ranks", "pan-marked")  # name in the table, and the recipe that runs again
TASKS = {  # recipe → (title, training clips)
    "waves": ("Direction of moving waves", 50),
    "pan": ("Direction of a pan over real video", 120),
}
QUICK = 10  # a quick demo trains on this many times fewer clips
HEAD = ("rule", "held-out accuracy", "ms/frame", "peak activations")
EXPLANATION = """\
Below the two chains, which see one frame at a time, all rows train the same network, which has a skip edge.
n: Delayed learns from the loss of every n-th tick. D: the depth of the network, here 5.
±: the standard error over held-out clips. ms/frame: for one sample, with {processes} runs side by side.
Peak: activations, scratch and messages while training on one clip."""


def demo(directory: Path, quick: bool, processes: int) -> None:
    """Train every rule on both tasks, one seed each; print a table for each task, and plot the accuracies.

    directory: receives the runs and the plot; the runs of an earlier demo are replaced. Raises `InputError` if the
    directory holds anything else, or if nothing here can start two ranks.
    """
    if directory.exists() and not (directory / "waves-chain" / "config.json").exists():
        raise InputError(f"{directory} exists and holds no demo: choose another --out")
    command_of(2)  # refuses now what would else be refused when most of the demo is over
    if directory.exists():
        shutil.rmtree(directory)
    runs, chance = {}, {}
    for task, (title, clips) in TASKS.items():
        jobs = [job(f"{task}-{variant}", clips, directory, quick) for variant in RULES.values()]
        results = dict(zip(RULES, train_many(jobs, processes, title), strict=True))
        config, comparison = jobs[0][0], ""
        if OVER_RANKS[1].startswith(task):
            results[OVER_RANKS[0]], comparison = on_two_ranks(directory / OVER_RANKS[1], config)
        runs[title] = {rule: [path] for rule, (_, path) in zip(RULES, jobs, strict=True)}
        chance[title] = next(iter(results.values())).chance or 0.0
        print(
            f"\n{title}, chance {chance[title]}: {config.clips} clips of 18 frames × {config.batch} samples, one seed"
        )
        print(f"\n{table(results)}\n")
        if comparison:
            print(f"{comparison}\n")
    picture = directory / "accuracy.png"
    plot_comparison(runs, chance, picture)
    print(EXPLANATION.format(processes=processes))
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


def on_two_ranks(run: Path, config: Config) -> tuple[Result, str]:
    """Repeat a run under `mpirun -n 2`, in a directory beside its own. Returns the result, and how the bits compare.

    run: the directory of the run, named after its recipe. config: says how many clips to train and to evaluate on.
    """
    again = run.with_name(f"{run.name}-2-ranks")
    print(f"{OVER_RANKS[0]} (mpirun -n 2):")
    options = ["--clips", str(config.clips), "--evaluation-clips", str(config.evaluation_clips)]
    print(mpirun(2, "sideways.mpi", [run.name, *options, "--runs", str(run.parent.absolute()), "--name", again.name]))
    return read_result(again / "results.json"), compared(run, again)


def compared(run: Path, over_ranks: Path) -> str:
    """Compare what a run in one process and its repetition on ranks have learnt, bit for bit, in a sentence."""
    one, other = (read_arrays(path / "parameters.npz", f"{path}: no parameters") for path in (run, over_ranks))
    bits = [
        {key: (array.dtype, array.shape, array.tobytes()) for key, array in arrays.items()} for arrays in (one, other)
    ]
    different = sorted(key for key in one.keys() | other if bits[0].get(key) != bits[1].get(key))
    if different:
        return f"Two ranks and one process have NOT learnt the same parameters: {', '.join(different)} differ."
    return f"Two ranks and one process have learnt the same parameters, bit for bit (compared: {len(one)} arrays)."


def table(results: Mapping[str, Result]) -> str:
    """A row for each rule."""
    return aligned(HEAD, [_row(rule, result) for rule, result in results.items()])


def _row(rule: str, result: Result) -> tuple[str, ...]:
    megabytes = result.activation_megabytes
    return (
        rule,
        f"{result.accuracy:.3f} ± {result.accuracy_error:.3f}",
        f"{result.milliseconds_per_frame:.3f}",
        "" if megabytes is None else f"{megabytes:.1f} MB",
    )
