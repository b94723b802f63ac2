"""A trained network on held-out clips, for `sideways evaluate`: scores, a table, and files if asked for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sideways.data.live import LiveStream
from sideways.data.source import Source
from sideways.data.task import Task
from sideways.errors import InputError
from sideways.rules.rule import Rule
from sideways.tables import aligned
from sideways.training.build import build_rule, build_task, option
from sideways.training.checkpoint import TrainedNetwork, find, load_trained
from sideways.training.config import Config
from sideways.training.evaluation import Scores, batches, evaluate
from sideways.training.metrics import standard_error
from sideways.training.report.plots import plot_confusion
from sideways.training.report.report import class_table, worst_of
from sideways.training.report.scores import scored
from sideways.training.run import session


def evaluate_checkpoint(checkpoint: str, data: str | None, split: int | None, out: str | None, backend: str) -> None:
    """Print loss, accuracies and each class; for a predictor of frames, compare it with guesses that need no training.

    checkpoint: a run, or one of its checkpoints.
    data, split: other videos of the same classes, or another official split, than those of the run.
    out: a folder for evaluation.json and confusion.png. backend: where to compute.
    Raises `InputError` if the data does not suit the network, or none of its clips can be read.
    """
    if out and Path(out).exists() and not Path(out).is_dir():
        raise InputError(f"{out}: --out takes a folder, this is a file")
    path = find(checkpoint)
    trained = load_trained(path, backend)
    config = _config_for(trained.config, checkpoint, data, split)
    with session(config), contextlib.closing(build_task(config)) as task:
        _check_task(path, task, trained)
        rule = build_rule(config, task, trained.network)
        held_out_batches = batches(task, config.batch, config.evaluation_clips)
        limits = {"train": 0, "test": held_out_batches}
        with Source(task, config.batch, workers=config.workers, limits=limits) as source:
            task.open(("test",))
            scores = evaluate(rule, source, config.evaluation_clips)
            skipped = source.skipped
        if scores is None or not len(scores.items):
            raise InputError(f"{path}: none of the held-out clips could be evaluated; files skipped: {len(skipped)}")
        table = _table(rule, task, config, held_out_batches, scores)
    _print_scores(scores, task, len(skipped))
    print(f"\n{table}")
    if out:
        _write(Path(out), scores, skipped, trained.classes)


def _config_for(config: Config, checkpoint: str, data: str | None, split: int | None) -> Config:
    """The run's config with the data to evaluate on."""
    if config.task == "stream":
        config = _as_videos(config, checkpoint, data)
    elif data is not None:
        config = replace(config, task="videos", evaluation_clips=0, task_options=config.task_options | {"data": data})
    if split is not None:
        config = replace(config, task_options=config.task_options | {"split": split})
    return config


def _as_videos(config: Config, checkpoint: str, data: str | None) -> Config:
    """The config of a run on a live stream, which has no held-out part, with video files as its task."""
    if data is None or data.startswith("stream:"):
        raise InputError(
            f"{checkpoint} learnt from a stream, of which nothing is held out: --data folder:DIR evaluates it on the "
            "videos of DIR/test/<any name>/"
        )
    options: dict[str, Any] = {key: value for key, value in config.task_options.items() if key != "live"}
    options |= {"data": data, "short_side": option(LiveStream, options, "size")}
    return replace(config, task="videos", evaluation_clips=0, task_options=options)


def _check_task(path: Path, task: Task, trained: TrainedNetwork) -> None:
    """Raise `InputError` unless the task has the network's classes and frame shape."""
    if task.classes != trained.classes or task.frame_shape != trained.network.input_shape:
        raise InputError(
            f"{path} tells {len(trained.classes)} classes on frames of {trained.network.input_shape}; this data has "
            f"{len(task.classes)} classes on frames of {task.frame_shape}, or classes of other names"
        )


def _table(rule: Rule, task: Task, config: Config, held_out_batches: int, scores: Scores) -> str:
    """A row for each class; for frames, a row for each kind of prediction, and one for each video."""
    if scores.probabilities is None:
        frames = scored(rule, task, config.horizon, config.batch, held_out_batches, set(scores.items))
        rows, by_video = frames.table(), frames.table_by_video()
        text = aligned(list(rows[0]), [list(row.values()) for row in rows])
        if by_video:
            table = aligned(list(by_video[0]), [list(row.values()) for row in by_video])
            text += f"\n\n{worst_of(by_video, len(frames.by_video))}\n\n{table}"
        return text
    return class_table(scores, task.classes)


def _print_scores(scores: Scores, task: Task, skipped: int) -> None:
    samples, available = len(scores.items), task.held_out_items()
    for name, value in scores.metrics.items():
        error = "" if name == "loss" else f" ± {standard_error(value, samples):.4f}"
        print(f"{name:<9} {value:.4f}{error}")
    of_all = "" if available is None else f" of {available}"
    files = f"; files skipped: {skipped}" if skipped else ""
    print(f"on {samples}{of_all} held-out clips or videos{files}")


def _write(folder: Path, scores: Scores, skipped: Mapping[str, str], classes: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(scores.metrics | {"skipped": skipped}, indent=2) + "\n")
    if scores.probabilities is not None:
        plot_confusion(folder / "confusion.png", scores, classes)
    print(f"written to {folder}")
