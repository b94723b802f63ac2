"""The command line: `sideways train`, `sideways demo` and those that only print. Each command is one function."""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sideways.backend import BACKENDS
from sideways.config import OPTIMIZERS, RULES, Config
from sideways.data import TASKS
from sideways.demo import demo
from sideways.errors import DivergedError, InputError
from sideways.metrics import mean_and_spread
from sideways.models import MODELS, build_model
from sideways.recipes import load_recipe, recipe_names
from sideways.training import Result, train_many

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 if training diverged, 2 for bad input, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except InputError as error:
        print(f"sideways: {error}", file=sys.stderr)
        return 2
    except DivergedError as error:
        print(f"sideways: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sideways: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sideways",
        description="Train deep networks on video streams without ever stopping for a backward pass.",
        epilog="Try: sideways demo; sideways train waves-skip; sideways summary vgg8-skip.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser(
        "train",
        help="train a network and evaluate it on held-out clips",
        description="Train a network on a task with a rule, evaluate it on held-out clips, write runs/NAME/.",
        epilog="Examples: sideways train pan-skip --seeds 3; sideways train waves-skip --rule bptt --clips 100; "
        'sideways train pan-skip --set \'task_options.videos=["a.mp4", "b.mp4"]\' --set optimizer.name=sgd',
    )
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
    command.add_argument(
        "--seeds", type=int, default=1, help="run this many seeds, from --seed on; prints mean and spread"
    )
    command.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="runs side by side (default: the cores)"
    )
    command.set_defaults(run=_train)

    command = commands.add_parser("demo", help="the rules side by side, on moving waves and on real video")
    command.add_argument("--quick", action="store_true", help="a tenth of the clips: shows that it runs, learns little")
    command.add_argument(
        "--out", default="runs/demo", help="the directory to write (default: runs/demo)", metavar="DIR"
    )
    command.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="runs side by side (default: the cores)"
    )
    command.set_defaults(run=lambda options: demo(Path(options.out), options.quick, options.processes))

    command = commands.add_parser("models", help="list the networks")
    command.set_defaults(run=lambda options: _print_names(MODELS))

    command = commands.add_parser("recipes", help="list the recipes")
    command.set_defaults(run=lambda options: _print_names({n: load_recipe(n)["summary"] for n in recipe_names()}))

    command = commands.add_parser("summary", help="a network's units: shapes, costs, and the static schedule")
    command.add_argument("model", help="a name (see: sideways models)")
    command.add_argument(
        "--size", type=int, nargs="+", default=[112, 112, 3], help="H W C of a frame (default: 112 112 3)"
    )
    command.add_argument("--classes", type=int, default=101, help="width of the output (default: 101)")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the model")
    command.set_defaults(run=_summary)
    return parser


def _train(options: argparse.Namespace) -> None:
    tables = load_recipe(options.recipe)
    for name in OVERRIDES:
        if getattr(options, name) is not None:
            tables[name] = getattr(options, name)
    for assignment in options.set:
        _assign(tables, assignment)
    if options.lr is not None:
        tables.setdefault("optimizer", {"name": "adam"})["learning_rate"] = options.lr
    if options.optimizer is not None:
        tables.setdefault("optimizer", {})["name"] = options.optimizer
    if options.update_every is not None:
        tables["update_every"] = int(options.update_every) if options.update_every.isdigit() else options.update_every
    config = Config.from_tables(tables, f"recipe {options.recipe}")
    if options.seeds < 1 or options.processes < 1:
        raise InputError("--seeds and --processes must be at least 1")
    directory = _directory(Path(options.runs), options.name, Path(options.recipe).stem)
    seeds = range(config.seed, config.seed + options.seeds)
    jobs = [
        (replace(config, seed=seed), directory / f"seed-{seed}" if options.seeds > 1 else directory) for seed in seeds
    ]
    results = train_many(jobs, options.processes, directory.name)
    for (job, _), result in zip(jobs, results, strict=True):
        print(f"seed {job.seed}: {_in_words(result)}")
    if len(results) > 1:
        mean, spread = mean_and_spread([result.accuracy for result in results])
        print(f"held-out accuracy, {len(results)} seeds: mean {mean:.3f}, standard deviation {spread:.3f}")
    print(f"written to {directory}")


def _in_words(result: Result) -> str:
    return (
        f"held-out accuracy {result.accuracy:.3f} ± {result.accuracy_error:.3f} on {result.samples} clips "
        f"(chance {result.chance:.2f}), {result.milliseconds_per_frame:.3f} ms per frame, "
        f"{result.activation_megabytes:.1f} MB of activations"
    )


def _directory(runs: Path, name: str | None, recipe: str) -> Path:
    """runs/NAME, or the first free of runs/RECIPE-1, -2, …"""
    if name is not None:
        if (runs / name).exists():
            raise InputError(f"{runs / name} exists already: choose another --name, or remove it")
        return runs / name
    number = 1
    while (runs / f"{recipe}-{number}").exists():
        number += 1
    return runs / f"{recipe}-{number}"


def _summary(options: argparse.Namespace) -> None:
    tables: dict[str, Any] = {}
    for assignment in options.set:
        _assign(tables, assignment)
    print(build_model(options.model, tuple(options.size), options.classes, **tables).summary())


def _assign(tables: dict[str, Any], assignment: str) -> None:
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


def _print_names(names: dict[str, str]) -> None:
    width = max(map(len, names))
    for name, words in names.items():
        print(f"{name:<{width}}  {words}")
