"""The diagram of units against ticks, as notebook 3 draws it for backpropagation and for Sideways."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from sideways.explore.cells import FRAME_COLOURS

Frames = Mapping[tuple[int, int], int]  # (unit, tick) → frame; units count from 1, ticks from 0


def draw_ticks(forward: Frames, backward: Frames, depth: int, ticks: int, title: str) -> Axes:
    """Draw a chain of `depth` units (rows, the top uppermost) at work during the ticks 0 … `ticks` - 1 (columns).

    forward: the frame that a unit runs forward on at a tick; the upper half of the cell, with ↑.
    backward: the frame whose gradient a unit computes at a tick; the lower half, in a paler shade, with ↓.
    A unit without an entry for a tick is idle in it. Returns the axes of the new figure.
    """
    _, axes = plt.subplots(figsize=(0.62 * ticks + 1.2, 0.62 * depth + 1.1), layout="constrained")
    for cells, half, sign in ((forward, 0.0, "↑"), (backward, -0.5, "↓")):
        for (unit, tick), frame in cells.items():
            colour, ink = FRAME_COLOURS[frame % len(FRAME_COLOURS)]
            shade = numpy.array(to_rgb(colour))
            if cells is backward:
                shade, ink = 0.45 * shade + 0.55, "black"
            axes.add_patch(Rectangle((tick - 0.5, unit + half), 1, 0.5, color=tuple(shade), linewidth=0))
            words = f"{sign}{frame}"
            axes.text(tick, unit + half + 0.25, words, ha="center", va="center", fontsize=10, color=ink)
    axes.set(xlim=(-0.5, ticks - 0.5), xticks=range(ticks), xlabel="time (ticks)", title=title)
    axes.set(ylim=(0.5, depth + 0.5), yticks=range(1, depth + 1), ylabel=f"unit ({depth} is the top)")
    axes.grid(visible=False)
    axes.set_yticks(numpy.arange(0.5, depth + 1), minor=True)
    axes.set_xticks(numpy.arange(-0.5, ticks), minor=True)
    axes.grid(which="minor", color="grey", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    return axes
