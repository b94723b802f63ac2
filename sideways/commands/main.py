"""The command line: `sideways train`, `sideways demo` and those that only print. Each command is one function."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sideways.commands.bench import add_benches
from sideways.commands.compare import compare
from sideways.commands.evaluate import evaluate_checkpoint
from sideways.commands.export import export
from sideways.commands.predict import predict
from sideways.data.videos.check import check as check_videos
from sideways.data.videos.check import table as data_table
from sideways.data.videos.datasets import splits_of
from sideways.data.videos.make import make as make_videos
from sideways.doctor import doctor
from sideways.errors import DivergedError, InputError, Interrupted
from sideways.explore.gifs import plot_cycle, plot_skip
from sideways.explore.page import explore
from sideways.models import MODELS, PREDICTORS, build_model
from sideways.studies.claims.check import CLAIMS, DIRECTORY, check_claims
from sideways.studies.claims.verdict import NOT_RUN
from sideways.studies.demo import demo
from sideways.tables import aligned
from sideways.training.checkpoint import MISSING
from sideways.training.config import Config
from sideways.training.memory import table as memory_table
from sideways.training.metrics import mean_and_spread
from sideways.training.options import (
    Parser,
    above_zero,
    add_run_options,
    assign,
    config_of,
    count,
    positive,
    run_directory,
    split_number,
)
from sideways.training.recipes import load_recipe, recipe_names
from sideways.training.report.result import in_words
from sideways.training.several import go_on, train_many


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 if training diverged, 2 for bad input, 130 after Ctrl-C."""
    options = command_line().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold what is no text
    try:
        options.run(options)
    except InputError as error:
        print(f"sideways: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"sideways: {place}{error.strerror or error}", file=sys.stderr)
        return 2
    except DivergedError as error:
        print(f"sideways: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print(f"sideways: {str(stopped) or 'interrupted'}", file=sys.stderr)
        return 130
    return 0


def command_line() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = Parser(
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

    command = commands.add_parser("evaluate", help="a checkpoint on held-out videos: accuracies, each class, confusion")
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="a run, or one of its checkpoints")
    command.add_argument("--data", metavar="KIND:PATH", help="other videos of the same classes")
    command.add_argument("--split", type=int, metavar="N", help="another official split")
    command.add_argument("--out", metavar="DIR", help="write evaluation.json and confusion.png here")
    command.set_defaults(run=lambda o: evaluate_checkpoint(o.checkpoint, o.data, o.split, o.out))

    command = commands.add_parser("predict", help="a checkpoint on one video: classes per tick, or the frames to come")
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="a run, or one of its checkpoints")
    command.add_argument("video", metavar="VIDEO")
    command.add_argument("--out", metavar="DIR", help="the folder to write (default: predictions/VIDEO)")
    command.add_argument("--annotated", action="store_true", help="also a video with the probabilities beside it")
    command.add_argument("--seconds", type=float, help="only this much of the video", metavar="S")
    command.add_argument(
        "--roll-out", type=int, help="of a predictor: leave out the last K frames, predict them all", metavar="K"
    )
    command.set_defaults(run=lambda o: predict(o.checkpoint, o.video, o.out, o.annotated, o.seconds, o.roll_out))

    command = commands.add_parser("export", help="a checkpoint's parameters as one .npz, for --init and other programs")
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="a run, or one of its checkpoints")
    command.add_argument("out", metavar="OUT.npz")
    command.set_defaults(run=lambda o: export(o.checkpoint, o.out))

    command = commands.add_parser("compare", help="runs side by side: mean and spread over seeds, a table and a plot")
    command.add_argument("runs", nargs="+", metavar="RUN", help="a run, or a folder of runs, as --seeds makes")
    command.add_argument("--out", default="comparison.png", metavar="PNG", help="default: comparison.png")
    command.set_defaults(run=lambda o: compare(o.runs, o.out))

    _add_data(commands.add_parser("data", help="check a data set; write a small one to try"))

    command = commands.add_parser("demo", help="the rules side by side, on moving waves and on real video")
    command.add_argument("--quick", action="store_true", help="a tenth of the clips: shows that it runs, learns little")
    command.add_argument(
        "--out", default="runs/demo", help="the directory to write (default: runs/demo)", metavar="DIR"
    )
    command.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="runs side by side (default: the cores)"
    )
    command.set_defaults(run=lambda options: demo(Path(options.out), options.quick, options.processes))

    _add_claims(commands.add_parser("claims", help="the papers' claims, each an experiment with a verdict"))

    add_benches(commands.add_parser("bench", help="measure: several ranks, and the latency of learning"))

    _add_explore(commands.add_parser("explore", help="a page to play with: which frames meet where, tick by tick"))
    _add_plot(commands.add_parser("plot", help="animated pictures for lessons: an update cycle; a skip edge"))
    command = commands.add_parser("doctor", help="what this machine has, and what will therefore be used")
    command.set_defaults(run=lambda options: sys.exit(doctor()))

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


