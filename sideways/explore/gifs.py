"""Animated GIFs for lessons and the README: `sideways plot cycle` and `sideways plot skip`.

The pictures show the cells of the explorer, which are the library's own schedule and trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image

from sideways.errors import InputError
from sideways.explore.cells import FRAME_COLOURS, Cell, Cells, blocked_cells, chain, sideways_cells
from sideways.network import Network

EMPTY, GREY, INK, SKIP_EDGE = "#e6e9ee", "#5a626c", "#16191d", "#D55E00"  # colours

# An update cycle -----------------------------------------------------------------------------------------------------


def plot_cycle(out: Path, depth: int = 4) -> None:
    """Draw the update cycle of backpropagation, 2D-1 ticks, beside Sideways in the same ticks.

    Raises `InputError` if `out` is no .gif, or cannot be written.
    """
    _check(out)
    network, ticks = chain(depth), 2 * depth + 1
    panels = (  # title, cells, ticks from one frame that is used to the next
        ("Backpropagation: one frame, then all units learn", blocked_cells(network, ticks), 2 * depth - 1),
        ("Sideways: every frame, every unit at every tick", sideways_cells(network, ticks), 1),
    )
    images = []
    for now in range(ticks):
        figure, axes_of_panels = _figure((11.6, 4.1), columns=2)
        for axes, (title, cells, period) in zip(axes_of_panels, panels, strict=True):
            _space_time(axes, network, cells, now, period)
            updates = sum(bool(cell.gradient) for row in cells[: now + 1] for cell in row.values())
            axes.set_title(title, fontsize=12, fontweight="bold", loc="left")
            axes.set_xlabel(f"tick {now}:  {updates} unit updates so far", fontsize=11)
        figure.supxlabel(
            "upper half: the frames in the activation     lower half: the frames mixed in the gradient",
            fontsize=11,
            color=INK,
        )
        images.append(_image(figure))
    _write(out, images, [1200] * (ticks - 1) + [3500])


def _space_time(axes: Axes, network: Network, cells: Cells, now: int, period: int) -> None:
    """Draw a row for each unit above the row of frames, a column for each tick, up to the tick `now`.

    period: every `period`-th frame is used; the others are pale.
    """
    names = list(network.units)
    axes.set(xlim=(-0.1, len(cells)), ylim=(-1.05, len(names)))
    axes.set_xticks([t + 0.45 for t in range(len(cells))], [str(t) for t in range(len(cells))], color=GREY)
    axes.set_yticks([i + 0.45 for i in range(-1, len(names))], ["frame", *names], fontsize=11)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.add_patch(Rectangle((now - 0.05, -1.05), 1, len(names) + 1.1, color=INK, alpha=0.08, linewidth=0))
    for t, row in enumerate(cells):
        for i, name in enumerate(names):
            axes.add_patch(Rectangle((t, i), 0.9, 0.9, color=EMPTY, linewidth=0))
            if t <= now:
                _draw_cell(axes, row[name], t, i)
        if t <= now:
            _band(axes, [t], t, -0.78, 0.9, 0.5, alpha=1 if t % period == 0 else 0.3)


def _draw_cell(axes: Axes, cell: Cell, x: float, y: float) -> None:
    """Draw the activation above, the gradient below, and a dotted box for a frame that waits."""
    _band(axes, cell.activation, x, y + 0.46, 0.9, 0.44)
    _band(axes, sorted({frame for frame, _ in cell.gradient}), x, y, 0.9, 0.44)
    for frame in cell.waiting:
        colour = FRAME_COLOURS[frame % len(FRAME_COLOURS)][0]
        box = Rectangle((x + 0.05, y + 0.5), 0.8, 0.36, fill=False, edgecolor=colour, linewidth=1.4, linestyle=":")
        axes.add_patch(box)


def _band(axes: Axes, frames: Sequence[int], x: float, y: float, width: float, height: float, alpha: float = 1) -> None:
    """Draw a bar with a colour and a number for each frame."""
    share = width / max(len(frames), 1)
    for i, frame in enumerate(frames):
        colour, ink = FRAME_COLOURS[frame % len(FRAME_COLOURS)]
        axes.add_patch(Rectangle((x + i * share, y), share, height, color=colour, alpha=alpha, linewidth=0))
        axes.text(
            x + (i + 0.5) * share,
            y + height / 2,
            str(frame),
            color=ink,
            ha="center",
            va="center_baseline",
            fontsize=min(11, 34 * share),
        )


# A skip edge ---------------------------------------------------------------------------------------------------------

STEPS = 5  # pictures of a message under way
POSITIONS = {"frame": 0.0, "u1": 1.5, "u2": 3.0, "u3": 4.5, "u4": 6.0, "u5": 7.5}  # x of the frame and of each unit
SKIP = ("u1", "u4")


def plot_skip(out: Path, ticks: int = 8) -> None:
    """Draw two paths of different length: in u4 a young frame meets an older one, and motion becomes visible.

    Raises `InputError` if `out` is no .gif, or cannot be written.
    """
    _check(out)
    edges = [("frame", "u1"), ("u1", "u2"), ("u2", "u3"), ("u3", "u4"), SKIP, ("u4", "u5")]
    network = chain(5, [(1, 4)])
    cells = sideways_cells(network, ticks)
    images, durations = [], []
    for t in range(ticks):
        for step in range(STEPS + 1):
            figure, axes = _figure((9.2, 3.4))
            frames_in = {"frame": [t], **{name: cell.activation for name, cell in cells[t].items()}}
            _draw_graph(axes, frames_in, edges, t)
            if step and t + 1 < ticks:
                for source, consumer in edges[1:]:
                    if frames_in[source] and cells[t + 1][consumer].activation:
                        _draw_message(axes, frames_in[source], source, consumer, step / (STEPS + 1))
            images.append(_image(figure))
            durations.append(1300 if step == 0 else 130)
            if t + 1 == ticks:
                durations[-1] = 3000
                break
    _write(out, images, durations)


def _draw_graph(axes: Axes, frames_in: dict[str, list[int]], edges: Sequence[tuple[str, str]], tick: int) -> None:
    """Draw the units and edges. frames_in: the frames that are mixed in each unit's activation at this tick."""
    axes.set(xlim=(-0.75, 8.25), ylim=(-1.2, 1.75), aspect="equal")
    axes.set_axis_off()
    for source, consumer in edges:
        _draw_edge(axes, source, consumer)
    for name, x in POSITIONS.items():
        _draw_unit(axes, name, x, frames_in[name])
    axes.set_title(f"tick {tick}", fontsize=13, fontweight="bold", loc="left")
    axes.set_title("A skip edge brings two moments together: u4 sees where the dot went", fontsize=11.5, color=GREY)


