"""What a source of training data is: a task that makes clips, each a pure function of its number."""

from __future__ import annotations

from collections.abc import Sequence
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

    `clip` is a pure function of (seed, split, index): so any process can make any clip, in any order, and a run that
    is stopped and resumed sees what it would have seen. Sample k of a clip depends on (seed, split, index, k) alone.
    A subclass sets `frame_shape` (H, W, C), `classes` and `length` (T), and writes `samples`.
    """

    frame_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    span: tuple[float, float] = (-3.0, 3.0)  # the numbers that stand for black and white in a picture
    fingerprint = 0  # of the things shown, where they are files
    given = 0  # frames so far that will not come again: of a stream
    predicts_frames = False  # True where the targets are frames: they are made or decoded too
    distinct = 0  # training clips that there are, again and again; 0: a new one each time

    def __init__(self, seed: int, length: int):
        if not isinstance(length, int) or length < 1:
            raise InputError(f"a clip needs at least one frame, not length={length!r}")
        if seed < 0:
            raise InputError(f"the seed must be at least 0, not {seed}")
        self.seed, self.length = seed, length

    def clip(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Clip:
        """Clip number `index` of a split (`"train"` or `"test"`) with `batch` samples, or the samples `part` of it."""
        self.open()
        frames, labels = self.samples(split, self._generators(split, index, batch, part))
        return Clip(numpy.ascontiguousarray(frames.swapaxes(0, 1), dtype=numpy.float32), self._targets(labels))

    def targets(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Frames:
        """The targets of that clip alone: no frame is made or decoded."""
        return self._targets(self.labels(self._generators(split, index, batch, part)))

    def close(self) -> None:
        """End what `open` has started."""

    def count(self, split: str) -> int | None:
        """How many samples a split holds; None where they are made without end."""
        return None

    def held_out_items(self) -> int | None:
        """How many things (videos) the test split shows, in however many samples; None where they are without end."""
        return self.count("test")

    def items(self, split: str, index: int, batch: int, part: slice = slice(None)) -> numpy.ndarray:
        """(N,): the number of the thing (a video) that each sample is a view of; -1 for samples beyond the last."""
        return numpy.arange(index * batch, (index + 1) * batch)[part]

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

    def labels(self, generators: list[numpy.random.Generator]) -> numpy.ndarray:
        """(N,): the class of each sample. The first that `samples` draws, so that it is known without frames."""
        return numpy.array([generator.integers(len(self.classes)) for generator in generators])

    def open(self, splits: Sequence[str] = SPLITS) -> None:
        """Read what frames of these splits are made of, if that has not been done; `InputError` if that cannot be.

        `clip` calls it, `targets` does not need it.
        """

    def samples(self, split: str, generators: list[numpy.random.Generator]) -> tuple[numpy.ndarray, numpy.ndarray]:
        """One sample for each generator: frames (N, T, H, W, C), labels (N,)."""
        raise NotImplementedError


class FramesAhead(Task):
    """The frames of another task, with the frame `horizon` ticks ahead as the target of each.

    The other task must make clips that are `horizon` frames longer.
    """

    predicts_frames = True

    def __init__(self, task: Task, horizon: int):
        super().__init__(task.seed, task.length - horizon)
        self.task, self.horizon = task, horizon
        self.frame_shape, self.classes, self.span = task.frame_shape, (), task.span
        self.fingerprint = task.fingerprint

    def open(self, splits: Sequence[str] = SPLITS) -> None:
        self.task.open(splits)

    def count(self, split: str) -> int | None:
        return self.task.count(split)

    def held_out_items(self) -> int | None:
        return self.task.held_out_items()

    def items(self, split: str, index: int, batch: int, part: slice = slice(None)) -> numpy.ndarray:
        return self.task.items(split, index, batch, part)

    def clip(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Clip:
        return self.ahead(self.task.clip(split, index, batch, part))

    def ahead(self, clip: Clip) -> Clip:
        """Frames and targets of a clip of the other task."""
        return Clip(clip.frames[: self.length], clip.frames[self.horizon :])

    def targets(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Frames:
        return self.clip(split, index, batch, part).targets
