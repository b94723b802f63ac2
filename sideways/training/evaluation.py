"""Scores of a training clip and of held-out clips; the clips of one video are averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy

from sideways.backend import Array, to_host
from sideways.data import Source, Task
from sideways.data.task import Frames
from sideways.errors import Interrupted
from sideways.losses import SoftmaxCrossEntropy
from sideways.rules import Evaluation, Rule, Tick
from sideways.training.metrics import accuracy, clip_probabilities, top
from sideways.training.processes import OneProcess, Processes

Metrics = dict[str, float] | None
METRICS = ("loss", "accuracy", "top5")  # the metrics that a line of metrics.jsonl may hold


@dataclass
class Meter:
    """The losses and outputs of a training clip so far. Arrays stay on the device until `metrics` is called."""

    classes: bool  # True: outputs are logits of classes. False: outputs are frames, and are not kept
    losses: list[Array]
    outputs: list[Array]

    def add(self, tick: Tick) -> None:
        if tick.loss is not None:
            self.losses.append(tick.loss)
            if self.classes:
                self.outputs.append(tick.output)

    def metrics(self, targets: Frames) -> Metrics:
        """The mean loss, and the accuracy of the mean class probabilities; None if there was no output."""
        if not self.losses:
            return None
        metrics = {"loss": mean(self.losses)}
        if self.classes:
            metrics["accuracy"] = accuracy(clip_probabilities(self.outputs), targets[-1])
        return metrics


@dataclass(frozen=True)
class Scores:
    """Held-out scores, one per video (or per synthetic clip). Frame prediction has no probabilities and labels."""

    items: numpy.ndarray  # (V,): the numbers of the videos
    losses: numpy.ndarray  # (V,): means over ticks
    probabilities: numpy.ndarray | None = None  # (V, K): means over ticks
    labels: numpy.ndarray | None = None  # (V,)

    @property
    def metrics(self) -> dict[str, float]:
        """Means over the items; empty if there are none."""
        if not len(self.items):
            return {}
        if self.probabilities is None or self.labels is None:
            return {"loss": float(self.losses.mean())}
        metrics = {"loss": float(self.losses.mean()), "accuracy": accuracy(self.probabilities, self.labels)}
        if self.probabilities.shape[-1] > 5:
            metrics["top5"] = top(5, self.probabilities, self.labels)
        return metrics


NOTHING = Scores(numpy.empty(0, int), numpy.empty(0))


@dataclass(frozen=True)
class ClipScore:
    """The score of one held-out clip. Probabilities and label are None for frame prediction."""

    loss: float
    probabilities: numpy.ndarray | None
    label: int | None


def evaluate(
    rule: Rule,
    source: Source,
    clips: int,
    processes: Processes | None = None,
    stop_requested: Callable[[int | None], bool] = lambda pending: False,
) -> Scores | None:
    """Measure losses and class probabilities on held-out clips.

    clips: the number of batches; 0 for all held-out clips. stop_requested: asked after each batch whether to raise
    `Interrupted`, see `Log.stop_requested`.
    An item (a video) that has several clips gets the mean over its clips. Padding in the last batch and unreadable
    videos are left out. Nothing in the training state changes. Returns None in a process without the top.
    """
    scores_of: dict[int, list[ClipScore]] = {}
    count = batches(source.task, source.batch, clips)
    for index in range(count):
        frames, targets = source.clip("test", index)
        evaluation = rule.evaluate(frames, targets)
        if evaluation.outputs:
            items = source.task.items("test", index, source.batch, source.part)
            for item, score in zip(items, _clip_scores(rule, evaluation, targets), strict=True):
                scores_of.setdefault(int(item), []).append(score)
        if stop_requested(0 if index == count - 1 else 1):
            raise Interrupted
    unusable = (processes or OneProcess()).any(source.unusable_items())
    for item in (-1, *numpy.flatnonzero(unusable).tolist()):  # -1: the padding of the last batch
        scores_of.pop(item, None)
    return gathered(scores_of) if rule.network.top.name in rule.owned else None


def _clip_scores(rule: Rule, evaluation: Evaluation, targets: Frames) -> Iterator[ClipScore]:
    """Yield the score of each sample of a batch."""
    outputs = numpy.stack([to_host(output) for output in evaluation.outputs])  # (T, N, …)
    first = evaluation.first_tick - rule.target_delay
    own_targets = numpy.stack([numpy.asarray(targets[first + t]) for t in range(len(outputs))])
    classes = isinstance(rule.loss, SoftmaxCrossEntropy)
    probabilities = clip_probabilities(list(outputs)) if classes else None
    for k in range(outputs.shape[1]):
        loss, _ = rule.loss(outputs[:, k], own_targets[:, k])
        if probabilities is None:
            yield ClipScore(float(loss), None, None)
        else:
            yield ClipScore(float(loss), probabilities[k], int(own_targets[-1, k]))


def gathered(scores_of: Mapping[int, Sequence[ClipScore]]) -> Scores:
    """Average the scores of each item over its clips."""
    items = sorted(scores_of)
    if not items:
        return NOTHING
    losses = numpy.array([numpy.mean([score.loss for score in scores_of[item]]) for item in items])
    if scores_of[items[0]][0].probabilities is None:
        return Scores(numpy.array(items), losses)
    rows = [numpy.mean(numpy.stack([score.probabilities for score in scores_of[i]]), axis=0) for i in items]  # type: ignore[misc]
    return Scores(numpy.array(items), losses, numpy.stack(rows), numpy.array([scores_of[i][0].label for i in items]))


def merged(parts: Sequence[Scores]) -> Scores:
    """Combine the scores of replicas, each of which evaluated a part of every batch."""
    scores_of: dict[int, list[ClipScore]] = {}
    for part in parts:
        for i, item in enumerate(part.items):
            row = None if part.probabilities is None else part.probabilities[i]
            label = None if part.labels is None else int(part.labels[i])
            scores_of.setdefault(int(item), []).append(ClipScore(float(part.losses[i]), row, label))
    return gathered(scores_of)


def batches(task: Task, batch: int, clips: int) -> int:
    """The number of batches of an evaluation: `clips` (0: the whole test split), at most those of the test split."""
    count = task.count("test")
    return clips if count is None else min(clips or count, -(-count // batch))


def mean(losses: Sequence[Array]) -> float:
    return float(numpy.mean([float(to_host(loss)) for loss in losses]))
