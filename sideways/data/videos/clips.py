"""Clips of the videos of a data set, as a task: which video, from when on, cut and coloured how, each by its number."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy

from sideways.data.task import SPLITS, Clip, Task
from sideways.data.videos.datasets import Video, VideoSet, open_set
from sideways.data.videos.decoder import Augmentation, Decoder, Order, Sample
from sideways.errors import InputError, printable

ATTEMPTS = 5  # videos of a class that are tried before a training clip is shown grey


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
    A training video that cannot be read is replaced by another of its class, so that labels are known without decoding;
    in an evaluation it does not count. An evaluation goes through the videos in one random order, the same for every
    run: the official lists are sorted by class, and the first part of that order is a fair sample of them all.
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
        if stride < 1 or views < 1 or not 0 < fps < inf or not 0 <= jitter < 1 or not 0 < deviation < inf:
            raise InputError(
                f"clips need stride ≥ 1, views ≥ 1, 0 < fps < ∞, 0 ≤ jitter < 1 and 0 < deviation < ∞, not {stride}, "
                f"{views}, {fps}, {jitter}, {deviation}"
            )
        if not data:
            raise InputError("no videos named: --data ucf101:/path (or hmdb51:, kinetics600:, folder:)")
        self.videos: VideoSet = open_set(data, split)
        self.classes, self.fingerprint = self.videos.classes, self.videos.fingerprint
        there = {"train": self.videos.train, "test": self.videos.test}
        self.listed = {split: [video for video in videos if video.path] for split, videos in there.items()}
        held_out = self.listed["test"]
        self.listed["test"] = [held_out[i] for i in numpy.random.default_rng(0).permutation(len(held_out))]
        self.of_class: dict[int, list[str]] = {}  # training videos that may take each other's place
        for video in self.listed["train"]:
            self.of_class.setdefault(video.label, []).append(str(video.path))
        self.decoder = Decoder(length, fps / stride, size, short_side, grey)
        self.frame_shape = self.decoder.shape[1:]
        self.flip, self.jitter, self.views = flip, jitter, views
        self.mean, self.deviation = mean, deviation
        self.span = (-mean / deviation, (1 - mean) / deviation)
        self._order: tuple[int, numpy.ndarray] = (-1, numpy.empty(0, int))  # the last epoch asked for, and its order

    def open(self, splits: Sequence[str] = SPLITS) -> None:
        """Decode until one video of each of these splits works, or `InputError`: on grey alone nothing is learnt."""
        for split in splits:
            verb = {"train": "train", "test": "evaluate"}[split]
            self.videos.require(split, verb)
            why = ""
            for video in self.listed[split]:
                sample = self.decoder.sample(Order((str(video.path),)))
                if sample.usable:
                    break
                why = why or next(iter(sample.skipped.values()))
            else:
                raise InputError(
                    f"data {printable(self.videos.root)}: nothing usable to {verb} on: none of "
                    f"{len(self.listed[split])} videos can be read, such as {self.listed[split][0].name}: {why}"
                )

    # What sample n of a split is

    def count(self, split: str) -> int:
        """Samples of a split: all videos once (train), or all their views (test)."""
        return len(self.listed[split]) * (self.views if split == "test" else 1)

    def held_out_items(self) -> int:
        return len(self.listed["test"])

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

    def order(self, split: str, n: int) -> Order:
        """What sample n is, for the decoder."""
        video, view = self.video(split, n)
        path = str(video.path)
        if split == "test":
            return Order((path,), (view + 0.5) / self.views)
        generator = numpy.random.default_rng([self.seed, SPLITS.index(split), n])
        moment, augmentation = generator.random(), Augmentation.drawn(generator, self.flip, self.jitter)
        others = [other for other in self.of_class[video.label] if other != path]
        stand_ins = (others[i] for i in generator.permutation(len(others))[: ATTEMPTS - 1])
        return Order((path, *stand_ins), moment, augmentation)

    def sample(self, split: str, n: int) -> Sample:
        """Decode sample n."""
        return self.decoder.sample(self.order(split, n))

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
