"""Predicted frames: PSNR and SSIM against two baselines that need no training, roll-outs, and figures.

A network with horizon h outputs at tick t its guess of frame t + h. The two baselines guess from the same frames:

    repeat               x[t]
    linear extrapolation x[t] + h (x[t] - x[t-1])

The top of a chain has seen frame t - a only, a ticks old (`age`). So each baseline is also given from what the top has
seen: x[t-a] for x[t], and h + a for h.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy

from sideways.backend import Array, to_host
from sideways.data import Task, write_video
from sideways.data.task import Frames
from sideways.network import FRAME, Network
from sideways.rules import Backprop, Mailbox, Rule
from sideways.rules.inference import TickingForward
from sideways.rules.inputs import frame_on_device
from sideways.training.metrics import Span, psnr, ssim
from sideways.training.report.plots import new_figure

SHOWN = 8  # columns of a figure
HEAD = ("prediction", "newest frame, ticks old", "PSNR dB", "SSIM", "held-out frames")
MOST_FRAMES = 500  # so many are measured at most, but for the rest of a batch

Predictor = tuple[str, int]  # a name, and the age in ticks of the newest frame that the predictor has seen


def age(rule: Rule) -> int:
    """The age in ticks of the newest frame that the top sees: the shortest path to the top has so many units below."""
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
    """Rows of a table on held-out clips: predictor, age of its newest frame, mean PSNR and SSIM, frames measured.

    items: the items of the task that count (None: all). The last column says how many frames were measured, of how
    many.
    """
    means, frames_measured = scored(rule, task, horizon, batch, clips, items)
    rows = []
    for (name, newest), (mean_psnr, mean_ssim) in means.items():
        ssim_text = "" if numpy.isnan(mean_ssim) else f"{mean_ssim:.3f}"
        cells = (name, str(newest), f"{mean_psnr:.2f}", ssim_text, frames_measured)
        rows.append(dict(zip(HEAD, cells, strict=True)))
    return rows


def scored(
    rule: Rule, task: Task, horizon: int, batch: int, clips: int, items: Collection[int] | None = None
) -> tuple[dict[Predictor, tuple[float, float]], str]:
    """Measure the network and the baselines on held-out clips.

    Returns predictor → (mean PSNR in dB, mean SSIM), and how many frames were measured, of how many.
    """
    qualities: dict[Predictor, list[tuple[numpy.ndarray, numpy.ndarray]]] = {}  # → (PSNR, SSIM) of each sample's frames
    measured = predictable = 0
    for index in range(clips):
        if measured >= MOST_FRAMES:
            break
        clip = task.clip("test", index, batch)
        outputs, first = _outputs(rule, clip.frames)
        predictable = len(clip.frames) - first  # frames of a clip that every predictor can guess
        for k in _counting(task, index, batch, items):
            frames = [numpy.asarray(frame[k]) for frame in clip.frames]
            truth = numpy.stack([numpy.asarray(target[k]) for target in clip.targets[first:]])
            guesses = {("network", age(rule)): [to_host(output)[k] for output in outputs]}
            guesses |= _baselines(frames, first, horizon, age(rule))
            for predictor, guess in guesses.items():
                quality = psnr(truth, numpy.stack(guess), task.span), ssim(truth, numpy.stack(guess), task.span)
                qualities.setdefault(predictor, []).append(quality)
            measured += len(truth)
    means = {predictor: _means(of_samples) for predictor, of_samples in qualities.items()}
    return means, f"{measured} of {(task.count('test') or clips * batch) * predictable}"


def _outputs(rule: Rule, frames: Frames) -> tuple[Sequence[Array], int]:
    """The network's guesses on a clip, and the tick of the first one: from this tick on the baselines can guess too."""
    evaluation = rule.evaluate(frames)
    first = max(evaluation.first_tick, age(rule) + 1)  # an extrapolation needs the frame before the newest
    return evaluation.outputs[first - evaluation.first_tick :], first


def _baselines(
    x: Sequence[numpy.ndarray], first: int, horizon: int, newest_of_top: int
) -> dict[Predictor, list[numpy.ndarray]]:
    """The guesses of the baselines at the ticks from `first` on, from the newest frame and from the top's newest."""
    ticks = range(first, len(x))
    guesses: dict[Predictor, list[numpy.ndarray]] = {}
    for a in sorted({0, newest_of_top}):
        guesses["repeat", a] = [x[t - a] for t in ticks]
        guesses["linear extrapolation", a] = [x[t - a] + (horizon + a) * (x[t - a] - x[t - a - 1]) for t in ticks]
    return guesses


def _means(qualities: Sequence[tuple[numpy.ndarray, numpy.ndarray]]) -> tuple[float, float]:
    """Mean PSNR and mean SSIM over the frames of all samples."""
    ratios, similarities = zip(*qualities, strict=True)
    return float(numpy.concatenate(ratios).mean()), float(numpy.concatenate(similarities).mean())


def _counting(task: Task, index: int, batch: int, items: Collection[int] | None) -> list[int]:
    """The samples of a held-out batch that count: no padding (item -1), and only those of `items`."""
    numbers = task.items("test", index, batch)
    return [k for k, item in enumerate(numbers) if item >= 0 and (items is None or item in items)]


