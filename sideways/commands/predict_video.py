"""A trained network on one video of any length, for `sideways predict`: each frame is decoded, used and forgotten."""

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

from sideways.data.live import LiveStream
from sideways.data.motion import FAINT, standardised
from sideways.data.videos.clips import Normalised, VideoClips
from sideways.data.videos.decoder import Augmentation
from sideways.data.videos.ffmpeg import read_frames
from sideways.errors import InputError, printable
from sideways.rules.rule import Rule
from sideways.training.build import make_rule, option
from sideways.training.checkpoint import TrainedNetwork, find, load_trained
from sideways.training.config import Config
from sideways.training.metrics import psnr, softmax
from sideways.training.report.frames_ahead import SHOWN, Forward, ahead, plot_prediction, prediction_video, roll_out
from sideways.training.report.plots import annotated_video, plot_probabilities
from sideways.training.run import session

MAX_ROWS = 20  # of a printed table


def predict_video(
    checkpoint: str,
    video: str,
    out: str | None,
    annotated: bool,
    seconds: float | None,
    steps: int | None,
    backend: str,
) -> None:
    """Run a video through a trained network: print its outputs, and write tables, plots and videos.

    checkpoint: a run, or one of its checkpoints.
    annotated: also write the video with the probabilities beside its frames.
    seconds: use only the start of the video, of this length.
    steps: for a predictor of frames, leave out the last `steps` frames, and predict them by a roll-out.
    backend: where to compute.
    Raises `InputError` for options that do not suit the network, and for a video that is too short.
    """
    if seconds is not None and not 0 < seconds < inf:
        raise InputError(f"--seconds must be a time, not {seconds:g}")
    if steps is not None and steps < 1:
        raise InputError(f"--roll-out must be at least 1 frame, not {steps}")
    trained = load_trained(find(checkpoint), backend)
    config = trained.config
    if steps is not None and not config.horizon:
        raise InputError(f"{checkpoint} tells classes: only a predictor of frames can be rolled out")
    folder = Path(out or f"predictions/{Path(video).stem}")
    with session(config):
        rule = make_rule(config, trained.network)
        frames = _long_enough(trained, video, seconds, steps or 0)
        folder.mkdir(parents=True, exist_ok=True)
        if config.horizon and steps is not None:
            _roll_out(trained, rule, frames, steps, folder)
        elif config.horizon:
            _predict_frames(trained, rule, frames, folder)
        else:
            first_tick, probabilities = _classify(trained, rule, frames, printable(Path(video).name), folder)
            if annotated:
                pictures = (picture for picture, _ in islice(frames_of(trained, video, seconds), first_tick, None))
                film = folder / "annotated.mp4"
                annotated_video(film, pictures, probabilities, trained.classes, frame_rate(config))
    print(f"written to {folder}")


def _long_enough(trained: TrainedNetwork, video: str, seconds: float | None, steps: int) -> Iterator[numpy.ndarray]:
    """The frames of a video as the network takes them. Raises `InputError` if they are too few for one output."""
    frames = (frame for _, frame in frames_of(trained, video, seconds))
    needed = trained.network.depth + trained.config.horizon + steps
    first = list(islice(frames, needed))
    if len(first) < needed:
        rate = frame_rate(trained.config)
        raise InputError(f"{video}: {len(first)} frames at {rate:g} per second; at least {needed} are needed")
    return chain(first, frames)


# Classes -------------------------------------------------------------------------------------------------------------


def _classify(
    trained: TrainedNetwork, rule: Rule, frames: Iterable[numpy.ndarray], title: str, folder: Path
) -> tuple[int, numpy.ndarray]:
    """Print, write and plot the probabilities of each tick.

    Returns (the first tick with an output, probabilities (T, K)).
    """
    forward, ticks, rows = Forward(rule), 0, []
    for frame in frames:
        output, ticks = forward(frame), ticks + 1
        if output is not None:
            rows.append(softmax(output[0]))
    probabilities = numpy.stack(rows)
    first_tick = ticks - len(probabilities)
    _print_table(probabilities, trained.classes, first_tick)
    _write_table(folder / "probabilities.csv", probabilities, trained.classes, first_tick)
    plot_probabilities(folder / "probabilities.png", probabilities, trained.classes, first_tick, title)
    return first_tick, probabilities


