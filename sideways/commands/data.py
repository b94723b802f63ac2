"""`sideways data check` and `sideways data make`: data sets of videos."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from sideways.validation import above_zero, count, positive

HELP = "check a data set; write a small one to try"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the two actions."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    action = actions.add_parser("check", help="scan a data set: usable, missing, unreadable and too short files")
    action.add_argument("data", metavar="KIND:PATH", help="such as ucf101:/data/ucf101")
    action.add_argument("--split", default="all", metavar="N", help="1, 2, 3 or all (default: all)")
    action.add_argument(
        "--length", type=positive, default=64, metavar="T", help="frames that a video must have (default: 64)"
    )
    action.add_argument(
        "--fps", type=above_zero, default=25.0, help="frame rate at which frames are counted (default: 25)"
    )
    action.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="files at a time (default: one for each core)"
    )
    action.add_argument("--json", metavar="FILE", help="also write the report into this file")
    action.set_defaults(run=check)

    action = actions.add_parser("make", help="write a small, learnable set of videos in the layout of a real one")
    action.add_argument("kind", choices=("ucf101", "hmdb51", "kinetics600"))
    action.add_argument("out", metavar="OUT", help="a folder that does not exist yet, or is empty")
    action.add_argument(
        "--what",
        choices=("appearance", "motion", "actions"),
        default="appearance",
        help="classes that a single frame tells apart (default), that only motion tells apart, or five actions of "
        "people at a shelf, seen from the ceiling",
    )
    action.add_argument("--seed", type=count, default=0, help="the same seed makes the same videos (default: 0)")
    action.set_defaults(run=make)


def check(options: argparse.Namespace) -> None:
    """Print the table of a data set's files, and write the report if asked to."""
    from sideways.data.videos.check import check as check_videos
    from sideways.data.videos.check import table
    from sideways.data.videos.datasets import splits_of
    from sideways.training.options import split_number

    splits = splits_of(options.data) if options.split == "all" else [split_number(options.split)]
    report = check_videos(options.data, splits, options.length, options.fps, options.processes)
    print(table(report))
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")


def make(options: argparse.Namespace) -> None:
    """Write the videos, and print the command that trains on them."""
    from sideways.data.videos.make import make as make_videos
    from sideways.training.options import FOR_VIDEOS

    make_videos(options.kind, Path(options.out), options.what, options.seed)
    # A mirrored video keeps its class, unless the classes are directions of motion.
    mirrored = "" if options.what == "motion" else " --set task_options.flip=true"
    print(f"written to {options.out}; to train on it:")
    print(f"    sideways train {FOR_VIDEOS} --data {options.kind}:{options.out}{mirrored}")
