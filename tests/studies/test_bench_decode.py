"""`sideways bench decode` without data: the videos that it writes, the recipe that it takes, the runs that it makes."""

import json

import numpy as np
import pytest

from sideways.commands.main import main
from sideways.data import probe, read_frames
from sideways.errors import InputError
from sideways.studies.bench import decode


@pytest.fixture
def few(monkeypatch):
    """Let the measurement write eight short videos."""
    for name, value in (("FILMS", 2), ("HELD_OUT", 1), ("SECONDS", 1.0)):
        monkeypatch.setattr(decode, name, value)


def test_the_videos_that_are_written_are_h264_of_320_by_240_and_move_as_their_class_says(tmp_path, few):
    assert decode.write_films(tmp_path) == f"folder:{tmp_path}"
    paths = sorted(tmp_path.rglob("*.mp4"))
    assert len(paths) == 8 and {path.parent.parent.name for path in paths} == {"train", "test"}
    steps = {"right": (0, 1), "down": (1, 0), "left": (0, -1), "up": (-1, 0)}
    for path in paths:
        info = probe(path)
        assert (info.width, info.height, info.fps, info.frames) == (320, 240, 25, 25)
        assert b"avc1" in path.read_bytes()
        first, *_, last = (frame[..., 0].astype(float) for frame in read_frames(path, count=25))
        down, across = steps[path.parent.name]  # of the window, by 12 pixels in 24 frames
        distances = {(y, x): _distance(first, last, 12 * y, 12 * x) for y, x in steps.values()}
        assert min(distances, key=distances.get) == (down, across)


def _distance(first, last, y, x):
    """The distance of two frames in the part that both show, if the window has moved by (y, x)."""
    return np.abs(np.roll(first, (-y, -x), (0, 1)) - last)[20:-20, 20:-20].mean()


@pytest.mark.usefixtures("few", "undrawn")
def test_a_run_is_measured_without_a_cache_with_an_empty_and_with_a_filled_one(tmp_path, capsys, monkeypatch):
    options = ["--size", "8", "--workers", "0", "--batch", "2", "--clips", "1", "--seconds", "0.01"]
    assert main(["bench", "decode", *options, "--json", str(tmp_path / "d.json")]) == 0
    runs = json.loads((tmp_path / "d.json").read_text())["runs"]
    assert [run["cache"] for run in runs] == ["", "empty", "filled"]
    assert all(0 < run["waiting"] < 1 and run["milliseconds_per_frame"] > 0 for run in runs)
    printed = capsys.readouterr().out
    for run in runs:
        assert f"{run['waiting']:.1%}" in printed


@pytest.mark.parametrize(
    ("size", "recipe", "model", "side"),
    [(32, None, "vgg5-skip", 40), (64, None, "vgg5-skip", 80), (112, None, "vgg8-skip", 128)],
)
def test_the_recipe_suits_the_size_and_its_short_side_grows_with_it(size, recipe, model, side):
    config = decode.config_of(recipe, None, size, None, "numpy", "float32")
    assert (config.model, config.task_options["size"], config.task_options["short_side"]) == (model, size, side)
    other = decode.config_of("ucf101-vgg8", "vgg5", size, 3, "numpy", "float32")
    assert (other.model, other.batch, other.model_options, other.task_options["size"]) == ("vgg5", 3, {}, size)


def test_a_recipe_of_another_task_is_refused():
    for name in ("waves-skip", "videos-predictor-skip"):
        with pytest.raises(InputError, match="does not classify videos"):
            decode.config_of(name, None, 32, None, "numpy", "float32")
