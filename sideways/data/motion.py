"""sideways.data.motion."""

from __future__ import annotations

import numpy

from sideways.errors import InputError

DIRECTIONS = ("right", "down", "left", "up")


DIAGONALS = ("right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right")


def check_motion(directions: int, speed: float) -> tuple[str, ...]:
    """The names of the directions, or `InputError`."""
    if directions not in (4, 8):
        raise InputError(f"directions must be 4 or 8, not {directions!r}")
    if not 0 <= speed < float("inf"):
        raise InputError(f"the speed must not be negative, in pixels per frame: {speed}")
    return DIRECTIONS if directions == 4 else DIAGONALS


def velocities(labels: numpy.ndarray, directions: int, speed: float) -> numpy.ndarray:
    """(N, 2): pixels per frame to the right and down, of the same length for all directions."""
    angles = labels * (2 * numpy.pi / directions)
    return speed * numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=-1)


def standardised(frames: numpy.ndarray, least: float) -> numpy.ndarray:
    """Each single frame of (…, H, W, C) with mean 0 and variance 1; one with a deviation below `least` stays fainter.

    Frame by frame: the mean and variance of a whole clip would depend on its path, and so tell each frame of it.
    """
    centred = frames - frames.mean(axis=(-3, -2, -1), keepdims=True)
    return centred / numpy.maximum(centred.std(axis=(-3, -2, -1), keepdims=True), least)
