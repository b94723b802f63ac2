"""What a checkpoint is good for once it is trained: `sideways evaluate`, `predict` and `export`."""

from __future__ import annotations

import csv
import inspect
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy

from sideways.backend import to_host
from sideways.checkpoint import Trained, find, trained
from sideways.config import Config, build_rule, build_task, make_rule
from sideways.data import Source, Stream, VideoClips, read_frames
from sideways.data.clips import Normalised
from sideways.data.decoder import Look
from sideways.data.pan import FAINT
from sideways.data.stream import standardised
from sideways.errors import InputError
from sideways.evaluation import batches, evaluate
from sideways.metrics import softmax, standard_error
from sideways.plots import annotated_video, plot_confusion, plot_probabilities
from sideways.prediction import plot_prediction, prediction_video, psnr, roll_out
from sideways.report import class_table
from sideways.rules import Rule
from sideways.training import save_parameters, session

ROWS = 20  # that are printed of a long table


def evaluate_checkpoint(place: str, data: str | None, split: int | None, out: str | None) -> None:
    """Loss, accuracies and confusion on held-out clips: of the run's own task, or of the same classes elsewhere."""
    path = find(place)
    held = trained(path)
    config, network, classes = held.config, held.network, held.classes
    if data is not None:
        config = replace(config, task="videos", evaluation_clips=0, task_options=config.task_options | {"data": data})
    if split is not None:
        config = replace(config, task_options=config.task_options | {"split": split})
    with session(config):
        task = build_task(config)
        if task.classes != classes or task.frame_shape != network.input_shape:
            raise InputError(
                f"{path} tells {len(classes)} classes on frames of {network.input_shape}; this data has "
                f"{len(task.classes)} on frames of {task.frame_shape}, or other names"
            )
        rule = build_rule(config, task, network)
        limit = {"train": 0, "test": batches(task, config.batch, config.evaluation_clips)}
        with Source(task, config.batch, workers=config.workers, limits=limit) as source:
            task.open(("test",))
            scores = evaluate(rule, source, config.evaluation_clips)
            skipped = source.skipped
    if scores is None or not len(scores.items):
        raise InputError(f"{path}: none of the held-out clips could be evaluated; files skipped: {len(skipped)}")
    for name, value in scores.metrics.items():
        print(
            f"{name:<9} {value:.4f}" + (f" ± {standard_error(value, len(scores.items)):.4f}" if name != "loss" else "")
        )
    there = task.held_out_items()
    of = "" if there is None else f" of {there}"
    print(
        f"on {len(scores.items)}{of} held-out clips or videos" + (f"; files skipped: {len(skipped)}" if skipped else "")
    )
    if scores.probabilities is not None:
        print(f"\n{class_table(scores, classes)}")
    if out:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evaluation.json").write_text(json.dumps(scores.metrics | {"skipped": skipped}, indent=2) + "\n")
        if scores.probabilities is not None:
            plot_confusion(folder / "confusion.png", scores, classes)
        print(f"written to {folder}")


def export(place: str, out: str) -> None:
    """All parameters and running statistics in one .npz: `"<unit>/<layer>.<name>"`, see `save_parameters`."""
    network = trained(find(place)).network
    if not out.endswith(".npz"):
        raise InputError(f"the file to write must end in .npz, not {out}")
    try:
        save_parameters(network, Path(out))
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    print(f"{sum(len(unit.parameters | unit.state) for unit in network.units.values())} arrays written to {out}")


