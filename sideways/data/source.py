"""What a process takes clips from: all of them, or only the part, and only the frames or targets, that it needs."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import numpy

from sideways.data.live import LiveStream
from sideways.data.task import Clip, Frames, FramesAhead, Task
from sideways.data.videos.clips import VideoClips
from sideways.data.videos.loader import Loader


class Source:
    """Clips of a task in batches, for one process.

    frames, targets: whether this process needs them; part: its samples of each batch. workers: processes that decode
    videos ahead of the tick (0: this one does); limits: split → clips that will be asked for. anywhere(flags): those
    that hold here or in another process.
    """

    def __init__(
        self,
        task: Task,
        batch: int,
        frames: bool = True,
        targets: bool = True,
        part: slice = slice(None),
        workers: int = 0,
        limits: dict[str, int] | None = None,
        anywhere: Callable[[numpy.ndarray], numpy.ndarray] = lambda flags: flags,
    ):
        self.task, self.batch, self.frames, self.targets, self.part = task, batch, frames, targets, part
        self.anywhere = anywhere
        self.decodes = frames or (targets and task.predicts_frames)
        videos = task.task if isinstance(task, FramesAhead) else task
        self.limits = limits or {"train": 0, "test": 0}
        self.before: dict[str, str] = {}
        self.loader = None
        if self.decodes and isinstance(videos, VideoClips):
            self.loader = Loader(videos, batch, part, workers, self.limits)

    def clip(self, split: str, index: int) -> tuple[Frames, Frames]:
        """(frames, targets), one of each per tick; None for what is not needed here."""
        none = [None] * self.task.length
        if not self.decodes:
            return none, self.task.targets(split, index, self.batch, self.part) if self.targets else none
        clip = self._decoded(split, index)
        return clip.frames if self.frames else none, clip.targets if self.targets else none

    def _decoded(self, split: str, index: int) -> Clip:
        if self.loader is None:
            return self.task.clip(split, index, self.batch, self.part)
        clip = self.loader.clip(split, index)
        return self.task.ahead(clip) if isinstance(self.task, FramesAhead) else clip

    def unusable(self) -> list[int]:
        """The held-out items that could not be read so far, here or in another process. All processes must call it."""
        flags = numpy.zeros(self.task.held_out_items() or 0, bool)
        if self.loader:
            videos = self.loader.task
            for split, n in self.loader.unusable:
                if split == "test":
                    flags[n % videos.count("test") // videos.views] = True
        return numpy.flatnonzero(self.anywhere(flags)).tolist()

    @property
    def skipped(self) -> dict[str, str]:
        """Files that could not be used here so far, and why; listed ones that are missing from the start on."""
        return self.loader.task.videos.missing | self.broken if self.loader else {}

    @property
    def broken(self) -> dict[str, str]:
        """Those of them that are there; and those that were found by the run that this one resumes."""
        return self.before | self.loader.skipped if self.loader else self.before

    def go_on(self, broken: dict[str, str], given: int, tick: int, counters: dict[str, int]) -> None:
        """Take up where a run was stopped: see `Checkpoints`."""
        self.before = broken
        if isinstance(self.task, LiveStream):
            self.task.go_on(given, tick, **counters)

    def counters(self) -> dict[str, int]:
        """What a stream has counted."""
        return {"taken": self.task.taken, "dropped": self.task.dropped} if isinstance(self.task, LiveStream) else {}

    def open(self) -> None:
        """Read what frames of the splits in use are made of, where they are needed; `InputError` if that cannot be."""
        if self.decodes:
            self.task.open([split for split, most in self.limits.items() if most])

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.loader:
            self.loader.close()
