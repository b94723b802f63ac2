"""Predicted frames of a trained network: over films of any length, rolled out, in figures and videos."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy

from sideways.backend import to_host
from sideways.data import Task, write_video
from sideways.data.task import Frames
from sideways.rules import Backprop, Mailbox, Rule
from sideways.rules.inference import TickingForward
from sideways.rules.inputs import frame_on_device
from sideways.training.metrics import Span
from sideways.training.report.plots import new_figure
from sideways.training.report.scores import counting

SHOWN = 8  # columns of a figure


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


def draw_predictions(
    rule: Rule, task: Task, horizon: int, batch: int, clips: int, directory: Path, items: Collection[int] | None = None
) -> None:
    """Draw the first held-out sample of a run. clips: batches of clips. items: those that count (None: all).

    Writes plots/prediction.png and prediction.mp4, and plots/roll-out.png if half a clip is enough to fill the network.
    """
    index, k = next((index, k) for index in range(clips) for k in counting(task, index, batch, items))
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