def _add_data(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="what to do", metavar="ACTION", required=True)
    command = actions.add_parser("check", help="scan a data set: usable, missing, unreadable and too short files")
    command.add_argument("data", metavar="KIND:PATH", help="such as ucf101:/data/ucf101")
    command.add_argument("--split", default="all", metavar="N", help="1, 2, 3 or all (default)")
    command.add_argument(
        "--length", type=positive, default=64, help="frames wanted of a video (default: 64)", metavar="T"
    )
    command.add_argument("--fps", type=above_zero, default=25.0, help="at this rate (default: 25)")
    command.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: the cores")
    command.add_argument("--json", metavar="FILE", help="also write the report here")
    command.set_defaults(run=_check_data)

    command = actions.add_parser("make", help="write a small, learnable set of videos in the layout of a real one")
    command.add_argument("kind", choices=("ucf101", "hmdb51", "kinetics600"))
    command.add_argument("out", metavar="OUT", help="a folder that is not there yet, or empty")
    command.add_argument(
        "--what",
        choices=("appearance", "motion"),
        default="appearance",
        help="classes that one frame can tell (default), or that only motion tells",
    )
    command.add_argument("--seed", type=count, default=0)
    command.set_defaults(run=_make_data)


def _add_explore(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write one self-contained HTML page and open it: step the clock, click cells, edit the graph."
    parser.add_argument("--out", default="explorer.html", metavar="FILE", help="default: explorer.html")
    parser.add_argument("--no-open", action="store_true", help="write it, open no browser")
    parser.set_defaults(run=lambda o: explore(Path(o.out), not o.no_open))


def _add_plot(parser: argparse.ArgumentParser) -> None:
    pictures = parser.add_subparsers(title="what to draw", metavar="PICTURE", required=True)
    for name, draw, words in (
        ("cycle", plot_cycle, "one update cycle of backpropagation and of Sideways, side by side"),
        ("skip", plot_skip, "a skip edge brings two frames together"),
    ):
        command = pictures.add_parser(name, help=words, description=f"An animated GIF: {words}.")
        command.add_argument("--out", default=f"{name}.gif", metavar="GIF", help=f"default: {name}.gif")
        command.set_defaults(run=lambda options, draw=draw: draw(Path(options.out)))


def _add_claims(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="claims to check; 'all' for all; none: list them")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", dest="effort", action="store_const", const="quick", help="few seeds, short runs")
    effort.add_argument("--full", dest="effort", action="store_const", const="full", help="hours; with --data, days")
    parser.add_argument("--seeds", type=int, metavar="N", help="default: what each experiment wants")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: the cores")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="KIND:PATH",
        help="a real data set, for recognition; may be repeated",
    )
    parser.add_argument("--out", default=str(DIRECTORY), metavar="DIR", help=f"default: {DIRECTORY}")
    parser.set_defaults(run=_claims, effort="normal")