def _print_table(probabilities: numpy.ndarray, classes: Sequence[str], first_tick: int) -> None:
    """Print the three most probable classes of some ticks, and of the mean over all ticks."""
    step = max(1, len(probabilities) // MAX_ROWS)
    rows = [(str(first_tick + t), probabilities[t]) for t in range(0, len(probabilities), step)]
    rows.append(("mean", probabilities.mean(axis=0)))
    print(f"{'tick':>6}  most probable classes")
    for tick, row in rows:
        best = numpy.argsort(-row)[:3]
        print(f"{tick:>6}  " + "  ".join(f"{classes[i]} {row[i]:.3f}" for i in best))


def _write_table(path: Path, probabilities: numpy.ndarray, classes: Sequence[str], first_tick: int) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        table = csv.writer(file)
        table.writerow(["tick", *classes])
        table.writerows([first_tick + t, *map(float, row)] for t, row in enumerate(probabilities))


# Frames --------------------------------------------------------------------------------------------------------------


def _predict_frames(trained: TrainedNetwork, rule: Rule, frames: Iterable[numpy.ndarray], folder: Path) -> None:
    """Write a video and a figure of all predicted frames, and print their mean PSNR."""
    horizon, span, rate = trained.config.horizon, trained.span, frame_rate(trained.config)
    sample, ratios, ratios_of_newest = EvenSample(), [], []

    def measured() -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
        for truth, guess, newest in ahead(rule, frames, horizon):
            ratios.append(psnr(truth, guess, span)[0])
            ratios_of_newest.append(psnr(truth, newest, span)[0])
            sample.add((truth[0], guess[0]))
            yield truth[0], guess[0]

    pairs, same_pairs = tee(measured())
    film = folder / "prediction.mp4"
    prediction_video(film, (truth for truth, _ in pairs), (guess for _, guess in same_pairs), span, rate)
    title = f"{horizon} ticks ahead"
    truths, guesses = zip(*sample.kept, strict=True)
    plot_prediction(folder / "prediction.png", truths, guesses, span, title, sample.numbers)
    print(f"{len(ratios)} frames, {title}: PSNR {numpy.mean(ratios):.2f} dB")
    print(f"the newest frame repeated: PSNR {numpy.mean(ratios_of_newest):.2f} dB")


def _roll_out(trained: TrainedNetwork, rule: Rule, frames: Iterable[numpy.ndarray], steps: int, folder: Path) -> None:
    """Predict the last `steps` frames, which the network does not see; write a video and a figure, print the PSNR."""
    span = trained.span
    last: deque[numpy.ndarray] = deque()

    def all_but_last() -> Iterator[numpy.ndarray]:
        for frame in frames:
            last.append(frame)
            if len(last) > steps:
                yield last.popleft()

    guess = roll_out(rule, all_but_last(), steps, trained.config.horizon)[:, 0]
    truth = numpy.concatenate(last)
    title = f"rolled out for {steps} frames"
    plot_prediction(folder / "prediction.png", truth, guess, span, title)
    prediction_video(folder / "prediction.mp4", truth, guess, span, frame_rate(trained.config))
    print(f"{len(truth)} frames, {title}: PSNR {psnr(truth, guess, span).mean():.2f} dB")


class EvenSample:
    """A few of the items of a sequence of unknown length, evenly spaced: every `step`-th item.

    `kept` holds at most 4 · SHOWN items; when it is full, every second item is dropped and the step doubled.
    """

    def __init__(self) -> None:
        self.step, self.seen = 1, 0
        self.kept: list[Any] = []

    def add(self, item: Any) -> None:
        """Count the next item of the sequence, and keep every `step`-th item."""
        if self.seen % self.step == 0:
            self.kept.append(item)
        self.seen += 1
        if len(self.kept) > 4 * SHOWN:
            self.kept, self.step = self.kept[::2], 2 * self.step

    @property
    def numbers(self) -> list[int]:
        """The positions of the kept items in the sequence, from 0."""
        return [self.step * i for i in range(len(self.kept))]


# The video -----------------------------------------------------------------------------------------------------------


def frames_of(
    trained: TrainedNetwork, video: str, seconds: float | None
) -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
    """Each frame of a video as a picture, (H, W, C) uint8, and as the network takes it, (1, H, W, C).

    Frames are cut from the middle, at the frame rate and with the normalisation of the training. A network that was
    trained on a task without videos gets frames that are standardised one by one.
    """
    config, (height, _, channels) = trained.config, trained.network.input_shape
    options = video_options(config)
    count = None if seconds is None else max(1, round(seconds * frame_rate(config)))
    short_side = options["short_side"] if options else height
    for frame in read_frames(video, short_side, count=count, grey=channels == 1, fps=frame_rate(config)):
        picture = Augmentation()(frame[None], height)
        if options:
            look = (options[name] for name in ("mean", "deviation", "standardise"))
            yield picture[0], Normalised(picture[None], *look)[0]
        else:
            yield picture[0], standardised(picture.astype(numpy.float32), FAINT)


def video_options(config: Config) -> dict[str, Any] | None:
    """All options of `VideoClips` in a config, with their defaults; None for a task without videos."""
    if config.task not in ("videos", "stream"):
        return None
    defaults = {name: entry.default for name, entry in inspect.signature(VideoClips).parameters.items()}
    if config.task == "stream":  # a stream is scaled until its short side has the size of a frame
        defaults["short_side"] = option(LiveStream, config.task_options, "size")
    return defaults | config.task_options


def frame_rate(config: Config) -> float:
    """Frames per second that the network was trained on."""
    options = video_options(config)
    return options["fps"] / options["stride"] if options else 25.0
