"""sideways.training.report.result."""

from __future__ import annotations

from dataclasses import dataclass


def shown(result: Result) -> str:
    """How many held-out clips or videos were evaluated, and of how many."""
    return str(result.samples) if result.held_out is None else f"{result.samples} of {result.held_out}"


@dataclass(frozen=True)
class Result:
    """What a run came to. `accuracy_error`: the standard error of the held-out accuracy over its samples."""

    accuracy: float | None  # None, as for chance and top5, where frames are predicted
    accuracy_error: float | None
    top5: float | None  # None up to five classes
    loss: float | None  # held-out; None where nothing was there to evaluate on
    chance: float | None
    samples: int  # held-out clips, or videos, that were evaluated
    held_out: int | None  # that there are; None where clips are made without end
    milliseconds_per_frame: float  # training: forward, backward and update of one frame of one sample
    activation_megabytes: float | None  # 10⁶ bytes: the peak of a training clip above what is there between clips
    skipped_files: int
    directory: str


def in_words(result: Result) -> str:
    """A result in one line."""
    memory = result.activation_megabytes
    score = "nothing to evaluate on" if result.loss is None else f"held-out loss {result.loss:.4f}"
    if result.accuracy is not None:
        score = f"held-out accuracy {result.accuracy:.3f} ± {result.accuracy_error:.3f} on {shown(result)} clips "
        score += f"(chance {result.chance:.2f})"
    return f"{score}, {result.milliseconds_per_frame:.3f} ms per frame" + (
        f", {memory:.1f} MB of activations" if memory is not None else ""
    )
