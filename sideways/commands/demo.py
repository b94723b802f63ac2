"""`sideways demo`: the rules side by side."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HELP = "train the rules side by side, on moving waves and on real video"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the length of the demo, its folder and its processes."""
    parser.add_argument("--quick", action="store_true", help="a tenth of the clips: the demo runs, but learns little")
    parser.add_argument("--out", default="runs/demo", metavar="DIR", help="the folder to write (default: runs/demo)")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="runs at a time (default: one for each core)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the demo."""
    from sideways.studies.demo import demo

    demo(Path(options.out), options.quick, options.processes)
