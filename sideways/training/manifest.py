"""The manifest of a checkpoint, meta.json: its fields, and the SHA-256 of every file and of meta.json itself.

files       file → SHA-256, as `sha256sum *.npz` prints it
sha256      of meta.json without this last field:
            sed -z 's/,\\n  "sha256": "[0-9a-f]*"\\n}$/\\n}/' meta.json | sha256sum
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy

from sideways.errors import InputError
from sideways.training.parameters import read_arrays
from sideways.validation import check_type

FORMAT = 4
FIELDS: dict[str, Any] = {  # field → type
    "format": int,
    "ticks": int,
    "clock": int,
    "clip": int,
    "tick": int,
    "seconds": float,
    "metrics_bytes": int,
    "evaluate": bool,
    "given": int,
    "files": dict[str, str],
    "frame_shape": list[int],
    "classes": list[str],
    "span": list[float],
    "data": int,
    "skipped": dict[str, str],
    "counters": dict[str, int],
    "config": dict[str, Any],
}
NOT_NEGATIVE = ("ticks", "clock", "clip", "tick", "seconds", "metrics_bytes", "given")


class DamagedError(InputError):
    """A checkpoint is not whole, or of another format."""


def digest(content: bytes) -> str:
    """The SHA-256, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def seal(meta: dict[str, Any]) -> bytes:
    """The bytes of meta.json: the fields, and last the SHA-256 of the bytes without it."""
    return json.dumps(meta | {"sha256": digest(json.dumps(meta, indent=2).encode())}, indent=2).encode()


def read_meta(path: Path) -> dict[str, Any]:
    """Read meta.json of the checkpoint `path`. Raises `DamagedError` if it is not as it was written.

    The files that it names are not read (`read_unit` compares each with its checksum).
    """
    try:
        content = (path / "meta.json").read_bytes()
        meta = json.loads(content)
        version = meta["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DamagedError(f"{path}: not a checkpoint of this project (no usable meta.json)") from None
    if version != FORMAT:
        raise DamagedError(f"{path}: a checkpoint of format {version!r:.20}; this version reads format {FORMAT}")
    if content != seal({field: value for field, value in meta.items() if field != "sha256"}):
        raise DamagedError(f"{path}: not a whole checkpoint: meta.json does not match its checksum, it was edited")
    try:
        _check_fields(meta)
    except InputError as error:
        raise DamagedError(f"{path}: not a whole checkpoint: meta.json: {error}") from None
    return meta


def _check_fields(meta: dict[str, Any]) -> None:
    """Raise `InputError` for a field that is missing, unknown, of a wrong type or out of range."""
    del meta["sha256"]
    for field, hint in FIELDS.items():
        if field not in meta:
            raise InputError(f"the field {field!r} is missing")
        check_type(field, meta[field], hint)
    if unknown := meta.keys() - FIELDS.keys():
        raise InputError(f"the field {min(unknown)!r} is unknown")
    for field in NOT_NEGATIVE:
        if not 0 <= meta[field] < math.inf:
            raise InputError(f"{field} must not be negative or infinite: {meta[field]}")
    if len(meta["frame_shape"]) != 3 or min(meta["frame_shape"]) < 1:
        raise InputError(f"frame_shape must be three positive sizes, not {meta['frame_shape']}")
    if len(meta["span"]) != 2 or not all(map(math.isfinite, meta["span"])):
        raise InputError(f"span must be two numbers, not {meta['span']}")
    for name, value in meta["files"].items():
        if not re.fullmatch(r"[A-Za-z0-9_-]+\.npz", name) or not re.fullmatch("[0-9a-f]{64}", value):
            raise InputError(f"files: {name!r} is not a file with its SHA-256")


def read_unit(path: Path, meta: dict[str, Any], name: str) -> dict[str, numpy.ndarray]:
    """Read the arrays of one unit. Raises `DamagedError` if the file is not as it was written.

    meta: the result of `read_meta` for this checkpoint.
    """
    file = path / f"{name}.npz"
    refusal = f"{path}: not a whole checkpoint: {file.name}"
    if file.name not in meta["files"]:
        raise DamagedError(f"{refusal} is not among the files that meta.json names")
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise DamagedError(f"{refusal} is missing") from None
    except OSError as error:
        raise DamagedError(f"{refusal} cannot be read ({error.strerror})") from None
    if digest(content) != meta["files"][file.name]:
        raise DamagedError(f"{refusal} does not match its checksum: it is damaged, or was changed")
    try:
        return read_arrays(io.BytesIO(content), f"{refusal} cannot be read")
    except InputError as error:
        raise DamagedError(str(error)) from None
