"""Videos whose frames tell which they are, and a task of clips cut from them."""

import numpy as np

from sideways.data import VideoClips

SMALL = {"length": 6, "size": 12, "short_side": 16, "fps": 25.0}


def marked(video, frames, height=16, width=24):
    """(T, H, W, 3) uint8: frame t of a video is told by its colours, after scaling too: red says t, green the video."""
    film = np.zeros((frames, height, width, 3), np.uint8)
    film[..., 0] = 5 * np.arange(frames)[:, None, None]
    film[..., 1] = 20 * video
    return film


def numbers(frames):
    """The t of marked frames (…, H, W, C)."""
    return (frames[..., 0].mean(axis=(-1, -2)) / 5).round().astype(int)


def task_of(folder, **options):
    return VideoClips(seed=3, data=f"folder:{folder}", **(SMALL | options))
