"""`sideways predict`: a trained network on one video, of any length: frames are decoded, used and forgotten."""

from __future__ import annotations

import csv
import inspect
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, tee
from math import inf
from pathlib import Path
from typing import Any

import numpy

from sideways.data import LiveStream, VideoClips, read_frames
from sideways.data.motion import standardised
from sideways.data.pan import FAINT
from sideways.data.videos.clips import Normalised
from sideways.data.videos.decoder import Augmentation
from sideways.errors import InputError, printable
from sideways.rules import Rule
from sideways.training.build import make_rule, option
from sideways.training.checkpoint import TrainedNetwork, find, load_trained
from sideways.training.config import Config
from sideways.training.metrics import psnr, softmax
from sideways.training.report.frames_ahead import SHOWN, Forward, ahead, plot_prediction, prediction_video, roll_out
from sideways.training.report.plots import annotated_video, plot_probabilities
from sideways.training.run import session

ROWS = 20  # that are printed of a long table


def predict(place: str, video: str, out: str | None, annotated: bool, seconds: float | None, steps: int | None) -> None:
    """Run a video through the network: what it says at each tick, as a table, a plot and, if asked, a video.

    steps: of a predictor, the last so many frames are left out, and rolled out instead.
    """
    if seconds is not None and not 0 < seconds < inf:
        raise InputError(f"--seconds must be a time, not {seconds:g}")
    if steps is not None and steps < 1:
        raise InputError(f"--roll-out must be at least 1 frame, not {steps}")
    held = load_trained(find(place))
    config = held.config
    if steps is not None and not config.horizon:
        raise InputError(f"{place} tells classes: only a predictor of frames can be rolled out")
    folder = Path(out or f"predictions/{Path(video).stem}")
    with session(config):
        frames: Iterator[numpy.ndarray] = (frame for _, frame in frames_of(held, video, seconds))
        rule = make_rule(config, held.network)
        needed = held.network.depth + config.horizon + (steps or 0)
        first = list(islice(frames, needed))
        if len(first) < needed:
            raise InputError(
                f"{video}: {len(first)} frames at {rate_of(config):g} per second; at least {needed} are needed"
            )
        frames = chain(first, frames)
        folder.mkdir(parents=True, exist_ok=True)
        if config.horizon and steps is not None:
            _roll_out(held, rule, frames, steps, folder)
        elif config.horizon:
            _predict_frames(held, rule, frames, folder)
        else:
            first_tick, told = _tell_classes(held, rule, frames, printable(Path(video).name), folder)
            if annotated:
                shown = (picture for picture, _ in islice(frames_of(held, video, seconds), first_tick, None))
                annotated_video(folder / "annotated.mp4", shown, told, held.classes, rate_of(config))
    print(f"written to {folder}")


def _tell_classes(
    held: TrainedNetwork, rule: Rule, frames: Iterable[numpy.ndarray], title: str, folder: Path
) -> tuple[int, numpy.ndarray]:
    """Tables and a plot of the probabilities: the first tick that has any, and theirs (T, K)."""
    run, ticks, rows = Forward(rule), 0, []
    for frame in frames:
        output, ticks = run(frame), ticks + 1
        if output is not None:
            rows.append(softmax(output[0]))
    told = numpy.stack(rows)
    first = ticks - len(told)
    _print_table(told, held.classes, first)
    _write_table(folder / "probabilities.csv", told, held.classes, first)
    plot_probabilities(folder / "probabilities.png", told, held.classes, first, title)
    return first, told


def _predict_frames(held: TrainedNetwork, rule: Rule, frames: Iterable[numpy.ndarray], folder: Path) -> None:
    """The film, the figure and the PSNR of all frames that are predicted."""
    shown, ratios, repeated = Spread(), [], []

    def measured() -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
        for truth, guess, newest in ahead(rule, frames, held.config.horizon):
            ratios.append(psnr(truth, guess, held.span)[0])
            repeated.append(psnr(truth, newest, held.span)[0])
            shown.take((truth[0], guess[0]))
            yield truth[0], guess[0]

    one, other = tee(measured())
    film = folder / "prediction.mp4"
    prediction_video(film, (x for x, _ in one), (y for _, y in other), held.span, rate_of(held.config))
    title = f"{held.config.horizon} ticks ahead"
    truths, guesses = zip(*shown.kept, strict=True)
    plot_prediction(folder / "prediction.png", truths, guesses, held.span, title, shown.numbers)
    print(f"{len(ratios)} frames, {title}: PSNR {numpy.mean(ratios):.2f} dB")
    print(f"the newest frame repeated: PSNR {numpy.mean(repeated):.2f} dB")


