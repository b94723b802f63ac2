"""`sideways plot cycle` and `sideways plot skip`: animated pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "draw animated pictures for lessons: an update cycle; a skip edge"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the two pictures."""
    pictures = parser.add_subparsers(title="pictures", metavar="PICTURE", required=True)
    for name, run, words in (
        ("cycle", cycle, "one update cycle of backpropagation and of Sideways, side by side"),
        ("skip", skip, "a skip edge brings two frames together"),
    ):
        picture = pictures.add_parser(name, help=words, description=f"An animated GIF: {words}.")
        picture.add_argument(
            "--out", default=f"{name}.gif", metavar="GIF", help=f"the file to write (default: {name}.gif)"
        )
        picture.set_defaults(run=run)


def cycle(options: argparse.Namespace) -> None:
    """Draw an update cycle."""
    from sideways.explore.gifs import plot_cycle

    plot_cycle(Path(options.out))


def skip(options: argparse.Namespace) -> None:
    """Draw a skip edge."""
    from sideways.explore.gifs import plot_skip

    plot_skip(Path(options.out))
