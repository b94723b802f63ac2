"""The options of a run, for `sideways train` in one process and over ranks, and the `Config` that follows from them."""

from __future__ import annotations

import argparse
import inspect
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from sideways.backend import BACKENDS
from sideways.data.registry import TASKS
from sideways.data.store import GIGABYTES
from sideways.errors import InputError
from sideways.models import MODELS
from sideways.training.build import OPTIMIZERS, RULES
from sideways.training.checkpoint import RESUME, find, is_run, read_meta, run_of
from sideways.training.config import Config
from sideways.training.recipes import load_recipe
from sideways.validation import above_zero, is_text, shown, whole_number

# The recipes that are used if none is named: without --data, with files, and with a live stream.
DEFAULT, FOR_VIDEOS, FOR_STREAMS = "waves-skip", "videos-small-delayed", "stream-predictor-gated"
IN_BRACKETS = "Options replace settings of the recipe. Brackets show the setting where a recipe has none."
Setting = tuple[type, str]  # the type of the option, its help
SETTINGS: dict[str, dict[str, Setting]] = {  # group → setting of a recipe that an option of the same name changes
    "what is learnt": {
        "model": (str, f"network: {', '.join(MODELS)}"),
        "task": (str, f"task: {', '.join(TASKS)}"),
        "rule": (str, f"learning rule: {', '.join(RULES)}"),
        "horizon": (int, "predict the frame this many ticks ahead; 0: the class"),
        "init": (str, "start from the parameters in this file of `sideways export`"),
        "seed": (int, "seed of initial weights and data; the same seed gives the same run, bit for bit"),
    },
    "how it is learnt": {
        "clips": (int, "number of training clips (batches)"),
        "batch": (int, "samples in each clip"),
        "learn_every": (int, "for rule delayed: learn from one loss in this many; 2·depth-1 needs the least memory"),
        "boundary": (str, "between two clips: flush (each clip starts afresh) or stream (no gap)"),
        "target_delay": (int, "age in ticks of the target that the loss uses; if not given, the network's latency"),
    },
    "what is measured and kept": {
        "evaluate_every": (int, "clips between evaluations on held-out clips; 0: only at the end"),
        "evaluation_clips": (int, "batches of held-out clips in each evaluation; 0: all of a data set"),
        "cosine_every": (int, "clips between measurements of each unit's cosine to the exact gradient; 0: never"),
        "checkpoint_every": (int, "ticks between checkpoints; 0: only one at the end (and after Ctrl-C)"),
    },
    "the machine": {
        "backend": (str, f"{' or '.join(BACKENDS)}"),
        "dtype": (str, "float32 or float64"),
        "precision": (str, "of products on a GPU: float32, or tf32, which rounds their factors to 10 digits"),
        "cuda_graph": (bool, "give the ticks to the GPU as CUDA graphs; for rule sideways, in one process"),
        "threads": (int, "BLAS threads; 1 repeats bit for bit on any machine of the same type"),
        "workers": (int, "processes that decode videos or play Doom ahead of the training; they change only the speed"),
    },
}
NAMES = [name for group in SETTINGS.values() for name in group]
CACHE = ("cache", "cache_gb")  # options of tasks whose frames are decoded or played
METAVARS = {int: "N", str: "NAME"}


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the recipe, and the options that change its settings or resume a run."""
    parser.add_argument(
        "recipe",
        nargs="?",
        help=f"a name (see: sideways recipes), a .toml file or a run's config.json (default: {DEFAULT}; "
        f"with --data {FOR_VIDEOS}, with --data stream:… {FOR_STREAMS})",
    )
    defaults = {entry.name: entry.default for entry in fields(Config)}
    groups: dict[str, argparse._ArgumentGroup] = {}
    for title, settings in SETTINGS.items():
        groups[title] = group = parser.add_argument_group(title, IN_BRACKETS if not groups else None)
        for name, (kind, words) in settings.items():
            option = f"--{name.replace('_', '-')}"
            if kind is bool:
                group.add_argument(option, action="store_const", const=True, help=words)
                continue
            default = "" if defaults[name] in (None, "") else f" [{defaults[name]}]"
            reader = whole_number if kind is int else kind
            group.add_argument(option, type=reader, help=words + default, metavar=METAVARS[kind])
    what, how, _, machine = groups.values()
    what.add_argument(
        "--data",
        help="ucf101:DIR, hmdb51:DIR, kinetics600:DIR or folder:DIR; stream:VIDEO, stream:/dev/video0 or stream:doom",
        metavar="KIND:PATH",
    )
    what.add_argument(
        "--split", help="official split of the data set: 1, 2 or 3; all: one run for each split [1]", metavar="N"
    )
    machine.add_argument(
        "--cache",
        help="keep decoded videos, or clips of Doom, in this folder for other runs; it changes only the speed",
        metavar="DIR",
    )
    machine.add_argument(
        "--cache-gb", type=above_zero, help=f"gigabytes that the folder may take [{GIGABYTES:g}]", metavar="GB"
    )
    how.add_argument("--lr", type=float, help="learning rate [0.002]", metavar="RATE")
    how.add_argument("--optimizer", help=f"optimizer: {', '.join(OPTIMIZERS)} [adam]", metavar="NAME")
    how.add_argument(
        "--update-every", help="ticks whose gradients are averaged for an update, or 'clip' [clip]", metavar="N"
    )
    how.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="any other setting of a recipe (a TOML value)",
    )
    run = parser.add_argument_group("the run")
    run.add_argument("--name", help="the run directory is runs/NAME [the recipe's name and a number]")
    run.add_argument("--runs", default="runs", help="the folder of all run directories [runs]", metavar="DIR")
    run.add_argument(
        "--resume",
        help="go on from the newest checkpoint of a run, or from one of its checkpoints; only --workers, --cache, "
        "--cache-gb, --backend and --data may be given too",
        metavar="RUN",
    )


# The config ----------------------------------------------------------------------------------------------------------


def config_of(options: argparse.Namespace) -> Config:
    """Build the config of the recipe and the other options, or of the run to resume. Raises `InputError`."""
    if options.resume is not None:
        return _resumed(options)
    options.recipe = options.recipe or _default_recipe(options.data)
    tables = load_recipe(options.recipe)
    tables |= {name: getattr(options, name) for name in NAMES if getattr(options, name) is not None}
    if options.data is not None:
        _set_data(tables, options.recipe, options.data)
    if options.split is not None:
        tables.setdefault("task_options", {})["split"] = split_number(options.split)
    if cache := _cache_options(options):
        tables["task_options"] = tables.get("task_options", {}) | cache
    for assignment in options.set:
        assign(tables, assignment)
    _set_optimizer(tables, options.lr, options.optimizer)
    if options.update_every is not None:
        tables["update_every"] = value_of(options.update_every)
    return Config.from_tables(tables, f"recipe {options.recipe}")


def _default_recipe(data: str | None) -> str:
    if data is None:
        return DEFAULT
    return FOR_STREAMS if data.startswith("stream:") else FOR_VIDEOS


def _set_data(tables: dict[str, Any], recipe: str, data: str) -> None:
    """Set the task to `--data`. Raises `InputError` if the recipe has options that a task on videos does not take."""
    recipe_task, tables["task"] = tables.get("task"), "stream" if data.startswith("stream:") else "videos"
    options = tables.setdefault("task_options", {})
    if unsuitable := set(options) - set(inspect.signature(TASKS[tables["task"]]).parameters):
        raise InputError(
            f"recipe {recipe} is for task {recipe_task!r} ({', '.join(sorted(unsuitable))}) and takes no --data; "
            f"{_default_recipe(data)} does"
        )
    options["data"] = data


def _cache_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of a task that `--cache` and `--cache-gb` stand for."""
    return {name: value for name in CACHE if (value := getattr(options, name)) is not None}


