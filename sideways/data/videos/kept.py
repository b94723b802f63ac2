"""Decoded frames in a `Store`, so that a video is decoded once for all runs, workers and ranks: `--cache DIR`.

    DIR/videos/<SHA-256 of all that decides the frames>.frames
        the head                     what kind of file it is, its number of frames, H, W, C, and a checksum
        a record for each frame      a checksum, and the frame (H, W, C) uint8

All that decides the frames: path, size and time of change of the video, the version of ffmpeg, and how the video is
decoded. A file is mapped into memory, and of its frames only those of a clip are read, and compared with their
checksums. A file that is damaged is removed, and its video is decoded again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import numpy

from sideways.data.store import Store
from sideways.data.videos import processes
from sideways.errors import printable

FORMAT = 1  # to be raised whenever the same key would stand for other bytes
MAPPED = 256  # files that a process keeps mapped; each takes a file descriptor
MAGIC = b"frames01"
SHAPE, CHECKSUM = struct.Struct("<8s4I"), struct.Struct("<I")  # the two parts of the head


class KeptFrames:
    """Decoded frames in the folder `folder`, of at most `gigabytes`. `Store` says what is removed, and which errors."""

    def __init__(self, folder: str, gigabytes: float):
        self.store, self.version = Store(folder, gigabytes), processes.version()
        self.warned = False

    @property
    def is_full(self) -> bool:
        """True once a video has found no room."""
        return self.store.refused < numpy.inf

    def name(self, path: str, settings: Sequence[Any]) -> str:
        """The name of the file that holds the frames of a video, decoded with these settings.

        Raises `OSError` if there is no such video.
        """
        status = os.stat(path)
        key = [FORMAT, self.version, os.path.abspath(path), status.st_size, status.st_mtime_ns, *settings]
        return f"videos/{hashlib.sha256(json.dumps(key).encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.frames"

    def has(self, path: str, settings: Sequence[Any]) -> bool:
        """True if there is a file with the frames of a video, decoded with these settings; it may be damaged."""
        try:
            return self.store.path(self.name(path, settings)).exists()
        except OSError:
            return False

    def frames(
        self,
        path: str,
        settings: Sequence[Any],
        numbers: Callable[[int], numpy.ndarray],
        decode: Callable[[], numpy.ndarray],
    ) -> numpy.ndarray:
        """Return the frames of a clip, (T, H, W, C) uint8, from the store or else from `decode`.

        settings: all that decides the result of `decode`, all frames of the video. numbers: how many frames the video
        has → the numbers of those in the clip. Raises the errors of `decode`.
        """
        try:
            name = self.name(path, settings)
        except OSError:
            frames = decode()  # says what is wrong with the video
            return frames[numbers(len(frames))]
        clip = self.read(name, numbers)
        if clip is None:
            frames = decode()
            self.write(name, frames)
            clip = frames[numbers(len(frames))]
        return clip

    def read(self, name: str, numbers: Callable[[int], numpy.ndarray]) -> numpy.ndarray | None:
        """Read frames of a file; None if it is not there, or if it is damaged, in which case it is removed."""
        try:
            records, start = _mapped(str(self.store.path(name)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            whole = False
        else:
            chosen = records[numbers(len(records))]
            whole = all(crc32(record["frame"], start) == record["checksum"] for record in chosen)
        if not whole:
            _mapped.cache_clear()
            self.store.drop(name)
            return None
        return numpy.ascontiguousarray(chosen["frame"])

    def write(self, name: str, frames: numpy.ndarray) -> None:
        """Keep all frames of a video, (frames, H, W, C) uint8, if there is room. Warns once if the disk refuses."""
        shape = SHAPE.pack(MAGIC, *frames.shape)
        start = _checksum(name, shape)
        records = numpy.empty(len(frames), _record(*frames.shape[1:]))
        records["frame"] = frames
        records["checksum"] = [crc32(frame, start) for frame in records["frame"]]
        try:
            self.store.keep(name, [shape, CHECKSUM.pack(start), records.view(numpy.uint8)])
        except OSError as error:
            if not self.warned:
                print(
                    f"sideways: warning: cache {printable(self.store.folder)}: a decoded video cannot be written "
                    f"({error.strerror}); the run goes on without",
                    file=sys.stderr,
                )
            self.warned = True


def _record(height: int, width: int, channels: int) -> numpy.dtype:
    return numpy.dtype([("checksum", "<u4"), ("frame", "u1", (height, width, channels))])


def _checksum(name: str, shape: bytes) -> int:
    """The checksum of the head. Those of the frames start from it, so that they also cover the file's name and head."""
    return crc32(shape, crc32(os.path.basename(name).encode()))


@functools.lru_cache(MAPPED)
def _mapped(path: str) -> tuple[numpy.ndarray, int]:
    """Map the records of a file into memory, and note that it is in use. Returns the records and the head's checksum.

    Raises `ValueError` for a file that is damaged.
    """
    content = numpy.memmap(path, numpy.uint8, mode="r")
    head = SHAPE.size + CHECKSUM.size
    if len(content) < head:
        raise ValueError("there is no head")
    shape = bytes(content[: SHAPE.size])
    start = _checksum(path, shape)
    if CHECKSUM.unpack(bytes(content[SHAPE.size : head])) != (start,):
        raise ValueError("the head is damaged")
    magic, frames, *size = SHAPE.unpack(shape)
    record = _record(*size)
    if magic != MAGIC or len(content) != head + frames * record.itemsize:
        raise ValueError("frames are missing")
    with contextlib.suppress(OSError):  # the folder may be one that this user can only read
        os.utime(path)
    return content[head:].view(record), start


@functools.cache
def kept_frames(folder: str, gigabytes: float) -> KeptFrames:
    """The frames in a folder. Each process opens a folder once."""
    return KeptFrames(folder, gigabytes)
