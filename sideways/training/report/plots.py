"""Plots and videos of runs. The colours are those of Okabe and Ito, which colour-blind readers can tell apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy

from sideways.data import write_video
from sideways.training.evaluation import Scores
from sideways.training.metrics import confusion

Axes = Any  # Matplotlib's, as the next two; see `new_figure`
Figure = Any
LineStyle = Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def plot_run(directory: Path, chance: float | None) -> None:
    """Draw a run's metrics.jsonl: plots/loss.png, accuracy.png (if there are classes) and cosine.png (if measured).

    chance: the accuracy of guessing, None where frames are predicted.
    """
    if cosines := read_metrics(directory, "cosine"):
        _plot_cosines(directory, cosines)
    held_out = read_metrics(directory, "evaluation")
    for metric in ("loss", "accuracy") if chance is not None else ("loss",):
        figure, axes = _figure()
        draw_curve(axes, directory, metric, COLOURS[0], "training clips")
        clips, values = [line["clip"] for line in held_out], [line[metric] for line in held_out]
        axes.plot(clips, values, "o-", color=COLOURS[1], label="held-out")
        _finish(axes, metric, chance)
        axes.legend(frameon=False, loc="center right")
        axes.set_title(f"{directory.name}: {metric}")
        _save(figure, directory / "plots" / f"{metric}.png")


def _plot_cosines(directory: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Draw the cosine of each unit's pseudo-gradient to its exact gradient, against clips."""
    figure, axes = _figure()
    clips = [line["clip"] for line in lines]
    for colour, unit in zip(cycle(COLOURS), lines[0]["cosines"], strict=False):
        values = [line["cosines"][unit] for line in lines]
        axes.plot(clips, values, "o-", color=colour, markersize=3, label=unit)
    axes.set(xlabel="training clips (batches)", ylabel="cosine, one clip", ylim=(-1.05, 1.05))
    axes.set_title(f"{directory.name}: pseudo-gradient against exact gradient")
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower left", ncols=2)
    _save(figure, directory / "plots" / "cosine.png")


def plot_confusion(path: Path, scores: Scores, classes: Sequence[str]) -> None:
    """Draw the held-out confusion: right classes (rows) against most probable classes (columns); rows sum to 1."""
    assert scores.probabilities is not None and scores.labels is not None
    counts = confusion(scores.probabilities, scores.labels)
    parts = counts / numpy.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(classes) <= 20
    side = 5.5 if few else min(24.0, 3 + 0.15 * len(classes))
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    image = axes.imshow(parts, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=9 if few else 5)
    axes.set_yticks(range(len(classes)), classes, fontsize=9 if few else 5)
    axes.set(xlabel="most probable class", ylabel="right class", title="Held-out confusion")
    for (i, j), count in numpy.ndenumerate(counts) if few else ():
        axes.text(
            j, i, str(count), ha="center", va="center", fontsize=9, color="white" if parts[i, j] > 0.5 else "black"
        )
    figure.colorbar(image, label="part of the right class", shrink=0.8)
    _save(figure, path)


