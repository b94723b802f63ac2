"""The options that say what a run is, and the `Config` they ask for: of `sideways train` and of `python -m mpi`."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from sideways.backend import BACKENDS
from sideways.config import OPTIMIZERS, RULES, Config
from sideways.data import TASKS
from sideways.errors import InputError
from sideways.models import MODELS
from sideways.recipes import load_recipe

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
    "evaluate_every": (int, "clips between evaluations on held-out clips; 0: only at the end"),
    "evaluation_clips": (int, "batches of held-out clips in each evaluation"),
}


def add_run_options(command: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    command.add_argument(
        "recipe", nargs="?", default="waves-skip", help="a name (see: sideways recipes) or a .toml file"
    )
    for name, (kind, words) in OVERRIDES.items():
        command.add_argument(f"--{name.replace('_', '-')}", type=kind, help=words, metavar=kind.__name__.upper())
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
    """The recipe, changed by the other options; `InputError` for what cannot be."""
    tables = load_recipe(options.recipe)
    for name in OVERRIDES:
        if getattr(options, name) is not None:
            tables[name] = getattr(options, name)
    for assignment in options.set:
        assign(tables, assignment)
    if options.lr is not None:
        tables.setdefault("optimizer", {"name": "adam"})["learning_rate"] = options.lr
    if options.optimizer is not None:
        tables.setdefault("optimizer", {})["name"] = options.optimizer
    if options.update_every is not None:
        tables["update_every"] = int(options.update_every) if options.update_every.isdigit() else options.update_every
    return Config.from_tables(tables, f"recipe {options.recipe}")


def run_directory(options: argparse.Namespace) -> Path:
    """runs/NAME, or the first free of runs/RECIPE-1, -2, …"""
    runs, name = Path(options.runs), options.name
    if name is not None:
        if not name or Path(name).name != name or name == "..":
            raise InputError(f"--name is the name of a folder to make in {runs}, not {name!r}")
        if (runs / name).exists():
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
