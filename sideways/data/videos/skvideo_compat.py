"""Makes scikit-video 1.1.11 (2018, the newest on PyPI) read video on today's NumPy, with the ffmpeg that pip installed.

Its modules get the type names that NumPy 1.24 removed (the global `numpy` is left alone), its paths point at
imageio-ffmpeg's program, and its `ffprobe`, a program that imageio-ffmpeg does not bring, becomes a function that asks
imageio-ffmpeg. scikit-video 1.2 and later need none of this for NumPy, and have it left out.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import imageio_ffmpeg
import numpy

# It warns of every rotated video that width and height differ from the file's own; they are meant to.
logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)


class _OldNumPy(SimpleNamespace):
    """NumPy with the aliases that scikit-video 1.1 uses."""

    int, float, bool, object = int, float, bool, object

    def __getattr__(self, name: str) -> Any:
        return getattr(numpy, name)


def _probe(filename: str) -> dict[str, dict[str, str]]:
    """What scikit-video asks of ffprobe, from imageio-ffmpeg; no frame count, so that it reads to the end."""
    about = metadata(filename)
    width, height = about["size"]
    return {
        "video": {"@width": str(width), "@height": str(height), "@r_frame_rate": str(about["fps"]), "@nb_frames": "0"}
    }


def metadata(filename: str) -> dict[str, Any]:
    """imageio-ffmpeg's description of a video: `size` (width, height, as shown), `fps`, `duration` (s), …

    Raises `OSError` or `RuntimeError` for what is no video.
    """
    about = os.stat(filename)
    return _metadata(filename, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=4096)
def _metadata(filename: str, changed: int, size: int) -> dict[str, Any]:
    """Asked of each version of a file once: starting ffmpeg takes as long as decoding a second of video."""
    frames = imageio_ffmpeg.read_frames(filename)
    try:
        return next(frames)
    finally:
        frames.close()


@functools.cache
def scikit_video() -> ModuleType:
    """The package, ready to use. Imported when first needed: it brings SciPy, most of what a process takes to start."""
    import skvideo

    path, program = os.path.split(imageio_ffmpeg.get_ffmpeg_exe())
    skvideo._FFMPEG_PATH, skvideo._FFMPEG_APPLICATION, skvideo._HAS_FFMPEG = path, program, 1
    skvideo.scan_ffmpeg()
    for name in ("io", "measure", "datasets"):  # only now: these modules copy the paths when they are imported
        importlib.import_module(f"skvideo.{name}")
    skvideo.io.ffmpeg.ffprobe = _probe
    # Its word for: do not compare the ending of a file's name with a list. ffmpeg looks at what is in the file.
    skvideo.io.FFmpegReader._getSupportedDecoders = lambda _: NotImplemented
    if tuple(int(part) for part in skvideo.__version__.split(".")[:2]) < (1, 2):
        for name, module in list(sys.modules.items()):
            if name.startswith("skvideo.") and getattr(module, "np", None) is numpy:
                module.np = _OldNumPy()  # type: ignore[attr-defined]
    return skvideo