def plot_probabilities(
    path: Path, probabilities: numpy.ndarray, classes: Sequence[str], first_tick: int, title: str
) -> None:
    """Draw probabilities (T, K) against ticks, for the classes with the highest peaks."""
    figure, axes = _figure()
    ticks = range(first_tick, first_tick + len(probabilities))
    for colour, i in zip(COLOURS, numpy.argsort(-probabilities.max(axis=0)), strict=False):
        axes.plot(ticks, probabilities[:, i], color=colour, label=classes[i])
    axes.set(xlabel="tick (frames)", ylabel="probability", ylim=(-0.02, 1.02), title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def annotated_video(
    path: Path, frames: Iterable[numpy.ndarray], probabilities: numpy.ndarray, classes: Sequence[str], fps: float
) -> None:
    """Write a video: each frame (H, W, C) uint8, taken one by one, beside bars of its tick's probabilities (T, K)."""
    chosen = numpy.argsort(-probabilities.mean(axis=0))[: len(COLOURS)][::-1]
    figure = new_figure(8, 4, dpi=80)
    canvas = figure.canvas
    left, right = figure.subplots(1, 2)
    left.set_axis_off()
    bars = right.barh([classes[i] for i in chosen], probabilities[0, chosen], color=COLOURS[0])
    right.set(xlim=(0, 1), xlabel="probability")

    def pictures() -> Iterator[numpy.ndarray]:
        image = None
        for tick, (frame, row) in enumerate(zip(frames, probabilities, strict=True)):
            image = image or left.imshow(_rgb(frame))
            image.set_data(_rgb(frame))
            for bar, value in zip(bars, row[chosen], strict=True):
                bar.set_width(value)
            left.set_title(f"frame {tick + 1} of {len(probabilities)}")
            canvas.draw()
            yield numpy.ascontiguousarray(numpy.asarray(canvas.buffer_rgba())[..., :3])

    write_video(path, pictures(), fps)


def _rgb(frame: numpy.ndarray) -> numpy.ndarray:
    """A view of a grey or coloured frame as (H, W, 3)."""
    return numpy.broadcast_to(frame, (*frame.shape[:2], 3))


def plot_comparison(runs: Mapping[str, Mapping[str, Sequence[Path]]], chance: Mapping[str, float], path: Path) -> None:
    """Draw the training accuracy of each rule against clips, a panel for each task. runs: task → rule → directories.

    Solid, dashed and dotted lines take turns: a later curve that runs over an earlier one lets it show through.
    """
    styles: Sequence[LineStyle] = ("-", (0, (4, 2)), (0, (1, 1)))
    figure, panels = _figure(columns=len(runs), height=4.8)
    for axes, (task, rules) in zip(numpy.atleast_1d(panels), runs.items(), strict=True):
        for (rule, directories), colour, style in zip(rules.items(), cycle(COLOURS), cycle(styles), strict=False):
            for directory in directories:
                draw_curve(axes, directory, "accuracy", colour, rule if directory == directories[0] else None, style)
        _finish(axes, "accuracy", chance[task])
        axes.set(title=task, ylabel="accuracy on training clips")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    _save(figure, path)


def plot_runs(groups: Mapping[str, Sequence[Path]], path: Path) -> None:
    """Draw the training curves of groups of runs: a colour for each group, a line for each run."""
    runs = [run for group in groups.values() for run in group]
    classes = all("accuracy" in line for run in runs for line in read_metrics(run, "train")[:1])
    metric = "accuracy" if classes else "loss"
    figure, axes = _figure()
    for colour, (name, group) in zip(cycle(COLOURS), groups.items(), strict=False):
        for run in group:
            draw_curve(axes, run, metric, colour, name if run == group[0] else None)
    axes.set(ylabel=f"training {metric}", title="Runs compared")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)


def read_metrics(directory: Path, kind: str) -> list[dict[str, Any]]:
    """Read the lines of one kind (`"train"`, `"evaluation"` or `"cosine"`) in a run's metrics.jsonl."""
    lines = (json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def draw_curve(
    axes: Axes, directory: Path, metric: str, colour: str, label: str | None, style: LineStyle = "-"
) -> None:
    """Draw a training metric against clips: single clips faint, the running mean over a tenth of the run bold."""
    lines = read_metrics(directory, "train")
    clips, values = [line["clip"] for line in lines], numpy.array([line[metric] for line in lines])
    width = max(1, len(values) // 10)
    sums = numpy.cumsum(numpy.concatenate([numpy.zeros(1), values]))
    first = numpy.maximum(numpy.arange(1, len(values) + 1) - width, 0)
    mean = (sums[1:] - sums[first]) / (numpy.arange(1, len(values) + 1) - first)
    axes.plot(clips, values, color=colour, alpha=0.15, linewidth=0.8)
    axes.plot(clips, mean, color=colour, linestyle=style, linewidth=2.4, label=label)
    axes.set_xlabel("training clips (batches); faint: each; bold: mean over a tenth of the run")


def _finish(axes: Axes, metric: str, chance: float | None) -> None:
    """Label the y axis, and add chance level and grid. chance: None where frames are predicted."""
    if metric == "accuracy" and chance is not None:
        axes.axhline(chance, color="grey", linestyle=":", label=f"chance ({chance:.2f})")
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("accuracy")
    else:
        axes.set_ylabel("mean squared error per tick" if chance is None else "cross-entropy per tick (nats)")
    axes.grid(alpha=0.3)


def new_figure(width: float, height: float, dpi: float = 100) -> Figure:
    """An empty figure, of this size in inches.

    Matplotlib takes half a second to import. It is imported here, so that ranks that draw nothing do not wait for it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def _figure(columns: int = 1, height: float = 4.2) -> tuple[Figure, Any]:
    """A figure with one row of panels; height in inches. Returns (figure, its axes; an array for several columns)."""
    figure = new_figure(6.4 * columns, height)
    return figure, figure.subplots(1, columns)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=144)
