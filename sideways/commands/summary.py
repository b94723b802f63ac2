"""`sideways summary`: a network in numbers, unit by unit."""

from __future__ import annotations

import argparse
from typing import Any

from sideways.errors import InputError
from sideways.tables import aligned

HELP = "show a network's units: shapes, costs, and the static schedule"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the model, the frame and the options of the model."""
    parser.add_argument("model", help="a name (see: sideways models)")
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        default=[112, 112, 3],
        help="height, width and channels of a frame (default: 112 112 3)",
    )
    parser.add_argument("--classes", type=int, default=101, help="width of the output (default: 101)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the model")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the tables of schedule and memory."""
    from sideways.models import PREDICTORS, build_model
    from sideways.training.memory import table
    from sideways.training.options import assign

    tables: dict[str, Any] = {}
    for assignment in options.set:
        assign(tables, assignment)
    if refused := sorted({"input_shape", "classes"} & set(tables)):
        raise InputError(f"--set {refused[0]}: use --size and --classes instead")
    classes = None if options.model.partition("-")[0] in PREDICTORS else options.classes
    network = build_model(options.model, tuple(options.size), classes, **tables)
    rows = table(network)  # refuses frames whose activations do not fit into memory
    print(f"{network.summary()}\n")
    print(aligned(("unit", "saved MB", "scratch MB", "messages MB"), rows))
    print("for one sample: saved from forward to backward; scratch; messages of two ticks")