def _set_optimizer(tables: dict[str, Any], learning_rate: float | None, name: str | None) -> None:
    options = {"learning_rate": learning_rate, "name": name}
    if changes := {key: value for key, value in options.items() if value is not None}:
        optimizer = tables.setdefault("optimizer", {"name": "adam"})
        if isinstance(optimizer, dict):  # `Config.from_tables` refuses any other value, as in --set optimizer=3
            optimizer |= changes


def _resumed(options: argparse.Namespace) -> Config:
    """The config of the run to resume. Sets `options.resume` to the checkpoint to go on from."""
    fixed = [*NAMES, "recipe", "split", "lr", "optimizer", "update_every", "set", "name"]
    for name in ("workers", "backend"):
        fixed.remove(name)
    if changed := [name for name in fixed if getattr(options, name) not in (None, [])]:
        raise InputError(
            f"--resume keeps the settings of the run: leave out {changed[0].replace('_', '-')}; only --workers, "
            "--cache and --backend may change, and --data if the same data now lies elsewhere"
        )
    options.resume = find(options.resume, RESUME)
    run_of(options.resume)
    config = Config.from_tables(read_meta(options.resume)["config"], str(options.resume))
    config = replace(config, init="")  # the checkpoint has the parameters, and the file of --init may be gone
    if options.data is not None:
        data_before = str(config.task_options.get("data", ""))
        if options.data.partition(":")[0] != data_before.partition(":")[0] or not data_before:
            raise InputError(f"--resume goes on with the same data: {data_before or config.task}, not {options.data}")
        config = replace(config, task_options=config.task_options | {"data": options.data})
    if options.workers is not None:
        config = replace(config, workers=options.workers)
    if cache := _cache_options(options):
        config = replace(config, task_options=config.task_options | cache)
    return config if options.backend is None else config.on(options.backend)


