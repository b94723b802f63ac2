"""Predicted frames: how good they are beside two that need no learning, what happens when they are fed back, pictures.

A network with horizon h outputs at tick t its guess of frame t + h. Beside it stand, from the same frames,

    repeat               x[t]
    linear extrapolation x[t] + h (x[t] - x[t-1])

The top of a chain has seen frame t - a only, a ticks old (`age`): both are also given from what the top has seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sideways.backend import to_host
from sideways.data import Task, write_video
from sideways.data.task import Frames
from sideways.network import FRAME, Network
from sideways.rules import Backprop, Mailbox, Rule
from sideways.rules.inference import TickingForward
from sideways.rules.inputs import frame_on_device
from sideways.training.metrics import Span, psnr, ssim

SHOWN = 8  # columns of a figure
HEAD = ("prediction", "newest frame, ticks old", "PSNR dB", "SSIM", "held-out frames")
MOST_FRAMES = 500  # that are measured


def age(rule: Rule) -> int:
    """How many ticks old the newest frame is that the top sees: the shortest way to it, less the tick of the frame."""
    if isinstance(rule, Backprop):
        return 0
    network: Network = rule.network
    ages = {FRAME: -1}
    for name, unit in network.units.items():
        ages[name] = 1 + min(ages[j] for j in unit.inputs)
    return ages[network.top.name]


def compared(
    rule: Rule, task: Task, horizon: int, batch: int, clips: int, items: Collection[int] | None = None
) -> list[dict[str, str]]:
    """Rows of a table on held-out clips: what predicts, the age of the newest frame it has, PSNR and SSIM (means).

    items: those of the task that count (None: all). The last column tells how many frames were measured, of how many.
    """
    means, measured = scored(rule, task, horizon, batch, clips, items)
    rows = []
    for (name, old), (ratio, similarity) in means.items():
        told = "" if numpy.isnan(similarity) else f"{similarity:.3f}"
        rows.append(dict(zip(HEAD, (name, str(old), f"{ratio:.2f}", told, measured), strict=True)))
    return rows


def scored(
    rule: Rule, task: Task, horizon: int, batch: int, clips: int, items: Collection[int] | None = None
) -> tuple[dict[tuple[str, int], tuple[float, float]], str]:
    """(what predicts, the age of the newest frame it has) → mean PSNR and SSIM on held-out clips; on how many."""
    newest = age(rule)
    found: dict[tuple[str, int], list[tuple[numpy.ndarray, numpy.ndarray]]] = {}
    measured = 0
    for index in range(clips):
        if measured >= MOST_FRAMES:
            break
        clip = task.clip("test", index, batch)
        evaluation = rule.evaluate(clip.frames)
        for k in _counting(task, index, batch, items):
            x = [numpy.asarray(frame[k]) for frame in clip.frames]
            first = max(evaluation.first_tick, newest + 1)
            ticks = range(first, len(x))
            guesses = {("network", newest): [to_host(evaluation.outputs[t - evaluation.first_tick])[k] for t in ticks]}
            for old in sorted({0, newest}):
                guesses["repeat", old] = [x[t - old] for t in ticks]
                ahead = horizon + old
                guesses["linear extrapolation", old] = [
                    x[t - old] + ahead * (x[t - old] - x[t - old - 1]) for t in ticks
                ]
            truth = numpy.stack([numpy.asarray(clip.targets[t][k]) for t in ticks])
            for what, guess in guesses.items():
                about = psnr(truth, numpy.stack(guess), task.span), ssim(truth, numpy.stack(guess), task.span)
                found.setdefault(what, []).append(about)
            measured += len(truth)
    means: dict[tuple[str, int], tuple[float, float]] = {}
    for what, values in found.items():
        ratio, similarity = (float(numpy.concatenate(part).mean()) for part in zip(*values, strict=True))
        means[what] = ratio, similarity
    return means, f"{measured} of {(task.count('test') or clips * batch) * len(ticks)}"


def _counting(task: Task, index: int, batch: int, items: Collection[int] | None) -> list[int]:
    """The samples of a held-out batch that count."""
    numbers = task.items("test", index, batch)
    return [k for k, item in enumerate(numbers) if item >= 0 and (items is None or item in items)]


class Forward:
    """Run a trained network forward over a film of any length, frame by frame, as `Rule.evaluate` does over a clip."""

    def __init__(self, rule: Rule):
        self.rule, self.ticking = rule, TickingForward(rule, Mailbox(rule.network.first_message))

    def __call__(self, frame: numpy.ndarray) -> numpy.ndarray | None:
        """The top's output for the next frame (N, H, W, C), or None while the network fills."""
        if isinstance(self.rule, Backprop):
            return to_host(self.rule.evaluate([frame]).outputs[0])
        output = self.ticking.tick(frame_on_device(self.rule.network, frame, None))
        return None if output is None else to_host(output)


def ahead(
    rule: Rule, frames: Iterable[numpy.ndarray], horizon: int
) -> Iterator[tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]]:
    """(frame t, the network's guess of it, frame t - horizon), as the frames of a film (N, H, W, C) come."""
    run = Forward(rule)
    waiting: deque[tuple[numpy.ndarray | None, numpy.ndarray]] = deque()  # outputs and frames of the last h ticks
    for frame in frames:
        if len(waiting) == horizon:
            guess, newest = waiting.popleft()
            if guess is not None:
                yield frame, guess, newest
        waiting.append((run(frame), frame))