class Forward:
    """Run a trained network forward over a film of any length, frame by frame, with the outputs of `Rule.evaluate`."""

    def __init__(self, rule: Rule):
        self.rule, self.ticking = rule, TickingForward(rule, Mailbox(rule.network.timetable))

    def __call__(self, frame: numpy.ndarray) -> numpy.ndarray | None:
        """The top's output for the next frame (N, H, W, C), or None while the network fills."""
        if isinstance(self.rule, Backprop):
            return to_host(self.rule.evaluate([frame]).outputs[0])
        output = self.ticking.tick(frame_on_device(self.rule.network, frame, None))
        return None if output is None else to_host(output)


def ahead(
    rule: Rule, frames: Iterable[numpy.ndarray], horizon: int
) -> Iterator[tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]]:
    """Yield (frame t, the network's guess of it, frame t - horizon), as the frames (N, H, W, C) of a film arrive."""
    run = Forward(rule)
    waiting: deque[tuple[numpy.ndarray | None, numpy.ndarray]] = deque()  # outputs and frames of the last h ticks
    for frame in frames:
        if len(waiting) == horizon:
            guess, newest = waiting.popleft()
            if guess is not None:
                yield frame, guess, newest
        waiting.append((run(frame), frame))


def roll_out(rule: Rule, frames: Iterable[numpy.ndarray], steps: int, horizon: int) -> numpy.ndarray:
    """Guess the `steps` frames after a clip, with each guess fed back as a frame: (steps, N, H, W, C).

    With x for real frames, y[t] for the output at tick t, T frames and h = 2:

        tick      …  T-2     T-1     T         T+1
        fed       …  x[T-2]  x[T-1]  y[T-2]    y[T-1]      at tick t ≥ T: y[t-h]
        output    …  y[T-2]  y[T-1]  y[T]      y[T+1]      a guess of frame t+h
    """
    run = Forward(rule)
    outputs: deque[numpy.ndarray | None] = deque(maxlen=horizon)  # outputs of the last h ticks
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
    """Draw truth, prediction and error (T, H, W, C), one above the other, against time.

    numbers: the number of each frame in its film, counted from 0 (None: 0, 1, 2, …).
    """
    chosen = numpy.unique(numpy.linspace(0, len(truth) - 1, min(SHOWN, len(truth))).round().astype(int))
    figure = new_figure(1.5 * len(chosen) + 1.5, 5.2)
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
    """Write a video of truth | prediction | error, enlarged to at least 240 lines. Frames are taken one by one."""
    middle = (span[0] + span[1]) / 2

    def frames() -> Iterator[numpy.ndarray]:
        for x, y in zip(truth, guess, strict=True):
            factor = max(1, -(-240 // len(x)))
            row = numpy.concatenate([_shown(p, span) for p in (x, y, y - x + middle)], axis=1)
            yield row.repeat(factor, axis=0).repeat(factor, axis=1)

    write_video(path, frames(), fps)


def _shown(frame: numpy.ndarray, span: Span) -> numpy.ndarray:
    """Scale a frame (H, W, C) from its span to uint8 (H, W, 3)."""
    bright = numpy.clip((frame - span[0]) * (255 / (span[1] - span[0])), 0, 255).astype(numpy.uint8)
    return numpy.ascontiguousarray(numpy.broadcast_to(bright, (*frame.shape[:2], 3)))


def predictions_of_run(
    rule: Rule, task: Task, horizon: int, batch: int, clips: int, items: Collection[int], directory: Path
) -> Sequence[dict[str, str]]:
    """Draw the first held-out sample of a run, and return the table of `compared`.

    Writes plots/prediction.png and prediction.mp4, and plots/roll-out.png if half a clip is enough to fill the network.
    """
    index, k = next((index, k) for index in range(clips) for k in _counting(task, index, batch, items))
    clip = task.clip("test", index, batch)
    evaluation = rule.evaluate(clip.frames)
    truth = numpy.stack([numpy.asarray(target[k]) for target in clip.targets])
    guess = numpy.stack([to_host(output)[k] for output in evaluation.outputs])
    predicted = truth[evaluation.first_tick :]  # before the first output there is no guess to compare with
    plots, title = directory / "plots", f"{directory.name}: {horizon} ticks ahead"
    plot_prediction(plots / "prediction.png", predicted, guess, task.span, title)
    prediction_video(directory / "prediction.mp4", predicted, guess, task.span, 10)
    steps = len(truth) // 2
    start = [frame[k : k + 1] for frame in clip.frames][: len(truth) - steps]
    following = numpy.stack([numpy.asarray(frame[k]) for frame in clip.frames][len(start) :])
    if len(start) - horizon >= evaluation.first_tick:
        rolled = roll_out(rule, start, len(following), horizon)[:, 0]
        plot_prediction(plots / "roll-out.png", following, rolled, task.span, f"{directory.name}: roll-out, fed back")
    return compared(rule, task, horizon, batch, clips, items)
