"""Files of parameters, which `sideways export` writes and `--init` reads."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy

from sideways.backend import to_device, to_host
from sideways.errors import InputError
from sideways.network import Network
from sideways.validation import shown

WIDEST = 16  # bytes of a number


def start_from(network: Network, path: str) -> None:
    """Write the parameters and running statistics of a file into a network. A top of another shape stays as it is.

    Raises `InputError` if the file is unreadable, or if any other unit differs. An array is read only if its file says
    that it has the expected shape, so that a small file that unpacks to a large one does no harm.
    """
    with _opened(path) as archive:
        for name, unit in network.units.items():
            own = unit.parameters | unit.state
            shapes = {key: _shape(archive, f"{name}/{key}", path) for key in own}
            wrong = [key for key, array in own.items() if shapes[key] != array.shape]
            if wrong and unit is not network.top:
                shape = shapes[wrong[0]]
                difference = "is missing" if shape is None else f"has shape {shown(shape)}"
                raise InputError(
                    f"--init {path}: {name}/{wrong[0]} {difference}, expected is {own[wrong[0]].shape}; "
                    f"only the top, {network.top.name!r}, may differ"
                )
            if not wrong:
                for key, array in own.items():
                    array[...] = to_device(_read(archive, f"{name}/{key}", path), array.dtype)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[zipfile.ZipFile]:
    with _refusing(path):
        archive = zipfile.ZipFile(path)
    with archive:
        yield archive


def _shape(archive: zipfile.ZipFile, name: str, path: str) -> tuple[int, ...] | None:
    """The shape of an array of numbers, from its header alone; None if the archive does not hold the array."""
    with _refusing(path):
        if f"{name}.npy" not in archive.namelist():
            return None
        with archive.open(f"{name}.npy") as file:
            first_version = numpy.lib.format.read_magic(file) == (1, 0)
            formats = numpy.lib.format
            read_header = formats.read_array_header_1_0 if first_version else formats.read_array_header_2_0
            shape, _, dtype = read_header(file)
            header = file.tell()
        nbytes = archive.getinfo(f"{name}.npy").file_size - header
        if dtype.kind not in "fiub" or dtype.itemsize > WIDEST or nbytes != dtype.itemsize * math.prod(shape):
            raise ValueError(f"{name} is no array of numbers, or its sizes contradict each other")
        return shape


def _read(archive: zipfile.ZipFile, name: str, path: str) -> numpy.ndarray:
    with _refusing(path), archive.open(f"{name}.npy") as file:
        return numpy.lib.format.read_array(file, allow_pickle=False)


@contextlib.contextmanager
def _refusing(path: str) -> Iterator[None]:
    """Turn any error into an `InputError`: the readers raise errors of many types for a damaged file."""
    try:
        yield
    except Exception as error:
        raise InputError(f"--init {path}: not a file of parameters ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_arrays(file: Path | BinaryIO, refusal: str) -> dict[str, numpy.ndarray]:
    """Read the arrays of an .npz. Raises `InputError`: the refusal, and the reason in brackets."""
    try:
        with numpy.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # NumPy and its readers raise errors of many types for a damaged file
        raise InputError(f"{refusal} ({_reason(error)})") from None


def save_parameters(network: Network, path: Path) -> None:
    """Write parameters and running statistics to an .npz, as `"<unit>/<key>"` → array."""
    values: dict[str, Any] = {
        f"{name}/{key}": to_host(array)
        for arrays_of_units in (network.parameters, network.state)
        for name, arrays in arrays_of_units.items()
        for key, array in arrays.items()
    }
    draft = path.with_name(f".{path.name}")
    try:
        with draft.open("wb") as file:
            write_arrays(file, values)
        draft.replace(path)  # the file is whole, or is not there
    finally:
        draft.unlink(missing_ok=True)


def write_arrays(file: BinaryIO, arrays: dict[str, Any]) -> None:
    """Write the arrays as an .npz, as `numpy.savez` does. `KeyboardInterrupt` may come at any moment."""
    archive = zipfile.ZipFile(file, "w")
    try:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                numpy.lib.format.write_array(member, numpy.asanyarray(array), allow_pickle=False)
        archive.close()
    except BaseException:
        archive.fp = None  # interrupted within an array the archive cannot be closed, not even when it is freed
        raise
