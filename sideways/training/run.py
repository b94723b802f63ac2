"""The loop: clips in, ticks, metrics out; the evaluation; and the run directory `runs/<name>/`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy
from threadpoolctl import threadpool_limits

from sideways.backend import use_backend
from sideways.data import LiveStream, Source, Task, VideoClips
from sideways.errors import InputError
from sideways.network import Network
from sideways.training.build import build_network, build_rule, build_task, make_rule
from sideways.training.checkpoint import Checkpoints, Progress
from sideways.training.config import Config
from sideways.training.evaluation import Scores, batches
from sideways.training.log import Journal, ShowProgress
from sideways.training.loop import learn
from sideways.training.memory import peak_of_clip
from sideways.training.metrics import standard_error
from sideways.training.parameters import save_parameters
from sideways.training.report.frames_ahead import predictions_of_run
from sideways.training.report.plots import plot_confusion, plot_run
from sideways.training.report.report import write_report
from sideways.training.report.result import Result


@contextlib.contextmanager
def session(config: Config) -> Iterator[None]:
    """Where a run computes: its backend, its BLAS threads, and no warnings about overflow, which `learn` reports."""
    with threadpool_limits(config.threads, user_api="blas"), numpy.errstate(all="ignore"):
        use_backend(config.backend)
        yield


def train(
    config: Config, directory: Path, progress: ShowProgress = lambda clips, line: None, resume: Path | None = None
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
            position = checkpoints.load(resume, rule) if resume else Progress()
            if not resume:
                create_directory(directory, config)
            with Journal(directory, progress, position) as journal:
                found = learn(rule, source, config, journal, checkpoints, position)
            skipped = source.skipped
        made = not isinstance(task, VideoClips | LiveStream)  # others would have to decode once more, or wait
        clip = task.clip("train", 0, config.batch) if made else None
        memory = peak_of_clip(rule, clip.frames, clip.targets) if clip else None
        return finish(config, task, network, directory, found, position.seconds, position.clip, memory, skipped)


def limits(config: Config, task: Task) -> dict[str, int]:
    """How many clips of each split a run asks for."""
    return {"train": config.clips, "test": batches(task, config.batch, config.evaluation_clips)}


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
