"""`sideways explore`: a page on which the clock of a network can be stepped."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "open a page to play with: which frames meet in which unit, tick by tick"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the file to write, and an option not to open it."""
    parser.description = "Write one self-contained HTML page and open it: step the clock, click cells, edit the graph."
    parser.add_argument(
        "--out", default="explorer.html", metavar="FILE", help="the page to write (default: explorer.html)"
    )
    parser.add_argument("--no-open", action="store_true", help="write the page, but do not open it in a browser")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the page."""
    from sideways.explore.page import explore

    explore(Path(options.out), open_browser=not options.no_open)
