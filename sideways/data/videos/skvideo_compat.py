"""Make scikit-video 1.1.11 (2018, the newest on PyPI) read video on today's NumPy, with the ffmpeg that pip installed.

- The modules of scikit-video get back the type names that NumPy 1.24 removed; the global `numpy` is left alone.
  scikit-video 1.2 and later do not need these names, and do not get them.
- The paths of scikit-video point to the ffmpeg program of imageio-ffmpeg.
- Processes of ffmpeg end with the process that started them.
- The program `ffprobe`, which imageio-ffmpeg does not contain, is replaced by a function that asks imageio-ffmpeg.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import subprocess
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy

from sideways.data.videos.processes import end_with_parent, ffmpeg, silent, start

HEADER_TIME = 10.0  # seconds that imageio-ffmpeg waits for the header of a video

# imageio-ffmpeg warns if the width and height of a rotated video differ from those in the file, which is no error.
logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)


class _OldNumPy(SimpleNamespace):
    """NumPy with the aliases that scikit-video 1.1 uses."""

    int, float, bool, object = int, float, bool, object

    def __getattr__(self, name: str) -> Any:
        return getattr(numpy, name)


def _probe(filename: str) -> dict[str, dict[str, str]]:
    """Answer in place of ffprobe. The frame count is 0, which makes scikit-video read to the end of the file."""
    header = metadata(filename)
    width, height = header["size"]
    return {
        "video": {"@width": str(width), "@height": str(height), "@r_frame_rate": str(header["fps"]), "@nb_frames": "0"}
    }


def metadata(filename: str) -> dict[str, Any]:
    """Describe a video by imageio-ffmpeg: `size` (width, height, as shown), `fps`, `duration` (s), …

    Raises `OSError` or `RuntimeError` for files that are not videos.
    """
    status = os.stat(filename)
    return _metadata(filename, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4096)
def _metadata(filename: str, changed: int, size: int) -> dict[str, Any]:
    """Ask ffmpeg once for each version of a file: starting ffmpeg takes as long as decoding a second of video."""
    frames = imageio_ffmpeg().read_frames(filename)
    began = time.monotonic()
    try:
        return next(frames)
    except OSError:
        if time.monotonic() - began > HEADER_TIME:
            raise silent(HEADER_TIME) from None
        raise
    finally:
        frames.close()


@functools.cache
def imageio_ffmpeg() -> ModuleType:
    """Return imageio-ffmpeg, whose processes end with this one. It is imported at the first call."""
    ffmpeg()
    module = importlib.import_module("imageio_ffmpeg")
    options = {"preexec_fn": end_with_parent}
    module._io._popen_kwargs = lambda prevent_sigint=False: options  # imageio-ffmpeg asks it for options of `Popen`
    return module


@functools.cache
def scikit_video() -> ModuleType:
    """Return scikit-video, ready to use. It is imported at the first call, since importing its SciPy takes long."""
    import skvideo

    path, program = os.path.split(ffmpeg())
    skvideo._FFMPEG_PATH, skvideo._FFMPEG_APPLICATION, skvideo._HAS_FFMPEG = path, program, 1
    skvideo.scan_ffmpeg()
    for name in ("io", "measure", "datasets"):  # these modules copy the paths when they are imported
        importlib.import_module(f"skvideo.{name}")
    skvideo.io.ffmpeg.ffprobe = _probe
    skvideo.io.ffmpeg.sp = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE, STDOUT=subprocess.STDOUT)
    # With this replacement, scikit-video does not refuse unknown file name endings: ffmpeg looks into the file instead.
    skvideo.io.FFmpegReader._getSupportedDecoders = lambda _: NotImplemented
    if tuple(int(part) for part in skvideo.__version__.split(".")[:2]) < (1, 2):
        for name, module in list(sys.modules.items()):
            if name.startswith("skvideo.") and getattr(module, "np", None) is numpy:
                vars(module)["np"] = _OldNumPy()
    return skvideo
