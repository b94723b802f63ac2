"""Clips of the videos of a data set, as a task: which video, from when on, cut and coloured how, each by its number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy

from sideways.data.datasets import Video, VideoSet, open_set
from sideways.data.stream import SPLITS, Clip, Task
from sideways.data.video import probe, read_frames
from sideways.errors import InputError

GREY = 128  # what is shown where no video of a class can be read
ATTEMPTS = 5  # videos that are tried before that


@dataclass(frozen=True)
class Sample:
    """One clip of one video, and the files that were tried before it: path → what is wrong with it."""

    frames: numpy.ndarray  # (T, H, W, C) uint8
    skipped: dict[str, str]


class Normalised(Sequence):
    """Frames kept as bytes, (T, N, H, W, C) uint8; each is made float32, (x / 255 - mean) / deviation, when asked for.

    A quarter of the memory of the clip that it stands for.
    """

    def __init__(self, values: numpy.ndarray, mean: float, deviation: float):
        self.values, self.mean, self.deviation = values, mean, deviation

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Normalised(self.values[index], self.mean, self.deviation)
        frame = self.values[index].astype(numpy.float32)
        frame *= 1 / (255 * self.deviation)
        frame -= self.mean / self.deviation
        return frame


class VideoClips(Task):
    """Clips of a data set's videos.

    data: where it is, `"ucf101:/path"`; split: the number of the official split.
    length: frames T of a clip, `stride` frames of `fps` apart; videos of any rate are resampled, short ones looped.
    short_side: pixels to which the shorter side is scaled; size: height and width of the crop from it (at random when
        training, in the middle when evaluating). grey: one channel.
    flip: mirror half of the training clips; not where left and right tell classes apart.
    jitter: brightness, contrast and saturation of each training clip change by up to this part.
    views: evenly spread clips of each video in an evaluation; its class probabilities are their mean.
    mean, deviation: frames are (x / 255 - mean) / deviation.

    Training goes through the videos in a new random order in each epoch: sample n of a run depends on (seed, n) alone.
    A video that cannot be read is replaced by another of its class, so that labels are known without decoding.
    """

    def __init__(
        self,
        seed: int = 0,
        data: str = "",
        split: int = 1,
        length: int = 64,
        stride: int = 1,
        fps: float = 25.0,
        size: int = 112,
        short_side: int = 128,
        grey: bool = False,
        flip: bool = True,
        jitter: float = 0.0,
        views: int = 1,
        mean: float = 0.45,
        deviation: float = 0.225,
    ):
        super().__init__(seed, length)
        if not 1 <= size <= short_side:
            raise InputError(f"a crop of {size} pixels does not fit into a short side of {short_side}")
        if stride < 1 or views < 1 or not fps > 0 or not 0 <= jitter < 1 or not deviation > 0:
            raise InputError(
                f"clips need stride ≥ 1, views ≥ 1, fps > 0, 0 ≤ jitter < 1 and deviation > 0, not {stride}, {views}, "
                f"{fps}, {jitter}, {deviation}"
            )
        if not data:
            raise InputError("no videos named: --data ucf101:/path (or hmdb51:, kinetics600:, folder:)")
        self.videos: VideoSet = open_set(data, split)
        self.classes = self.videos.classes
        self.listed = {
            "train": [video for video in self.videos.train if video.path],
            "test": [video for video in self.videos.test if video.path],
        }
        self.frame_shape = (size, size, 1 if grey else 3)
        self.rate, self.size, self.short_side, self.grey = fps / stride, size, short_side, grey
        self.flip, self.jitter, self.views = flip, jitter, views
        self.mean, self.deviation = mean, deviation
        self.span = (-mean / deviation, (1 - mean) / deviation)
        self._order: tuple[int, numpy.ndarray] = (-1, numpy.empty(0, int))  # the last epoch asked for, and its order

    # What sample n of a split is

    def count(self, split: str) -> int:
        """Samples of a split: all videos once (train), or all their views (test)."""
        return len(self.listed[split]) * (self.views if split == "test" else 1)

    def video(self, split: str, n: int) -> tuple[Video, int]:
        """The video of sample n, and which view of it."""
        videos = self.listed[split]
        if split == "test":
            number, view = divmod(n % self.count("test"), self.views)
            return videos[number], view
        epoch, place = divmod(n, len(videos))
        if epoch != self._order[0]:
            self._order = epoch, numpy.random.default_rng([self.seed, epoch]).permutation(len(videos))
        return videos[self._order[1][place]], 0

    def sample(self, split: str, n: int) -> Sample:
        """Decode sample n: what a worker process does."""
        video, view = self.video(split, n)
        generator = numpy.random.default_rng([self.seed, SPLITS.index(split), n])
        moment = generator.random() if split == "train" else (view + 0.5) / self.views
        look = Look.drawn(generator, self.flip, self.jitter) if split == "train" else Look()
        skipped: dict[str, str] = {}
        for path in self._stand_ins(video, split, generator):
            try:
                frames = self._decode(path, moment)
            except (InputError, OSError, RuntimeError, ValueError) as error:
                skipped[str(path)] = str(error).removeprefix(f"{path}: ")
            else:
                return Sample(look(frames, self.size), skipped)
        return Sample(numpy.full((self.length, *self.frame_shape), GREY, numpy.uint8), skipped)

    def _stand_ins(self, video: Video, split: str, generator: numpy.random.Generator) -> Iterator[Path]:
        """The video itself, then others of its class, in the order in which they take its place."""
        assert video.path
        yield video.path
        others = [other.path for other in self.listed[split] if other.label == video.label and other is not video]
        for i in generator.permutation(len(others))[: ATTEMPTS - 1]:
            yield others[i]  # type: ignore[misc]

    def _decode(self, path: Path, moment: float) -> numpy.ndarray:
        """(T, h, w, C) uint8: the frames from `moment` of the video on (0: its start; 1: so that they just fit)."""
        spare = probe(path).duration - self.length / self.rate
        seconds = moment * max(spare, 0.0)
        decode = partial(read_frames, path, self.short_side, count=self.length, grey=self.grey, fps=self.rate)
        try:
            frames = list(decode(seconds=seconds))
        except InputError:
            frames = list(decode())  # the header told of more than there is, such as sound that outlasts the picture
        if len(frames) == 1 < self.length:  # ffmpeg finds a picture in many a broken file
            raise InputError(f"{path}: only one frame could be decoded")
        return numpy.stack([frames[t % len(frames)] for t in range(self.length)])

    # Batches of them

    def numbers(self, index: int, batch: int, part: slice = slice(None)) -> list[int]:
        """The samples n of clip number `index`."""
        return list(range(index * batch, (index + 1) * batch))[part]

    def items(self, split: str, index: int, batch: int, part: slice = slice(None)) -> numpy.ndarray:
        numbers = numpy.array(self.numbers(index, batch, part))
        return numpy.where(numbers < self.count(split), numbers // (self.views if split == "test" else 1), -1)

    def targets(self, split: str, index: int, batch: int, part: slice = slice(None)) -> numpy.ndarray:
        labels = [self.video(split, n)[0].label for n in self.numbers(index, batch, part)]
        return self._targets(numpy.array(labels))

    def clip(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Clip:
        samples = [self.sample(split, n).frames for n in self.numbers(index, batch, part)]
        return self.assemble(numpy.stack(samples), self.targets(split, index, batch, part))

    def assemble(self, samples: numpy.ndarray, targets: numpy.ndarray) -> Clip:
        """A clip of decoded samples (N, T, H, W, C)."""
        frames = numpy.ascontiguousarray(samples.swapaxes(0, 1))
        return Clip(Normalised(frames, self.mean, self.deviation), targets)


@dataclass(frozen=True)
class Look:
    """How a clip is cut and coloured: the same for all its frames."""

    across: float = 0.5  # where the crop lies in what is left over: 0 left, 1 right
    down: float = 0.5
    mirrored: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    @classmethod
    def drawn(cls, generator: numpy.random.Generator, flip: bool, jitter: float) -> Look:
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
