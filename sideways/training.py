"""The loop: clips in, ticks, metrics out; the evaluation; and the run directory `runs/<name>/`."""

from __future__ import annotations

import contextlib
import copy
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import active_children, get_context
from pathlib import Path
from queue import Empty
from typing import Any

import numpy
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from sideways.backend import pool, synchronise, to_host, use_backend
from sideways.config import Config, build_network, build_rule, build_task
from sideways.data import Clip, Task
from sideways.errors import DivergedError, InputError
from sideways.metrics import accuracy, clip_probabilities, standard_error
from sideways.network import Network
from sideways.plots import plot_run
from sideways.rules import Rule

Frames = Sequence[Any] | numpy.ndarray  # frames or targets, one per tick
Metrics = dict[str, float] | None
Progress = Callable[[int, str], None]  # (clips done since the last call, a line on how it goes)


@dataclass(frozen=True)
class Result:
    """What a run came to. `accuracy_error`: the standard error of the held-out accuracy over its samples."""

    accuracy: float
    accuracy_error: float
    loss: float
    chance: float
    samples: int
    milliseconds_per_frame: float  # training: forward, backward and update of one frame of one sample
    activation_megabytes: float | None  # 10⁶ bytes: the peak of a training clip above what is there between clips
    directory: str


@contextlib.contextmanager
def session(config: Config) -> Iterator[None]:
    """Where a run computes: its backend, its BLAS threads, and no warnings about overflow, which `learn` reports."""
    with threadpool_limits(config.threads, user_api="blas"), numpy.errstate(all="ignore"):
        use_backend(config.backend)
        yield


def train(config: Config, directory: Path, progress: Progress = lambda clips, line: None) -> Result:
    """Train, evaluate on held-out clips, and write the run directory, which must not exist yet.

    Writes config.json, metrics.jsonl (one object per clip, and one per evaluation), plots/*.png, parameters.npz and
    results.json. Raises `InputError` before anything is written, `DivergedError` where the loss is no number.
    """
    with session(config):
        task = build_task(config)
        network = build_network(config, task)
        rule = build_rule(config, task, network)
        task.open()  # refuses videos that cannot be read before anything is written
        create_directory(directory, config)
        with Journal(directory, progress) as journal:
            final, seconds = learn(rule, Source(task, config.batch), config, journal)
        memory = activation_memory(rule, task.clip("train", 0, config.batch))
        return finish(config, task, network, directory, final, seconds, memory)


@dataclass(frozen=True)
class Source:
    """Clips for one process: all of them, or only the part, and only the frames or targets, that it needs."""

    task: Task
    batch: int
    frames: bool = True
    targets: bool = True
    part: slice = field(default_factory=lambda: slice(None))

    def clip(self, split: str, index: int) -> tuple[Frames, Frames]:
        """(frames, targets), one of each per tick; None for what is not needed here."""
        none = [None] * self.task.length
        if self.frames:
            clip = self.task.clip(split, index, self.batch, self.part)
            return clip.frames, clip.targets if self.targets else none
        return none, self.task.targets(split, index, self.batch, self.part) if self.targets else none


class Journal:
    """What is written while training: metrics.jsonl, and the progress that a person sees."""

    def __init__(self, directory: Path, progress: Progress):
        self.file = (directory / "metrics.jsonl").open("w")
        self.progress = progress

    def trained(self, clip: int, tick: int, metrics: Metrics) -> None:
        """One training clip is over; metrics is None in a process that does not own the top."""
        if metrics:
            self.write(kind="train", clip=clip, tick=tick, **metrics)
            self.progress(1, f"loss {metrics['loss']:.3f}  accuracy {metrics['accuracy']:.2f}")

    def evaluated(self, clip: int, tick: int, metrics: Metrics) -> None:
        """An evaluation is over; metrics as above."""
        if metrics:
            self.write(kind="evaluation", clip=clip, tick=tick, **metrics)

    def write(self, **line: Any) -> None:
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def learn(rule: Rule, source: Source, config: Config, journal: Journal) -> tuple[Metrics, float]:
    """The loop: all training clips, evaluations in between, and the last one: (its metrics, seconds of training)."""
    seconds = 0.0
    for index in range(config.clips):
        frames, targets = source.clip("train", index)
        start = time.perf_counter()
        metrics = train_on(rule, frames, targets)
        synchronise()
        seconds += time.perf_counter() - start
        if metrics:
            _stop_if_diverged(rule, metrics["loss"], index)
        journal.trained(index + 1, rule.ticks, metrics)
        if config.evaluate_every and (index + 1) % config.evaluate_every == 0 and index + 1 < config.clips:
            journal.evaluated(index + 1, rule.ticks, evaluate(rule, source, config.evaluation_clips))
    final = evaluate(rule, source, config.evaluation_clips)
    if final:
        _stop_if_diverged(rule, final["loss"], config.clips - 1)
    journal.evaluated(config.clips, rule.ticks, final)
    return final, seconds


