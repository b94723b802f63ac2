"""The command line: `sideways train`, `sideways demo` and those that only print. Each command is one function."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from sideways.bench.pipeline import latency, pipeline
from sideways.demo import demo
from sideways.errors import DivergedError, InputError
from sideways.metrics import mean_and_spread
from sideways.models import MODELS, build_model
from sideways.options import add_run_options, assign, config_of, run_directory
from sideways.recipes import load_recipe, recipe_names
from sideways.training import Result, train_many


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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
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
    add_run_options(command)
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

    _add_bench(commands.add_parser("bench", help="measure: several ranks, and the latency of learning"))

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


def _add_bench(parser: argparse.ArgumentParser) -> None:
    benches = parser.add_subparsers(title="what to measure", metavar="BENCH", required=True)
    for name, run, ticks, words in (
        ("pipeline", pipeline, 10, "frames/s of Sideways and of blocked backpropagation on 1 … K ranks"),
        ("latency", latency, 100, "what becomes of frames that arrive whether or not the learner is ready"),
    ):
        command = benches.add_parser(
            name, help=words, description=f"{words[0].upper()}{words[1:]}; starts mpirun itself."
        )
        command.add_argument("--ranks", type=int, nargs="+", default=[1, 2], metavar="K", help="default: 1 2")
        command.add_argument("--model", default="vgg8", help="default: vgg8")
        command.add_argument("--units", type=int, help="a mlp of this many equal units instead of the model")
        command.add_argument("--size", type=int, default=112, help="height and width of a frame (default: 112)")
        command.add_argument("--batch", type=int, default=8, help="samples of a frame (default: 8)")
        command.add_argument("--ticks", type=int, default=ticks, help=f"ticks of each measurement (default: {ticks})")
        command.add_argument("--placement", help="measure, estimate, or by hand such as 0-2,3-7")
        command.add_argument("--emulate-ms", type=float, help="emulate devices: each unit takes this long, idle")
        if name == "latency":
            command.add_argument(
                "--period-ms", type=float, default=20.0, help="a frame arrives this often (default: 20)"
            )
        command.add_argument("--json", metavar="FILE", help="also write the results here")
        command.set_defaults(run=lambda options, run=run: _bench(options, run))


def _bench(options: argparse.Namespace, run: Callable[[Sequence[int], Sequence[str], str | None], None]) -> None:
    names = ("model", "units", "size", "batch", "ticks", "placement", "emulate_ms", "period_ms")
    given = {name: getattr(options, name, None) for name in names}
    arguments = [part for name, value in given.items() if value for part in (f"--{name.replace('_', '-')}", str(value))]
    run(options.ranks, arguments, options.json)


def _train(options: argparse.Namespace) -> None:
    config = config_of(options)
    if options.seeds < 1 or options.processes < 1:
        raise InputError("--seeds and --processes must be at least 1")
    directory = run_directory(options)
    seeds = range(config.seed, config.seed + options.seeds)
    jobs = [
        (replace(config, seed=seed), directory / f"seed-{seed}" if options.seeds > 1 else directory) for seed in seeds
    ]
    results = train_many(jobs, options.processes, directory.name)
    for (job, _), result in zip(jobs, results, strict=True):
        print(f"seed {job.seed}: {in_words(result)}")
    if len(results) > 1:
        mean, spread = mean_and_spread([result.accuracy for result in results])
        print(f"held-out accuracy, {len(results)} seeds: mean {mean:.3f}, standard deviation {spread:.3f}")
    print(f"written to {directory}")


def in_words(result: Result) -> str:
    """A result in one line."""
    memory = result.activation_megabytes
    return (
        f"held-out accuracy {result.accuracy:.3f} ± {result.accuracy_error:.3f} on {result.samples} clips "
        f"(chance {result.chance:.2f}), {result.milliseconds_per_frame:.3f} ms per frame"
        + (f", {memory:.1f} MB of activations" if memory is not None else "")
    )


def _summary(options: argparse.Namespace) -> None:
    tables: dict[str, Any] = {}
    for assignment in options.set:
        assign(tables, assignment)
    if refused := sorted({"input_shape", "classes"} & set(tables)):
        raise InputError(f"--set {refused[0]}: --size and --classes say this")
    print(build_model(options.model, tuple(options.size), options.classes, **tables).summary())


def _print_names(names: dict[str, str]) -> None:
    width = max(map(len, names))
    for name, words in names.items():
        print(f"{name:<{width}}  {words}")
