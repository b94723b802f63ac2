"""Decode one clip of one video from its file, in this process or in a worker process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy

from sideways.data.store import GIGABYTES
from sideways.data.videos.ffmpeg import probe, read_frames
from sideways.data.videos.kept import kept_frames
from sideways.errors import InputError, printable

GREY = 128  # the pixel value of a clip whose videos cannot be read
KEPT = 1024  # videos that a process keeps
MANY = 2.5  # frames: a file is broken if its header promises more than this, but only one frame can be decoded


@dataclass(frozen=True)
class Augmentation:
    """The crop and the colours of a clip, which all its frames share."""

    across: float = 0.5  # position of the crop: 0 at the left edge, 1 at the right
    down: float = 0.5  # 0 at the upper edge, 1 at the lower
    mirrored: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    @classmethod
    def drawn(cls, generator: numpy.random.Generator, flip: bool, jitter: float) -> Augmentation:
        """Draw an augmentation at random, always with six draws, so that options do not change later draws."""
        across, down, mirrored, *factors = generator.random(6)
        brightness, contrast, saturation = (1 + jitter * (2 * factor - 1) for factor in factors)
        return cls(across, down, flip and mirrored < 0.5, brightness, contrast, saturation)

    def __call__(self, frames: numpy.ndarray, size: int) -> numpy.ndarray:
        """Cut and colour frames (T, h, w, C) uint8; returns (T, size, size, C) uint8."""
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
    """An order for one sample: the video to decode, where its clip starts, and how it is cut and coloured.

    paths: the video, and then the videos that replace it, in turn, if it cannot be read.
    """

    paths: tuple[str, ...]
    moment: float = 0.5  # start of the clip: 0 at the video's start, 1 as late as the clip just fits
    augmentation: Augmentation = Augmentation()
    speed: float = 1.0  # 2: the clip shows twice the time
    recurs: bool = False  # True if the clip will be asked for again, as the clips of an evaluation are


@dataclass(frozen=True)
class Sample:
    """One decoded clip of one video. `skipped`: the files that could not be read before this one, with reasons."""

    frames: numpy.ndarray  # (T, H, W, C) uint8
    skipped: dict[str, str]
    usable: bool = True  # False if no file could be read, so that the frames are grey


@dataclass(frozen=True)
class Decoder:
    """Decodes samples of `length` frames, `rate` per second, scaled to `short_side` and cut to `size` pixels.

    keep: each video is decoded as a whole, and stays in the memory of the process, where clips are cut from it.
    loop: a video that is too short begins anew; else its last frame stays.
    cache, gigabytes: a folder in which decoded frames stay instead (see `KeptFrames`), and the most that it may take:
        whole videos if they are kept, else the clips that recur. The empty text stands for no folder. A folder changes
        no sample.
    """

    length: int
    rate: float
    size: int
    short_side: int
    grey: bool
    keep: bool = False
    loop: bool = True
    cache: str = ""
    gigabytes: float = GIGABYTES

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape (T, H, W, C) of a sample."""
        return (self.length, self.size, self.size, 1 if self.grey else 3)

    def sample(self, order: Order) -> Sample:
        """Decode the first video of the order that can be read; if none can be read, the sample is grey."""
        skipped: dict[str, str] = {}
        for path in order.paths:
            try:
                decode = self.cut if self.keep else self.recall if self.cache and order.recurs else self.decode
                frames = decode(path, order.moment, order.speed)
            except (InputError, OSError, RuntimeError, ValueError) as error:
                skipped[printable(path)] = printable(str(error).removeprefix(f"{path}: "))
            else:
                return Sample(order.augmentation(frames, self.size), skipped)
        return Sample(numpy.full(self.shape, GREY, numpy.uint8), skipped, usable=False)

    def cut(self, path: str, moment: float, speed: float) -> numpy.ndarray:
        """Cut (T, h, w, C) uint8 out of a video that is kept, as `decode` would decode it."""

        def numbers(count: int) -> numpy.ndarray:
            span = (self.length - 1) * speed + 1
            start = round(moment * max(count - span, 0.0))
            return self._within(start + numpy.floor(numpy.arange(self.length) * speed).astype(int), count)

        settings = (path, self.rate, self.short_side, self.grey)
        if not self.cache:
            frames = _whole(*settings)
            return frames[numbers(len(frames))]
        kept = kept_frames(self.cache, self.gigabytes)
        whole = _whole if kept.is_full else _whole.__wrapped__  # memory takes the videos that find no room
        return kept.frames(path, self._kept_as(moment, speed), numbers, partial(whole, *settings))

    def recall(self, path: str, moment: float, speed: float) -> numpy.ndarray:
        """Return the frames that `decode` returns, from the folder of the cache if they are there."""
        kept = kept_frames(self.cache, self.gigabytes)
        decode = partial(self.decode, path, moment, speed)
        return kept.frames(path, self._kept_as(moment, speed), numpy.arange, decode)

    def is_cached(self, order: Order) -> bool:
        """True if the frames of the order's first video are in the folder of the cache, as far as its name tells."""
        if not self.cache or not (self.keep or order.recurs):
            return False
        kept = kept_frames(self.cache, self.gigabytes)
        return kept.has(order.paths[0], self._kept_as(order.moment, order.speed))

    def _kept_as(self, moment: float, speed: float) -> tuple[Any, ...]:
        """All settings that decide the frames that the cache keeps of a video."""
        if self.keep:
            return ("whole", self.rate, self.short_side, self.grey)
        ending = () if self.loop else ("hold",)  # nothing for loops: folders from before this option stay valid
        return ("clip", self.length, self.rate, self.short_side, self.grey, moment, speed, *ending)

    def _within(self, numbers: numpy.ndarray, count: int) -> numpy.ndarray:
        """Map the numbers of frames that a clip asks for to frames of a video that has `count` of them."""
        return numbers % count if self.loop else numpy.minimum(numbers, count - 1)

    def decode(self, path: str, moment: float, speed: float) -> numpy.ndarray:
        """Decode (T, h, w, C) uint8. Raises the errors of `read_frames`."""
        rate = self.rate / speed
        promised = probe(path).duration * rate
        seconds = moment * max(promised - self.length, 0.0) / rate
        decode = partial(read_frames, path, self.short_side, grey=self.grey)
        attempts = [partial(decode, count=self.length, fps=rate, seconds=seconds)]
        if seconds:  # the header may promise too much, for example if the sound is longer than the picture
            attempts.append(partial(decode, count=self.length, fps=rate))
        if promised <= MANY:  # at a low rate, a very short video may be over before its first frame is due
            attempts.append(partial(decode, count=1))
        frames = _first_that_works(attempts)
        if self.length > 1:
            _check_whole(path, len(frames), promised)
        return numpy.stack([frames[t] for t in self._within(numpy.arange(self.length), len(frames))])


@lru_cache(KEPT)
def _whole(path: str, rate: float, short_side: int, grey: bool) -> numpy.ndarray:
    """All frames of a video, (frames, h, w, C) uint8. Raises the errors of `read_frames`."""
    promised = probe(path).duration * rate
    read = partial(read_frames, path, short_side, grey=grey)
    frames = _first_that_works([partial(read, fps=rate), *([partial(read, count=1)] if promised <= MANY else [])])
    _check_whole(path, len(frames), promised)
    return numpy.stack(frames)


def _check_whole(path: str, decoded: int, promised: float) -> None:
    """Raise `InputError` for a file of one frame whose header promises many: so are many broken files."""
    if decoded == 1 and promised > MANY:
        raise InputError(f"{path}: only one frame could be decoded, the header promises {promised:.0f}")


def _first_that_works(readers: Sequence[Callable[[], Iterator[numpy.ndarray]]]) -> list[numpy.ndarray]:
    """The frames of the first reader that raises no `InputError`; if every reader does, the last error is raised."""
    for reader in readers[:-1]:
        with contextlib.suppress(InputError):
            return list(reader())
    return list(readers[-1]())
