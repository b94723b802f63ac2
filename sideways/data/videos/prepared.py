"""Frames of a video that were decoded beforehand, in an .npz file: a browser can start no ffmpeg to decode them.

`read_frames` reads such a file like the video itself. The tutorials in the browser (tutorials/lite/) have the clips of
`shipped_clips` in this form, in a package of their own.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy

from sideways.errors import InputError

PACKAGE = "sideways_clips"  # the folder of .npz files that only the tutorials in the browser install
SUFFIX = ".npz"

View = tuple[int, bool]  # the length of the frames' shorter side in pixels, and whether they are grey


def is_prepared(path: str | Path) -> bool:
    """Say whether a path names a file of prepared frames."""
    return Path(path).suffix == SUFFIX


def write(path: str | Path, total: int, views: Mapping[View, numpy.ndarray]) -> None:
    """Store the first frames of a video in one or several sizes.

    total: the frames of the whole video. views: size → (frames, H, W, channels) uint8, from the first frame on.
    """
    arrays: dict[str, Any] = {_name(*view): frames for view, frames in views.items()}
    numpy.savez_compressed(path, **arrays, total=numpy.int64(total))


def read(
    path: str | Path, size: int | tuple[int, int] | None, stride: int, start: int, count: int | None, grey: bool
) -> Generator[numpy.ndarray]:
    """Yield stored frames: (H, W, 3) or, with `grey`, (H, W, 1), uint8. The arguments are those of `read_frames`.

    Raises `InputError` if the file has no frames of this size, or too few of them.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    with numpy.load(path) as file:
        if not isinstance(size, int) or _name(size, grey) not in file:
            known = ", ".join(sorted(name for name in file if name != "total"))
            raise InputError(f"{path} has frames of these sizes alone: {known}. A video file with ffmpeg has all sizes")
        frames, total = file[_name(size, grey)], int(file["total"])
    for t in range(start, total, stride)[:count]:
        if t >= len(frames):
            raise InputError(f"{path} has only the first {len(frames)} of {total} frames, and frame {t} was asked for")
        yield frames[t]
    if start >= total:
        raise InputError(f"{path}: no frame could be decoded from frame {start} on (the file has {total} frames)")


def clips() -> dict[str, str]:
    """The prepared clips that are installed, name → path; empty outside the tutorials in the browser."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        return {}
    return {path.stem: str(path) for path in sorted(Path(package.origin).parent.glob(f"*{SUFFIX}"))}


def _name(size: int, grey: bool) -> str:
    """The name of the array with frames of this size."""
    return f"{size} pixels, {'grey' if grey else 'colour'}"
