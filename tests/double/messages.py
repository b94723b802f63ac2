"""A communicator that refuses memory that the device still works on, or that is touched while a message is under way.

MPI reads and writes memory at any time between Start and the end of Wait. Here MPI works on copies, so that every
mistake shows: memory to be sent is copied at Start and must not have changed at the end; memory to be received holds
poison until the end. A device array is passed on as a CUDA-aware MPI would take it.
"""

from __future__ import annotations

from typing import Any

import numpy
from mpi4py import MPI

from double.arrays import ndarray
from double.clock import Hazard, Memory, clock, pinned_memory, poison, same


class Watched:
    """A stand-in for an `MPI.Comm`."""

    def __init__(self, comm: MPI.Comm):
        self._comm = comm
        self.started = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._comm, name)

    def Send_init(self, buffer: Any, rank: int, tag: int) -> Request:  # noqa: N802
        buffer = Buffer(buffer)
        return Request(self, self._comm.Send_init(buffer.copy, rank, tag), sent=buffer)

    def Recv_init(self, buffer: Any, rank: int, tag: int) -> Request:  # noqa: N802
        buffer = Buffer(buffer)
        return Request(self, self._comm.Recv_init(buffer.copy, rank, tag), received=buffer)

    def Iallreduce(self, part: Any, total: Any) -> Request:  # noqa: N802
        sent, received = Buffer(part), Buffer(total)
        request = Request(self, None, sent, received)
        request.begin()
        request.request = self._comm.Iallreduce(sent.copy, received.copy)
        return request


class Buffer:
    """Memory of the host or of the device that is handed to MPI, and the copy that MPI really works on."""

    def __init__(self, array: Any):
        self.values = array._values if isinstance(array, ndarray) else array
        self.memory = array._memory if isinstance(array, ndarray) else pinned_memory(array)
        self.copy = numpy.empty_like(self.values)

    def take(self, use: str) -> None:
        """Hand the memory to MPI. use: "sent" or "received"."""
        if isinstance(self.memory, Memory) and clock.pending(self.memory):
            raise Hazard("device memory is handed to MPI before the host knows that the device is done with it")
        if any(copy.memory() is self.memory for copy in clock.copies):
            raise Hazard("pinned memory is handed to MPI while a copy is under way")
        if self.memory is not None:
            if self.memory.busy:
                raise Hazard("memory is handed to MPI twice")
            self.memory.busy = use
        if use == "received":
            self.values[...] = poison(self.values)
        self.before = self.values.copy()

    def give_back(self) -> None:
        """Take the memory back from MPI, and refuse memory that was written into meanwhile."""
        if not same(self.values, self.before):
            raise Hazard("memory is written into while its message is under way")
        if self.memory is not None:
            self.memory.busy = None


class Request:
    """A stand-in for an `MPI.Request`, persistent or not."""

    def __init__(self, comm: Watched, request: Any, sent: Buffer | None = None, received: Buffer | None = None):
        self.comm, self.request, self.sent, self.received = comm, request, sent, received
        self.under_way = False

    def begin(self) -> None:
        """Hand the memory of the message to MPI."""
        if self.sent:
            self.sent.take("sent")
            self.sent.copy[...] = self.sent.values
            self.comm.started += 1
        if self.received:
            self.received.take("received")
        self.under_way = True

    def Start(self) -> None:  # noqa: N802
        self.begin()
        self.request.Start()

    def Test(self) -> bool:  # noqa: N802
        return self._ended() if self.request.Test() else False

    def Wait(self) -> None:  # noqa: N802
        self.request.Wait()
        self._ended()

    def Free(self) -> None:  # noqa: N802
        self.request.Free()

    def _ended(self) -> bool:
        if self.under_way:
            for buffer in (self.sent, self.received):
                if buffer:
                    buffer.give_back()
            if self.received:
                self.received.values[...] = self.received.copy
            self.under_way = False
        return True
