"""Streams of frames and targets: `make_task("pan", speed=2)`, and video files."""

from __future__ import annotations

from sideways.data.clips import VideoClips
from sideways.data.live import Stream
from sideways.data.pan import Pan, WhichClip
from sideways.data.source import Source
from sideways.data.stream import Ahead, Clip, Task
from sideways.data.synthetic import Shapes, Waves
from sideways.data.video import VideoInfo, probe, read_frames, shipped_clips, write_video
from sideways.door import check_options
from sideways.errors import InputError

TASKS: dict[str, type[Task]] = {
    "waves": Waves,
    "shapes": Shapes,
    "pan": Pan,
    "which-clip": WhichClip,
    "videos": VideoClips,
    "stream": Stream,
}


def make_task(name: str, /, seed: int = 0, **options) -> Task:
    """The task of this name. Raises `InputError` for unknown names and options."""
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")
    check_options(f"task {name!r}", TASKS[name], options, besides=("seed",))
    return TASKS[name](seed=seed, **options)


__all__ = [
    "TASKS",
    "Ahead",
    "Clip",
    "Source",
    "Stream",
    "Task",
    "VideoClips",
    "VideoInfo",
    "make_task",
    "probe",
    "read_frames",
    "shipped_clips",
    "write_video",
]
