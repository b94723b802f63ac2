"""Videos whose colours encode the numbers of video and frame, and a task of clips cut from them."""

import numpy as np

from sideways.data import VideoClips

SMALL = {"length": 6, "size": 12, "short_side": 16, "fps": 25.0}


def marked(video, frames, height=16, width=24):
    """A video (T, H, W, 3) uint8: red encodes the number of the frame, green that of the video, also after scaling."""
    pixels = np.zeros((frames, height, width, 3), np.uint8)
    pixels[..., 0] = 5 * np.arange(frames)[:, None, None]
    pixels[..., 1] = 20 * video
    return pixels


def numbers(frames):
    """The numbers of marked frames (…, H, W, C) within their videos."""
    return (frames[..., 0].mean(axis=(-1, -2)) / 5).round().astype(int)


def task_of(folder, **options):
    """A task of small clips from the videos of a folder."""
    return VideoClips(seed=3, data=f"folder:{folder}", **(SMALL | options))
