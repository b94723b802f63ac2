"""`sideways train`: one run, or one run for each seed and each split."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sideways.errors import InputError, Interrupted
from sideways.training.config import Config
from sideways.training.report.result import Result, in_words
from sideways.validation import whole_number

MOST_SEEDS = 10_000
HELP = "train a network and evaluate it on held-out clips"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run, and the number of runs."""
    from sideways.training.options import add_run_options

    parser.description = (
        "Train a network on a task with a rule, evaluate it on held-out clips, and write the folder runs/NAME/. Under "
        "mpirun the units are spread over the ranks; `mpirun -n 2 sideways train --help` lists the options for that."
    )
    parser.epilog = (
        "Examples: sideways train pan-skip --seeds 3; sideways train waves-skip --rule bptt --clips 100; "
        'sideways train pan-skip --set \'task_options.videos=["a.mp4", "b.mp4"]\' --set optimizer.name=sgd'
    )
    add_run_options(parser)
    several = parser.add_argument_group("several runs")
    several.add_argument(
        "--seeds",
        type=whole_number,
        default=1,
        metavar="N",
        help="run this many seeds, from --seed on, and print mean and spread [1]",
    )
    several.add_argument(
        "--processes",
        type=whole_number,
        default=os.cpu_count() or 1,
        metavar="N",
        help="runs at a time [one for each core]",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Train every run and print a line for each, and mean and spread if there are several."""
    from sideways.data.videos.datasets import splits_of
    from sideways.training.checkpoint import RESUME_SEVERAL
    from sideways.training.options import config_of, run_directory
    from sideways.training.several import resume_several, train_many

    every_split = options.split == "all"
    if options.resume is not None and (every_split or options.seeds > 1):
        raise InputError(f"--resume goes on with one run; {RESUME_SEVERAL.format(Path(options.resume).name)}")
    options.split = None if every_split else options.split
    config = config_of(options)
    splits: list[int | None] = [None]
    if every_split:
        splits = list(splits_of(str(config.task_options.get("data", ""))))
    if options.seeds < 1 or options.processes < 1:
        raise InputError("--seeds and --processes must be at least 1")
    if options.seeds > MOST_SEEDS:
        raise InputError(f"--seeds must be at most {MOST_SEEDS}, not {options.seeds}")
    several = options.seeds * len(splits) > 1
    directory = run_directory(options, several)
    runs = list(_runs(config, directory, range(config.seed, config.seed + options.seeds), splits))
    try:
        if several and directory.exists():
            results = resume_several(runs, options.processes, directory)
        else:
            results = train_many(runs, options.processes, directory.name, options.resume)
    except Interrupted:
        if several:
            raise Interrupted(f"interrupted; {RESUME_SEVERAL.format(directory.name)}") from None
        raise
    names = [folder.name if several else f"seed {run_config.seed}" for run_config, folder in runs]
    _print_results(names, results)
    print(f"written to {directory}")


def _runs(
    config: Config, directory: Path, seeds: Sequence[int], splits: Sequence[int | None]
) -> Iterator[tuple[Config, Path]]:
    """One run for each seed and split, (config, folder); several runs have folders of their own in the directory."""
    for seed in seeds:
        for split in splits:
            parts = [f"seed-{seed}"] if len(seeds) > 1 else []
            parts += [f"split-{split}"] if len(splits) > 1 else []
            options = config.task_options if split is None else config.task_options | {"split": split}
            yield replace(config, seed=seed, task_options=options), directory / "-".join(parts) if parts else directory


def _print_results(names: Sequence[str], results: Sequence[Result]) -> None:
    from sideways.training.metrics import mean_and_spread

    for name, result in zip(names, results, strict=True):
        print(f"{name}: {in_words(result)}")
    accuracies = [result.accuracy for result in results if result.accuracy is not None]
    if len(accuracies) > 1:
        mean, spread = mean_and_spread(accuracies)
        print(f"held-out accuracy, {len(results)} runs: mean {mean:.3f}, standard deviation {spread:.3f}")
