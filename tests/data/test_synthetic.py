"""Waves and shapes: the frames follow their formulas, and move in the direction that the class names."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sideways.data import make_task
from sideways.data.synthetic import Waves

STEP = {"right": (1, 0), "down": (0, 1), "left": (-1, 0), "up": (0, -1)}  # x to the right, y down
often = settings(max_examples=30, deadline=None, derandomize=True)


# Waves


def naive_waves(k, phase, v, length, size):
    """Compute one sample of waves by the formula, one cosine at a time."""
    images = numpy.zeros((length, size, size))
    for t, y, x in numpy.ndindex(images.shape):
        for kx, ky, angle in zip(k[0], k[1], phase, strict=True):
            images[t, y, x] += numpy.cos(kx * (x - v[0] * t) + ky * (y - v[1] * t) + angle)
    return images * (2 / len(phase)) ** 0.5


@often
@given(
    size=st.integers(1, 7),
    length=st.integers(1, 4),
    waves=st.integers(1, 4),
    samples=st.integers(1, 3),
    seed=st.integers(0),
)
def test_waves_are_the_sum_of_cosines_moved_by_their_velocity(size, length, waves, samples, seed):
    random = numpy.random.default_rng(seed)
    k, v = random.normal(size=(2, samples, waves)), random.normal(size=(samples, 2))
    phase = random.uniform(0, 7, (samples, waves))
    images = Waves(length=length, size=size).texture(k, phase, v)
    assert images.shape == (samples, length, size, size, 1)
    for n in range(samples):
        expected = naive_waves(k[:, n], phase[n], v[n], length, size)
        numpy.testing.assert_allclose(images[n, ..., 0], expected, atol=1e-12)


@often
@given(speed=st.floats(0, 3), directions=st.sampled_from([4, 8]), index=st.integers(0, 1000))
def test_a_wave_at_tick_t_is_the_first_frame_moved_by_speed_times_t_towards_its_class(speed, directions, index):
    moving = make_task("waves", speed=speed, directions=directions, length=3, size=12)
    labels = moving.targets("train", index, 2)[0]
    clip = moving.clip("train", index, 2)
    drawn = [moving._generators("train", index, 2, slice(None))[n] for n in range(2)]
    moving.labels(drawn)
    for n, label in enumerate(labels):
        angle = 2 * numpy.pi * label / directions
        v = speed * numpy.array([numpy.cos(angle), numpy.sin(angle)])
        turn, phase, length = drawn[n].random((3, 16))
        number = 2 * numpy.pi / (6 + 6 * length)
        k = number * numpy.array([numpy.cos(2 * numpy.pi * turn), numpy.sin(2 * numpy.pi * turn)])
        expected = naive_waves(k, 2 * numpy.pi * phase, v, 3, 12)
        numpy.testing.assert_allclose(clip.frames[:, n, ..., 0], expected, atol=1e-5)


def overlap(frames, step):
    """The parts (earlier, later), each (…, h, w), that successive frames share if the picture moves by step (x, y)."""
    x, y = step
    height, width = frames.shape[-2:]
    earlier = frames[:-1, max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
    later = frames[1:, max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
    return earlier, later


@pytest.mark.parametrize("speed", [1, 2])
def test_waves_move_by_whole_pixels_in_the_direction_that_the_class_names(speed):
    task = make_task("waves", speed=speed)
    clip = task.clip("train", 0, 32)
    assert set(clip.targets[0]) == {0, 1, 2, 3}
    for n, label in enumerate(clip.targets[0]):
        x, y = STEP[task.classes[label]]
        earlier, later = overlap(clip.frames[:, n, ..., 0], (speed * x, speed * y))
        numpy.testing.assert_allclose(later, earlier, atol=1e-5)


def test_one_frame_of_waves_has_mean_0_and_variance_1_for_every_class():
    task = make_task("waves", length=1, size=8)
    clip = task.clip("train", 0, 4000)
    for label in range(4):
        values = clip.frames[0, clip.targets[0] == label].astype(float)
        assert values.mean() == pytest.approx(0, abs=0.05)
        assert values.var() == pytest.approx(1, abs=0.05)


# Shapes


@pytest.mark.parametrize("speed", [1, 3])
def test_shapes_roll_over_the_torus_in_the_direction_that_the_class_names(speed):
    task = make_task("shapes", speed=speed)
    clip = task.clip("train", 0, 32)
    assert set(clip.targets[0]) == {0, 1, 2, 3}
    for n, label in enumerate(clip.targets[0]):
        x, y = STEP[task.classes[label]]
        frames = clip.frames[:, n, ..., 0]
        expected = numpy.roll(frames[:-1], (speed * y, speed * x), axis=(1, 2))
        numpy.testing.assert_allclose(frames[1:], expected, atol=1e-5)
