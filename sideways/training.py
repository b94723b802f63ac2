"""The loop: clips in, ticks, metrics out; the evaluation; and the run directory `runs/<name>/`."""

from __future__ import annotations

import contextlib
import copy
import json
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from queue import Empty
from typing import Any

import numpy
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from sideways.backend import pool, synchronise, to_host, use_backend
from sideways.config import Config, Run, build
from sideways.data import Clip, Task
from sideways.errors import DivergedError, InputError
from sideways.metrics import accuracy, clip_probabilities, standard_error
from sideways.plots import plot_run
from sideways.rules import Rule

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
    activation_megabytes: float  # peak memory of one training clip above what is there between clips, in 10⁶ bytes
    directory: str


def train(config: Config, directory: Path, progress: Progress = lambda clips, line: None) -> Result:
    """Train, evaluate on held-out clips, and write the run directory, which must not exist yet.

    Writes config.json, metrics.jsonl (one object per clip, and one per evaluation), plots/*.png, parameters.npz and
    results.json. Raises `InputError` before anything is written, `DivergedError` where the loss is no number.
    """
    with threadpool_limits(config.threads, user_api="blas"), numpy.errstate(all="ignore"):
        use_backend(config.backend)
        run = build(config)
        run.task.clip("test", 0, 1)  # refuses videos that cannot be read before anything is written
        create_directory(directory)
        (directory / "config.json").write_text(json.dumps(config.to_tables(), indent=2) + "\n")
        seconds = 0.0
        with (directory / "metrics.jsonl").open("w") as metrics:
            for index in range(config.clips):
                clip = run.task.clip("train", index, config.batch)
                start = time.perf_counter()
                line = train_on(run.rule, clip)
                synchronise()
                seconds += time.perf_counter() - start
                _stop_if_diverged(run, line["loss"], index)
                _log(metrics, kind="train", clip=index + 1, tick=run.rule.ticks, **line)
                if config.evaluate_every and (index + 1) % config.evaluate_every == 0 and index + 1 < config.clips:
                    evaluation = evaluate(run.rule, run.task, config.evaluation_clips, config.batch)
                    _log(metrics, kind="evaluation", clip=index + 1, tick=run.rule.ticks, **evaluation)
                progress(1, f"loss {line['loss']:.3f}  accuracy {line['accuracy']:.2f}")
            final = evaluate(run.rule, run.task, config.evaluation_clips, config.batch)
            _log(metrics, kind="evaluation", clip=config.clips, tick=run.rule.ticks, **final)
        save_parameters(run, directory / "parameters.npz")
        plot_run(directory, chance=1 / len(run.task.classes))
        frames = config.clips * run.task.length * config.batch
        samples = config.evaluation_clips * config.batch
        result = Result(
            final["accuracy"],
            standard_error(final["accuracy"], samples),
            final["loss"],
            1 / len(run.task.classes),
            samples,
            1e3 * seconds / frames,
            activation_memory(run.rule, run.task.clip("train", 0, config.batch)) / 1e6,
            str(directory),
        )
        (directory / "results.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
        return result


def train_on(rule: Rule, clip: Clip) -> dict[str, float]:
    """One clip, tick by tick: its mean loss, and the accuracy of its mean class probabilities."""
    ticks = [rule.tick(frame, target) for frame, target in zip(clip.frames, clip.targets, strict=True)]
    losses = [float(tick.loss) for tick in ticks if tick.loss is not None]
    outputs = [tick.output for tick in ticks if tick.output is not None]
    rule.end_clip()
    return {"loss": float(numpy.mean(losses)), "accuracy": accuracy(clip_probabilities(outputs), clip.targets[-1])}


def evaluate(rule: Rule, task: Task, clips: int, batch: int) -> dict[str, float]:
    """Loss and accuracy on this many batches of held-out clips. Touches no training state."""
    losses, accuracies = [], []
    for index in range(clips):
        clip = task.clip("test", index, batch)
        evaluation = rule.evaluate(clip.frames, clip.targets)
        losses += [float(loss) for loss in evaluation.losses]
        accuracies.append(accuracy(clip_probabilities(evaluation.outputs), clip.targets[-1]))
    return {"loss": float(numpy.mean(losses)), "accuracy": float(numpy.mean(accuracies))}


def activation_memory(rule: Rule, clip: Clip) -> int:
    """Peak bytes that training on this clip needs beyond what is there between clips: saved values, scratch, messages.

    Counted by tracemalloc on a copy of the rule, with the recycling of memory turned off.
    """
    rule = copy.deepcopy(rule)
    train_on(rule, clip)  # the optimizer's memory is there from now on
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


def create_directory(directory: Path) -> None:
    """The empty run directory, or `InputError`."""
    try:
        (directory / "plots").mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{directory} exists already: choose another --name, or remove it") from None
    except OSError as error:
        raise InputError(f"cannot create {directory}: {error.strerror}") from None


def save_parameters(run: Run, path: Path) -> None:
    """Parameters and running statistics as `"<unit>/<key>"` → array."""
    arrays = run.network.parameters, run.network.state
    values: dict[str, Any] = {f"{u}/{key}": to_host(a) for part in arrays for u in part for key, a in part[u].items()}
    numpy.savez(path, **values)


def _log(metrics: Any, **line: Any) -> None:
    metrics.write(json.dumps(line) + "\n")
    metrics.flush()


def _stop_if_diverged(run: Run, loss: float, index: int) -> None:
    if numpy.isfinite(loss):
        return
    broken = (
        name
        for name, unit in run.network.units.items()
        if not all(numpy.isfinite(to_host(array)).all() for array in unit.parameters.values())
    )
    where = next(broken, None)
    what = f"unit {where!r} has parameters that are no numbers" if where else f"unit {run.network.top.name!r} overflows"
    raise DivergedError(
        f"the loss is {loss} in clip {index + 1} (step {run.rule.ticks}): {what}; lower the learning rate"
    )


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
