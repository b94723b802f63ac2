"""Copies that run while the device computes: each direction has a CUDA stream of its own, ordered by events.

    compute    ─ forward t ─●─────── backward t, update ───────●─ forward t+1 ─
    downloads               └ a[t] to pinned memory ─┐         │
    host                                  waits here └ sends   │
    uploads      └ x[t+1] from pinned memory ─────────────────┘ (compute waits, the host does not)

With NumPy there is no device: every copy is done at once and every event is None. The mailbox between ranks, the sums
over replicas and the loop that fetches frames ahead call this module.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy

from sideways.backend.arrays import Array, Shape, compute_stream, cuda, on_device, pinned
from sideways.backend.blas import Recorder


def mark() -> Any:
    """An event that happens when the compute stream has finished all work queued so far; None for NumPy."""
    return compute_stream().record(cuda().Event(disable_timing=True)) if on_device() else None


def hold_until(event: Any) -> None:
    """Make all work that is queued on the compute stream from now on wait for an event. The host does not wait."""
    if event is not None:
        compute_stream().wait_event(event)


def happened(event: Any) -> bool:
    """True if an event has happened. Does not wait."""
    return event is None or event.done


def wait_for(event: Any) -> None:
    """Make the host wait until an event has happened."""
    if not happened(event):
        event.synchronize()


def _side_stream() -> Any:
    """A stream that runs independently of the compute stream (a blocking one would wait for it); None for NumPy."""
    return cuda().Stream(non_blocking=True) if on_device() else None


def own_stream() -> Any:
    """A new stream that can compute and be recorded; work in CuPy's first stream cannot."""
    return cuda().Stream(non_blocking=True)


def compute_in(stream: Any) -> None:
    """Compute in this stream from now on, after all work that is queued so far."""
    if stream is not compute_stream():
        queued = mark()
        stream.use()
        hold_until(queued)


@contextlib.contextmanager
def _in(stream: Any) -> Iterator[None]:
    """Give the work of the block to a stream, and that after it to the stream of before.

    CuPy's own `with stream` goes back to the stream of the `with` around it, even where `use` has chosen another one.
    """
    before = compute_stream()
    stream.use()
    try:
        yield
    finally:
        before.use()


class Graph:
    """Work for the device that is recorded once, and then given to the device as a whole, as often as one likes.

    What the recorded work allocates keeps its place for the life of the graph: it comes from a pool of its own.
    recorder: takes the products of matrices; graphs that are launched one after the other can share it.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.pool, self.recorder = cuda().MemoryPool(_memory), recorder

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record all work of the compute stream in the block, instead of doing it."""
        stream = compute_stream()
        with cuda().using_allocator(self.pool.malloc), self.recorder.active():
            stream.begin_capture()
            try:
                yield
            except BaseException:
                with contextlib.suppress(Exception):  # the error of the block says what went wrong
                    stream.end_capture()
                raise
            self.graph = stream.end_capture()

    @staticmethod
    def can_record() -> bool:
        """True unless CuPy is built for AMD's GPUs, for which it has no graphs."""
        return not cuda().runtime.is_hip

    def launch(self) -> None:
        """Do the recorded work, after all work that is queued so far."""
        self.graph.launch(compute_stream())


def _memory(size: int) -> Any:
    """Memory of the device for the pool of a graph. Raises `MemoryError` if there is none left.

    For CuPy's own error a pool gives back to the device what is free in it, which recorded work may still use.
    """
    try:
        return cuda().MemoryPointer(cuda().Memory(size), 0)
    except cuda().runtime.CUDARuntimeError as error:
        raise MemoryError(f"{size:,} bytes for a CUDA graph: {error}") from None


class Staging:
    """Pinned memory for uploads, used again when its copy is complete; the host never waits for a copy."""

    def __init__(self) -> None:
        self.busy: list[tuple[Any, numpy.ndarray]] = []

    def free(self, shape: Shape, dtype: Any) -> numpy.ndarray:
        """Pinned memory that no copy reads. If the host is ahead of the device there is none, and more is taken."""
        for index, (event, staged) in enumerate(self.busy):
            if staged.shape == shape and staged.dtype == dtype and happened(event):
                return self.busy.pop(index)[1]
        return pinned(shape, dtype)

    def upload(self, values: Sequence[Any], into: Array) -> None:
        """Copy numbers of the host into a device array of their shape, in the order of the compute stream."""
        staged = self.free(into.shape, into.dtype)
        staged[...] = values
        into.set(staged, stream=compute_stream())
        self.busy.append((mark(), staged))


class Uploads:
    """Copies from pinned memory to the device."""

    def __init__(self) -> None:
        self._stream = _side_stream()

    def start(self, values: Any, into: Array, after: Any) -> Any:
        """Copy pinned memory into a device array once the event `after` has happened.

        Returns the event that happens when the copy is complete; until then the pinned memory must not change. With
        NumPy the copy is complete at once, and the event is None.
        """
        if self._stream is None:
            into[...] = values
            return None
        if after is not None:
            self._stream.wait_event(after)
        into.set(values, stream=self._stream)
        return self._stream.record(cuda().Event(disable_timing=True))


class Downloads:
    """Copies from the device to memory that MPI reads, each with an action that follows: a message, a collective sum.

    The actions follow in the order in which the copies were started. This order is equal on all ranks, as collective
    calls need.
    """

    def __init__(self) -> None:
        self._stream = _side_stream()
        self._under_way: deque[tuple[Any, Callable[[], None], Array]] = deque()  # holds each array until it is copied

    def start(self, array: Array, into: Array, then: Callable[[], None]) -> None:
        """Copy an array into pinned memory (or device memory that MPI can read) as soon as the array is computed.

        The action `then` follows at the next `look` or `finish` that finds the copy complete; with NumPy at once.
        """
        if self._stream is None:
            into[...] = array
            then()
            return
        self._stream.wait_event(mark())
        if hasattr(into, "get"):
            with _in(self._stream):
                into[...] = array
        else:
            array.get(stream=self._stream, out=into, blocking=False)
        self._under_way.append((self._stream.record(cuda().Event(disable_timing=True)), then, array))

    def look(self) -> None:
        """Run the actions of all complete copies, without waiting for the others."""
        while self._under_way and happened(self._under_way[0][0]):
            self._under_way.popleft()[1]()

    def finish(self) -> None:
        """Wait for every copy in turn, and run its action as soon as the copy is complete."""
        while self._under_way:
            event, then, _ = self._under_way.popleft()
            event.synchronize()
            then()
