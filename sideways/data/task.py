"""Tasks: the sources of training data, which make clips of frames and targets or take them from files or a camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from sideways.errors import InputError

Frames = Sequence[Any] | numpy.ndarray  # one per tick
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Clip:
    """T ticks of a batch of N samples."""

    frames: Frames  # (T, N, H, W, C) float32, C-contiguous
    targets: Frames  # one per frame: (T, N) int64 class indices, or frames (T, N, H, W, C)


class Task:
    """A source of labelled clips.

    `clip` is a pure function of (seed, split, index), so any process can make any clip, in any order, and a run that is
    stopped and resumed sees the clips of an uninterrupted one. Sample k of a clip depends on (seed, split, index, k)
    alone. (A live stream is the exception, see `live`.)

    A subclass sets `frame_shape` (H, W, C), `classes` and `length` (T), and writes `samples`.
    """

    frame_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    span: tuple[float, float] = (-3.0, 3.0)  # the pixel values to draw as black and as white
    predicts_frames = False  # True if the targets are frames, so that targets too must be made or decoded

    # The memory that a clip takes, for each number in its frames; `training/needs.py` adds it up.
    bytes_to_keep = 4
    bytes_to_make = 12  # at least, at the moment when most is in use: float64 and float32

    # Kinds of tasks that other code has to tell apart.
    live = False  # True if each frame is used up as it arrives: no clip can be made twice, and nothing is held out
    waits = False  # True if clips are decoded or played by other programs, so that training may have to wait for them
    stored = False  # True if this task itself decodes its clips from files, so that a `Loader` can decode them ahead

    # Numbers that matter to a few tasks only; the defaults suit all other tasks.
    distinct = 0  # number of training clips, shown over and over; 0: every clip is new (only for tasks without files)
    workers = 0  # processes that make clips ahead, for a task that makes them elsewhere; set by a `Source`
    fingerprint = 0  # a checksum of the video files, by which a resumed run notices that they have changed
    given = 0  # frames that a live stream has used up, by training or evaluation

    def __init__(self, seed: int, length: int):
        if not isinstance(length, int) or length < 1:
            raise InputError(f"a clip needs at least one frame, not length={length!r}")
        if seed < 0:
            raise InputError(f"the seed must be at least 0, not {seed}")
        self.seed, self.length = seed, length

    @property
    def base(self) -> Task:
        """The task that makes the clips which `from_base` converts: this task itself, unless it wraps another task."""
        return self

    def from_base(self, clip: Clip) -> Clip:
        """Turn a clip of `base` into a clip of this task."""
        return clip

    # Clips

    def clip(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Clip:
        """Make clip number `index` of a split (`"train"` or `"test"`) with `batch` samples, or its samples `part`."""
        self.open()
        frames, labels = self.samples(split, self._generators(split, index, batch, part))
        return Clip(numpy.ascontiguousarray(frames.swapaxes(0, 1), dtype=numpy.float32), self._targets(labels))

    def targets(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Frames:
        """Make the targets of a clip alone, without making or decoding a frame if the targets are labels."""
        return self._targets(self.labels(self._generators(split, index, batch, part)))

    def samples(self, split: str, generators: list[numpy.random.Generator]) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Make one sample with each generator: frames (N, T, H, W, C), labels (N,)."""
        raise NotImplementedError

    def labels(self, generators: list[numpy.random.Generator]) -> numpy.ndarray:
        """Draw the class of each sample, (N,). `samples` draws labels first, so they are known without the frames."""
        return numpy.array([generator.integers(len(self.classes)) for generator in generators])

    def _generators(self, split: str, index: int, batch: int, part: slice) -> list[numpy.random.Generator]:
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}: choose 'train' or 'test'")
        if index < 0 or batch < 1:
            raise InputError(
                f"clips are numbered from 0 and hold at least one sample, not index={index}, batch={batch}"
            )
        if split == "train" and self.distinct:
            index %= self.distinct
        return [numpy.random.default_rng([self.seed, SPLITS.index(split), index, k]) for k in range(batch)[part]]

    def _targets(self, labels: numpy.ndarray) -> numpy.ndarray:
        return numpy.tile(labels.astype(numpy.int64), (self.length, 1))

    # The samples and items of a split

    def count(self, split: str) -> int | None:
        """Count the samples of a split; None if the task makes new samples without end."""
        return None

    def held_out_items(self) -> int | None:
        """Count the items (videos) of the test split, each shown in one or more samples; None if endless."""
        return self.count("test")

    def items(self, split: str, index: int, batch: int, part: slice = slice(None)) -> numpy.ndarray:
        """The number of the item (video) that each sample shows, (N,); -1 for samples beyond the last item."""
        return numpy.arange(index * batch, (index + 1) * batch)[part]

    def titles(self, split: str, index: int, batch: int, part: slice = slice(None)) -> list[str]:
        """The title of the video that each sample shows; empty if a sample shows no video, or several."""
        return [""] * len(range(batch)[part])

    # From the start of a run to its end

    def open(self, splits: Sequence[str] = SPLITS) -> None:
        """Read the videos of these splits, unless they are read already. Raises `InputError` if they cannot be read.

        `clip` calls `open` itself; `targets` does not need the videos.
        """

    def resume(self, given: int, tick: int, counters: Mapping[str, int]) -> None:
        """Continue where a run was stopped. A task has nothing to do if each clip depends on its number alone.

        given: frames that were used up before the clip in which the run was stopped. tick: frames of this clip that
            were used up. counters: the result of `counters` when the run was stopped.
        """

    def counters(self) -> dict[str, int]:
        """The counters of a live stream, name → number of frames, for the checkpoint; empty for any other task."""
        return {}

    def close(self) -> None:
        """Stop whatever `open` started."""


class FramesAhead(Task):
    """The frames of another task, each with the frame `horizon` ticks later as its target.

    The other task must make clips that are `horizon` frames longer.
    """

    predicts_frames = True

    def __init__(self, task: Task, horizon: int):
        super().__init__(task.seed, task.length - horizon)
        self.task, self.horizon = task, horizon
        self.frame_shape, self.classes, self.span = task.frame_shape, (), task.span
        self.fingerprint = task.fingerprint

    @property
    def base(self) -> Task:
        return self.task

    def from_base(self, clip: Clip) -> Clip:
        return Clip(clip.frames[: self.length], clip.frames[self.horizon :])

    def clip(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Clip:
        return self.from_base(self.task.clip(split, index, batch, part))

    def targets(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Frames:
        return self.clip(split, index, batch, part).targets

    def count(self, split: str) -> int | None:
        return self.task.count(split)

    def held_out_items(self) -> int | None:
        return self.task.held_out_items()

    def items(self, split: str, index: int, batch: int, part: slice = slice(None)) -> numpy.ndarray:
        return self.task.items(split, index, batch, part)

    def titles(self, split: str, index: int, batch: int, part: slice = slice(None)) -> list[str]:
        return self.task.titles(split, index, batch, part)

    def open(self, splits: Sequence[str] = SPLITS) -> None:
        self.task.open(splits)

    def close(self) -> None:
        self.task.close()
