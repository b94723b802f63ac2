"""`sideways explore`: a page of chapters on which frames pass through a network, and small networks learn."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "open a page to play with: which frames meet in which unit, and small networks that learn"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the file to write, and an option not to open it."""
    parser.description = (
        "Write one self-contained HTML page and open it: chapters with questions, frames that pass through the units "
        "tick by tick, and three small networks that learn in the page."
    )
    parser.add_argument(
        "--out", default="explorer.html", metavar="FILE", help="the page to write (default: explorer.html)"
    )
    parser.add_argument("--no-open", action="store_true", help="write the page, but do not open it in a browser")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the page."""
    from sideways.explore.page import explore

    explore(Path(options.out), open_browser=not options.no_open)
