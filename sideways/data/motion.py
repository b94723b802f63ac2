"""Directions of motion and standardised frames, which the tasks that show motion share."""

from __future__ import annotations

import numpy

from sideways.errors import InputError

DIRECTIONS = ("right", "down", "left", "up")
DIAGONALS = ("right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right")
FAINT = 4.0  # grey levels: frames with a smaller standard deviation are mostly noise, and are not scaled to variance 1


def check_motion(directions: int, speed: float) -> tuple[str, ...]:
    """Return the names of the 4 or 8 directions; raises `InputError` for other numbers, or for an impossible speed."""
    if directions not in (4, 8):
        raise InputError(f"directions must be 4 or 8, not {directions!r}")
    if not 0 <= speed < float("inf"):
        raise InputError(f"the speed must not be negative or infinite, in pixels per frame: {speed}")
    return DIRECTIONS if directions == 4 else DIAGONALS


def velocities(labels: numpy.ndarray, directions: int, speed: float) -> numpy.ndarray:
    """The velocities (right, down) of these labels in pixels per frame, (N, 2), all of the same speed."""
    angles = labels * (2 * numpy.pi / directions)
    return speed * numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=-1)


def standardised(frames: numpy.ndarray, least: float) -> numpy.ndarray:
    """Bring each single frame of (…, H, W, C) to mean 0 and variance 1.

    A frame whose standard deviation is below `least` is divided by `least` instead, and stays fainter. Each frame is
    standardised by itself: the mean and variance of a whole clip depend on its path, and every frame would
    give a hint of that path.
    """
    centred = frames - frames.mean(axis=(-3, -2, -1), keepdims=True)
    return centred / numpy.maximum(centred.std(axis=(-3, -2, -1), keepdims=True), least)
