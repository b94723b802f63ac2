"""Places of the data on this host: each host may have the same files at a path of its own.

SIDEWAYS_DATA="/data=/scratch/video:/data=/mnt/nfs" in the environment: a path below /data is looked for below
/scratch/video, then below /mnt/nfs, then at /data itself. The paths in options and in config.json stay as they are.
"""

from __future__ import annotations

import os
from pathlib import Path

from sideways.errors import InputError, printable

VARIABLE = "SIDEWAYS_DATA"


def places(path: str | Path) -> list[Path]:
    """The paths on this host at which a file or a folder may lie, in the order in which they are tried.

    Raises `InputError` if the variable is not of the form FROM=TO:FROM=TO.
    """
    wanted, found = Path(path).expanduser(), []
    for entry in filter(None, os.environ.get(VARIABLE, "").split(":")):
        start, equals, other = entry.partition("=")
        if not (start and equals and other):
            raise InputError(f"{VARIABLE}={printable(entry)}: write FROM=TO, such as /data=/scratch/video")
        if wanted.is_relative_to(start):
            found.append(Path(other).expanduser() / wanted.relative_to(start))
    return [*found, wanted]


def located(path: str | Path) -> Path:
    """The first of the places at which there is a file or a folder; the path itself if there is none."""
    candidates = places(path)
    return next((place for place in candidates if place.exists()), candidates[-1])


def in_words(path: str | Path) -> str:
    """All places of a path, for the message that there is nothing at any of them."""
    return " or ".join(printable(place) for place in places(path))
