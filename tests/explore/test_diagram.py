"""The diagram of units against ticks: each cell of it says what it was given, in the place where it belongs."""

import matplotlib.pyplot as plt
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from sideways.explore.cells import FRAME_COLOURS
from sideways.explore.diagram import draw_ticks

PLACES = st.tuples(st.integers(1, 3), st.integers(0, 4))
CELLS = st.dictionaries(PLACES, st.integers(0, 20), max_size=6)


@given(forward=CELLS, backward=CELLS)
@settings(max_examples=20, deadline=None)
def test_each_pass_is_named_in_its_half_of_the_cell_in_the_colour_of_its_frame(forward, backward):
    axes = draw_ticks(forward, backward, depth=3, ticks=5, title="A title")
    try:
        words = {(text.get_position(), text.get_text()) for text in axes.texts}
        ups = {((tick, unit + 0.25), f"↑{frame}") for (unit, tick), frame in forward.items()}
        downs = {((tick, unit - 0.25), f"↓{frame}") for (unit, tick), frame in backward.items()}
        assert words == ups | downs
        boxes = {patch.get_xy(): patch.get_facecolor()[:3] for patch in axes.patches if isinstance(patch, Rectangle)}
        assert len(boxes) == len(forward) + len(backward)
        for (unit, tick), frame in forward.items():
            assert boxes[tick - 0.5, float(unit)] == to_rgb(FRAME_COLOURS[frame % 7][0])
        for unit, tick in backward:
            assert boxes[tick - 0.5, unit - 0.5] not in {to_rgb(colour) for colour, _ in FRAME_COLOURS}
        assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 4.5), (0.5, 3.5))
        assert axes.get_title() == "A title"
    finally:
        plt.close(axes.figure)
