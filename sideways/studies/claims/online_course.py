"""One run of the claim `online`: a network learns from a stream, and its predictions are measured on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy
from threadpoolctl import threadpool_limits

from sideways.backend import to_host
from sideways.losses import LogMeanSquaredError
from sideways.models import build_model
from sideways.optimizers import Adam, Optimizer, RMSProp
from sideways.rules import BPTT, Delayed, Rule, Sideways
from sideways.studies.claims.online_streams import HORIZON, Stream
from sideways.training.log import ShowProgress
from sideways.training.metrics import Span, psnr
from sideways.training.report.block_matching import continued
from sideways.training.report.scores import EXTRAPOLATION, MATCHING, MOST_RATIO

MODEL, LEAD = "predictor-gated", 3  # LEAD: ticks until the network's first prediction, its latency
SIDEWAYS, DELAYED, MARKED, BLOCKED = "Sideways", "Delayed, n = 1", "Delayed, n = 2D-1", "blocked bptt"
WAITING, TOP = "bptt, and the stream waits", "Sideways, the top unit alone"
PACE = 16  # ticks to an update, at a slower pace
OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {
    "Adam": Adam,
    "RMSProp": RMSProp,
    f"Adam, every {PACE} ticks": Adam,
    "Adam, orthogonal": lambda rate: Adam(rate, orthogonal=0.9),
}
ADAM, RMSPROP, SLOW, ORTHOGONAL = OPTIMIZERS
WINDOW = 1  # frames of a window of blocked bptt, in multiples of the depth
BLOCK = 100  # frames of the stream: a sample of the error in the stream
LOOKS = 8  # measurements on the held-out samples in a run


@dataclass(frozen=True)
class Settings:
    """All that a run depends on, but for the stream."""

    rule: str
    optimizer: str
    rate: float
    seed: int
    window: int = WINDOW


@dataclass(frozen=True)
class Course:
    """Gains over the course of a run: PSNR above repeating the newest frame, in dB.

    inside: for each BLOCK frames of the stream, the mean gain of the predictions, each made before anything was learnt
    from the frame that it is about. answered: for each BLOCK, the share of its frames for which there was a prediction.
    ticks: those of the looks at the held-out samples. outside: film or group of maps → look → the gain on each sample.
    """

    inside: list[float]
    answered: list[float]
    ticks: list[int]
    outside: dict[str, list[list[float]]]

    @property
    def outside_means(self) -> list[float]:
        """The mean gain over all held-out samples, at each look."""
        return [float(numpy.mean(numpy.concatenate(gains))) for gains in zip(*self.outside.values(), strict=True)]


def missed(window: int) -> int:
    """The frames that blocked backpropagation through time misses after each window of so many frames.

    A tick, from frame to frame, is the time of one forward and one backward step of a unit, so that Sideways just keeps
    up. All units run side by side, as under Sideways, and a step of either kind takes half a tick. While the window is
    read, each unit takes its forward step when the frame comes. The backward pass begins after the last frame and goes
    through the ticks last to first, a step for each; frames that come meanwhile are lost.

        half ticks    0   1   2   3   4   5   6   7   8   9   10  11  12
        frames        0       1       2       3       4       5       6
        all units     F0  .   F1  .   F2  .   F3  B3  B2  B1  B0  .   F0      frames 4 and 5 of 6 are missed

    Backward steps mostly take longer than forward steps, so that half a tick favours blocked backpropagation.
    """
    return window // 2


def learn(settings: Settings, stream: Stream, show: ShowProgress) -> Course:
    """Learn from a stream to its end, one frame at a time. show: called after every BLOCK frames.

    The settings of a baseline are those of a learner without an optimizer, whose `rule` is the name of the baseline.
    """
    with threadpool_limits(1, user_api="blas"), numpy.errstate(all="ignore"):
        if settings.rule in BASELINES:
            return _course_of_baseline(BASELINES[settings.rule], stream)
        learner = make_learner(settings, stream)
        count = len(stream.frames) - HORIZON
        ends = [round((k + 1) * count / LOOKS) for k in range(LOOKS)]
        course = Course([], [], ends, {title: [] for title in stream.held_out})
        answers: dict[int, numpy.ndarray] = {}  # tick → prediction (H, W, C), since the last multiple of BLOCK
        for t, output in enumerate(predictions(learner, settings, stream)):
            if output is not None:
                answers[t] = output
            if (t + 1) % BLOCK == 0:
                course.inside.append(_mean_gain(answers, stream))
                course.answered.append(len(answers) / BLOCK)
                answers = {}
                show(1, f"{settings.rule}, {settings.optimizer}")
            if t + 1 in ends:
                for title, samples in stream.held_out.items():
                    evaluation = learner.evaluate(samples[:-HORIZON])
                    outputs = [to_host(output) for output in evaluation.outputs[LEAD - evaluation.first_tick :]]
                    course.outside[title].append(_of_samples(numpy.stack(outputs), samples, stream.span))
    return course


def predictions(learner: Rule, settings: Settings, stream: Stream) -> Iterator[numpy.ndarray | None]:
    """Teach a learner the stream. Yield its prediction (H, W, C) at each tick, made before it learns from the tick.

    None while the network fills and, for blocked bptt, where frames are missed.
    """
    count = len(stream.frames) - HORIZON
    window, pause = count, 0  # frames in a row that are learnt from, frames missed after them
    if isinstance(learner, BPTT):
        window = settings.window * learner.network.depth
        pause = missed(window) if settings.rule == BLOCKED else 0
    for t in range(count):
        phase = t % (window + pause)
        if phase >= window:
            yield None
            continue
        output = learner.tick(stream.frames[t], stream.frames[t + HORIZON]).output
        if isinstance(learner, BPTT) and phase == window - 1:
            learner.end_clip()
        yield None if output is None else to_host(output)[0]


def make_learner(settings: Settings, stream: Stream) -> Rule:
    """The rule of these settings, with a new network."""
    options: dict[str, Any] = {"stages": 0} if settings.rule == TOP else {}
    network = build_model(MODEL, stream.frames.shape[2:], None, settings.seed, **options)
    loss, optimizer = LogMeanSquaredError(), OPTIMIZERS[settings.optimizer](settings.rate)
    if settings.rule in (BLOCKED, WAITING):
        return BPTT(network, loss, optimizer, target_delay=0)
    options = {"boundary": "stream", "target_delay": 0, "update_every": PACE if settings.optimizer == SLOW else 1}
    if settings.rule in (DELAYED, MARKED):
        n = 1 if settings.rule == DELAYED else 2 * network.depth - 1
        return Delayed(network, loss, optimizer, learn_every=n, **options)
    return Sideways(network, loss, optimizer, **options)


def gain(guess: numpy.ndarray, newest: numpy.ndarray, truth: numpy.ndarray, span: Span) -> numpy.ndarray:
    """The PSNR of guesses less that of the newest frames, in dB: (T, H, W, C) three times → (T,).

    A number that is not finite, in a prediction of a network that diverged, counts as 0.
    """
    guess = numpy.nan_to_num(guess, posinf=0, neginf=0)
    ours, repeated = (numpy.minimum(psnr(truth, frames, span), MOST_RATIO) for frames in (guess, newest))
    return numpy.asarray(ours - repeated)


def _mean_gain(answers: dict[int, numpy.ndarray], stream: Stream) -> float:
    """The mean gain of predictions, tick → (H, W, C), in the stream; 0 without any, as of the newest frame."""
    if not answers:
        return 0.0
    ticks, frames = numpy.array(list(answers)), stream.frames[:, 0]
    return float(gain(numpy.stack(list(answers.values())), frames[ticks], frames[ticks + HORIZON], stream.span).mean())


def _of_samples(guesses: numpy.ndarray, samples: numpy.ndarray, span: Span) -> list[float]:
    """The mean gain of the guesses (T, S, H, W, C) on each held-out sample (T', S, H, W, C)."""
    newest, truth = samples[LEAD:-HORIZON], samples[LEAD + HORIZON :]
    return [float(gain(guesses[:, k], newest[:, k], truth[:, k], span).mean()) for k in range(samples.shape[1])]


# Baselines: functions of the frame before the newest, and of the newest, (T, H, W, C) each


def _extrapolated(earlier: numpy.ndarray, newest: numpy.ndarray) -> numpy.ndarray:
    return newest + HORIZON * (newest - earlier)


def _matched(earlier: numpy.ndarray, newest: numpy.ndarray) -> numpy.ndarray:
    return continued(earlier, newest, HORIZON)


BASELINES = {EXTRAPOLATION: _extrapolated, MATCHING: _matched}


def _course_of_baseline(guessed: Callable[[numpy.ndarray, numpy.ndarray], numpy.ndarray], stream: Stream) -> Course:
    """The gains of a baseline, at all looks the same ones."""
    frames = stream.frames[:, 0]
    guesses = guessed(frames[: -HORIZON - 1], frames[1:-HORIZON])  # from tick 1 on
    gains = gain(guesses, frames[1:-HORIZON], frames[1 + HORIZON :], stream.span)
    count = len(gains) + 1
    inside = [float(gains[max(k - 1, 0) : k + BLOCK - 1].mean()) for k in range(0, count // BLOCK * BLOCK, BLOCK)]
    outside = {}
    for title, samples in stream.held_out.items():
        earlier, newest = samples[LEAD - 1 : -HORIZON - 1], samples[LEAD:-HORIZON]
        guesses = numpy.stack([guessed(earlier[:, k], newest[:, k]) for k in range(samples.shape[1])], axis=1)
        outside[title] = [_of_samples(guesses, samples, stream.span)] * 2
    return Course(inside, [1.0] * len(inside), [1, count], outside)