def train_on(rule: Rule, frames: Frames, targets: Frames) -> Metrics:
    """One clip, tick by tick: its mean loss, and the accuracy of its mean class probabilities."""
    ticks = [rule.tick(frame, target) for frame, target in zip(frames, targets, strict=True)]
    losses = [float(tick.loss) for tick in ticks if tick.loss is not None]
    outputs = [tick.output for tick in ticks if tick.output is not None]
    rule.end_clip()
    if not losses:
        return None
    return {"loss": float(numpy.mean(losses)), "accuracy": accuracy(clip_probabilities(outputs), targets[-1])}


def evaluate(rule: Rule, source: Source, clips: int) -> Metrics:
    """Loss and accuracy on this many batches of held-out clips. Touches no training state."""
    losses, accuracies = [], []
    for index in range(clips):
        frames, targets = source.clip("test", index)
        evaluation = rule.evaluate(frames, targets)
        losses += [float(loss) for loss in evaluation.losses]
        if evaluation.outputs:
            accuracies.append(accuracy(clip_probabilities(evaluation.outputs), targets[-1]))
    return {"loss": float(numpy.mean(losses)), "accuracy": float(numpy.mean(accuracies))} if losses else None


def finish(
    config: Config, task: Task, network: Network, directory: Path, final: Metrics, seconds: float, memory: int | None
) -> Result:
    """What is written when training is over: parameters, plots and results."""
    assert final is not None
    chance = 1 / len(task.classes)
    save_parameters(network, directory / "parameters.npz")
    plot_run(directory, chance)
    samples = config.evaluation_clips * config.batch
    result = Result(
        accuracy=final["accuracy"],
        accuracy_error=standard_error(final["accuracy"], samples),
        loss=final["loss"],
        chance=chance,
        samples=samples,
        milliseconds_per_frame=1e3 * seconds / (config.clips * task.length * config.batch),
        activation_megabytes=None if memory is None else memory / 1e6,
        directory=str(directory),
    )
    (directory / "results.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
    return result


def activation_memory(rule: Rule, clip: Clip) -> int:
    """Peak bytes that training on this clip needs beyond what is there between clips: saved values, scratch, messages.

    Counted by tracemalloc on a copy of the rule, with the recycling of memory turned off.
    """
    rule = copy.deepcopy(rule)
    train_on(rule, clip.frames, clip.targets)  # the optimizer's memory is there from now on
    pool.recycling = False
    tracemalloc.start()
    try:
        for frame, target in zip(clip.frames, clip.targets, strict=True):
            rule.tick(frame, target)
        rule.end_clip()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pool.recycling = True


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


# Several runs side by side -------------------------------------------------------------------------------------------


def train_many(jobs: list[tuple[Config, Path]], processes: int, title: str) -> list[Result]:
    """Runs in several processes, under one progress bar; results in the order of the jobs. The first error ends all."""
    clips = sum(config.clips for config, _ in jobs)
    with tqdm(total=clips, unit="clip", desc=title, dynamic_ncols=True, disable=None) as bar:

        def progress(done: int, line: str) -> None:
            bar.update(done)
            bar.set_postfix_str(line)

        if len(jobs) == 1 or processes == 1:
            return [train(config, directory, progress) for config, directory in jobs]
        return _train_side_by_side(jobs, processes, progress)


def _train_side_by_side(jobs: list[tuple[Config, Path]], processes: int, progress: Progress) -> list[Result]:
    with get_context("spawn").Manager() as manager, ProcessPoolExecutor(processes, get_context("spawn")) as executor:
        lines = manager.Queue()
        futures = [executor.submit(_train_elsewhere, config, directory, lines) for config, directory in jobs]
        try:
            while not all(future.done() for future in futures) or not lines.empty():
                with contextlib.suppress(Empty):
                    progress(*lines.get(timeout=0.2))
                for future in futures:
                    if future.done():
                        future.result()
        except BaseException:
            for process in active_children():
                process.terminate()
            raise
        return [future.result() for future in futures]


def _train_elsewhere(config: Config, directory: Path, lines: Any) -> Result:
    return train(config, directory, lambda clips, line: lines.put((clips, line)))
