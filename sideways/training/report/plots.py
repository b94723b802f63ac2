"""Pictures of runs, written as PNG. Colours are Okabe and Ito's, which colour-blind readers can tell apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sideways.data import write_video
from sideways.training.metrics import confusion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sideways.training.evaluation import Scores

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def plot_run(directory: Path, chance: float | None) -> None:
    """plots/loss.png, accuracy.png (where there are classes) and cosine.png (if measured), from metrics.jsonl."""
    measured = read_metrics(directory, "cosine")
    if measured:
        figure, axes = _figure()
        for colour, name in zip(cycle(COLOURS), measured[0]["cosines"], strict=False):
            clips, values = [line["clip"] for line in measured], [line["cosines"][name] for line in measured]
            axes.plot(clips, values, "o-", color=colour, markersize=3, label=name)
        axes.set(xlabel="training clips (batches)", ylabel="cosine, one clip", ylim=(-1.05, 1.05))
        axes.set_title(f"{directory.name}: pseudo-gradient against exact gradient")
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower left", ncols=2)
        _save(figure, directory / "plots" / "cosine.png")
    for what in ("loss", "accuracy") if chance is not None else ("loss",):
        figure, axes = _figure()
        draw_curve(axes, directory, what, COLOURS[0], "training clips")
        held_out = read_metrics(directory, "evaluation")
        axes.plot(
            [line["clip"] for line in held_out],
            [line[what] for line in held_out],
            "o-",
            color=COLOURS[1],
            label="held-out",
        )
        _finish(axes, what, chance)
        axes.set_title(f"{directory.name}: {what}")
        _save(figure, directory / "plots" / f"{what}.png")


def plot_confusion(path: Path, scores: Scores, classes: Sequence[str]) -> None:
    """Right classes (rows) against the most probable ones (columns), each row as parts of 1."""
    assert scores.probabilities is not None and scores.labels is not None
    counts = confusion(scores.probabilities, scores.labels)
    parts = counts / numpy.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(classes) <= 20
    side = 5.5 if few else min(24.0, 3 + 0.15 * len(classes))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    FigureCanvasAgg(figure)
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


def plot_probabilities(path: Path, told: numpy.ndarray, classes: Sequence[str], first_tick: int, title: str) -> None:
    """The probabilities (T, K) of the classes that are most probable at some time, against ticks."""
    figure, axes = _figure()
    for colour, i in zip(COLOURS, numpy.argsort(-told.max(axis=0)), strict=False):
        axes.plot(range(first_tick, first_tick + len(told)), told[:, i], color=colour, label=classes[i])
    axes.set(xlabel="tick (frames)", ylabel="probability", ylim=(-0.02, 1.02), title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def annotated_video(
    path: Path, frames: Iterable[numpy.ndarray], told: numpy.ndarray, classes: Sequence[str], fps: float
) -> None:
    """The frames (H, W, C) uint8, taken one by one, beside each the probabilities (T, K) of its tick as bars."""
    chosen = numpy.argsort(-told.mean(axis=0))[: len(COLOURS)][::-1]
    figure = Figure(figsize=(8, 4), layout="constrained", dpi=80)
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.set_axis_off()
    bars = right.barh([classes[i] for i in chosen], told[0, chosen], color=COLOURS[0])
    right.set(xlim=(0, 1), xlabel="probability")

    def drawn() -> Iterator[numpy.ndarray]:
        image = None
        for tick, (frame, row) in enumerate(zip(frames, told, strict=True)):
            image = image or left.imshow(_rgb(frame))
            image.set_data(_rgb(frame))
            for bar, value in zip(bars, row[chosen], strict=True):
                bar.set_width(value)
            left.set_title(f"frame {tick + 1} of {len(told)}")
            canvas.draw()
            yield numpy.ascontiguousarray(numpy.asarray(canvas.buffer_rgba())[..., :3])

    write_video(path, drawn(), fps)


def _rgb(frame: numpy.ndarray) -> numpy.ndarray:
    return numpy.broadcast_to(frame, (*frame.shape[:2], 3))


def plot_comparison(runs: Mapping[str, Mapping[str, Sequence[Path]]], chance: Mapping[str, float], path: Path) -> None:
    """One panel for each task: the training accuracy of each rule against clips; task → rule → run directories."""
    figure, panels = _figure(columns=len(runs))
    for axes, (task, rules) in zip(numpy.atleast_1d(panels), runs.items(), strict=True):
        for colour, (rule, directories) in zip(COLOURS, rules.items(), strict=False):
            for directory in directories:
                draw_curve(axes, directory, "accuracy", colour, rule if directory == directories[0] else None)
        _finish(axes, "accuracy", chance[task])
        axes.set_title(task)
    _save(figure, path)


def plot_runs(groups: Mapping[str, Sequence[Path]], path: Path) -> None:
    """Training curves of groups of runs: a colour for each group, a line for each run."""
    runs = [run for group in groups.values() for run in group]
    classes = all("accuracy" in line for run in runs for line in read_metrics(run, "train")[:1])
    what = "accuracy" if classes else "loss"
    figure, axes = _figure()
    for colour, (name, group) in zip(cycle(COLOURS), groups.items(), strict=False):
        for run in group:
            draw_curve(axes, run, what, colour, name if run == group[0] else None)
    axes.set(ylabel=f"training {what}", title="Runs compared")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)


def read_metrics(directory: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind (`"train"` or `"evaluation"`) in a run's metrics.jsonl."""
    lines = (json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def draw_curve(axes: Axes, directory: Path, what: str, colour: str, label: str | None) -> None:
    """A training metric against clips: its running mean over a tenth of the run, above the faint single clips."""
    lines = read_metrics(directory, "train")
    clips, values = [line["clip"] for line in lines], numpy.array([line[what] for line in lines])
    span = max(1, len(values) // 10)
    sums = numpy.cumsum(numpy.concatenate([numpy.zeros(1), values]))
    first = numpy.maximum(numpy.arange(1, len(values) + 1) - span, 0)
    mean = (sums[1:] - sums[first]) / (numpy.arange(1, len(values) + 1) - first)
    axes.plot(clips, values, color=colour, alpha=0.15, linewidth=0.8)
    axes.plot(clips, mean, color=colour, linewidth=2, label=label)
    axes.set_xlabel("training clips (batches); faint: each; bold: mean over a tenth of the run")


def _finish(axes: Axes, what: str, chance: float | None) -> None:
    if what == "accuracy" and chance is not None:
        axes.axhline(chance, color="grey", linestyle=":", label=f"chance ({chance:.2f})")
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("accuracy of a clip (part of 1)")
    else:
        axes.set_ylabel("mean squared error per tick" if chance is None else "cross-entropy per tick (nats)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center right")


def _figure(columns: int = 1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4 * columns, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
