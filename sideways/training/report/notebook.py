"""The style of the tutorials' figures: sharp, and readable on a light page as well as on a dark one."""

from __future__ import annotations

from typing import Any

import matplotlib
from cycler import cycler

from sideways.training.report.plots import COLOURS

# Text, axes and grids have one grey for both grounds: its contrast is 4.1 : 1 on white and 3.9 : 1 on the site's dark
# ground, #1e2129. The palette's black would be lost on the dark one, so the grey takes its place.
INK = "#7d7d7d"
STYLE: dict[Any, Any] = {
    "figure.dpi": 80,  # on the page; the picture has twice as many
    "font.size": 11,
    "axes.titlesize": 12,
    "figure.facecolor": "white",
    "axes.facecolor": "none",
    "axes.prop_cycle": cycler(color=[*COLOURS[:-1], INK]),
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
STYLE |= dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
)


def style_figures(grid: bool = True) -> None:
    """Let the figures of this notebook have 160 dots per inch, a transparent ground and grey ink from now on.

    grid: whether axes have grid lines; not for a notebook that shows images.
    """
    from matplotlib_inline.config import InlineBackend  # imported here, because only Jupyter has it

    matplotlib.rcParams.update(STYLE | {"axes.grid": grid})
    jupyter: Any = InlineBackend.instance()
    # Jupyter lays white below a figure that says that its ground is transparent. So the figure says that it is white,
    # and the ground is left out only when it is written to a file.
    jupyter.print_figure_kwargs = {"bbox_inches": "tight", "facecolor": "none", "pil_kwargs": {"optimize": True}}
    jupyter.figure_formats = {"retina"}
