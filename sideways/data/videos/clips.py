"""Clips of a data set's videos, as a task. The number of a clip decides its videos, start times, crops and colours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import inf

import numpy

from sideways.data.motion import FAINT, standardised
from sideways.data.store import GIGABYTES, Store
from sideways.data.task import SPLITS, Clip, Task
from sideways.data.videos.datasets import Video, VideoSet, open_set
from sideways.data.videos.decoder import Augmentation, Decoder, Order, Sample
from sideways.data.videos.processes import ffmpeg
from sideways.errors import InputError, printable

ATTEMPTS = 5  # videos of a class to try for a training clip; if none can be read, the clip is grey


@lru_cache(256)
def _permutation(seed: tuple[int, ...], count: int) -> numpy.ndarray:
    """A random order of `count` things, remembered: the training asks twice for each sample, and shares most orders."""
    return numpy.random.default_rng(list(seed)).permutation(count)


class Normalised(Sequence):
    """Frames stored as bytes x, (T, N, H, W, C) uint8. Indexing makes a frame (x / 255 - mean) / deviation, float32.

    standardise: each frame is brought to mean 0 and variance 1 by itself instead.
    The bytes take a quarter of the memory of the float32 clip.
    """

    def __init__(self, values: numpy.ndarray, mean: float, deviation: float, standardise: bool = False):
        self.values, self.mean, self.deviation, self.standardise = values, mean, deviation, standardise

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Normalised(self.values[index], self.mean, self.deviation, self.standardise)
        frame = self.values[index].astype(numpy.float32)
        if self.standardise:
            return standardised(frame, FAINT)
        frame *= 1 / (255 * self.deviation)
        frame -= self.mean / self.deviation
        return frame


class VideoClips(Task):
    """Clips of a data set's videos.

    data: kind and folder of the data set, such as `"ucf101:/path"`. split: the number of the official split.
    length: frames T of a clip, `stride` frames apart at `fps` frames per second. Videos of any rate are resampled.
    loop: whether a video that is too short begins anew within its clip. Else its last frame stays, since a jump
        back to the start looks like a motion, perhaps like that of another class.
    short_side: pixels to which the shorter side is scaled. size: height and width of the crop from the scaled frame, at
        a random position in training and in the middle in evaluation. grey: whether to make frames of one channel.
    flip: whether to mirror half of the training clips; wrong if left and right tell classes apart.
    jitter: the largest relative change of brightness, contrast and saturation of a training clip.
    views: the number of clips of each video in an evaluation, evenly spread; their class probabilities are averaged.
    mean, deviation: frames are (x / 255 - mean) / deviation.
    standardise: whether each frame is brought to mean 0 and variance 1 by itself instead, which takes away differences
        of brightness and contrast between cameras, and flicker.
    balanced: whether training shows every class equally often, whatever the number of its videos.
    tempo: the largest relative change of the speed at which a training clip is played.
    keep: whether each process keeps the decoded videos in memory, which is many times as fast for short videos. Clips
        then begin at a whole frame, and another tempo leaves out frames or repeats them.
    cache: a folder in which decoded frames are kept for other runs: with `keep` those of whole videos, which then need
        no memory, else the clips of evaluations. It changes no clip. cache_gb: the gigabytes that it may take.

    Training goes through the videos in a new random order in each epoch; if it is balanced, each class has epochs of
    its own, and one video of each class follows the other. Sample n of a run depends on (seed, n) alone.
    In training, an unreadable video is replaced by another video of its class, so that labels are known without
    decoding; in an evaluation, an unreadable video does not count. All evaluations of all runs go through the videos
    in one random order: the official lists are sorted by class, and an evaluation of the first few videos should be a
    fair sample of all classes.
    """

    stored = waits = True
    bytes_to_keep, bytes_to_make = 1, 2  # uint8

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
        standardise: bool = False,
        balanced: bool = False,
        tempo: float = 0.0,
        keep: bool = False,
        loop: bool = True,
        cache: str = "",
        cache_gb: float = GIGABYTES,
    ):
        super().__init__(seed, length)
        if not 1 <= size <= short_side:
            raise InputError(f"a crop of {size} pixels does not fit into a short side of {short_side}")
        if stride < 1 or views < 1 or not 0 < fps < inf or not 0 <= jitter < 1 or not 0 < deviation < inf:
            raise InputError(
                f"clips need stride ≥ 1, views ≥ 1, 0 < fps < ∞, 0 ≤ jitter < 1 and 0 < deviation < ∞, not {stride}, "
                f"{views}, {fps}, {jitter}, {deviation}"
            )
        if not 0 <= tempo < 1:
            raise InputError(f"tempo is a relative change of speed, at least 0 and below 1, not {tempo}")
        if not data:
            raise InputError("no videos are named: give --data ucf101:/path (or hmdb51:, kinetics600:, folder:)")
        self.videos: VideoSet = open_set(data, split)
        self.classes, self.fingerprint = self.videos.classes, self.videos.fingerprint
        lists = {"train": self.videos.train, "test": self.videos.test}
        self.listed = {split: [video for video in videos if video.path] for split, videos in lists.items()}
        test_videos = self.listed["test"]
        self.listed["test"] = [test_videos[i] for i in numpy.random.default_rng(0).permutation(len(test_videos))]
        self.of_class: dict[int, list[Video]] = {}  # label → training videos, which can replace each other
        for video in self.listed["train"]:
            self.of_class.setdefault(video.label, []).append(video)
        if cache:
            Store(cache, cache_gb)  # refuses a folder that cannot be made
        self.decoder = Decoder(length, fps / stride, size, short_side, grey, keep, loop, cache, cache_gb)
        self.frame_shape = self.decoder.shape[1:]
        self.flip, self.jitter, self.views, self.balanced, self.tempo = flip, jitter, views, balanced, tempo
        self.mean, self.deviation, self.standardise = mean, deviation, standardise
        if not standardise:
            self.span = (-mean / deviation, (1 - mean) / deviation)

    def open(self, splits: Sequence[str] = SPLITS) -> None:
        """Decode videos of each of these splits until one can be read.

        Raises `InputError` if no video of a split can be read: all clips would be grey, and teach nothing.
        """
        ffmpeg()
        for split in splits:
            verb = {"train": "train", "test": "evaluate"}[split]
            self.videos.require(split, verb)
            reason = ""
            for video in self.listed[split]:
                sample = self.decoder.sample(Order((str(video.path),)))
                if sample.usable:
                    break
                reason = reason or next(iter(sample.skipped.values()))
            else:
                raise InputError(
                    f"data {printable(self.videos.root)}: nothing usable to {verb} on: none of "
                    f"{len(self.listed[split])} videos can be read, such as {self.listed[split][0].name}: {reason}"
                )

    # Samples by their numbers

    def count(self, split: str) -> int:
        """Count the samples of a split: one per video (train), or one per view of each video (test)."""
        return len(self.listed[split]) * (self.views if split == "test" else 1)

    def held_out_items(self) -> int:
        return len(self.listed["test"])

    def held_out_item(self, n: int) -> tuple[int, int]:
        """Return (item, view): the numbers of the video and of the view that sample n of the test split shows."""
        return divmod(n % self.count("test"), self.views)

    def video(self, split: str, n: int) -> tuple[Video, int]:
        """Return (video, view): the video that sample n shows, and the number of the view."""
        videos = self.listed[split]
        if split == "test":
            item, view = self.held_out_item(n)
            return videos[item], view
        if self.balanced:
            return self._balanced(n), 0
        epoch, position = divmod(n, len(videos))
        return videos[_permutation((self.seed, epoch), len(videos))[position]], 0

    def _balanced(self, n: int) -> Video:
        """The video of training sample n, if every class is shown equally often."""
        labels = sorted(self.of_class)
        round_, position = divmod(n, len(labels))  # a round shows one video of each class
        label = labels[_permutation((self.seed, 0, round_), len(labels))[position]]
        videos = self.of_class[label]
        epoch, place = divmod(round_, len(videos))
        return videos[_permutation((self.seed, 1 + label, epoch), len(videos))[place]]

    def order(self, split: str, n: int) -> Order:
        """Describe sample n for the decoder."""
        video, view = self.video(split, n)
        path = str(video.path)
        if split == "test":
            return Order((path,), (view + 0.5) / self.views, recurs=True)
        generator = numpy.random.default_rng([self.seed, SPLITS.index(split), n])
        moment, augmentation = generator.random(), Augmentation.drawn(generator, self.flip, self.jitter)
        others = [str(other.path) for other in self.of_class[video.label] if str(other.path) != path]
        stand_ins = [others[i] for i in generator.permutation(len(others))[: ATTEMPTS - 1]]
        speed = 1 + self.tempo * generator.uniform(-1, 1)  # the last draw: the option changes no other
        return Order((path, *stand_ins), moment, augmentation, speed)

    def sample(self, split: str, n: int) -> Sample:
        """Decode sample n."""
        return self.decoder.sample(self.order(split, n))

    # Batches

    def numbers(self, index: int, batch: int, part: slice = slice(None)) -> list[int]:
        """The numbers n of the samples in clip number `index`."""
        return list(range(index * batch, (index + 1) * batch))[part]

    def items(self, split: str, index: int, batch: int, part: slice = slice(None)) -> numpy.ndarray:
        numbers = numpy.array(self.numbers(index, batch, part))
        return numpy.where(numbers < self.count(split), numbers // (self.views if split == "test" else 1), -1)

    def titles(self, split: str, index: int, batch: int, part: slice = slice(None)) -> list[str]:
        return [self.video(split, n)[0].name for n in self.numbers(index, batch, part)]

    def targets(self, split: str, index: int, batch: int, part: slice = slice(None)) -> numpy.ndarray:
        labels = [self.video(split, n)[0].label for n in self.numbers(index, batch, part)]
        return self._targets(numpy.array(labels))

    def clip(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Clip:
        samples = [self.sample(split, n).frames for n in self.numbers(index, batch, part)]
        return self.assemble(numpy.stack(samples), self.targets(split, index, batch, part))

    def assemble(self, samples: numpy.ndarray, targets: numpy.ndarray) -> Clip:
        """Make a clip of decoded samples (N, T, H, W, C) uint8."""
        frames = numpy.ascontiguousarray(samples.swapaxes(0, 1))
        return Clip(Normalised(frames, self.mean, self.deviation, self.standardise), targets)