def roll_out(rule: Rule, frames: Iterable[numpy.ndarray], steps: int, horizon: int) -> numpy.ndarray:
    """The `steps` frames after a clip, each guess fed back as a frame: (steps, N, H, W, C).

    With x for real frames, y[t] for the output at tick t, T frames and h = 2:

        tick      …  T-2     T-1     T         T+1
        fed       …  x[T-2]  x[T-1]  y[T-2]    y[T-1]      at tick t ≥ T: y[t-h]
        output    …  y[T-2]  y[T-1]  y[T]      y[T+1]      a guess of frame t+h
    """
    run = Forward(rule)
    outputs: deque[numpy.ndarray | None] = deque(maxlen=horizon)  # of the last h ticks
    for frame in frames:
        outputs.append(run(frame))
    guesses: list[numpy.ndarray] = []
    for _ in range(steps):
        guess = outputs.popleft()
        assert guess is not None, "the network still fills"
        guesses.append(guess)
        if len(guesses) + len(outputs) < steps:
            outputs.append(run(guess))
    return numpy.stack(guesses)


def plot_prediction(
    path: Path,
    truth: Frames,
    guess: Frames,
    span: Span,
    title: str,
    numbers: Sequence[int] | None = None,
) -> None:
    """Truth, prediction and error (T, H, W, C), one above the other, against time; numbers: of the frames, 0, 1, …"""
    chosen = numpy.unique(numpy.linspace(0, len(truth) - 1, min(SHOWN, len(truth))).round().astype(int))
    figure = Figure(figsize=(1.5 * len(chosen) + 1.5, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(3, len(chosen), squeeze=False)
    reach = (span[1] - span[0]) / 2
    for column, t in enumerate(chosen):
        error = (guess[t] - truth[t]).mean(axis=-1)
        panels[0, column].set_title(f"frame {1 + (t if numbers is None else numbers[t])}", fontsize=9)
        for row, picture in enumerate((truth[t], guess[t])):
            panels[row, column].imshow(_shown(picture, span))
        image = panels[2, column].imshow(error, cmap="RdBu", vmin=-reach, vmax=reach)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
    for row, name in enumerate(("truth", "prediction", "error")):
        panels[row, 0].set_ylabel(name)
    figure.colorbar(image, ax=panels[2, :], label="prediction - truth", shrink=0.9)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def prediction_video(
    path: Path, truth: Iterable[numpy.ndarray], guess: Iterable[numpy.ndarray], span: Span, fps: float
) -> None:
    """Truth | prediction | error, side by side, enlarged to at least 240 lines; frames are taken one by one."""
    middle = (span[0] + span[1]) / 2

    def frames() -> Iterator[numpy.ndarray]:
        for x, y in zip(truth, guess, strict=True):
            factor = max(1, -(-240 // len(x)))
            row = numpy.concatenate([_shown(p, span) for p in (x, y, y - x + middle)], axis=1)
            yield row.repeat(factor, axis=0).repeat(factor, axis=1)

    write_video(path, frames(), fps)


def _shown(frame: numpy.ndarray, span: Span) -> numpy.ndarray:
    """(H, W, 3) uint8."""
    bright = numpy.clip((frame - span[0]) * (255 / (span[1] - span[0])), 0, 255).astype(numpy.uint8)
    return numpy.ascontiguousarray(numpy.broadcast_to(bright, (*frame.shape[:2], 3)))


def predictions_of_run(
    rule: Rule, task: Task, horizon: int, batch: int, clips: int, items: Collection[int], directory: Path
) -> Sequence[dict[str, str]]:
    """The table of `compared`; plots/prediction.png, roll-out.png and prediction.mp4 of the first held-out sample."""
    index, k = next((index, k) for index in range(clips) for k in _counting(task, index, batch, items))
    clip = task.clip("test", index, batch)
    evaluation = rule.evaluate(clip.frames)
    truth = numpy.stack([numpy.asarray(target[k]) for target in clip.targets])
    guess = numpy.stack([to_host(output)[k] for output in evaluation.outputs])
    seen = truth[evaluation.first_tick :]
    plots, title = directory / "plots", f"{directory.name}: {horizon} ticks ahead"
    plot_prediction(plots / "prediction.png", seen, guess, task.span, title)
    prediction_video(directory / "prediction.mp4", seen, guess, task.span, 10)
    steps = len(truth) // 2
    given = [frame[k : k + 1] for frame in clip.frames][: len(truth) - steps]
    after = numpy.stack([numpy.asarray(frame[k]) for frame in clip.frames][len(given) :])
    if len(given) - horizon >= evaluation.first_tick:
        rolled = roll_out(rule, given, len(after), horizon)[:, 0]
        plot_prediction(plots / "roll-out.png", after, rolled, task.span, f"{directory.name}: roll-out, fed back")
    return compared(rule, task, horizon, batch, clips, items)
