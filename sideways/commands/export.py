"""`sideways export`: the parameters of a checkpoint in one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from sideways.errors import InputError

HELP = "write a checkpoint's parameters as one .npz, for --init and for other programs"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint and the file to write."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a run, or one of its checkpoints")
    parser.add_argument("out", metavar="OUT.npz", help="the file to write")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write all parameters and running statistics under the keys `"<unit>/<layer>.<name>"` of `save_parameters`."""
    from sideways.training.checkpoint import find, load_trained
    from sideways.training.parameters import save_parameters

    network = load_trained(find(options.checkpoint), "numpy").network
    if not options.out.endswith(".npz"):
        raise InputError(f"the file to write must end in .npz, not {options.out}")
    try:
        save_parameters(network, Path(options.out))
    except OSError as error:
        raise InputError(f"cannot write {options.out}: {error.strerror}") from None
    arrays = sum(len(unit.parameters | unit.state) for unit in network.units.values())
    print(f"{arrays} arrays written to {options.out}")
