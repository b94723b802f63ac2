"""sideways.commands.export."""

from __future__ import annotations

from pathlib import Path

from sideways.errors import InputError
from sideways.training.checkpoint import find, load_trained
from sideways.training.parameters import save_parameters


def export(place: str, out: str) -> None:
    """All parameters and running statistics in one .npz: `"<unit>/<layer>.<name>"`, see `save_parameters`."""
    network = load_trained(find(place)).network
    if not out.endswith(".npz"):
        raise InputError(f"the file to write must end in .npz, not {out}")
    try:
        save_parameters(network, Path(out))
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    print(f"{sum(len(unit.parameters | unit.state) for unit in network.units.values())} arrays written to {out}")
