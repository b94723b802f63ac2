"""`sideways models`: the networks by name."""

from __future__ import annotations

import argparse

from sideways.tables import listed

HELP = "list the networks"


def add(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no options."""
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print a line for each network."""
    from sideways.models import MODELS

    print(listed(MODELS))
