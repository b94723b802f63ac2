"""Scores of predicted frames: PSNR and SSIM of a network, and of three baselines that need no training.

A network with horizon h outputs at tick t its guess of frame t + h. The baselines guess from the same frames:

    repeat               x[t]
    linear extrapolation x[t] + h (x[t] - x[t-1])
    block matching       x[t], each block moved on by h times its motion between x[t-1] and x[t]

The top of a chain has seen frame t - a only, a ticks old (`age`). So each baseline is also given from what the top has
seen: x[t-a] for x[t], and h + a for h.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy

from sideways.backend import Array, to_host
from sideways.data import Task
from sideways.data.task import Frames
from sideways.network import FRAME, Network
from sideways.rules import Backprop, Rule
from sideways.training.metrics import psnr, ssim
from sideways.training.report.block_matching import continued

NETWORK, REPEAT, EXTRAPOLATION, MATCHING = "network", "repeat", "linear extrapolation", "block matching"
HEAD = ("prediction", "newest frame, ticks old", "PSNR dB", "SSIM", "held-out frames")
HEAD_BY_VIDEO = (
    "video",
    "network, PSNR dB",
    "repeat, PSNR dB",
    "difference",
    "network, SSIM",
    "repeat, SSIM",
    "frames",
)
MOST_FRAMES = 500  # so many are measured at most, but for the rest of a batch
MOST_RATIO = 100.0  # dB: the PSNR of equal frames would be infinite, and a mean with it
MOST_VIDEOS = 10  # rows of the table by video

Predictor = tuple[str, int]  # a name, and the age in ticks of the newest frame that the predictor has seen
Quality = tuple[float, float]  # mean PSNR in dB, mean SSIM


@dataclass(frozen=True)
class FrameScores:
    """The quality of each predictor's frames: of all that were measured, and of those of each video that has a title.

    measured: how many frames were measured, of how many. frames: how many of each video.
    """

    means: dict[Predictor, Quality]
    by_video: dict[str, dict[Predictor, Quality]]
    measured: str
    frames: dict[str, int]

    def table(self) -> list[dict[str, str]]:
        """A row for each predictor."""
        return [
            dict(zip(HEAD, (name, str(newest), *_cells(quality), self.measured), strict=True))
            for (name, newest), quality in self.means.items()
        ]

    def table_by_video(self) -> list[dict[str, str]]:
        """A row for each video, first those where the network gains least over repeating; `MOST_VIDEOS` at most."""
        gains = self.gains()
        rows = []
        for title in sorted(gains, key=lambda title: (gains[title], title))[:MOST_VIDEOS]:
            ratios, similarities = zip(*(_cells(self.quality(n, title)) for n in (NETWORK, REPEAT)), strict=True)
            cells = (title, *ratios, f"{gains[title]:+.2f}", *similarities, str(self.frames[title]))
            rows.append(dict(zip(HEAD_BY_VIDEO, cells, strict=True)))
        return rows

    def gains(self) -> dict[str, float]:
        """Title of a video → dB by which the network's PSNR on it exceeds that of repeating the newest frame."""
        return {title: self.quality(NETWORK, title)[0] - self.quality(REPEAT, title)[0] for title in self.by_video}

    def quality(self, name: str, title: str = "") -> Quality:
        """The quality of a predictor, given the newest frame that it can see: of all frames, or of one video's."""
        means = self.by_video[title] if title else self.means
        return next(quality for (other, _), quality in means.items() if other == name)


def age(rule: Rule) -> int:
    """The age in ticks of the newest frame that the top sees: the shortest path to the top has so many units below."""
    if isinstance(rule, Backprop):
        return 0
    network: Network = rule.network
    ages = {FRAME: -1}
    for name, unit in network.units.items():
        ages[name] = 1 + min(ages[j] for j in unit.inputs)
    return ages[network.top.name]


