"""Files of parameters, which `sideways export` writes and `--init` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy

from sideways.backend import to_device, to_host
from sideways.errors import InputError
from sideways.network import Network

EMPTY = numpy.empty(0)


def start_from(network: Network, path: str) -> None:
    """Write the parameters and running statistics of a file into a network. A top of another shape stays as it is.

    Raises `InputError` if the file is unreadable, or if any other unit differs.
    """
    arrays = read_arrays(Path(path), f"--init {path}: not a file of parameters")
    for name, unit in network.units.items():
        own = unit.parameters | unit.state
        wrong = [key for key, array in own.items() if arrays.get(f"{name}/{key}", EMPTY).shape != array.shape]
        if wrong and unit is not network.top:
            array_in_file = arrays.get(f"{name}/{wrong[0]}")
            raise InputError(
                f"--init {path}: {name}/{wrong[0]} "
                f"{'is missing' if array_in_file is None else f'has shape {array_in_file.shape}'}, "
                f"expected is {own[wrong[0]].shape}; only the top, {network.top.name!r}, may differ"
            )
        if not wrong:
            for key, array in own.items():
                array[...] = to_device(arrays[f"{name}/{key}"], array.dtype)


def read_arrays(path: Path, refusal: str) -> dict[str, numpy.ndarray]:
    """Read the arrays of an .npz. Raises `InputError`: the refusal, and the reason in brackets."""
    try:
        with numpy.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # NumPy and its readers raise errors of many types for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{refusal} ({reason})") from None


def save_parameters(network: Network, path: Path) -> None:
    """Write parameters and running statistics to an .npz, as `"<unit>/<key>"` → array."""
    values: dict[str, Any] = {
        f"{name}/{key}": to_host(array)
        for arrays_of_units in (network.parameters, network.state)
        for name, arrays in arrays_of_units.items()
        for key, array in arrays.items()
    }
    numpy.savez(path, **values)
