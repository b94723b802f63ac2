"""The progress of a run, between two ticks."""

from __future__ import annotations

from dataclasses import dataclass, field

from sideways.backend import Array


@dataclass
class Progress:
    """The position of a run between two ticks, as a checkpoint stores it."""

    clip: int = 0  # training clips done
    tick: int = 0  # ticks done of the next clip
    seconds: float = 0.0  # spent training
    metrics_bytes: int = 0  # of metrics.jsonl
    evaluate: bool = False  # an evaluation is due before the next clip
    given: int = 0  # frames of a stream before the open clip
    losses: list[Array] = field(default_factory=list)  # of the open clip, one per tick with an output
    outputs: list[Array] = field(default_factory=list)  # of the open clip, one per tick with an output
