"""Copies beside the computing: each direction has a stream of its own, ordered by events. With NumPy they are at once.

    compute    ─ forward t ─●─────── backward t, update ───────●─ forward t+1 ─
    downloads               └ a[t] to pinned memory ─┐         │
    host                                  waits here └ sends   │
    uploads      └ x[t+1] from pinned memory ─────────────────┘ (compute waits, the host does not)

Who calls it: the mailbox between ranks, the sums over replicas, and the loop that fetches frames ahead. Beside
`backend.py` the only file that knows that there are two libraries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from sideways.backend.arrays import Array, compute_stream, cuda, on_device


def mark() -> Any:
    """An event that happens when the device has done what was asked of it so far; None for NumPy: that is now."""
    return compute_stream().record(cuda().Event(disable_timing=True)) if on_device() else None


def hold_until(event: Any) -> None:
    """What is asked of the device from now on waits, there, for an event. The host does not."""
    if event is not None:
        compute_stream().wait_event(event)


def happened(event: Any) -> bool:
    """Whether an event has happened. Asks, and does not wait."""
    return event is None or event.done


def wait_for(event: Any) -> None:
    """The host waits for an event, unless it has happened."""
    if not happened(event):
        event.synchronize()


def _beside() -> Any:
    """A stream that does not wait for the compute stream, as a blocking one would; None for NumPy."""
    return cuda().Stream(non_blocking=True) if on_device() else None


class Uploads:
    """Copies from pinned memory to the device."""

    def __init__(self) -> None:
        self._stream = _beside()

    def start(self, values: Any, into: Array, after: Any) -> Any:
        """Write pinned memory into a device array once `after` has happened; the event says when it is there.

        Until then the pinned memory must stay as it is. Host arrays are there at once.
        """
        if self._stream is None:
            into[...] = values
            return None
        if after is not None:
            self._stream.wait_event(after)
        into.set(values, stream=self._stream)
        return self._stream.record(cuda().Event(disable_timing=True))


class Downloads:
    """Copies from the device to where MPI takes them, and what is to follow each: a message, a sum over replicas.

    They follow in the order in which they were started, on every rank the same: collective calls need that.
    """

    def __init__(self) -> None:
        self._stream = _beside()
        self._under_way: deque[tuple[Any, Callable[[], None], Array]] = deque()  # the array is kept until it is copied

    def start(self, array: Array, into: Array, then: Callable[[], None]) -> None:
        """Copy an array into pinned memory (or device memory that MPI can read) as soon as it is computed; `then`
        follows when it is there, at the next `look` or `finish`. Of host arrays at once."""
        if self._stream is None:
            into[...] = array
            then()
            return
        self._stream.wait_event(mark())
        if hasattr(into, "get"):
            with self._stream:
                into[...] = array
        else:
            array.get(stream=self._stream, out=into, blocking=False)
        self._under_way.append((self._stream.record(cuda().Event(disable_timing=True)), then, array))

    def look(self) -> None:
        """Let follow what can: nobody waits."""
        while self._under_way and happened(self._under_way[0][0]):
            self._under_way.popleft()[1]()

    def finish(self) -> None:
        """Let all follow, each as soon as its copy is there: one wait of the host for each."""
        while self._under_way:
            event, then, _ = self._under_way.popleft()
            event.synchronize()
            then()
