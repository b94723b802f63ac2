"""`sideways doctor`: what this machine has, and what is missing."""

from __future__ import annotations

import argparse
import sys

from sideways.doctor import doctor

HELP = "show what this machine has, and which backend will therefore be used"


def add(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no options."""
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the table; exit code 1 if the default backend cannot run."""
    sys.exit(doctor())
