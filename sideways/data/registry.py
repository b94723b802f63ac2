"""All tasks by name: `make_task("pan", speed=2)`. The setting `task` of a recipe is a name in `TASKS`."""

from __future__ import annotations

from sideways.data.doom.clips import DoomClips
from sideways.data.live import LiveStream
from sideways.data.pan import Pan, WhichClip
from sideways.data.synthetic import Shapes, Waves
from sideways.data.task import Task
from sideways.data.videos.clips import VideoClips
from sideways.errors import InputError
from sideways.validation import check_options

TASKS: dict[str, type[Task]] = {
    "waves": Waves,
    "shapes": Shapes,
    "pan": Pan,
    "which-clip": WhichClip,
    "doom": DoomClips,
    "videos": VideoClips,
    "stream": LiveStream,
}


def make_task(name: str, /, seed: int = 0, **options) -> Task:
    """Make the task of this name. Raises `InputError` for an unknown name, and for options the task does not take."""
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")
    check_options(f"task {name!r}", TASKS[name], options, besides=("seed",))
    return TASKS[name](seed=seed, **options)