def _claims(options: argparse.Namespace) -> None:
    if not options.names and options.effort == "normal":
        _print_names({name: f"{claim.words} ({claim.source})" for name, claim in CLAIMS.items()})
        print("\nsideways claims NAME… checks some, sideways claims all, --quick or --full all of them")
        return
    if options.processes < 1 or (options.seeds is not None and options.seeds < 1):
        raise InputError("--seeds and --processes must be at least 1")
    names = [] if options.names == ["all"] else options.names
    findings = check_claims(names, Path(options.out), options.effort, options.seeds, options.processes, options.data)
    if any(finding.verdict.word == NOT_RUN for finding in findings.values()):
        raise SystemExit(1)


def _train(options: argparse.Namespace) -> None:
    every_split = options.split == "all"
    if options.resume is not None and (every_split or options.seeds > 1):
        raise InputError(f"--resume goes on with one run; {MISSING.format(Path(options.resume).name)}")
    options.split = None if every_split else options.split
    config = config_of(options)
    splits: list[int | None] = [None]
    if every_split:
        splits = list(splits_of(str(config.task_options.get("data", ""))))
    if options.seeds < 1 or options.processes < 1:
        raise InputError("--seeds and --processes must be at least 1")
    several = options.seeds * len(splits) > 1
    directory = run_directory(options, several)
    jobs = list(_jobs(config, directory, range(config.seed, config.seed + options.seeds), splits))
    try:
        if several and directory.exists():
            results = go_on(jobs, options.processes, directory)
        else:
            results = train_many(jobs, options.processes, directory.name, options.resume)
    except Interrupted as stopped:
        raise Interrupted(f"interrupted; {MISSING.format(directory.name)}") if several else stopped from None
    for (job, place), result in zip(jobs, results, strict=True):
        print(f"{f'seed {job.seed}' if place == directory else place.name}: {in_words(result)}")
    accuracies = [result.accuracy for result in results if result.accuracy is not None]
    if len(accuracies) > 1:
        mean, spread = mean_and_spread(accuracies)
        print(f"held-out accuracy, {len(results)} runs: mean {mean:.3f}, standard deviation {spread:.3f}")
    print(f"written to {directory}")


def _jobs(
    config: Config, directory: Path, seeds: Sequence[int], splits: Sequence[int | None]
) -> Iterator[tuple[Config, Path]]:
    """One run for each seed and split; in folders of their own where there are several."""
    for seed in seeds:
        for split in splits:
            parts = [f"seed-{seed}"] if len(seeds) > 1 else []
            parts += [f"split-{split}"] if len(splits) > 1 else []
            options = config.task_options if split is None else config.task_options | {"split": split}
            yield replace(config, seed=seed, task_options=options), directory / "-".join(parts) if parts else directory


def _check_data(options: argparse.Namespace) -> None:
    splits = splits_of(options.data) if options.split == "all" else [split_number(options.split)]
    report = check_videos(options.data, splits, options.length, options.fps, options.processes)
    print(data_table(report))
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")


def _make_data(options: argparse.Namespace) -> None:
    make_videos(options.kind, Path(options.out), options.what, options.seed)
    mirrored = " --set task_options.flip=true" if options.what == "appearance" else ""  # no class changes by it
    print(f"written to {options.out}; to train on it:")
    print(f"    sideways train videos-small-skip --data {options.kind}:{options.out}{mirrored}")


def _summary(options: argparse.Namespace) -> None:
    tables: dict[str, Any] = {}
    for assignment in options.set:
        assign(tables, assignment)
    if refused := sorted({"input_shape", "classes"} & set(tables)):
        raise InputError(f"--set {refused[0]}: --size and --classes say this")
    classes = None if options.model.partition("-")[0] in PREDICTORS else options.classes
    network = build_model(options.model, tuple(options.size), classes, **tables)
    print(f"{network.summary()}\n")
    print(aligned(("unit", "saved MB", "scratch MB", "messages MB"), memory_table(network)))
    print("for one sample: saved from forward to backward; scratch; messages of two ticks")


def _print_names(names: dict[str, str]) -> None:
    width = max(map(len, names))
    for name, words in names.items():
        print(f"{name:<{width}}  {words}")
