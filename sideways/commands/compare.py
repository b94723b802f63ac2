"""`sideways compare`: runs side by side."""

from __future__ import annotations

import argparse

HELP = "compare runs: mean and spread over seeds, as a table and a plot"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the runs and the plot to write."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run, or a folder of runs as --seeds makes it")
    parser.add_argument(
        "--out", default="comparison.png", metavar="PNG", help="the plot to write (default: comparison.png)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the table and write the plot."""
    from sideways.commands.compare_runs import compare_runs

    compare_runs(options.runs, options.out)
