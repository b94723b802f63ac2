"""A `Source` gives one process its part of every batch: frames, targets or both, depending on what the process needs.

The training loop and every MPI rank take their clips from a `Source`; on a rank, the source makes only the frames or
targets that the units of that rank read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import cast

import numpy

from sideways.data.task import Clip, Frames, Task
from sideways.data.videos.clips import VideoClips
from sideways.data.videos.loader import Loader


class Source:
    """Clips of a task in batches, for one process.

    frames, targets: whether this process needs them.
    part: the samples of each batch that this process handles.
    workers: processes that decode videos, or make clips of Doom, ahead of the tick; with 0 nothing is done ahead.
    limits: split → number of clips that will be asked for.
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
    ):
        self.task, self.batch, self.frames, self.targets, self.part = task, batch, frames, targets, part
        self.decodes = frames or (targets and task.predicts_frames)
        self.limits = limits or {"train": 0, "test": 0}
        self.broken_before: dict[str, str] = {}  # unusable files found before the run was resumed, with reasons
        self.loader = None
        self.waited = 0.0  # seconds spent in `clip`: until the clip was decoded or made
        task.base.workers = workers
        if self.decodes and task.base.stored:
            self.loader = Loader(cast(VideoClips, task.base), batch, part, workers, self.limits)

    def clip(self, split: str, index: int) -> tuple[Frames, Frames]:
        """Return (frames, targets) of clip number `index`, each with one entry per tick; None for those not needed."""
        start = time.perf_counter()
        try:
            return self._clip(split, index)
        finally:
            self.waited += time.perf_counter() - start

    def _clip(self, split: str, index: int) -> tuple[Frames, Frames]:
        none = [None] * self.task.length
        if not self.decodes:
            return none, self.task.targets(split, index, self.batch, self.part) if self.targets else none
        clip = self._decoded(split, index)
        return clip.frames if self.frames else none, clip.targets if self.targets else none

    def _decoded(self, split: str, index: int) -> Clip:
        if self.loader is None:
            return self.task.clip(split, index, self.batch, self.part)
        return self.task.from_base(self.loader.clip(split, index))

    def unusable_items(self) -> numpy.ndarray:
        """Flags (bool), one per held-out item: True if this process has tried to read the item and failed."""
        flags = numpy.zeros(self.task.held_out_items() or 0, bool)
        if self.loader:
            for split, n in self.loader.unusable:
                if split == "test":
                    item, _ = self.loader.task.held_out_item(n)
                    flags[item] = True
        return flags

    @property
    def skipped(self) -> dict[str, str]:
        """The files that this run has been unable to use, with reasons, including listed files that do not exist."""
        return self.loader.task.videos.missing | self.broken if self.loader else {}

    @property
    def broken(self) -> dict[str, str]:
        """The files that exist but cannot be used, with reasons, including any found before the run was resumed."""
        return self.broken_before | self.loader.skipped if self.loader else self.broken_before

    def resume(self, broken: dict[str, str], given: int, tick: int, counters: Mapping[str, int]) -> None:
        """Continue where a run was stopped.

        broken: the unusable files found before, with reasons. given, tick, counters: as for `Task.resume`.
        """
        self.broken_before = broken
        self.task.resume(given, tick, counters)

    def counters(self) -> dict[str, int]:
        """The counters of a live stream; empty for any other task."""
        return self.task.counters()

    def open(self) -> None:
        """Open the videos of the splits in use, if this process decodes. Raises `InputError` if none can be read."""
        if self.decodes:
            self.task.open([split for split, limit in self.limits.items() if limit])

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.loader:
            self.loader.close()
