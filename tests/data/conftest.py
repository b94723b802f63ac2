"""Fixtures that write small video files, and the frames in them."""

import shutil
from functools import cache

import numpy
import pytest
from marked import marked

from sideways.data import make_task, write_video

LOSSLESS = {"codec": "ffv1", "pix_fmt_out": "bgr0"}


@pytest.fixture(scope="session")
def noise():
    """A function (T, H, W) → frames (T, H, W, 3) uint8 of noise, no two alike, that depend on the shape alone."""

    def make(*shape):
        return numpy.random.default_rng(shape).integers(0, 256, (*shape, 3), dtype=numpy.uint8)

    return make


@pytest.fixture
def lossless(tmp_path):
    """A function that writes frames into an .avi file without loss, and returns its path."""

    def write(frames, name="video.avi", **options):
        write_video(tmp_path / name, frames, **LOSSLESS, **options)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """The paths of two films of 60 equal frames, 48×64: a random texture, and vertical stripes."""
    folder = tmp_path_factory.mktemp("films")
    random = numpy.random.default_rng(0)
    still = random.integers(0, 256, (48, 64), dtype=numpy.uint8)
    stripes = numpy.tile(random.permutation(numpy.arange(64, dtype=numpy.uint8) * 4), (48, 1))
    paths = []
    for name, picture in (("still", still), ("stripes", stripes)):
        paths.append(folder / f"{name}.avi")
        write_video(paths[-1], [numpy.repeat(picture[..., None], 3, axis=-1)] * 60, **LOSSLESS)
    return paths


@pytest.fixture(scope="session")
def tasks(films):
    """A function (name, seed) → a task with clips of 9 frames, built once; video tasks read the two small films."""

    @cache
    def task(name, seed=0, **options):
        options = {"length": 9, **options}
        if name in ("pan", "which-clip"):
            options |= {"videos": films, "size": 8, "lines": 48}
        return make_task(name, seed, **options)

    return task


@pytest.fixture(scope="session")
def set_of_videos(tmp_path_factory):
    """The data set of `folder`, written once."""
    number, made = 0, tmp_path_factory.mktemp("videos") / "set"
    for split, label, lengths in (
        ("train", "a", (40, 12, 4)),
        ("train", "b", (20, 6, 30)),
        ("test", "a", (40,)),
        ("test", "b", (20, 5)),
    ):
        (made / split / label).mkdir(parents=True)
        for i, length in enumerate(lengths):
            write_video(made / split / label / f"{i}.avi", marked(number, length), **LOSSLESS)
            number += 1
    return made


@pytest.fixture
def folder(tmp_path, set_of_videos):
    """A data set of 3 + 3 training and 1 + 2 test videos, of 4 to 40 frames at 25 per second."""
    return shutil.copytree(set_of_videos, tmp_path / "set")
