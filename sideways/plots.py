"""Pictures of runs, written as PNG. Colours are Okabe and Ito's, which colour-blind readers can tell apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def plot_run(directory: Path, chance: float) -> None:
    """plots/loss.png and plots/accuracy.png of one run directory, from its metrics.jsonl."""
    for what in ("loss", "accuracy"):
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


def _finish(axes: Axes, what: str, chance: float) -> None:
    axes.set_xlabel("training clips (batches)")
    if what == "accuracy":
        axes.axhline(chance, color="grey", linestyle=":", label=f"chance ({chance:.2f})")
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("accuracy of a clip (part of 1)")
    else:
        axes.set_ylabel("cross-entropy per tick (nats)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center right")


def _figure(columns: int = 1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4 * columns, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
