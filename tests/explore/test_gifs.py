"""The animated GIFs: the texts in each picture, and the files."""

import pytest
from PIL import Image

from sideways.commands.main import main
from sideways.explore import gifs
from sideways.explore.cells import blocked_cells, chain, sideways_cells


@pytest.fixture
def texts(monkeypatch):
    """A list that collects the texts of each picture that is drawn."""
    pictures = []

    def image(figure):
        pictures.append(
            [text.get_text() for axes in figure.axes for text in [*axes.texts, axes.xaxis.label, axes.title]]
        )
        return Image.new("RGB", (4, 4))

    monkeypatch.setattr(gifs, "_image", image)
    return pictures


def test_in_one_cycle_backpropagation_learns_once_per_unit_while_sideways_goes_on(texts, tmp_path):
    gifs.plot_cycle(tmp_path / "cycle.gif", depth=4)
    assert len(texts) == 9
    cycle_over = texts[6]  # after 2D-1 ticks
    assert "tick 6:  4 unit updates so far" in cycle_over  # backpropagation: each of the four units once
    assert "tick 6:  10 unit updates so far" in cycle_over  # Sideways: 4 + 3 + 2 + 1


def test_every_frame_of_a_gradient_has_a_number_of_its_own_and_no_label_stands_for_a_range(texts, tmp_path):
    gifs.plot_cycle(tmp_path / "cycle.gif", depth=4)
    cells = sideways_cells(chain(4), 9)
    held = [frame for row in cells for cell in row.values() for frame in cell.activation]
    mixed = [frame for row in cells for cell in row.values() for frame in {frame for frame, _ in cell.gradient}]
    blocked = blocked_cells(chain(4), 9)
    held += [frame for row in blocked for cell in row.values() for frame in cell.activation]
    mixed += [frame for row in blocked for cell in row.values() for frame in {frame for frame, _ in cell.gradient}]
    arriving = [*range(9), *range(9)]
    numbers = [text for text in texts[-1] if text.isdigit()]
    assert not [text for text in texts[-1] if "–" in text]
    assert sorted(map(int, numbers)) == sorted(held + mixed + arriving)


def test_the_skip_edge_brings_frames_two_ticks_apart_to_u4(texts, tmp_path):
    gifs.plot_skip(tmp_path / "skip.gif", ticks=6)
    resting = texts[:: gifs.STEPS + 1]
    assert len(resting) == 6
    assert "u4\n–" in resting[2]
    assert "u4\nframes 0, 2" in resting[3]
    assert "u4\nframes 2, 4" in resting[5]


def test_an_animation_plays_for_ever_and_rests_on_its_last_picture(tmp_path, capsys):
    assert main(["plot", "cycle", "--out", str(tmp_path / "cycle.gif")]) == 0
    with Image.open(tmp_path / "cycle.gif") as picture:
        assert picture.n_frames == 9
        assert picture.info["loop"] == 0
        picture.seek(8)
        assert picture.info["duration"] == 3500
    assert (tmp_path / "cycle.gif").stat().st_size < 150_000
    assert "cycle.gif" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cycle", "skip"])
def test_other_formats_are_refused_by_name(name, tmp_path, capsys):
    assert main(["plot", name, "--out", str(tmp_path / "a.mp4")]) == 2
    assert "written as .gif" in capsys.readouterr().err
