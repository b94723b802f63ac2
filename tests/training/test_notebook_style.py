"""The style of the tutorials' figures: what one colour must do on two grounds, and what Jupyter is told."""

import matplotlib
import pytest
from matplotlib.colors import to_rgb
from matplotlib_inline.config import InlineBackend

from sideways.training.report.notebook import INK, STYLE, style_figures
from sideways.training.report.plots import COLOURS

WHITE, DARK = "#ffffff", "#1e2129"  # a light page, and the dark page of the documentation site


def contrast(one, other):
    """The contrast of two colours, from 1 to 21, by the formula of the Web Content Accessibility Guidelines 2."""
    low, high = sorted(luminance(to_rgb(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def luminance(rgb):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ground", [WHITE, DARK])
def test_the_ink_of_text_and_axes_reads_on_a_light_and_on_a_dark_page(ground):
    assert contrast(INK, ground) >= 3.9


def test_no_curve_is_lost_on_either_page():
    colours = [entry["color"] for entry in STYLE["axes.prop_cycle"]]
    assert colours[:-1] == list(COLOURS[:-1]) and colours[-1] == INK
    assert min(contrast(colour, ground) for colour in colours for ground in (WHITE, DARK)) > 2
    assert contrast(COLOURS[-1], DARK) < 2  # the black that is left out would be lost


@pytest.mark.parametrize("grid", [True, False])
def test_jupyter_is_told_to_draw_sharp_figures_without_a_ground(grid):
    InlineBackend.clear_instance()
    with matplotlib.rc_context():
        style_figures(grid=grid)
        assert matplotlib.rcParams["axes.grid"] is grid
        assert matplotlib.rcParams["text.color"] == matplotlib.rcParams["xtick.color"] == INK
    jupyter = InlineBackend.instance()
    InlineBackend.clear_instance()
    assert jupyter.figure_formats == {"retina"} and jupyter.print_figure_kwargs["facecolor"] == "none"
