"""What a checkpoint is good for once it is trained: `sideways evaluate` and `export`; see also `predict.py`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sideways.data import LiveStream, Source, Task
from sideways.errors import InputError
from sideways.rules import Rule
from sideways.tables import aligned
from sideways.training.build import build_rule, build_task, option
from sideways.training.checkpoint import find, load_trained
from sideways.training.config import Config
from sideways.training.evaluation import Scores, batches, evaluate
from sideways.training.metrics import standard_error
from sideways.training.report.frames_ahead import compared
from sideways.training.report.plots import plot_confusion
from sideways.training.report.report import class_table
from sideways.training.run import session


def evaluate_checkpoint(place: str, data: str | None, split: int | None, out: str | None) -> None:
    """Loss, accuracies and confusion on held-out clips: of the run's own task, or of the same classes elsewhere.

    Of a predictor, the table of its guesses beside those that need no learning.
    """
    if out and Path(out).exists() and not Path(out).is_dir():
        raise InputError(f"{out}: a folder is wanted to write to, this is a file")
    path = find(place)
    held = load_trained(path)
    config, network, classes = held.config, held.network, held.classes
    if config.task == "stream":
        config = _as_videos(config, place, data)
    elif data is not None:
        config = replace(config, task="videos", evaluation_clips=0, task_options=config.task_options | {"data": data})
    if split is not None:
        config = replace(config, task_options=config.task_options | {"split": split})
    with session(config):
        task = build_task(config)
        if task.classes != classes or task.frame_shape != network.input_shape:
            raise InputError(
                f"{path} tells {len(classes)} classes on frames of {network.input_shape}; this data has "
                f"{len(task.classes)} on frames of {task.frame_shape}, or other names"
            )
        rule = build_rule(config, task, network)
        limit = {"train": 0, "test": batches(task, config.batch, config.evaluation_clips)}
        with Source(task, config.batch, workers=config.workers, limits=limit) as source:
            task.open(("test",))
            scores = evaluate(rule, source, config.evaluation_clips)
            skipped = source.skipped
        table = _table(rule, task, config, limit["test"], scores)
    if scores is None or not len(scores.items):
        raise InputError(f"{path}: none of the held-out clips could be evaluated; files skipped: {len(skipped)}")
    for name, value in scores.metrics.items():
        print(
            f"{name:<9} {value:.4f}" + (f" ± {standard_error(value, len(scores.items)):.4f}" if name != "loss" else "")
        )
    there = task.held_out_items()
    of = "" if there is None else f" of {there}"
    print(
        f"on {len(scores.items)}{of} held-out clips or videos" + (f"; files skipped: {len(skipped)}" if skipped else "")
    )
    if table:
        print(f"\n{table}")
    if out:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evaluation.json").write_text(json.dumps(scores.metrics | {"skipped": skipped}, indent=2) + "\n")
        if scores.probabilities is not None:
            plot_confusion(folder / "confusion.png", scores, classes)
        print(f"written to {folder}")


def _table(rule: Rule, task: Task, config: Config, clips: int, scores: Scores | None) -> str:
    """Each class, or each way to predict frames."""
    if scores is None or not len(scores.items):
        return ""
    if scores.probabilities is None:
        rows = compared(rule, task, config.horizon, config.batch, clips, set(scores.items))
        return aligned(list(rows[0]), [list(row.values()) for row in rows])
    return class_table(scores, task.classes)


def _as_videos(config: Config, place: str, data: str | None) -> Config:
    """The task of a run on a stream, on videos instead: of a stream nothing is held out."""
    if data is None or data.startswith("stream:"):
        raise InputError(
            f"{place} learnt from a stream, of which nothing is held out: --data folder:DIR evaluates it on the videos "
            "of DIR/test/<any name>/"
        )
    options: dict[str, Any] = {key: value for key, value in config.task_options.items() if key != "live"}
    options |= {"data": data, "short_side": option(LiveStream, options, "size")}
    return replace(config, task="videos", evaluation_clips=0, task_options=options)
