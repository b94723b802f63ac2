"""Statistics of single frames of `Pan` do not tell horizontal from vertical motion; those of a leaky pan do.

The instrument is independent of the library: energies of differences along four axes, which measure how much a frame is
blurred along each axis, and a linear classifier by least squares. Both pans run at the same speeds, so each serves as
the control of the other.
"""

import numpy
import pytest
from leaky_pan import Leaky

from sideways.data.pan import Pan

TRAIN, TEST, BATCH, FRAMES = 60, 50, 32, 3  # clips of each split, samples of a clip, frames used of a sample


def energies(images):
    """Log energies (n, 24) of images (n, H, W): of differences over 1 to 3 pixels, of first and second order."""
    values = []
    height, width = images.shape[1:]
    for y, x in ((0, 1), (1, 0), (1, 1), (1, -1)):
        for lag in (1, 2, 3):
            for order in (1, 2):
                moved = images
                for _ in range(order):
                    height, width = moved.shape[1:]
                    right, left = max(lag * x, 0), max(-lag * x, 0)
                    later = moved[:, lag * y :, right : width - left]
                    moved = later - moved[:, : height - lag * y, left : width - right]
                values.append(numpy.log((moved**2).mean(axis=(1, 2)) + 1e-3))
    return numpy.stack(values, axis=1)


def single_frames(task, split, clips):
    """The energies of FRAMES random frames of every sample, and whether each moves vertically."""
    inputs, vertical = [], []
    for index in range(clips):
        clip = task.clip(split, index, BATCH)
        ticks = numpy.random.default_rng(index).choice(task.length, FRAMES, replace=False)
        inputs.append(energies(clip.frames[ticks, ..., 0].reshape(-1, *task.frame_shape[:2])))
        vertical.append(clip.targets[ticks].reshape(-1) % 2)
    return numpy.concatenate(inputs), numpy.concatenate(vertical)


def axis_accuracy(task):
    """The fraction of held-out frames whose axis of motion a linear classifier finds; chance is .5."""
    inputs, vertical = single_frames(task, "train", TRAIN)
    held_out, truth = single_frames(task, "test", TEST)
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0)
    inputs, held_out = (inputs - mean) / deviation, (held_out - mean) / deviation
    weights = numpy.linalg.solve(inputs.T @ inputs + numpy.eye(inputs.shape[1]), inputs.T @ (vertical - 0.5))
    return ((held_out @ weights > 0) == truth).mean()


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_one_frame_of_pan_does_not_tell_horizontal_from_vertical_motion(speed):
    error = 0.5 / (TEST * BATCH) ** 0.5  # only whole samples are independent
    assert axis_accuracy(Pan(seed=1, speed=speed)) == pytest.approx(0.5, abs=4 * error)


def test_one_frame_tells_horizontal_from_vertical_motion_if_clips_start_at_whole_pixels():
    assert axis_accuracy(Leaky(seed=1, speed=0.5)) > 0.65
