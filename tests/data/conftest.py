"""Small video files that the tests write themselves, and what is in them."""

import numpy
import pytest
from marked import marked

from sideways.data import write_video

LOSSLESS = {"codec": "ffv1", "pix_fmt_out": "bgr0"}


@pytest.fixture(scope="session")
def noise():
    """(T, H, W) → frames (T, H, W, 3) uint8 of noise, the same for the same shape: no two frames are alike."""

    def make(*shape):
        return numpy.random.default_rng(shape).integers(0, 256, (*shape, 3), dtype=numpy.uint8)

    return make


@pytest.fixture
def lossless(tmp_path):
    """Write frames into an .avi that gives them back bit for bit; returns its path."""

    def write(frames, name="video.avi", **options):
        write_video(tmp_path / name, frames, **LOSSLESS, **options)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """Paths of two films of 60 frames, 48×64: a still texture; and one of stripes that stand upright."""
    folder = tmp_path_factory.mktemp("films")
    random = numpy.random.default_rng(0)
    still = random.integers(0, 256, (48, 64), dtype=numpy.uint8)
    stripes = numpy.tile(random.permutation(numpy.arange(64, dtype=numpy.uint8) * 4), (48, 1))
    paths = []
    for name, picture in (("still", still), ("stripes", stripes)):
        paths.append(folder / f"{name}.avi")
        write_video(paths[-1], [numpy.repeat(picture[..., None], 3, axis=-1)] * 60, **LOSSLESS)
    return paths


@pytest.fixture
def folder(tmp_path):
    """A set of 3 + 3 training and 1 + 2 test videos, of 4 to 40 frames at 25 per second."""
    number = 0
    for split, label, lengths in (
        ("train", "a", (40, 12, 4)),
        ("train", "b", (20, 6, 30)),
        ("test", "a", (40,)),
        ("test", "b", (20, 5)),
    ):
        (tmp_path / "set" / split / label).mkdir(parents=True, exist_ok=True)
        for i, length in enumerate(lengths):
            write_video(tmp_path / "set" / split / label / f"{i}.avi", marked(number, length), **LOSSLESS)
            number += 1
    return tmp_path / "set"
