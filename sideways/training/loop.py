"""The training loop: clips in, ticks, metrics out; evaluations and checkpoints in between."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy

from sideways.backend import synchronise, to_host
from sideways.data import Source
from sideways.data.live import StreamEndedError
from sideways.data.task import Frames
from sideways.errors import DivergedError, Interrupted
from sideways.losses import SoftmaxCrossEntropy
from sideways.rules import Rule
from sideways.rules.diagnostics import cosines
from sideways.training.checkpoint import Checkpoints
from sideways.training.config import Config
from sideways.training.evaluation import NOTHING, Meter, Metrics, Scores, evaluate
from sideways.training.log import Log
from sideways.training.prefetch import Prefetch
from sideways.training.progress import Progress


class Trainer:
    """A run in this process: the rule, its source of clips, and the progress.

    run()           all clips that are left: for each  train_clip(), perhaps evaluate();  finally save(), evaluate()
    train_clip()    all ticks that are left; after each, a checkpoint or a stop, if one is due
    """

    def __init__(
        self, rule: Rule, source: Source, config: Config, log: Log, checkpoints: Checkpoints, progress: Progress
    ):
        self.rule, self.source, self.config = rule, source, config
        self.log, self.checkpoints, self.progress = log, checkpoints, progress
        self.prefetch = Prefetch(rule, ahead=not source.task.live)
        self.waiting: float | None = None  # after `run`: the share of its time spent waiting for clips

    def run(self) -> Scores | None:
        """Train on all clips that are left, and evaluate. Returns the last scores, None in a process without the top.

        The end of a stream ends the training. Raises `DivergedError` if a loss is not finite, and `Interrupted` if a
        stop was asked for, after a checkpoint.
        """
        rule, config, progress = self.rule, self.config, self.progress
        start = time.perf_counter()
        for index in range(progress.clip, config.clips):
            if progress.evaluate:
                self.evaluate()
            frames, targets = self.source.clip("train", index)
            if config.cosine_every and index % config.cosine_every == 0 and progress.tick == 0:
                self.log.compared(index, rule.ticks, self.cosines(frames, targets))
            try:
                metrics = self.train_clip(frames, targets)
            except StreamEndedError as end:
                if not rule.ticks:
                    raise
                print(f"sideways: {end}: training is over after {rule.ticks} ticks", file=sys.stderr)
                break
            progress.given = self.source.task.given
            done = index + 1
            progress.evaluate = bool(
                config.evaluate_every and done % config.evaluate_every == 0 and done < config.clips
            )
            if metrics:
                self._stop_if_diverged(metrics["loss"], done)
            self.log.trained(done, rule.ticks, metrics)
            if progress.evaluate:
                self.evaluate()
            self._between_ticks()
        self.save()
        scores = self.evaluate()
        if self.source.task.base.waits:
            self.waiting = self.source.waited / (time.perf_counter() - start)
        if scores and scores.metrics:
            self._stop_if_diverged(scores.metrics["loss"], config.clips)
        return scores

    def train_clip(self, frames: Frames, targets: Frames) -> Metrics:
        """Train on the ticks of a clip that are left, and leave the progress at the start of the next clip.

        Returns the mean loss, and the accuracy of the mean probabilities; None in a process without the top.
        """
        rule, progress = self.rule, self.progress
        meter = Meter(isinstance(rule.loss, SoftmaxCrossEntropy), progress.losses, progress.outputs)
        start = time.perf_counter()
        for t, frame, target in self.prefetch.pairs(frames, targets, progress.tick):
            meter.add(rule.tick(frame, target, self.prefetch.fetch))
            progress.tick = t + 1
            if progress.tick < len(frames) and not rule.whole_clips:  # the last tick ends with the clip
                self._between_ticks()
        rule.end_clip()
        synchronise()
        progress.seconds += time.perf_counter() - start
        progress.clip, progress.tick, progress.losses, progress.outputs = progress.clip + 1, 0, [], []
        return meter.metrics(targets)

    def evaluate(self) -> Scores | None:
        """Evaluate after the clips so far. A resumed run repeats an interrupted evaluation."""
        scores: Scores | None = NOTHING
        clips = self.config.evaluation_clips
        self.rule.average_statistics()
        try:
            scores = evaluate(self.rule, self.source, clips, self.checkpoints.processes, self.log.stop_requested)
        except Interrupted:
            raise self._interrupted() from None
        except StreamEndedError as end:
            print(f"sideways: {end}: there is nothing to evaluate on", file=sys.stderr)
        self.log.evaluated(self.progress.clip, self.rule.ticks, scores.metrics if scores else None)
        self.progress.evaluate, self.progress.given = False, self.source.task.given
        return scores

    def cosines(self, frames: Frames, targets: Frames) -> dict[str, float] | None:
        """The cosine of each unit's pseudo-gradient over a clip to the exact gradient; None if another rank logs it."""
        return cosines(self.rule, frames, targets)

    def save(self) -> Path:
        """Write a checkpoint, after all metrics so far have reached the disk."""
        self.rule.average_statistics()
        self.progress.metrics_bytes = self.log.flush()
        return self.checkpoints.save(self.rule, self.progress)

    def _between_ticks(self) -> None:
        """Write a checkpoint, or end the run, if that is due."""
        if self.checkpoints.due(self.rule):
            self.save()
        if self.log.stop_requested():
            raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        return Interrupted(f"interrupted; to go on: --resume {self.save()}")

    def _stop_if_diverged(self, loss: float, clip: int) -> None:
        if numpy.isfinite(loss):
            return
        units = self.rule.network.units
        broken = [
            name
            for name in self.rule.owned
            if not all(numpy.isfinite(to_host(array)).all() for array in units[name].parameters.values())
        ]
        reason = (
            f"the parameters of {', '.join(broken)} are not finite"
            if broken
            else f"unit {self.rule.network.top.name!r} overflows"
        )
        raise DivergedError(
            f"the loss is {loss} in clip {clip} (step {self.rule.ticks}): {reason}; lower the learning rate"
        )
