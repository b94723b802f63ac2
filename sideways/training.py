"""The loop: clips in, ticks, metrics out; the evaluation; and the run directory `runs/<name>/`."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy
from threadpoolctl import threadpool_limits

from sideways.backend import synchronise, to_host, use_backend
from sideways.checkpoint import Checkpoints, Position
from sideways.config import Config, build_network, build_rule, build_task, make_rule
from sideways.cosine import cosines
from sideways.data import Source, Stream, Task, VideoClips
from sideways.data.stream import Frames
from sideways.errors import DivergedError, InputError
from sideways.evaluation import Meter, Metrics, Scores, batches, evaluate
from sideways.losses import SoftmaxCrossEntropy
from sideways.memory import peak_of_clip
from sideways.metrics import standard_error
from sideways.network import Network
from sideways.plots import plot_confusion, plot_run
from sideways.prediction import predictions_of_run
from sideways.report import write_report
from sideways.rules import Rule

Progress = Callable[[int, str], None]  # (clips done since the last call, a line on how it goes)


@dataclass(frozen=True)
class Result:
    """What a run came to. `accuracy_error`: the standard error of the held-out accuracy over its samples."""

    accuracy: float | None  # None, as for chance and top5, where frames are predicted
    accuracy_error: float | None
    top5: float | None  # None up to five classes
    loss: float | None  # held-out; None where nothing was there to evaluate on
    chance: float | None
    samples: int  # held-out clips, or videos, that were evaluated
    held_out: int | None  # that there are; None where clips are made without end
    milliseconds_per_frame: float  # training: forward, backward and update of one frame of one sample
    activation_megabytes: float | None  # 10⁶ bytes: the peak of a training clip above what is there between clips
    skipped_files: int
    directory: str


@contextlib.contextmanager
def session(config: Config) -> Iterator[None]:
    """Where a run computes: its backend, its BLAS threads, and no warnings about overflow, which `learn` reports."""
    with threadpool_limits(config.threads, user_api="blas"), numpy.errstate(all="ignore"):
        use_backend(config.backend)
        yield


def train(
    config: Config, directory: Path, progress: Progress = lambda clips, line: None, resume: Path | None = None
) -> Result:
    """Train, evaluate on held-out clips, and write the run directory, which must not exist yet.

    Writes config.json, metrics.jsonl (one object per clip, and one per evaluation), checkpoints/, plots/*.png,
    parameters.npz, results.json and report.md. resume: a checkpoint of this run to go on from. Raises `InputError`
    before anything is written, `DivergedError` where the loss is no number, `Interrupted` after Ctrl-C.
    """
    with session(config):
        task = build_task(config)
        network = build_network(config, task.frame_shape, len(task.classes))
        rule = build_rule(config, task, network)
        with Source(task, config.batch, workers=config.workers, limits=limits(config, task)) as source:
            source.open()  # refuses videos that cannot be read before anything is written
            checkpoints = Checkpoints(directory, config, task)
            position = checkpoints.load(resume, rule) if resume else Position()
            if not resume:
                create_directory(directory, config)
            with Journal(directory, progress, position) as journal:
                found = learn(rule, source, config, journal, checkpoints, position)
            skipped = source.skipped
        made = not isinstance(task, VideoClips | Stream)  # others would have to decode once more, or wait
        clip = task.clip("train", 0, config.batch) if made else None
        memory = peak_of_clip(rule, clip.frames, clip.targets) if clip else None
        return finish(config, task, network, directory, found, position.seconds, memory, skipped)


def limits(config: Config, task: Task) -> dict[str, int]:
    """How many clips of each split a run asks for."""
    return {"train": config.clips, "test": batches(task, config.batch, config.evaluation_clips)}


class Interrupted(KeyboardInterrupt):
    """Asked to stop: the run has written a checkpoint and ends."""


class Journal:
    """What is written while training: metrics.jsonl, and the progress that a person sees. And the wish to stop.

    The first Ctrl-C (or SIGTERM) asks for a stop after the tick; the second ends at once.
    """

    def __init__(self, directory: Path, progress: Progress, position: Position):
        path = directory / "metrics.jsonl"
        self.file = path.open("r+b" if path.exists() else "wb")
        self.file.truncate(position.metrics_bytes)  # lines after the checkpoint are written again
        self.file.seek(position.metrics_bytes)
        self.progress = progress
        if position.clip:
            progress(position.clip, "resumed")
        self.asked = False
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def stop(self) -> bool:
        """Asked after each tick: whether it was the last."""
        return self.asked

    def trained(self, clip: int, tick: int, metrics: Metrics) -> None:
        """One training clip is over; metrics is None in a process that does not own the top."""
        if metrics:
            self.write(kind="train", clip=clip, tick=tick, **metrics)
            score = f"  accuracy {metrics['accuracy']:.2f}" if "accuracy" in metrics else ""
            self.progress(1, f"loss {metrics['loss']:.3f}{score}")

    def evaluated(self, clip: int, tick: int, metrics: Metrics) -> None:
        """An evaluation is over; metrics as above."""
        if metrics:
            self.write(kind="evaluation", clip=clip, tick=tick, **metrics)

    def measured(self, clip: int, tick: int, cosines: dict[str, float] | None) -> None:
        """The cosine of each unit's pseudo-gradient to the exact gradient, before this clip."""
        if cosines:
            self.write(kind="cosine", clip=clip, tick=tick, cosines=cosines)

    def write(self, **line: Any) -> None:
        self.file.write(json.dumps(line).encode() + b"\n")
        self.file.flush()

    def settle(self) -> int:
        """Bytes of metrics.jsonl, once all that was measured so far is in it."""
        return self.file.tell()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)


def learn(
    rule: Rule,
    source: Source,
    config: Config,
    journal: Journal,
    checkpoints: Checkpoints,
    position: Position,
    measure: Callable[..., dict[str, float] | None] = cosines,
) -> Scores | None:
    """The loop, from a position on: all training clips, evaluations in between, and the last one, which it returns."""
    for index in range(position.clip, config.clips):
        frames, targets = source.clip("train", index)
        if config.cosine_every and index % config.cosine_every == 0 and position.tick == 0:
            journal.measured(index, rule.ticks, measure(rule, frames, targets))
        metrics = train_on(rule, frames, targets, journal, checkpoints, position)
        if metrics:
            _stop_if_diverged(rule, metrics["loss"], index)
        journal.trained(index + 1, rule.ticks, metrics)
        if config.evaluate_every and (index + 1) % config.evaluate_every == 0 and index + 1 < config.clips:
            scores = evaluate(rule, source, config.evaluation_clips)
            journal.evaluated(index + 1, rule.ticks, scores.metrics if scores else None)
        if checkpoints.due(rule, clip_over=True):
            save(rule, journal, checkpoints, position)
        _stop_if_asked(rule, journal, checkpoints, position, clip_over=True)
    save(rule, journal, checkpoints, position)
    scores = evaluate(rule, source, config.evaluation_clips)
    if scores:
        _stop_if_diverged(rule, scores.loss, config.clips - 1)
    journal.evaluated(config.clips, rule.ticks, scores.metrics if scores else None)
    return scores


def train_on(
    rule: Rule, frames: Frames, targets: Frames, journal: Journal, checkpoints: Checkpoints, position: Position
) -> Metrics:
    """One clip, tick by tick, from where the position says: its mean loss, and the accuracy of its mean probabilities.

    Leaves the position at the start of the next clip.
    """
    meter = Meter(isinstance(rule.loss, SoftmaxCrossEntropy), position.losses, position.outputs)
    start = time.perf_counter()
    for t in range(position.tick, len(frames)):
        meter.add(rule.tick(frames[t], targets[t]))
        position.tick = t + 1
        if checkpoints.due(rule, clip_over=False):
            save(rule, journal, checkpoints, position)
        _stop_if_asked(rule, journal, checkpoints, position, clip_over=False)
    rule.end_clip()
    synchronise()
    position.seconds += time.perf_counter() - start
    position.clip, position.tick, position.losses, position.outputs = position.clip + 1, 0, [], []
    return meter.metrics(targets)


def _stop_if_asked(rule: Rule, journal: Journal, checkpoints: Checkpoints, position: Position, clip_over: bool) -> None:
    """After each tick, or each clip for a rule that is saved between clips only: a checkpoint and the end, if asked."""
    if rule.whole_clips == clip_over and journal.stop():
        path = save(rule, journal, checkpoints, position)
        raise Interrupted(f"interrupted; to go on: --resume {path}")


def save(rule: Rule, journal: Journal, checkpoints: Checkpoints, position: Position) -> Path:
    """A checkpoint, once all metrics so far are written."""
    position.metrics_bytes = journal.settle()
    return checkpoints.save(rule, position)


def finish(
    config: Config,
    task: Task,
    network: Network,
    directory: Path,
    scores: Scores | None,
    seconds: float,
    memory: int | None,
    skipped: dict[str, str],
) -> Result:
    """What is written when training is over: parameters, plots, results and the report."""
    save_parameters(network, directory / "parameters.npz")
    samples = len(scores.items) if scores else 0
    metrics = scores.metrics if scores else {}
    right = metrics.get("accuracy")
    result = Result(
        accuracy=right,
        accuracy_error=None if right is None else standard_error(right, samples),
        top5=metrics.get("top5"),
        loss=metrics.get("loss"),
        chance=None if right is None else 1 / len(task.classes),
        samples=samples,
        held_out=task.held_out_items(),
        milliseconds_per_frame=1e3 * seconds / (config.clips * task.length * config.batch),
        activation_megabytes=None if memory is None else memory / 1e6,
        skipped_files=len(skipped),
        directory=str(directory),
    )
    (directory / "results.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
    plot_run(directory, None if config.horizon else 1 / len(task.classes))
    predictions: Sequence[dict[str, str]] = []
    if scores and scores.probabilities is not None:
        plot_confusion(directory / "plots" / "confusion.png", scores, task.classes)
    elif scores:
        rule = make_rule(config, network)
        predictions = predictions_of_run(
            rule, task, config.horizon, config.batch, limits(config, task)["test"], set(scores.items), directory
        )
    write_report(directory, config, task, result, scores, skipped, predictions)
    return result


def create_directory(directory: Path, config: Config) -> None:
    """The run directory with its config.json, or `InputError`."""
    try:
        (directory / "plots").mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{directory} exists already: choose another --name, or remove it") from None
    except OSError as error:
        raise InputError(f"cannot create {directory}: {error.strerror}") from None
    (directory / "config.json").write_text(json.dumps(config.to_tables(), indent=2) + "\n")


def save_parameters(network: Network, path: Path) -> None:
    """Parameters and running statistics as `"<unit>/<key>"` → array."""
    arrays = network.parameters, network.state
    values: dict[str, Any] = {f"{u}/{key}": to_host(a) for part in arrays for u in part for key, a in part[u].items()}
    numpy.savez(path, **values)


def _stop_if_diverged(rule: Rule, loss: float, index: int) -> None:
    if numpy.isfinite(loss):
        return
    broken = (
        name
        for name, unit in rule.network.units.items()
        if not all(numpy.isfinite(to_host(array)).all() for array in unit.parameters.values())
    )
    where = next(broken, None)
    what = (
        f"unit {where!r} has parameters that are no numbers" if where else f"unit {rule.network.top.name!r} overflows"
    )
    raise DivergedError(f"the loss is {loss} in clip {index + 1} (step {rule.ticks}): {what}; lower the learning rate")
