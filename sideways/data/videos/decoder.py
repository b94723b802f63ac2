"""One clip of one video, from its file: which moment, cut and coloured how. All that a worker process needs to know."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy

from sideways.data.videos.ffmpeg import probe, read_frames
from sideways.errors import InputError, printable

GREY = 128  # what is shown where no video can be read
LEAST = 2.5  # frames that a header must promise for a single one to be taken as the mark of a broken file


@dataclass(frozen=True)
class Augmentation:
    """How a clip is cut and coloured: the same for all its frames."""

    across: float = 0.5  # where the crop lies in what is left over: 0 left, 1 right
    down: float = 0.5
    mirrored: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    @classmethod
    def drawn(cls, generator: numpy.random.Generator, flip: bool, jitter: float) -> Augmentation:
        """At random; always the same number of draws."""
        across, down, mirrored, *factors = generator.random(6)
        brightness, contrast, saturation = (1 + jitter * (2 * factor - 1) for factor in factors)
        return cls(across, down, flip and mirrored < 0.5, brightness, contrast, saturation)

    def __call__(self, frames: numpy.ndarray, size: int) -> numpy.ndarray:
        """(T, size, size, C) of frames (T, h, w, C), uint8."""
        _, height, width, _ = frames.shape
        top, left = round(self.down * (height - size)), round(self.across * (width - size))
        frames = frames[:, top : top + size, left : left + size]
        if self.mirrored:
            frames = frames[:, :, ::-1]
        if (self.brightness, self.contrast, self.saturation) == (1.0, 1.0, 1.0):
            return frames
        colours = frames.astype(numpy.float32)
        grey = colours.mean(axis=-1, keepdims=True)
        colours = grey + self.saturation * (colours - grey)
        colours = colours.mean() + self.contrast * (colours - colours.mean())
        return numpy.clip(self.brightness * colours, 0, 255).astype(numpy.uint8)


@dataclass(frozen=True)
class Order:
    """What a sample is: the video, and those that take its place in turn if it cannot be read; the moment, the look."""

    paths: tuple[str, ...]
    moment: float = 0.5  # 0: from the video's start; 1: so that the clip just fits
    augmentation: Augmentation = Augmentation()


@dataclass(frozen=True)
class Sample:
    """One clip of one video, and the files that were tried before it: path → what is wrong with it."""

    frames: numpy.ndarray  # (T, H, W, C) uint8
    skipped: dict[str, str]
    usable: bool = True  # False: no file could be read, the frames are grey


@dataclass(frozen=True)
class Decoder:
    """Makes samples of `length` frames, `rate` per second, cut to `size` pixels from the scaled `short_side`."""

    length: int
    rate: float
    size: int
    short_side: int
    grey: bool

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.length, self.size, self.size, 1 if self.grey else 3)

    def sample(self, order: Order) -> Sample:
        """The first of the videos that can be read."""
        skipped: dict[str, str] = {}
        for path in order.paths:
            try:
                frames = self.decode(path, order.moment)
            except (InputError, OSError, RuntimeError, ValueError) as error:
                skipped[printable(path)] = printable(str(error).removeprefix(f"{path}: "))
            else:
                return Sample(order.augmentation(frames, self.size), skipped)
        return Sample(numpy.full(self.shape, GREY, numpy.uint8), skipped, usable=False)

    def decode(self, path: str, moment: float) -> numpy.ndarray:
        """(T, h, w, C) uint8; a video that is too short is looped. Raises what `read_frames` does."""
        promised = probe(path).duration * self.rate
        seconds = moment * max(promised - self.length, 0.0) / self.rate
        decode = partial(read_frames, path, self.short_side, grey=self.grey)
        ways = [partial(decode, count=self.length, fps=self.rate, seconds=seconds)]
        if seconds:  # the header may tell of more than there is, such as sound that outlasts the picture
            ways.append(partial(decode, count=self.length, fps=self.rate))
        if promised <= LEAST:  # at a low rate not even one frame of a very short video is due
            ways.append(partial(decode, count=1))
        frames = _first_that_works(ways)
        if len(frames) == 1 < self.length and promised > LEAST:  # ffmpeg finds a picture in many a broken file
            raise InputError(f"{path}: only one frame could be decoded, the header promises {promised:.0f}")
        return numpy.stack([frames[t % len(frames)] for t in range(self.length)])


def _first_that_works(ways: Sequence[Callable[[], Iterator[numpy.ndarray]]]) -> list[numpy.ndarray]:
    """The frames that the first of these readers gives; the error of the last if none gives any."""
    for way in ways[:-1]:
        with contextlib.suppress(InputError):
            return list(way())
    return list(ways[-1]())