def split_number(text: str) -> int:
    """Read the number of a split, or raise `InputError`."""
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"--split must be the number of a split, or all, not {shown(text)}")
    return int(text)


def assign(tables: dict[str, Any], assignment: str) -> None:
    """Carry out `TABLE.KEY=VALUE` or `KEY=VALUE`; a value that is not TOML is taken as a string."""
    target, equals, text = assignment.partition("=")
    *path, key = target.strip().split(".")
    if not equals or not key or len(path) > 1:
        raise InputError(f"--set takes TABLE.KEY=VALUE, such as task_options.speed=1.5, not {assignment!r}")
    table = tables.setdefault(path[0], {}) if path else tables
    if not isinstance(table, dict):
        raise InputError(f"--set {assignment}: {path[0]} is not a table")
    table[key] = value_of(text)


def value_of(text: str) -> Any:
    """Read a TOML value; text that is not TOML stands for itself. Raises `InputError` for values beyond all sense."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError):  # Python reads no number of more than 4,300 digits
        raise InputError(
            f"{shown(text)} holds a number that is too long, or lists that are nested too deeply"
        ) from None


# The run directory ---------------------------------------------------------------------------------------------------


def run_directory(options: argparse.Namespace, several: bool = False) -> Path:
    """The directory to write: runs/NAME, the first free of runs/RECIPE-1, -2, …, or the directory of the resumed run.

    several: the directory is to hold several runs, and may already hold some of them.
    Raises `InputError` if --name cannot be the name of a folder, or if the directory exists.
    """
    if options.resume is not None:
        return run_of(options.resume)
    runs, name = Path(options.runs), options.name
    if name is not None:
        if not name or Path(name).name != name or name == ".." or not is_text(name):
            raise InputError(f"--name is the name of a folder to make in {runs}, not {shown(name)}")
        holds_runs = (runs / name).is_dir() and not is_run(runs / name)
        if (runs / name).exists() and not (several and holds_runs):
            raise InputError(f"{runs / name} exists already: choose another --name, or remove it")
        return runs / name
    number, recipe = 1, Path(options.recipe).stem
    while (runs / f"{recipe}-{number}").exists():
        number += 1
    return runs / f"{recipe}-{number}"