def _roll_out(held: TrainedNetwork, rule: Rule, frames: Iterable[numpy.ndarray], steps: int, folder: Path) -> None:
    """The same of the last frames, which the network does not see."""
    last: deque[numpy.ndarray] = deque()

    def given() -> Iterator[numpy.ndarray]:
        for frame in frames:
            last.append(frame)
            if len(last) > steps:
                yield last.popleft()

    guess = roll_out(rule, given(), steps, held.config.horizon)[:, 0]
    truth = numpy.concatenate(last)
    title = f"rolled out for {steps} frames"
    plot_prediction(folder / "prediction.png", truth, guess, held.span, title)
    prediction_video(folder / "prediction.mp4", truth, guess, held.span, rate_of(held.config))
    print(f"{len(truth)} frames, {title}: PSNR {psnr(truth, guess, held.span).mean():.2f} dB")


class Spread:
    """A few of many things, evenly spread, however many come: every step-th, the step doubled when they are many."""

    def __init__(self) -> None:
        self.step, self.came = 1, 0
        self.kept: list[Any] = []

    def take(self, thing: Any) -> None:
        if self.came % self.step == 0:
            self.kept.append(thing)
        self.came += 1
        if len(self.kept) > 4 * SHOWN:
            self.kept, self.step = self.kept[::2], 2 * self.step

    @property
    def numbers(self) -> list[int]:
        """Which they were, from 0."""
        return [self.step * i for i in range(len(self.kept))]


def frames_of(held: TrainedNetwork, video: str, seconds: float | None) -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
    """Each frame of a video as it is seen, (H, W, C) uint8, and as the network takes it, (1, H, W, C).

    Cut from the middle, at the frame rate and with the normalisation of the training; networks trained on tasks that
    are not videos get frames standardised one by one.
    """
    config, (height, _, channels) = held.config, held.network.input_shape
    options = video_options(config)
    count = None if seconds is None else max(1, round(seconds * rate_of(config)))
    short_side = options["short_side"] if options else height
    for frame in read_frames(video, short_side, count=count, grey=channels == 1, fps=rate_of(config)):
        shown = Augmentation()(frame[None], height)
        if options:
            yield shown[0], Normalised(shown[None], options["mean"], options["deviation"])[0]
        else:
            yield shown[0], standardised(shown.astype(numpy.float32), FAINT)


def video_options(config: Config) -> dict[str, Any] | None:
    """All options of `VideoClips` in this config, with their defaults; None for another task."""
    if config.task not in ("videos", "stream"):
        return None
    defaults = {name: entry.default for name, entry in inspect.signature(VideoClips).parameters.items()}
    if config.task == "stream":  # scaled to fit, at the rate of the stream
        defaults["short_side"] = option(LiveStream, config.task_options, "size")
    return defaults | config.task_options


def rate_of(config: Config) -> float:
    """Frames per second that the network was trained on."""
    options = video_options(config)
    return options["fps"] / options["stride"] if options else 25.0


def _write_table(path: Path, told: numpy.ndarray, classes: Sequence[str], first_tick: int) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        rows = csv.writer(file)
        rows.writerow(["tick", *classes])
        rows.writerows([first_tick + t, *map(float, row)] for t, row in enumerate(told))


def _print_table(told: numpy.ndarray, classes: Sequence[str], first_tick: int) -> None:
    """The three most probable classes at some ticks, and those of the mean over all."""
    best = numpy.argsort(-told, axis=1)[:, :3]
    step = max(1, len(told) // ROWS)
    lines = [(str(first_tick + t), told[t], best[t]) for t in range(0, len(told), step)]
    mean = told.mean(axis=0)
    lines.append(("mean", mean, numpy.argsort(-mean)[:3]))
    print(f"{'tick':>6}  most probable classes")
    for tick, row, three in lines:
        print(f"{tick:>6}  " + "  ".join(f"{classes[i]} {row[i]:.3f}" for i in three))
