"""The plots of the claims: a point for each seed with their mean, and lines against the setting that was varied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sideways.training.metrics import mean_and_spread
from sideways.training.report.plots import COLOURS

MARKERS = "osD^vP*"


@dataclass(frozen=True)
class Curve:
    """Values y against x. Several values for one x are drawn as their mean and a band of one standard deviation."""

    label: str
    x: Sequence[float]
    y: Sequence[float] | Sequence[Sequence[float]]
    theory: bool = False  # a dashed line without markers
    apart: bool = False  # the last point is of another kind, and no line leads to it


def panels(count: int, width: float = 4.6) -> tuple[Figure, list[Any]]:
    """A figure with this many panels, two in a row, so that its letters can be read at the width of a page."""
    columns, rows = min(count, 2), -(-count // 2)
    figure = Figure(figsize=(width * columns, 3.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(numpy.atleast_1d(figure.subplots(rows, columns)).flat)
    for empty in axes[count:]:
        empty.remove()
    return figure, axes[:count]


def draw_points(
    axes: Any,
    groups: Mapping[str, Sequence[float]],
    label: str,
    title: str,
    levels: Mapping[str, float] | None = None,
    names: Iterable[str] = (),
) -> None:
    """Draw a row for each group: every seed as a point, the mean as a bar across.

    levels: name → value of a line to compare with. names: all groups of the figure, so that a group has one colour in
    every panel.
    """
    order = list(names) or list(groups)
    for row, (name, values) in enumerate(groups.items()):
        colour = COLOURS[order.index(name) % len(COLOURS)]
        axes.scatter(values, [row] * len(values), color=colour, s=26, alpha=0.65, linewidths=0, zorder=3)
        if values:
            axes.plot([numpy.mean(values)] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2.5, zorder=4)
    for style, (name, level) in zip((":", "--", "-."), (levels or {}).items(), strict=False):
        axes.axvline(level, color="grey", linestyle=style, label=name)
    if not groups:
        axes.set_title(f"{title}: no run finished", fontsize=11)
        return
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set(xlabel=label, ylim=(len(groups) - 0.5, -0.5))
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3, axis="x")
    if levels:
        axes.legend(frameon=False, fontsize=9)


def draw_groups(axes: Any, rows: Mapping[str, Mapping[str, Sequence[float]]], label: str, title: str) -> None:
    """Draw a row for each name with a thinner row for each group in it: every seed as a point, the mean as a bar."""
    names = list(next(iter(rows.values())))
    for number, group in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        places = [row + 0.8 * ((number + 0.5) / len(names) - 0.5) for row in range(len(rows))]
        values = [groups.get(group, ()) for groups in rows.values()]
        x = [value for row in values for value in row]
        y = [place for place, row in zip(places, values, strict=True) for _ in row]
        axes.scatter(x, y, color=colour, s=18, alpha=0.65, linewidths=0, zorder=3, label=group)
        means = [(numpy.mean(row), place) for place, row in zip(places, values, strict=True) if row]
        axes.scatter([x for x, _ in means], [y for _, y in means], color=colour, marker="|", s=60, zorder=4)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5))
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3, axis="x")
    axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.4, -0.13), ncols=3)


def draw_lines(axes: Any, lines: Sequence[Curve], x: str, y: str, title: str, **scales: Any) -> None:
    """Draw lines, each with its colour and marker; theory is dashed in black, on top."""
    lines = [line for line in lines if any(numpy.size(values) for values in line.y)]  # arms without values diverged
    if not lines:
        axes.set_title(f"{title}: no run finished", fontsize=11)
        return
    number = 0
    for line in lines:
        if line.theory:
            axes.plot(line.x, line.y, "--", color="black", linewidth=1.2, label=line.label, zorder=5)
            continue
        # A point without values leaves a gap in the line.
        rows = [numpy.atleast_1d(values) if numpy.size(values) else numpy.array([numpy.nan]) for values in line.y]
        means, spreads = numpy.array([mean_and_spread(row.tolist()) for row in rows]).T
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        end = len(means) - line.apart
        axes.plot(line.x[:end], means[:end], color=colour, marker=marker, markersize=5, label=line.label)
        axes.errorbar(line.x[end:], means[end:], spreads[end:], color=colour, fmt=marker, markersize=5)
        low, high = (means - spreads)[:end], (means + spreads)[:end]
        axes.fill_between(line.x[:end], low, high, color=colour, alpha=0.15, linewidth=0)
        number += 1
    axes.set(xlabel=x, ylabel=y, **scales)
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)


def save(figure: Figure, path: Path) -> Path:
    """Write the figure; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
