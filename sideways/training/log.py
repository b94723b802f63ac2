"""The training log: writes metrics.jsonl, shows how far the run is, and records a request to stop (Ctrl-C)."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from sideways.training.checkpoint import check_run
from sideways.training.evaluation import Metrics
from sideways.training.progress import Progress

ShowProgress = Callable[[int, str], None]  # (clips done since the last call, a line that says how the run goes)


class Log(Protocol):
    """The log that a training loop writes to: `RunLog` in one process, `mpi.log.RankLog` in a rank."""

    def trained(self, clip: int, tick: int, metrics: Metrics) -> None:
        """Log a training clip. metrics: None in a process that does not own the top, or saw no output."""

    def evaluated(self, clip: int, tick: int, metrics: Metrics) -> None:
        """Log an evaluation. metrics: None in a process that does not own the top."""

    def compared(self, clip: int, tick: int, cosines: dict[str, float] | None) -> None:
        """Log the cosine of each unit's pseudo-gradient to the exact gradient, measured before the clip `clip`."""

    def stop_requested(self, pending: int | None = None) -> bool:
        """Say whether the run is to stop now; called after each tick, and after each batch of an evaluation.

        pending: how many votes of the ranks may still be open when this call returns (`sideways/mpi/log.py`); None: the
        number that keeps the pipeline from waiting.
        """

    def flush(self) -> int:
        """Write all metrics so far to the disk. Returns the bytes of metrics.jsonl (0 on other ranks)."""


class RunLog:
    """The log of a run in one process. The first Ctrl-C (or SIGTERM) asks for a stop after the tick; the second ends
    the process at once.

    directory: the run directory. metrics.jsonl continues at the length that `progress` recorded at the checkpoint.
    """

    def __init__(self, directory: Path, show: ShowProgress, progress: Progress):
        self.directory = directory
        path = directory / "metrics.jsonl"
        size = _size_to_continue_at(path, progress.metrics_bytes)
        self.file = path.open("r+b" if path.exists() else "wb")
        self.file.truncate(size)  # lines after the checkpoint are written again
        self.file.seek(size)
        self.show = show
        if progress.clip:
            show(progress.clip, "resumed")
        self.stop_asked = False
        self._handlers_before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            signals = (signal.SIGINT, signal.SIGTERM)
            self._handlers_before = {number: signal.signal(number, self._ask_to_stop) for number in signals}

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        if self.stop_asked:
            raise KeyboardInterrupt
        self.stop_asked = True

    def stop_requested(self, pending: int | None = None) -> bool:
        return self.stop_asked

    def trained(self, clip: int, tick: int, metrics: Metrics) -> None:
        if metrics:
            self.write(kind="train", clip=clip, tick=tick, **metrics)
            score = f"  accuracy {metrics['accuracy']:.2f}" if "accuracy" in metrics else ""
            self.show(1, f"loss {metrics['loss']:.3f}{score}")

    def evaluated(self, clip: int, tick: int, metrics: Metrics) -> None:
        if metrics:
            self.write(kind="evaluation", clip=clip, tick=tick, **metrics)

    def compared(self, clip: int, tick: int, cosines: dict[str, float] | None) -> None:
        if cosines:
            self.write(kind="cosine", clip=clip, tick=tick, cosines=cosines)

    def write(self, **line: Any) -> None:
        """Append a line to metrics.jsonl. Raises `InputError` if the run directory is gone."""
        check_run(self.directory)
        self.file.write(json.dumps(line).encode() + b"\n")
        self.file.flush()

    def flush(self) -> int:
        check_run(self.directory)
        os.fsync(self.file.fileno())
        return self.file.tell()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)


def _size_to_continue_at(path: Path, size: int) -> int:
    """The length to continue at: `size`, as the checkpoint recorded it, or the complete lines of a shorter file."""
    size_now = path.stat().st_size if path.exists() else 0
    if size_now >= size:
        return size
    complete = path.read_bytes().rfind(b"\n") + 1 if size_now else 0
    print(
        f"sideways: warning: {path} has {size_now} bytes, but {size} when the checkpoint was written: the file "
        "continues after its last whole line",
        file=sys.stderr,
    )
    return complete