def predict(place: str, video: str, out: str | None, annotated: bool, seconds: float | None, steps: int | None) -> None:
    """Run a video through the network: what it says at each tick, as a table, a plot and, if asked, a video.

    steps: of a predictor, the last so many frames are left out, and rolled out instead.
    """
    held = trained(find(place))
    config = held.config
    if (steps is None) < (config.horizon == 0):
        raise InputError(f"{place} tells classes: only a predictor of frames can be rolled out")
    folder = Path(out or f"predictions/{Path(video).stem}")
    with session(config):
        shown, frames = frames_of(held, video, seconds)
        rule = make_rule(config, held.network)
        needed = held.network.depth + config.horizon + (steps or 0)
        if len(frames) < needed:
            raise InputError(
                f"{video}: {len(frames)} frames at {rate_of(config):g} per second; at least {needed} are needed"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if config.horizon:
            _predict_frames(held, rule, frames, steps, folder)
        else:
            told = softmax(numpy.stack([to_host(output)[0] for output in rule.evaluate(frames).outputs]))
            first = len(frames) - len(told)
            _print_table(told, held.classes, first)
            _write_table(folder / "probabilities.csv", told, held.classes, first)
            plot_probabilities(folder / "probabilities.png", told, held.classes, first, Path(video).name)
            if annotated:
                annotated_video(folder / "annotated.mp4", shown[first:], told, held.classes, rate_of(config))
    print(f"written to {folder}")


def _predict_frames(held: Trained, rule: Rule, frames: list[numpy.ndarray], steps: int | None, folder: Path) -> None:
    horizon = held.config.horizon
    if steps is None:
        outputs = rule.evaluate(frames).outputs
        guess = numpy.stack([to_host(output)[0] for output in outputs[:-horizon]])
        title = f"{horizon} ticks ahead"
    else:
        guess = roll_out(rule, frames[:-steps], steps, horizon)[:, 0]
        title = f"rolled out for {steps} frames"
    truth = numpy.stack(frames)[-len(guess) :, 0]
    plot_prediction(folder / "prediction.png", truth, guess, held.span, title)
    prediction_video(folder / "prediction.mp4", truth, guess, held.span, rate_of(held.config))
    print(f"{len(truth)} frames, {title}: PSNR {psnr(truth, guess, held.span).mean():.2f} dB")
    repeated = numpy.stack(frames)[: len(frames) - horizon, 0][-len(guess) :]
    if steps is None:
        print(f"the newest frame repeated: PSNR {psnr(truth, repeated, held.span).mean():.2f} dB")


def frames_of(held: Trained, video: str, seconds: float | None) -> tuple[list[numpy.ndarray], list[numpy.ndarray]]:
    """The frames of a video as they are seen, (H, W, C) uint8, and as the network takes them, (1, H, W, C).

    Cut from the middle, at the frame rate and with the normalisation of the training; networks trained on tasks that
    are not videos get frames standardised one by one.
    """
    config, (height, _, channels) = held.config, held.network.input_shape
    options = video_options(config)
    count = None if seconds is None else max(1, round(seconds * rate_of(config)))
    short_side = options["short_side"] if options else height
    decoded = read_frames(video, short_side, count=count, grey=channels == 1, fps=rate_of(config))
    shown = [Look()(frame[None], height)[0] for frame in decoded]
    if options:
        normalised = Normalised(numpy.stack(shown)[:, None], options["mean"], options["deviation"])
        return shown, list(normalised)
    return shown, [standardised(frame[None].astype(numpy.float32), FAINT) for frame in shown]


def video_options(config: Config) -> dict[str, Any] | None:
    """All options of `VideoClips` in this config, with their defaults; None for another task."""
    if config.task not in ("videos", "stream"):
        return None
    defaults = {name: entry.default for name, entry in inspect.signature(VideoClips).parameters.items()}
    if config.task == "stream":  # scaled to fit, at the rate of the stream
        defaults["short_side"] = config.task_options.get("size", inspect.signature(Stream).parameters["size"].default)
    return defaults | config.task_options


def rate_of(config: Config) -> float:
    """Frames per second that the network was trained on."""
    options = video_options(config)
    return options["fps"] / options["stride"] if options else 25.0


def _write_table(path: Path, told: numpy.ndarray, classes: Sequence[str], first_tick: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
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