def scored(
    rule: Rule,
    task: Task,
    horizon: int,
    batch: int,
    clips: int,
    items: Collection[int] | None = None,
    most_frames: int = MOST_FRAMES,
    baselines: bool = True,
) -> FrameScores:
    """Measure the network on held-out clips, and the baselines unless they are not asked for.

    clips: the number of batches, of which as many are used as hold `most_frames` frames. items: the items of the task
    that count (None: all).
    """
    qualities: dict[Predictor, list[numpy.ndarray]] = {}  # → (PSNR, SSIM) of each sample's frames, (2, T)
    titles: list[str] = []  # of the video that each sample shows
    measured = predictable = 0
    for index in range(clips):
        if measured >= most_frames:
            break
        clip = task.clip("test", index, batch)
        outputs, first = _outputs(rule, clip.frames)
        predictable = len(clip.frames) - first  # frames of a clip that every predictor can guess
        of_batch = task.titles("test", index, batch)
        for k in counting(task, index, batch, items):
            frames = numpy.stack([numpy.asarray(frame[k]) for frame in clip.frames])
            truth = numpy.stack([numpy.asarray(target[k]) for target in clip.targets[first:]])
            guesses = {(NETWORK, age(rule)): numpy.stack([to_host(output)[k] for output in outputs])}
            guesses |= _baselines(frames, first, horizon, age(rule)) if baselines else {}
            for predictor, guess in guesses.items():
                with numpy.errstate(divide="ignore"):
                    ratios = numpy.minimum(psnr(truth, guess, task.span), MOST_RATIO)
                quality = numpy.stack([ratios, ssim(truth, guess, task.span)])
                qualities.setdefault(predictor, []).append(quality)
            titles.append(of_batch[k])
            measured += len(truth)
    shown = {title: [n for n, other in enumerate(titles) if other == title] for title in sorted(set(titles) - {""})}
    return FrameScores(
        _means(qualities, range(len(titles))),
        {title: _means(qualities, samples) for title, samples in shown.items()},
        f"{measured} of {(task.count('test') or clips * batch) * predictable}",
        {title: predictable * len(samples) for title, samples in shown.items()},
    )


def _outputs(rule: Rule, frames: Frames) -> tuple[Sequence[Array], int]:
    """The network's guesses on a clip, and the tick of the first one: from this tick on the baselines can guess too."""
    evaluation = rule.evaluate(frames)
    first = max(evaluation.first_tick, age(rule) + 1)  # an extrapolation needs the frame before the newest
    return evaluation.outputs[first - evaluation.first_tick :], first


def _baselines(x: numpy.ndarray, first: int, horizon: int, newest_of_top: int) -> dict[Predictor, numpy.ndarray]:
    """The guesses of the baselines at the ticks from `first` on, from the newest frame and from the top's newest."""
    guesses: dict[Predictor, numpy.ndarray] = {}
    for a in sorted({0, newest_of_top}):
        newest, earlier = x[first - a : len(x) - a], x[first - a - 1 : len(x) - a - 1]
        guesses[REPEAT, a] = newest
        guesses[EXTRAPOLATION, a] = newest + (horizon + a) * (newest - earlier)
        guesses[MATCHING, a] = continued(earlier, newest, horizon + a)
    return guesses


def _means(qualities: dict[Predictor, list[numpy.ndarray]], samples: Sequence[int]) -> dict[Predictor, Quality]:
    """Mean PSNR and mean SSIM over the frames of these samples."""
    means = {}
    for predictor, of_samples in qualities.items():
        ratio, similarity = numpy.concatenate([of_samples[n] for n in samples], axis=1).mean(axis=1)
        means[predictor] = float(ratio), float(similarity)
    return means


def _cells(quality: Quality) -> tuple[str, str]:
    ratio, similarity = quality
    return f"{ratio:.2f}", "" if numpy.isnan(similarity) else f"{similarity:.3f}"


def counting(task: Task, index: int, batch: int, items: Collection[int] | None) -> list[int]:
    """The samples of a held-out batch that count: no padding (item -1), and only those of `items`."""
    numbers = task.items("test", index, batch)
    return [k for k, item in enumerate(numbers) if item >= 0 and (items is None or item in items)]
