"""How well a network does: on the clip it trains on, and on held-out clips, gathered by what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from sideways.backend import Array, to_host
from sideways.data import Source, Task
from sideways.data.stream import Frames
from sideways.metrics import accuracy, clip_probabilities, top
from sideways.rules import Rule, Tick

Metrics = dict[str, float] | None
METRICS = ("loss", "accuracy", "top5")  # all that a line of metrics.jsonl may hold


@dataclass
class Meter:
    """What a training clip has shown so far. Arrays stay on the device until they are asked for."""

    classes: bool  # whether outputs are logits of classes; else they are frames, and only the loss is kept
    losses: list[Array]
    outputs: list[Array]

    def add(self, tick: Tick) -> None:
        if tick.loss is not None:
            self.losses.append(tick.loss)
            if self.classes:
                self.outputs.append(tick.output)

    def metrics(self, targets: Frames) -> Metrics:
        """The mean loss, and the accuracy of the mean class probabilities; None where there was no output."""
        if not self.losses:
            return None
        metrics = {"loss": mean(self.losses)}
        if self.classes:
            metrics["accuracy"] = accuracy(clip_probabilities(self.outputs), targets[-1])
        return metrics


@dataclass(frozen=True)
class Scores:
    """Held-out results. probabilities (V, K) and labels (V,) of each item, a video or a made clip; None for frames."""

    loss: float  # mean over batches and ticks
    items: numpy.ndarray  # (V,): their numbers
    probabilities: numpy.ndarray | None = None
    labels: numpy.ndarray | None = None

    @property
    def metrics(self) -> dict[str, float]:
        if self.probabilities is None or self.labels is None:
            return {"loss": self.loss}
        found = {"loss": self.loss, "accuracy": accuracy(self.probabilities, self.labels)}
        if self.probabilities.shape[-1] > 5:
            found["top5"] = top(5, self.probabilities, self.labels)
        return found


def evaluate(rule: Rule, source: Source, clips: int) -> Scores | None:
    """Loss and class probabilities on held-out clips, this many batches, or all there are (0).

    An item (a video) that has several clips gets the mean of their probabilities; what fills up the last batch does not
    count. Touches no training state. None in a process without the top.
    """
    losses: list[Array] = []
    seen: dict[int, list[tuple[numpy.ndarray, int]]] = {}
    for index in range(batches(source.task, source.batch, clips)):
        frames, targets = source.clip("test", index)
        evaluation = rule.evaluate(frames, targets)
        losses += evaluation.losses
        items = source.task.items("test", index, source.batch, source.part)
        if evaluation.outputs and not source.task.predicts_frames:
            for item, row, label in zip(items, clip_probabilities(evaluation.outputs), targets[-1], strict=True):
                seen.setdefault(int(item), []).append((row, int(label)))
    if not losses:
        return None
    seen.pop(-1, None)
    return scores(mean(losses), seen)


def scores(loss: float, seen: dict[int, list[tuple[numpy.ndarray, int]]]) -> Scores:
    """From the (probabilities, label) of every clip of each item."""
    items = sorted(seen)
    if not items:
        return Scores(loss, numpy.empty(0, int))
    rows = [numpy.mean([row for row, _ in seen[item]], axis=0) for item in items]
    return Scores(loss, numpy.array(items), numpy.stack(rows), numpy.array([seen[item][0][1] for item in items]))


def merged(parts: Sequence[Scores]) -> Scores:
    """The scores of replicas, each of which saw a part of every batch."""
    loss = float(numpy.mean([part.loss for part in parts]))
    seen: dict[int, list[Any]] = {}
    for part in parts:
        if part.probabilities is not None and part.labels is not None:
            for item, row, label in zip(part.items, part.probabilities, part.labels, strict=True):
                seen.setdefault(int(item), []).append((row, int(label)))
    return scores(loss, seen)


def batches(task: Task, batch: int, clips: int) -> int:
    """How many batches an evaluation takes: `clips`, or enough for all of the test split where that is 0."""
    count = task.count("test")
    return clips if clips or count is None else -(-count // batch)


def mean(losses: Sequence[Array]) -> float:
    return float(numpy.mean([float(to_host(loss)) for loss in losses]))
