"""`sideways recipes`: the recipes by name."""

from __future__ import annotations

import argparse

from sideways.tables import listed

HELP = "list the recipes"


def add(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no options."""
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print a line for each recipe."""
    from sideways.training.recipes import load_recipe, recipe_names

    print(listed({name: load_recipe(name)["summary"] for name in recipe_names()}))