def _draw_edge(axes: Axes, source: str, consumer: str) -> None:
    is_skip = (source, consumer) == SKIP
    height, gap = (0.55, 0.0) if is_skip else (0.0, 0.55)  # the skip edge starts and ends on top of the units
    arrow = FancyArrowPatch(
        (POSITIONS[source] + gap, height),
        (POSITIONS[consumer] - gap, height),
        connectionstyle="arc3,rad=-0.42" if is_skip else "arc3",
        arrowstyle="-|>",
        mutation_scale=13,
        color=SKIP_EDGE if is_skip else GREY,
        linewidth=1.8,
        shrinkA=0,
        shrinkB=0,
    )
    axes.add_patch(arrow)


def _draw_unit(axes: Axes, name: str, x: float, frames: Sequence[int]) -> None:
    """Draw a unit, and in it a moving dot at its position in each frame; an arrow joins two positions."""
    axes.add_patch(Rectangle((x - 0.55, -0.55), 1.1, 1.1, facecolor="white" if frames else EMPTY, edgecolor=INK))
    dots = [_dot(x, frame) for frame in frames]
    if len(dots) == 2:
        arrow = FancyArrowPatch(
            *dots, arrowstyle="-|>", mutation_scale=11, color=INK, linewidth=1.4, shrinkA=6, shrinkB=6
        )
        axes.add_patch(arrow)
    for frame, (dot_x, dot_y) in zip(frames, dots, strict=True):
        axes.plot(dot_x, dot_y, "o", markersize=11, color=FRAME_COLOURS[frame % len(FRAME_COLOURS)][0])
    text = f"frame {frames[0]}" if len(frames) == 1 else f"frames {', '.join(map(str, frames))}" if frames else "–"
    axes.text(
        x,
        -0.68,
        text if name == "frame" else f"{name}\n{text}",
        ha="center",
        va="top",
        fontsize=10.5,
        fontweight="bold" if len(frames) > 1 else "normal",
    )


def _dot(x: float, frame: int) -> tuple[float, float]:
    """The position of the dot in a frame: it moves to the right and a little up, and comes in again after 8 frames."""
    return x - 0.4 + 0.8 * (frame % 8) / 7, -0.3 + 0.6 * (frame % 8) / 7


def _draw_message(axes: Axes, frames: Sequence[int], source: str, consumer: str, part: float) -> None:
    """Draw a message, a small band with the numbers of its frames, at the share `part` (0 to 1) of its edge."""
    is_skip = (source, consumer) == SKIP
    gap = 0.0 if is_skip else 0.7  # a message on a straight edge travels between the units, and covers no dot
    x = POSITIONS[source] + gap + part * (POSITIONS[consumer] - POSITIONS[source] - 2 * gap)
    y = 0.55 + 4 * part * (1 - part) * 0.92 if is_skip else 0.0
    width = 0.2 * len(frames) + 0.08
    share = width / len(frames)
    axes.add_patch(Rectangle((x - width / 2 - 0.02, y - 0.17), width + 0.04, 0.34, color=INK, zorder=5))
    for i, frame in enumerate(frames):
        colour, ink = FRAME_COLOURS[frame % len(FRAME_COLOURS)]
        left = x - width / 2 + i * share
        axes.add_patch(Rectangle((left, y - 0.15), share, 0.3, color=colour, linewidth=0, zorder=6))
        middle = x - width / 2 + (i + 0.5) * share
        axes.text(middle, y, str(frame), color=ink, fontsize=9, ha="center", va="center_baseline", zorder=7)


# Files ---------------------------------------------------------------------------------------------------------------


def _check(out: Path) -> None:
    if out.suffix != ".gif":
        raise InputError(f"--out {out}: an animation is written as .gif")


def _figure(size: tuple[float, float], columns: int = 1) -> tuple[Figure, Any]:
    """A figure, and its axes: one, or an array of several columns."""
    figure = Figure(figsize=size, layout="constrained", dpi=144)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def _image(figure: Figure) -> Image.Image:
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return Image.fromarray(numpy.asarray(canvas.buffer_rgba())[..., :3].copy())


def _write(out: Path, images: Sequence[Image.Image], durations: Sequence[int]) -> None:
    """Write an endless GIF. durations: milliseconds of each picture. One palette of 64 colours keeps the file small."""
    palette = Image.fromarray(numpy.concatenate([numpy.asarray(image) for image in images])).quantize(64)
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        first.save(out, save_all=True, append_images=others, duration=list(durations), loop=0, optimize=True)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from None
    print(f"written to {out}")
