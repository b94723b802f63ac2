"""Input that Python code gets refused just like a command line, and file names that must not be refused."""

import numpy
import pytest

from sideways import InputError
from sideways.data import make_task, read_frames, write_video


@pytest.mark.parametrize("name", ["video", "video.part", "video.AVI", "v_1.2.3"])
def test_the_contents_of_a_file_count_and_not_the_ending_of_its_name(lossless, noise, name):
    frames = noise(4, 16, 24)
    path = lossless(frames)
    renamed = path.rename(path.with_name(name))
    numpy.testing.assert_array_equal(numpy.stack(list(read_frames(renamed))), frames)


def test_a_video_without_frames_is_not_written(tmp_path):
    with pytest.raises(InputError, match=r"none\.mp4: a video needs at least one frame"):
        write_video(tmp_path / "none.mp4", [])
    assert list(tmp_path.iterdir()) == []


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="the seed must be at least 0, not -1"):
        make_task("waves", seed=-1)


@pytest.mark.parametrize(("index", "batch"), [(-1, 2), (0, 0)])
def test_a_negative_clip_number_and_an_empty_batch_are_refused(index, batch):
    with pytest.raises(InputError, match=f"not index={index}, batch={batch}"):
        make_task("waves").clip("train", index, batch)
