"""The report of a run, report.md: settings, machine, results, plots, skipped files, the command to repeat the run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy

from sideways.data import Task
from sideways.machine import machine
from sideways.tables import markdown
from sideways.training.config import Config
from sideways.training.evaluation import Scores
from sideways.training.metrics import confusion
from sideways.training.report.result import Result, evaluated
from sideways.training.report.scores import FrameScores

MOST_MIXED_UP = 10  # pairs of classes that are named


def write_report(
    directory: Path,
    config: Config,
    task: Task,
    result: Result,
    scores: Scores,
    skipped: Mapping[str, str],
    predictions: FrameScores | None = None,
) -> None:
    """Write report.md into the run directory.

    skipped: path → why the file could not be used. predictions: the scores of predicted frames.
    """
    parts = [
        f"# {directory.name}",
        config.summary,
        _settings(config, task),
        _results(config, result, predictions),
        *([_classes(scores, task.classes)] if scores.probabilities is not None and len(task.classes) > 1 else []),
        _plots(directory),
        _skipped(skipped),
        _command(directory),
    ]
    text = "\n\n".join(part for part in parts if part)
    (directory / "report.md").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _settings(config: Config, task: Task) -> str:
    """The section that lists settings, data and machine."""
    data = ", ".join(f"{key} = {value}" for key, value in config.task_options.items())
    height, width, channels = task.frame_shape
    computer = machine()
    learns = f", learns from every {config.learn_every}th loss" if config.learn_every > 1 else ""
    rows = {
        "model": config.model + _options(config.model_options),
        "rule": f"{config.rule}{learns}, update every {config.update_every}, boundary {config.boundary}",
        "optimizer": f"{config.optimizer.get('name')}{_options(config.optimizer)}",
        "schedule": f"{config.schedule.get('name')}{_options(config.schedule)}",
        "data": f"{config.task}{f' ({data})' if data else ''}",
        "frames": f"{height}×{width}×{channels}, {task.length} per clip, batches of {config.batch}",
        "training": f"{config.clips} clips (batches), seed {config.seed}, {config.dtype}, {config.backend}"
        + (", products in tf32" if config.precision == "tf32" else ""),
        "machine": f"{computer['cpu']}, {computer['cores']} cores, NumPy {computer['numpy']}",
    }
    if config.horizon:
        rows["target"] = f"the frame {config.horizon} ticks ahead"
    if task.live:
        taken, dropped = task.counters()["taken"], task.counters()["dropped"]
        rows["stream"] = f"{taken} frames taken, {dropped} dropped (they came while the learner was busy)"
    if count := task.count("train"):
        rows["videos"] = f"{count} to train on, {task.count('test')} held-out clips, {len(task.classes)} classes"
    return "## What was run\n\n" + markdown([{"": key, " ": value} for key, value in rows.items()])


def _options(options: Mapping[str, object]) -> str:
    """All options but the name, in brackets; an empty text if there are none."""
    text = ", ".join(f"{key} {value}" for key, value in options.items() if key != "name")
    return f" ({text})" if text else ""


def _results(config: Config, result: Result, predictions: FrameScores | None) -> str:
    """The section of results."""
    rows = {"held-out loss": "there was nothing to evaluate on" if result.loss is None else f"{result.loss:.4f}"}
    if result.accuracy is not None:
        error, chance = result.accuracy_error, result.chance
        rows["held-out accuracy"] = f"{result.accuracy:.3f} ± {error:.3f} on {evaluated(result)} (chance {chance:.3f})"
    if result.top5 is not None:
        rows["held-out top-5 accuracy"] = f"{result.top5:.3f}"
    rows["training time per frame of one sample"] = f"{result.milliseconds_per_frame:.3f} ms"
    if result.activation_megabytes is not None:
        rows["peak of activations, scratch and messages"] = f"{result.activation_megabytes:.1f} MB"
    if result.waiting is not None:
        rows["share of the time spent waiting for frames"] = f"{result.waiting:.1%}"
    text = "## Results\n\n" + markdown([{"": key, " ": value} for key, value in rows.items()])
    if predictions is None:
        return text
    by_video = predictions.table_by_video()
    tables = [markdown(predictions.table())]
    if by_video:
        tables += [worst_of(by_video, len(predictions.by_video)), markdown(by_video)]
    return "\n\n".join([text, *tables])


def worst_of(rows: Sequence[Mapping[str, str]], videos: int) -> str:
    """The sentence above the table by video."""
    which = "Each video" if len(rows) == videos else f"The {len(rows)} of {videos} videos with the smallest gain"
    return f"{which}, the smallest gain over repeating the newest frame first:"


def class_table(scores: Scores, classes: Sequence[str]) -> str:
    """The table of classes: held-out items of each, and their accuracy."""
    assert scores.probabilities is not None and scores.labels is not None
    counts = confusion(scores.probabilities, scores.labels)
    return markdown(
        [
            {"class": name, "held-out": str(total), "accuracy": f"{counts[i, i] / total:.3f}" if total else ""}
            for i, (name, total) in enumerate(zip(classes, counts.sum(axis=1), strict=True))
        ]
    )


def _classes(scores: Scores, classes: Sequence[str]) -> str:
    """The section of classes, with the pairs that are most often mixed up."""
    assert scores.probabilities is not None and scores.labels is not None
    counts = confusion(scores.probabilities, scores.labels)
    numpy.fill_diagonal(counts, 0)
    worst = numpy.argsort(-counts, axis=None, kind="stable")[:MOST_MIXED_UP]
    pairs = [(int(entry) // len(classes), int(entry) % len(classes)) for entry in worst]
    mixed_up = "\n".join(f"- {classes[i]}, taken for {classes[j]}: {counts[i, j]}" for i, j in pairs if counts[i, j])
    text = f"## Classes\n\n{class_table(scores, classes)}"
    return text + (f"\n\nMost often mixed up:\n\n{mixed_up}" if mixed_up else "")


def _plots(directory: Path) -> str:
    """The section of plots: all PNG files in plots/."""
    paths = sorted((directory / "plots").glob("*.png"))
    return "## Plots\n\n" + "\n\n".join(f"![{path.stem}](plots/{path.name})" for path in paths)


def _skipped(skipped: Mapping[str, str]) -> str:
    """The section of files that could not be used."""
    if not skipped:
        return "## Skipped files\n\nNone."
    lines = "\n".join(f"- `{path}`: {reason}" for path, reason in sorted(skipped.items()))
    return (
        f"## Skipped files\n\n{len(skipped)} could not be used. Unreadable ones were replaced by others of their class "
        f"in training, and left out of evaluations.\n\n{lines}"
    )


def _command(directory: Path) -> str:
    """The section with the command that repeats the run."""
    command = ["sideways", "train", str(directory / "config.json"), "--name", f"{directory.name}-again"]
    command += [] if directory.parent == Path("runs") else ["--runs", str(directory.parent)]
    return f"## Again\n\n    {shlex.join(command)}"
