"""A run: train a network, evaluate it, and write the run directory `runs/<name>/`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy
from threadpoolctl import threadpool_limits

from sideways.backend import use_backend
from sideways.data import Source, Task
from sideways.errors import InputError, Interrupted
from sideways.training.build import build_network, build_rule, build_task, make_rule
from sideways.training.checkpoint import Checkpoints
from sideways.training.config import Config
from sideways.training.evaluation import Scores, batches
from sideways.training.log import RunLog, ShowProgress
from sideways.training.loop import Trainer
from sideways.training.memory import peak_of_clip
from sideways.training.metrics import standard_error
from sideways.training.needs import check_memory
from sideways.training.parameters import save_parameters
from sideways.training.progress import Progress
from sideways.training.report.frames_ahead import draw_predictions
from sideways.training.report.plots import plot_confusion, plot_run
from sideways.training.report.report import write_report
from sideways.training.report.result import Result
from sideways.training.report.scores import FrameScores, scored


@contextlib.contextmanager
def session(config: Config) -> Iterator[None]:
    """Compute on the run's backend and BLAS threads, without NumPy's warnings of overflow, which the loop reports."""
    with threadpool_limits(config.threads, user_api="blas"), numpy.errstate(all="ignore"):
        use_backend(config.backend, config.precision)
        yield


def train(
    config: Config,
    directory: Path,
    show: ShowProgress = lambda clips, line: None,
    resume: Path | None = None,
    report: bool = True,
) -> Result:
    """Train, evaluate on held-out clips, and write the run directory, which must not exist yet.

    Writes config.json, metrics.jsonl (one object per clip, and one per evaluation), checkpoints/, plots/*.png,
    parameters.npz, results.json and report.md. show: called with the progress. resume: a checkpoint of this run to go
    on from. report: False leaves out plots, report.md and the measurement of memory, which take seconds, where many
    short runs are compared. Raises `InputError` before anything is written, `DivergedError` if the loss is not finite,
    `Interrupted` after Ctrl-C.
    """
    with session(config), contextlib.closing(build_task(config)) as task:
        check_memory(config, task)
        network = build_network(config, task.frame_shape, len(task.classes))
        rule = build_rule(config, task, network)
        with Source(task, config.batch, workers=config.workers, limits=limits(config, task)) as source:
            source.open()  # refuses videos that cannot be read before anything is written
            checkpoints = Checkpoints(directory, config, source)
            progress = checkpoints.load(resume, rule) if resume else Progress()
            if not resume:
                create_directory(directory, config)
            with RunLog(directory, show, progress) as log:
                trainer = Trainer(rule, source, config, log, checkpoints, progress)
                scores = trainer.run()
            skipped = source.skipped
        assert scores is not None  # this process owns the top
        try:
            return finish(trainer, scores, skipped, _memory_of_clip(trainer) if report else None, report)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted after the training; to write the results: --resume {checkpoints.save(rule, progress)}"
            ) from None


def _memory_of_clip(trainer: Trainer) -> int | None:
    """The peak bytes of training on a clip; not measured on videos, which would have to be decoded again."""
    task = trainer.source.task
    if task.stored or task.live:
        return None
    clip = task.clip("train", 0, trainer.config.batch)
    return peak_of_clip(trainer.rule, clip.frames, clip.targets)


def limits(config: Config, task: Task) -> dict[str, int]:
    """The number of batches of clips that a run takes from each split."""
    return {"train": config.clips, "test": batches(task, config.batch, config.evaluation_clips)}


def finish(
    trainer: Trainer, scores: Scores, skipped: Mapping[str, str], memory: int | None, report: bool = True
) -> Result:
    """Write the parameters and the results, and (report) the plots and the report, when training is over.

    skipped: file → the reason why it could not be used. memory: bytes, the peak of training on a clip.
    """
    config, task, network = trainer.config, trainer.source.task, trainer.rule.network
    directory = trainer.checkpoints.directory
    save_parameters(network, directory / "parameters.npz")
    result = _result(trainer, scores, len(skipped), memory)
    (directory / "results.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
    if not report:
        return result
    plot_run(directory, None if config.horizon else 1 / len(task.classes))
    predictions: FrameScores | None = None
    if scores.probabilities is not None:
        plot_confusion(directory / "plots" / "confusion.png", scores, task.classes)
    elif len(scores.items):
        rule, clips = make_rule(config, network), limits(config, task)["test"]
        items = set(scores.items)
        draw_predictions(rule, task, config.horizon, config.batch, clips, directory, items)
        predictions = scored(rule, task, config.horizon, config.batch, clips, items)
    write_report(directory, config, task, result, scores, skipped, predictions)
    return result


def _result(trainer: Trainer, scores: Scores, skipped_files: int, memory: int | None) -> Result:
    config, task, progress = trainer.config, trainer.source.task, trainer.progress
    samples, metrics = len(scores.items), scores.metrics
    accuracy = metrics.get("accuracy")
    return Result(
        accuracy=accuracy,
        accuracy_error=None if accuracy is None else standard_error(accuracy, samples),
        top5=metrics.get("top5"),
        loss=metrics.get("loss"),
        chance=None if accuracy is None else 1 / len(task.classes),
        samples=samples,
        held_out=task.held_out_items(),
        milliseconds_per_frame=1e3 * progress.seconds / (max(progress.clip, 1) * task.length * config.batch),
        activation_megabytes=None if memory is None else memory / 1e6,
        skipped_files=skipped_files,
        waiting=trainer.waiting,
        directory=str(trainer.checkpoints.directory),
    )


def create_directory(directory: Path, config: Config) -> None:
    """Make the run directory, with its config.json. Raises `InputError` if it exists or cannot be made."""
    try:
        (directory / "plots").mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{directory} exists already: choose another --name, or remove it") from None
    except OSError as error:
        raise InputError(f"cannot create {directory}: {error.strerror}") from None
    draft = directory / ".config.json"
    draft.write_text(json.dumps(config.to_tables(), indent=2) + "\n")
    draft.replace(directory / "config.json")  # the file is whole, or is not there
