"""The loop: clips in, ticks, metrics out; the evaluation; and the run directory `runs/<name>/`."""

from __future__ import annotations

import contextlib
import json
import sys
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
from sideways.data.live import StreamEndedError
from sideways.data.stream import Frames
from sideways.errors import DivergedError, InputError, Interrupted
from sideways.evaluation import NOTHING, Meter, Metrics, Scores, batches, evaluate
from sideways.journal import Journal, Progress
from sideways.losses import SoftmaxCrossEntropy
from sideways.memory import peak_of_clip
from sideways.metrics import standard_error
from sideways.network import Network
from sideways.plots import plot_confusion, plot_run
from sideways.prediction import predictions_of_run
from sideways.prefetch import Prefetch
from sideways.report import write_report
from sideways.rules import Rule


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
    with session(config), contextlib.closing(build_task(config)) as task:
        network = build_network(config, task.frame_shape, len(task.classes))
        rule = build_rule(config, task, network)
        with Source(task, config.batch, workers=config.workers, limits=limits(config, task)) as source:
            source.open()  # refuses videos that cannot be read before anything is written
            checkpoints = Checkpoints(directory, config, source)
            position = checkpoints.load(resume, rule) if resume else Position()
            if not resume:
                create_directory(directory, config)
            with Journal(directory, progress, position) as journal:
                found = learn(rule, source, config, journal, checkpoints, position)
            skipped = source.skipped
        made = not isinstance(task, VideoClips | Stream)  # others would have to decode once more, or wait
        clip = task.clip("train", 0, config.batch) if made else None
        memory = peak_of_clip(rule, clip.frames, clip.targets) if clip else None
        return finish(config, task, network, directory, found, position.seconds, position.clip, memory, skipped)


def limits(config: Config, task: Task) -> dict[str, int]:
    """How many clips of each split a run asks for."""
    return {"train": config.clips, "test": batches(task, config.batch, config.evaluation_clips)}


def learn(
    rule: Rule,
    source: Source,
    config: Config,
    journal: Journal,
    checkpoints: Checkpoints,
    position: Position,
    measure: Callable[..., dict[str, float] | None] = cosines,
) -> Scores | None:
    """The loop, from a position on: all training clips, evaluations in between, and the last one, which it returns.

    The end of a stream ends the training.
    """
    prefetch = Prefetch(rule, ahead=not isinstance(source.task, Stream))
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
    rule: Rule, source: Source, config: Config, journal: Journal, checkpoints: Checkpoints, position: Position
) -> Scores | None:
    """An evaluation after the clips so far. One that is interrupted is made anew when the run goes on."""
    scores: Scores | None = NOTHING
    rule.agree()
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
    position: Position,
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


def _between_ticks(rule: Rule, journal: Journal, checkpoints: Checkpoints, position: Position) -> None:
    """After each tick, or each clip for a rule that is saved between clips only: a checkpoint, or the end, if due."""
    if checkpoints.due(rule):
        save(rule, journal, checkpoints, position)
    if journal.stop():
        path = save(rule, journal, checkpoints, position)
        raise Interrupted(f"interrupted; to go on: --resume {path}")


def save(rule: Rule, journal: Journal, checkpoints: Checkpoints, position: Position) -> Path:
    """A checkpoint, once all metrics so far are written."""
    rule.agree()
    position.metrics_bytes = journal.settle()
    return checkpoints.save(rule, position)


def finish(
    config: Config,
    task: Task,
    network: Network,
    directory: Path,
    scores: Scores | None,
    seconds: float,
    clips: int,
    memory: int | None,
    skipped: dict[str, str],
) -> Result:
    """What is written when training is over: parameters, plots, results and the report.

    seconds: of training, for so many clips.
    """
    assert scores is not None
    save_parameters(network, directory / "parameters.npz")
    samples, metrics = len(scores.items), scores.metrics
    right = metrics.get("accuracy")
    result = Result(
        accuracy=right,
        accuracy_error=None if right is None else standard_error(right, samples),
        top5=metrics.get("top5"),
        loss=metrics.get("loss"),
        chance=None if right is None else 1 / len(task.classes),
        samples=samples,
        held_out=task.held_out_items(),
        milliseconds_per_frame=1e3 * seconds / (max(clips, 1) * task.length * config.batch),
        activation_megabytes=None if memory is None else memory / 1e6,
        skipped_files=len(skipped),
        directory=str(directory),
    )
    (directory / "results.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
    plot_run(directory, None if config.horizon else 1 / len(task.classes))
    predictions: Sequence[dict[str, str]] = []
    if scores.probabilities is not None:
        plot_confusion(directory / "plots" / "confusion.png", scores, task.classes)
    elif samples:
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
