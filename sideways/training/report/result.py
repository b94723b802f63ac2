"""The result of a run: results.json, and a line of words for people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sideways.errors import InputError


@dataclass(frozen=True)
class Result:
    """The results of a run. accuracy_error: the standard error of the held-out accuracy over its samples."""

    accuracy: float | None  # held-out; None, like chance and top5, where frames are predicted
    accuracy_error: float | None
    top5: float | None  # None for up to five classes
    loss: float | None  # held-out; None if there was nothing to evaluate on
    chance: float | None
    samples: int  # held-out clips, or videos, that were evaluated
    held_out: int | None  # how many there are; None if clips are made without end
    milliseconds_per_frame: float  # training: forward, backward and update of one frame of one sample
    activation_megabytes: float | None  # 10⁶ bytes: the peak of a training clip above the memory in use between clips
    skipped_files: int
    directory: str
    waiting: float | None = None  # share of the time, since the start or the resumption, spent waiting for clips that
    # are decoded or played; None for a task that makes its clips, and for a live stream


def read_result(path: Path) -> Result:
    """Read results.json. Raises `InputError` for a file of another version."""
    try:
        return Result(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not a result of this version ({error})") from None


def evaluated(result: Result) -> str:
    """The number of held-out clips or videos that were evaluated, of how many."""
    return str(result.samples) if result.held_out is None else f"{result.samples} of {result.held_out}"


def in_words(result: Result) -> str:
    """Put a result into one line."""
    memory = result.activation_megabytes
    score = "nothing to evaluate on" if result.loss is None else f"held-out loss {result.loss:.4f}"
    if result.accuracy is not None:
        score = f"held-out accuracy {result.accuracy:.3f} ± {result.accuracy_error:.3f} on {evaluated(result)} clips "
        score += f"(chance {result.chance:.2f})"
    return (
        f"{score}, {result.milliseconds_per_frame:.3f} ms per frame"
        + (f", {memory:.1f} MB of activations" if memory is not None else "")
        + (f", {result.waiting:.1%} of the time waiting for frames" if result.waiting is not None else "")
    )
