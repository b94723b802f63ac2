"""sideways.training.loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy

from sideways.backend import synchronise, to_host
from sideways.data import LiveStream, Source
from sideways.data.live import StreamEndedError
from sideways.data.task import Frames
from sideways.errors import DivergedError, Interrupted
from sideways.losses import SoftmaxCrossEntropy
from sideways.rules import Rule
from sideways.rules.diagnostics import cosines
from sideways.training.checkpoint import Checkpoints, Progress
from sideways.training.config import Config
from sideways.training.evaluation import NOTHING, Meter, Metrics, Scores, evaluate
from sideways.training.log import Journal
from sideways.training.prefetch import Prefetch


def learn(
    rule: Rule,
    source: Source,
    config: Config,
    journal: Journal,
    checkpoints: Checkpoints,
    position: Progress,
    measure: Callable[..., dict[str, float] | None] = cosines,
) -> Scores | None:
    """The loop, from a position on: all training clips, evaluations in between, and the last one, which it returns.

    The end of a stream ends the training.
    """
    prefetch = Prefetch(rule, ahead=not isinstance(source.task, LiveStream))
    for index in range(position.clip, config.clips):
        if position.evaluate:
            held_out(rule, source, config, journal, checkpoints, position)
        frames, targets = source.clip("train", index)
        if config.cosine_every and index % config.cosine_every == 0 and position.tick == 0:
            journal.measured(index, rule.ticks, measure(rule, frames, targets))
        try:
            metrics = train_on(rule, prefetch, frames, targets, journal, checkpoints, position)
        except StreamEndedError as end:
            if not rule.ticks:
                raise
            print(f"sideways: {end}: training is over after {rule.ticks} ticks", file=sys.stderr)
            break
        position.given = source.task.given
        position.evaluate = bool(
            config.evaluate_every and (index + 1) % config.evaluate_every == 0 and index + 1 < config.clips
        )
        if metrics:
            _stop_if_diverged(rule, metrics["loss"], index)
        journal.trained(index + 1, rule.ticks, metrics)
        if position.evaluate:
            held_out(rule, source, config, journal, checkpoints, position)
        _between_ticks(rule, journal, checkpoints, position)
    save(rule, journal, checkpoints, position)
    scores = held_out(rule, source, config, journal, checkpoints, position)
    if scores and scores.metrics:
        _stop_if_diverged(rule, scores.metrics["loss"], config.clips - 1)
    return scores


def held_out(
    rule: Rule, source: Source, config: Config, journal: Journal, checkpoints: Checkpoints, position: Progress
) -> Scores | None:
    """An evaluation after the clips so far. One that is interrupted is made anew when the run goes on."""
    scores: Scores | None = NOTHING
    rule.average_statistics()
    try:
        scores = evaluate(rule, source, config.evaluation_clips, journal.stop)
    except Interrupted:
        path = save(rule, journal, checkpoints, position)
        raise Interrupted(f"interrupted; to go on: --resume {path}") from None
    except StreamEndedError as end:
        print(f"sideways: {end}: there is nothing to evaluate on", file=sys.stderr)
    journal.evaluated(position.clip, rule.ticks, scores.metrics if scores else None)
    position.evaluate, position.given = False, source.task.given
    return scores


def train_on(
    rule: Rule,
    prefetch: Prefetch,
    frames: Frames,
    targets: Frames,
    journal: Journal,
    checkpoints: Checkpoints,
    position: Progress,
) -> Metrics:
    """One clip, tick by tick, from where the position says: its mean loss, and the accuracy of its mean probabilities.

    Leaves the position at the start of the next clip.
    """
    meter = Meter(isinstance(rule.loss, SoftmaxCrossEntropy), position.losses, position.outputs)
    start = time.perf_counter()
    for t, frame, target in prefetch.pairs(frames, targets, position.tick):
        meter.add(rule.tick(frame, target, prefetch.fetch))
        position.tick = t + 1
        if position.tick < len(frames) and not rule.whole_clips:  # the last tick is over when the clip is
            _between_ticks(rule, journal, checkpoints, position)
    rule.end_clip()
    synchronise()
    position.seconds += time.perf_counter() - start
    position.clip, position.tick, position.losses, position.outputs = position.clip + 1, 0, [], []
    return meter.metrics(targets)


def _between_ticks(rule: Rule, journal: Journal, checkpoints: Checkpoints, position: Progress) -> None:
    """After each tick, or each clip for a rule that is saved between clips only: a checkpoint, or the end, if due."""
    if checkpoints.due(rule):
        save(rule, journal, checkpoints, position)
    if journal.stop():
        path = save(rule, journal, checkpoints, position)
        raise Interrupted(f"interrupted; to go on: --resume {path}")


def save(rule: Rule, journal: Journal, checkpoints: Checkpoints, position: Progress) -> Path:
    """A checkpoint, once all metrics so far are written."""
    rule.average_statistics()
    position.metrics_bytes = journal.settle()
    return checkpoints.save(rule, position)


def _stop_if_diverged(rule: Rule, loss: float, index: int) -> None:
    if numpy.isfinite(loss):
        return
    broken = [
        name
        for name in rule.owned
        if not all(numpy.isfinite(to_host(array)).all() for array in rule.network.units[name].parameters.values())
    ]
    what = (
        f"the parameters of {', '.join(broken)} are not finite"
        if broken
        else f"unit {rule.network.top.name!r} overflows"
    )
    raise DivergedError(f"the loss is {loss} in clip {index + 1} (step {rule.ticks}): {what}; lower the learning rate")
