"""The double's time: streams, events, and the order in which work is known to be done.

The double computes the values of queued work at once. A program that orders its work rightly cannot tell the
difference. A program that reads or writes too early gets a `Hazard` every time, where a GPU would fail now and then.
Three kinds of work are known to be done before a piece of work: work queued before it in its stream, work before an
event that its stream waited for, and work that the host had waited for. (Vector clocks: Fidge, 1988; Mattern, 1989.)

Asynchronous copies really arrive late: pinned memory holds poison until the host has waited for a copy into it.
Sources: CUDA C++ Programming Guide, "Asynchronous Concurrent Execution" and "Default Stream"; CuPy's user guide,
"Stream and Event", and "Memory Management": memory goes back to the stream on which it was taken.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections import Counter
from collections.abc import Callable

import numpy

from double.values import poison, same


class Hazard(AssertionError):  # noqa: N818
    """A mistake that goes wrong on a real device now and then."""


Known = dict[int, int]  # number of a stream → how many of its works are known to be done


def learn(known: Known, other: Known) -> None:
    """Add the work known in `other` to `known`."""
    for stream, count in other.items():
        if known.get(stream, 0) < count:
            known[stream] = count


class Memory:
    """An allocation on a device: its last write and the reads since. busy: "sent" or "received" while MPI uses it."""

    def __init__(self, values: numpy.ndarray):
        self.values, self.stream, self.device = values, clock.current, clock.device
        self.written: tuple[int, int] | None = None
        # The pool hands out what earlier arrays of this stream have given back: their work may not be done.
        self.read: Known = {clock.current.number: clock.current.count}
        self.busy: str | None = None
        self.pool = clock.pool
        self.pool.take(values.nbytes)

    def __del__(self) -> None:
        """Give the memory back to its stream, whose next work may write into it."""
        self.pool.take(-self.values.nbytes)
        for number, count in (self.written, *self.read.items()) if self.written else ():
            if number != self.stream.number and not clock.before(self.stream, number, count):
                clock.broken.append(
                    f"memory of {self.stream} is given back while {clock.streams[number]} may still use it"
                )


class MemoryPool:
    """`cupy.cuda.MemoryPool`: counts the bytes that are in use, and the most that ever were."""

    def __init__(self, allocator=None) -> None:
        self.used = self.most = 0

    def take(self, count: int) -> None:
        self.used += count
        self.most = max(self.most, self.used)

    def malloc(self, size: int) -> None:
        """Stands for the pool in `using_allocator`; nobody calls it."""

    def total_bytes(self) -> int:
        return self.most

    def free_bytes(self) -> int:
        return 0


@contextlib.contextmanager
def using_allocator(allocator):
    """`cupy.cuda.using_allocator`: take new memory from another pool inside the block."""
    before, clock.pool = clock.pool, allocator.__self__
    try:
        yield
    finally:
        clock.pool = before


class Pinned(bytearray):
    """Page-locked host memory. busy: "sent" or "received" while MPI uses it."""

    busy: str | None = None


class Copy:
    """An asynchronous copy between pinned and device memory that the host has not waited for."""

    def __init__(self, stream: Stream, host: numpy.ndarray, values: numpy.ndarray, down: bool):
        self.stream, self.count, self.down = stream.number, stream.count, down
        self.values = values.copy()
        self.memory = weakref.ref(pinned_memory(host))
        self.layout = host.ctypes.data - _address(self.memory()), host.dtype, host.shape
        if down:
            host[...] = self.values_before = poison(host)
        clock.copies.append(self)

    def host(self) -> numpy.ndarray:
        """The pinned memory of the copy, as an array."""
        if (memory := self.memory()) is None:
            raise Hazard("pinned memory is given back while a copy is under way")
        offset, dtype, shape = self.layout
        return numpy.frombuffer(memory, dtype, int(numpy.prod(shape)), offset).reshape(shape)

    def done(self) -> None:
        """Complete the copy, now that the host has waited: refuse memory touched meanwhile, and show the values."""
        host = self.host()
        if not same(host, self.values_before if self.down else self.values):
            raise Hazard("pinned memory is written into by the host while a copy is under way")
        if self.down:
            host[...] = self.values


class Stream:
    """`cupy.cuda.Stream`. A blocking one and the null stream wait for each other, as CUDA's legacy default does."""

    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None):
        self.number, self.blocking = len(clock.streams), not non_blocking
        self.count = 0
        self.known: Known = {}
        clock.streams.append(self)
        if self.blocking:
            clock.blocking.append(self)

    def __repr__(self) -> str:
        return f"stream {self.number}" if self.number else "the null stream"

    @property
    def ptr(self) -> int:
        return self.number

    def begin_capture(self, mode: int | None = None) -> None:
        if self.number == 0:
            raise Hazard("work in the null stream cannot be captured")
        clock.graph = Graph()

    def end_capture(self) -> Graph:
        graph, clock.graph = clock.graph, None
        return graph

    def is_capturing(self) -> bool:
        return clock.graph is not None and clock.current is self

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        event.stands_for = self.known | {self.number: self.count}
        learn(event.stands_for, clock.host)
        event.looks = 0
        return event

    def wait_event(self, event: Event) -> None:
        learn(self.known, event.stands_for)

    def synchronize(self) -> None:
        self.record().synchronize()

    def use(self) -> Stream:
        clock.current = self
        return self

    def __enter__(self) -> Stream:
        clock.entered.append(self)
        return self.use()

    def __exit__(self, *error: object) -> None:
        """Go back to the stream of the `with` around this one, even if `use` has chosen another, as CuPy does."""
        clock.entered.pop()
        (clock.entered[-1] if clock.entered else Stream.null).use()


