"""The options that say what a run is, and the `Config` they ask for: of `sideways train` and of `python -m mpi`."""

from __future__ import annotations

import argparse
import inspect
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from sideways.backend import BACKENDS
from sideways.data import TASKS
from sideways.errors import InputError
from sideways.models import MODELS
from sideways.training.build import OPTIMIZERS, RULES
from sideways.training.checkpoint import find, is_run, read_meta, run_of
from sideways.training.config import Config
from sideways.training.recipes import load_recipe

Number = TypeVar("Number", int, float)

DEFAULT, OF_VIDEOS, OF_STREAMS = "waves-skip", "videos-small-skip", "stream-predictor-skip"  # recipes, if none is named
OVERRIDES = {  # option → (type, what it sets, in words)
    "model": (str, f"network: {', '.join(MODELS)}"),
    "rule": (str, f"learning rule: {', '.join(RULES)}"),
    "task": (str, f"what is learnt: {', '.join(TASKS)}"),
    "clips": (int, "number of training clips (batches)"),
    "batch": (int, "samples in each clip"),
    "seed": (int, "of initial weights and data; the same seed gives the same run, bit for bit"),
    "boundary": (str, "between clips: flush (each starts afresh) or stream (no gap)"),
    "target_delay": (int, "the loss at tick t uses the target of tick t - this; default: the latency"),
    "dtype": (str, "float32 or float64"),
    "backend": (str, f"{' or '.join(BACKENDS)}"),
    "threads": (int, "BLAS threads; 1 repeats bit for bit on any machine of the same type"),
    "horizon": (int, "predict the frame this many ticks ahead instead of the class"),
    "init": (str, "start from the parameters in this file of `sideways export`"),
    "workers": (int, "processes that decode videos ahead; they change nothing but the speed"),
    "checkpoint_every": (int, "ticks between checkpoints; 0: only one at the end (and after Ctrl-C)"),
    "cosine_every": (int, "clips between measurements of each unit's cosine to the exact gradient; 0: never"),
    "evaluate_every": (int, "clips between evaluations on held-out clips; 0: only at the end"),
    "evaluation_clips": (int, "batches of held-out clips in each evaluation; 0: all there are"),
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def add_run_options(command: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    command.add_argument(
        "recipe",
        nargs="?",
        help=f"a name (see: sideways recipes), a .toml file or a run's config.json (default: {DEFAULT}; "
        f"with --data {OF_VIDEOS}, with --data stream:… {OF_STREAMS})",
    )
    for name, (kind, words) in OVERRIDES.items():
        command.add_argument(f"--{name.replace('_', '-')}", type=kind, help=words, metavar=kind.__name__.upper())
    command.add_argument(
        "--data",
        help="videos: ucf101:DIR, hmdb51:DIR, kinetics600:DIR or folder:DIR; stream:VIDEO or stream:/dev/video0",
        metavar="KIND:PATH",
    )
    command.add_argument(
        "--split", help="official split of the data set: 1, 2 or 3, or all: a run for each", metavar="N"
    )
    command.add_argument(
        "--resume",
        help="go on from the newest checkpoint of a run, or from one of them; only --workers and --data go with it",
        metavar="RUN",
    )
    command.add_argument("--lr", type=float, help="learning rate", metavar="FLOAT")
    command.add_argument("--optimizer", help=f"optimizer: {', '.join(OPTIMIZERS)}", metavar="STR")
    command.add_argument(
        "--update-every", help="ticks whose gradients are averaged for an update, or 'clip'", metavar="N"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="any other setting of a recipe (TOML value)",
    )
    command.add_argument("--name", help="the run directory is runs/NAME (default: the recipe's name and a number)")
    command.add_argument("--runs", default="runs", help="where run directories are made (default: runs)", metavar="DIR")


def config_of(options: argparse.Namespace) -> Config:
    """The recipe, changed by the other options, or the config of the run to resume. Raises `InputError`."""
    if options.resume is not None:
        return _resumed(options)
    stream = (options.data or "").startswith("stream:")
    options.recipe = options.recipe or (DEFAULT if options.data is None else OF_STREAMS if stream else OF_VIDEOS)
    tables = load_recipe(options.recipe)
    for name in OVERRIDES:
        if getattr(options, name) is not None:
            tables[name] = getattr(options, name)
    if options.data is not None:
        made_for, tables["task"] = tables.get("task"), "stream" if stream else "videos"
        others = set(tables.get("task_options", {})) - set(inspect.signature(TASKS[tables["task"]]).parameters)
        if others:
            raise InputError(
                f"recipe {options.recipe} is for task {made_for!r} ({', '.join(sorted(others))}) and takes no "
                f"--data; {OF_STREAMS if stream else OF_VIDEOS} does"
            )
        tables.setdefault("task_options", {})["data"] = options.data
    if options.split is not None:
        tables.setdefault("task_options", {})["split"] = split_number(options.split)
    for assignment in options.set:
        assign(tables, assignment)
    given = {"learning_rate": options.lr, "name": options.optimizer}
    if given := {key: value for key, value in given.items() if value is not None}:
        optimizer = tables.setdefault("optimizer", {"name": "adam"})
        if isinstance(optimizer, dict):  # else it is refused below, as all that should be tables
            optimizer |= given
    if options.update_every is not None:
        tables["update_every"] = int(options.update_every) if options.update_every.isdigit() else options.update_every
    return Config.from_tables(tables, f"recipe {options.recipe}")


def _resumed(options: argparse.Namespace) -> Config:
    others = [*OVERRIDES, "recipe", "split", "lr", "optimizer", "update_every", "set", "name"]
    if given := [name for name in others if name != "workers" and getattr(options, name) not in (None, [])]:
        raise InputError(
            f"--resume goes on with what the run was: leave out {given[0].replace('_', '-')}; only --workers may "
            "change, and --data where the same data lies elsewhere now"
        )
    options.resume = find(options.resume)
    run_of(options.resume)
    config = Config.from_tables(read_meta(options.resume)["config"], str(options.resume))
    config = replace(config, init="")  # its parameters have long been changed, and the file may be gone
    if options.data is not None:
        before = str(config.task_options.get("data", ""))
        if options.data.partition(":")[0] != before.partition(":")[0] or not before:
            raise InputError(f"--resume goes on with the same data: {before or config.task}, not {options.data}")
        config = replace(config, task_options=config.task_options | {"data": options.data})
    return config if options.workers is None else replace(config, workers=options.workers)


def positive(text: str) -> int:
    """At least 1."""
    return _number(text, int, lambda value: value >= 1, "a number of at least 1")


def count(text: str) -> int:
    """At least 0."""
    return _number(text, int, lambda value: value >= 0, "0 or a greater number")


def above_zero(text: str) -> float:
    """A time, or a rate."""
    return _number(text, float, lambda value: 0 < value < float("inf"), "a number above 0")


def _number(text: str, kind: Callable[[str], Number], fits: Callable[[Number], bool], wanted: str) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"{wanted} is wanted, not {text!r}")
    return value


def split_number(text: str) -> int:
    """The number of a split, or `InputError`."""
    if not text.isdecimal():
        raise InputError(f"--split must be the number of a split, or all, not {text!r}")
    return int(text)


def run_directory(options: argparse.Namespace, several: bool = False) -> Path:
    """runs/NAME, or the first free of runs/RECIPE-1, -2, …; with --resume, that run's.

    several: a folder of runs, which may be there already, for those of them that are missing.
    """
    if options.resume is not None:
        return run_of(options.resume)
    runs, name = Path(options.runs), options.name
    if name is not None:
        if not name or Path(name).name != name or name == "..":
            raise InputError(f"--name is the name of a folder to make in {runs}, not {name!r}")
        if (runs / name).exists() and not (several and (runs / name).is_dir() and not is_run(runs / name)):
            raise InputError(f"{runs / name} exists already: choose another --name, or remove it")
        return runs / name
    number, recipe = 1, Path(options.recipe).stem
    while (runs / f"{recipe}-{number}").exists():
        number += 1
    return runs / f"{recipe}-{number}"


def assign(tables: dict[str, Any], assignment: str) -> None:
    """Carry out `TABLE.KEY=VALUE` or `KEY=VALUE`; a value that is not TOML is taken as a string."""
    target, equals, text = assignment.partition("=")
    *path, key = target.strip().split(".")
    if not equals or not key or len(path) > 1:
        raise InputError(f"--set takes TABLE.KEY=VALUE, such as task_options.speed=1.5, not {assignment!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = tables.setdefault(path[0], {}) if path else tables
    if not isinstance(table, dict):
        raise InputError(f"--set {assignment}: {path[0]} is no table")
    table[key] = value
