"""How well a network does: on the clip it trains on, and on held-out clips, gathered by what they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy

from sideways.backend import Array, to_host
from sideways.data import Source, Task
from sideways.data.task import Frames
from sideways.errors import Interrupted
from sideways.losses import SoftmaxCrossEntropy
from sideways.rules import Evaluation, Rule, Tick
from sideways.training.metrics import accuracy, clip_probabilities, top

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
    """Held-out results, one of each item, a video or a made clip; probabilities and labels are None for frames."""

    items: numpy.ndarray  # (V,): their numbers
    losses: numpy.ndarray  # (V,): means over ticks
    probabilities: numpy.ndarray | None = None  # (V, K): means over ticks
    labels: numpy.ndarray | None = None  # (V,)

    @property
    def metrics(self) -> dict[str, float]:
        """Means over the items; nothing where there are none."""
        if not len(self.items):
            return {}
        if self.probabilities is None or self.labels is None:
            return {"loss": float(self.losses.mean())}
        found = {"loss": float(self.losses.mean()), "accuracy": accuracy(self.probabilities, self.labels)}
        if self.probabilities.shape[-1] > 5:
            found["top5"] = top(5, self.probabilities, self.labels)
        return found


NOTHING = Scores(numpy.empty(0, int), numpy.empty(0))


@dataclass(frozen=True)
class ClipScore:
    """What one held-out clip of an item came to; probabilities and label are None for frames."""

    loss: float
    probabilities: numpy.ndarray | None
    label: int | None


def evaluate(
    rule: Rule, source: Source, clips: int, stop: Callable[[int], bool] = lambda pending: False
) -> Scores | None:
    """Losses and class probabilities on held-out clips, this many batches, or all there are (0).

    An item (a video) that has several clips gets the mean of each. What fills up the last batch does not count, nor
    does an item that could not be read. Touches no training state. None in a process without the top.
    stop: asked after each batch whether to raise `Interrupted`; pending: see `RankJournal.stop`.
    """
    seen: dict[int, list[ClipScore]] = {}
    count = batches(source.task, source.batch, clips)
    for index in range(count):
        frames, targets = source.clip("test", index)
        evaluation = rule.evaluate(frames, targets)
        if evaluation.outputs:
            items = source.task.items("test", index, source.batch, source.part)
            for item, score in zip(items, _clip_scores(rule, evaluation, targets), strict=True):
                seen.setdefault(int(item), []).append(score)
        if stop(0 if index == count - 1 else 1):
            raise Interrupted
    for item in (-1, *source.unusable()):
        seen.pop(item, None)
    return scores(seen) if rule.network.top.name in rule.owned else None


def _clip_scores(rule: Rule, evaluation: Evaluation, targets: Frames) -> Iterator[ClipScore]:
    """Each sample of a batch by itself."""
    outputs = numpy.stack([to_host(output) for output in evaluation.outputs])  # (T, N, …)
    first = evaluation.first_tick - getattr(rule, "target_delay", 0)
    wanted = numpy.stack([numpy.asarray(targets[first + t]) for t in range(len(outputs))])
    classes = isinstance(rule.loss, SoftmaxCrossEntropy)
    probabilities = clip_probabilities(list(outputs)) if classes else None
    for k in range(outputs.shape[1]):
        loss, _ = rule.loss(outputs[:, k], wanted[:, k])
        if probabilities is None:
            yield ClipScore(float(loss), None, None)
        else:
            yield ClipScore(float(loss), probabilities[k], int(wanted[-1, k]))


def scores(seen: dict[int, list[ClipScore]]) -> Scores:
    """From what every clip of each item came to."""
    items = sorted(seen)
    if not items:
        return NOTHING
    losses = numpy.array([numpy.mean([score.loss for score in seen[item]]) for item in items])
    if seen[items[0]][0].probabilities is None:
        return Scores(numpy.array(items), losses)
    rows = [numpy.mean(numpy.stack([score.probabilities for score in seen[item]]), axis=0) for item in items]  # type: ignore[misc]
    return Scores(numpy.array(items), losses, numpy.stack(rows), numpy.array([seen[i][0].label for i in items]))


def merged(parts: Sequence[Scores]) -> Scores:
    """The scores of replicas, each of which saw a part of every batch."""
    seen: dict[int, list[ClipScore]] = {}
    for part in parts:
        for i, item in enumerate(part.items):
            row = None if part.probabilities is None else part.probabilities[i]
            label = None if part.labels is None else int(part.labels[i])
            seen.setdefault(int(item), []).append(ClipScore(float(part.losses[i]), row, label))
    return scores(seen)


def batches(task: Task, batch: int, clips: int) -> int:
    """How many batches an evaluation takes: `clips` (0: the whole test split), and no more than there are."""
    count = task.count("test")
    return clips if count is None else min(clips or count, -(-count // batch))


def mean(losses: Sequence[Array]) -> float:
    return float(numpy.mean([float(to_host(loss)) for loss in losses]))