class Graph:
    """`cupy.cuda.Graph`: the work of the current stream while it was captured."""

    def __init__(self) -> None:
        self.works: list[tuple[str, list[Memory], list[Memory]]] = []
        self.actions: list[Callable[[], None]] = []

    def launch(self, stream: Stream | None = None) -> None:
        """Do the work, once, in the order in which it was captured. For the host it is one operation."""
        journal, clock.journal = clock.journal, None
        stream = clock.current if stream is None else stream
        with clock.inside(stream):
            for name, reads, writes in self.works:
                clock.work(name, reads, writes)
        for action in self.actions:
            action()
        if journal is not None:
            journal.append(("a graph", stream, stream.count, stream.known | {}))
        clock.journal = journal


class Event:
    """`cupy.cuda.Event`. The device makes progress: a second look finds that the event has happened."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self.stands_for: Known = {}
        self.looks = 0

    @property
    def done(self) -> bool:
        self.looks += 1
        if self.looks > 1 and clock.advances:
            clock.host_learns(self.stands_for)
        return all(clock.host.get(number, 0) >= count for number, count in self.stands_for.items())

    def synchronize(self) -> None:
        clock.counts["synchronise"] += 1
        clock.host_learns(self.stands_for)


class Clock:
    """All streams, the work that the host knows to be done, and counts of transfers and of the host's waits."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.blocking: list[Stream] = []  # the null stream first
        self.host: Known = {}
        self.copies: list[Copy] = []
        self.counts: Counter[str] = Counter()
        self.graph: Graph | None = None  # that is captured
        self.compute_type = "TF32" if os.environ.get("CUPY_TF32") == "1" else "DEFAULT"  # of products in float32
        self.computes = True  # False: work that fills a given array is only counted, and leaves the array as it is
        self.advances = True  # False: work is done only when somebody waits for it
        self.pointers: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # address → array that lies there
        self.broken: list[str] = []  # hazards found where no error can be raised
        self.journal: list[tuple[str, Stream, int, Known]] | None = None
        self.current: Stream
        self.entered: list[Stream] = []  # by `with`
        self.device = 0
        self.pool = MemoryPool()

    @contextlib.contextmanager
    def inside(self, stream: Stream):
        """Give the work of the block to a stream: for the double's own code, which leaves CuPy's `with` as it is."""
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def before(self, stream: Stream, number: int, count: int) -> bool:
        """True if a piece of work is done before the work that is queued in this stream now."""
        known = max(stream.known.get(number, 0), self.host.get(number, 0))
        return number == stream.number or known >= count

    def work(self, name: str, reads: list[Memory] = (), writes: list[Memory] = ()) -> Stream:  # type: ignore[assignment]
        """Queue a piece of work in the current stream, or refuse it."""
        if self.broken:
            raise Hazard(self.broken.pop(0))
        if self.graph is not None:
            self.graph.works.append((name, list(reads), list(writes)))
            return self.current
        stream = self.current
        stream.count += 1
        if stream.blocking:  # the null stream waits for all blocking streams, and they for it
            for other in self.blocking if stream.number == 0 else self.blocking[:1]:
                learn(stream.known, other.known | {other.number: other.count})
        for memory in (*reads, *writes):
            if memory.device != self.device:
                raise Hazard(f"{name} on GPU {self.device} touches memory of GPU {memory.device}")
            if memory.busy and (memory.busy == "received" or memory in writes):
                raise Hazard(f"{name}: a message that is being {memory.busy} by MPI is touched")
            if memory.written and not self.before(stream, *memory.written):
                raise Hazard(f"{name} in {stream} uses what {self.streams[memory.written[0]]} may not have written yet")
        for memory in writes:
            for number, count in memory.read.items():
                if not self.before(stream, number, count):
                    raise Hazard(f"{name} in {stream} writes over what {self.streams[number]} may not have read yet")
            memory.written, memory.read = (stream.number, stream.count), {}
        for memory in reads:
            memory.read[stream.number] = stream.count
        if self.journal is not None:
            self.journal.append((name, stream, stream.count, stream.known | {}))
        return stream

    def do(self, action: Callable[[], None], even_if_only_counted: bool = False) -> None:
        """Compute the values of a piece of work: now, or whenever the graph that is captured is launched."""
        if self.graph is not None:
            self.graph.actions.append(action)
        elif self.computes or even_if_only_counted:
            action()

    def host_learns(self, known: Known) -> None:
        """Note that the host has waited for this work, and complete the copies in it."""
        if self.graph is not None:
            raise Hazard("the host waits for the device while a graph is captured")
        learn(self.host, known)
        done = [copy for copy in self.copies if self.host.get(copy.stream, 0) >= copy.count]
        self.copies = [copy for copy in self.copies if copy not in done]
        for copy in done:
            copy.done()

    def pending(self, memory: Memory) -> bool:
        """True unless the host knows that all work with this memory is done."""
        works = [*memory.read.items(), *([memory.written] if memory.written else [])]
        return any(self.host.get(number, 0) < count for number, count in works)

    @contextlib.contextmanager
    def counted(self):
        """Count what happens inside the block: uploads and downloads, their bytes, and calls of synchronise."""
        counts, before = Counter(), Counter(self.counts)
        yield counts
        counts.update(self.counts)
        counts.subtract(before)

    def finish(self) -> None:
        """Wait for all streams, and raise `Hazard` for mistakes that could raise no error before."""
        for stream in self.streams:
            self.host_learns({stream.number: stream.count})
        if self.broken:
            broken, self.broken = self.broken, []
            raise Hazard("; ".join(broken))


def pinned_memory(array: numpy.ndarray) -> Pinned | None:
    """The page-locked memory that an array lies in, or None."""
    base = array
    while not isinstance(base, Pinned) and getattr(base, "base", None) is not None:
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, Pinned) else None


def _address(memory: Pinned) -> int:
    return numpy.frombuffer(memory, numpy.uint8).ctypes.data


clock = Clock()
Stream.null = clock.current = Stream(null=True)
