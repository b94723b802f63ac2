"""What is written while training: metrics.jsonl, and the progress that a person sees. And the wish to stop."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sideways.training.checkpoint import Progress
from sideways.training.evaluation import Metrics

ShowProgress = Callable[[int, str], None]  # (clips done since the last call, a line on how it goes)


class Journal:
    """Of one run. The first Ctrl-C (or SIGTERM) asks for a stop after the tick; the second ends at once."""

    def __init__(self, directory: Path, progress: ShowProgress, position: Progress):
        path = directory / "metrics.jsonl"
        size = _whole_lines(path, position.metrics_bytes)
        self.file = path.open("r+b" if path.exists() else "wb")
        self.file.truncate(size)  # lines after the checkpoint are written again
        self.file.seek(size)
        self.progress = progress
        if position.clip:
            progress(position.clip, "resumed")
        self.asked = False
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def stop(self, pending: int = 0) -> bool:
        """Asked after each tick, and each batch of an evaluation: whether it was the last."""
        return self.asked

    def trained(self, clip: int, tick: int, metrics: Metrics) -> None:
        """One training clip is over; metrics is None in a process that does not own the top."""
        if metrics:
            self.write(kind="train", clip=clip, tick=tick, **metrics)
            score = f"  accuracy {metrics['accuracy']:.2f}" if "accuracy" in metrics else ""
            self.progress(1, f"loss {metrics['loss']:.3f}{score}")

    def evaluated(self, clip: int, tick: int, metrics: Metrics) -> None:
        """An evaluation is over; metrics as above."""
        if metrics:
            self.write(kind="evaluation", clip=clip, tick=tick, **metrics)

    def measured(self, clip: int, tick: int, cosines: dict[str, float] | None) -> None:
        """The cosine of each unit's pseudo-gradient to the exact gradient, before this clip."""
        if cosines:
            self.write(kind="cosine", clip=clip, tick=tick, cosines=cosines)

    def write(self, **line: Any) -> None:
        self.file.write(json.dumps(line).encode() + b"\n")
        self.file.flush()

    def settle(self) -> int:
        """Bytes of metrics.jsonl, once all that was measured so far is in it, and on the disk."""
        os.fsync(self.file.fileno())
        return self.file.tell()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _whole_lines(path: Path, size: int) -> int:
    """This size, which a checkpoint tells; of a file that is shorter, that of its whole lines."""
    there = path.stat().st_size if path.exists() else 0
    if there >= size:
        return size
    whole = path.read_bytes().rfind(b"\n") + 1 if there else 0
    print(
        f"sideways: warning: {path} has {there} bytes, the checkpoint tells of {size}: it goes on after its last whole "
        "line",
        file=sys.stderr,
    )
    return whole
