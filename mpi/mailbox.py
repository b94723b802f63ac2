"""The mailbox between ranks: persistent, non-blocking, buffered messages, and no allocation in a tick.

Each edge between two ranks has two channels, activations up and gradients down. A channel has two buffers with a
persistent request each: the message of tick t goes through buffer t mod 2.

    tick              t                             t+1
    sender            fill buffer t%2, Start        fill the other buffer
    receiver          Start its receive into t%2    wait for it, read it     (reads the message of t-1 meanwhile)

By the static schedule both ends know at which ticks a channel carries a message, so no empty message travels.

With device arrays a buffer is pinned memory, or device memory where MPI is CUDA-aware; it is filled in a stream beside
the compute stream. A message starts as soon as its copy has arrived; the mailbox polls for finished copies on every
call, and waits for the rest at the end of the tick. On the device a receiver has three buffers. The device reads the
message of tick t during tick t+1; the buffer is used again at tick t+3, once the device has finished tick t+1. With two
buffers the mailbox would wait at tick t+2 for the tick that the host has only just queued.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from mpi4py import MPI

from sideways.backend import Array, Shape, buffer, on_device, pinned, to_host
from sideways.backend.streams import Downloads, Uploads, hold_until, mark, wait_for
from sideways.network import Network
from sideways.rules import Mailbox

NAP = 50e-6  # seconds between two tests of a message that has not arrived, where ranks must share cores


def wait(request: MPI.Request, nap: bool) -> None:
    """Wait until the request is complete. MPI waits by spinning; with `nap` the core is left to others in between."""
    if not nap:
        request.Wait()
        return
    while not request.Test():
        time.sleep(NAP)


class Channel:
    """One direction of one edge between two ranks: its buffers and persistent requests."""

    def __init__(self, buffers: int, shape: Shape, dtype: str, first_tick: int, in_place: bool, nap: bool):
        self.first_tick = first_tick  # of the first message
        self.in_place, self.nap = in_place or not on_device(), nap
        make = buffer if self.in_place else pinned
        self.buffers = [make(shape, dtype) for _ in range(buffers)]
        self.requests: list[MPI.Prequest] = []

    def wait(self, k: int) -> None:
        """Wait until the message in buffer k has left or arrived; return at once if there is none."""
        wait(self.requests[k], self.nap)

    def complete(self) -> None:
        """Wait until all messages have left or arrived."""
        for k in range(len(self.requests)):
            self.wait(k)

    def free(self) -> None:
        """Complete all messages, and free the requests."""
        self.complete()
        for request in self.requests:
            request.Free()


class Sender(Channel):
    """The sender's end of a channel."""

    def __init__(self, comm: MPI.Comm, rank: int, tag: int, *channel: Any):
        super().__init__(2, *channel)
        self.requests = [comm.Send_init(array, rank, tag) for array in self.buffers]

    def send(self, tick: int, message: Array, downloads: Downloads) -> None:
        """Send the message of this tick as soon as its copy is in the buffer."""
        k = tick % 2
        self.wait(k)  # the message of two ticks ago has left, unless its receiver is late
        downloads.start(message, self.buffers[k], self.requests[k].Start)


class Receiver(Channel):
    """The receiver's end of a channel."""

    def __init__(self, comm: MPI.Comm, rank: int, tag: int, *channel: Any):
        super().__init__(3 if on_device() else 2, *channel)
        self.requests = [comm.Recv_init(array, rank, tag) for array in self.buffers]
        self.device_copy = None if self.in_place else buffer(self.buffers[0].shape, self.buffers[0].dtype)

    def expect(self, tick: int) -> None:
        """Make room for the message that is sent at this tick."""
        if tick >= self.first_tick:
            self.requests[tick % len(self.requests)].Start()

    def in_buffer(self, tick: int) -> Array:
        """Wait for the message of the tick before, and return its buffer, which stays intact until this tick ends."""
        k = (tick - 1) % len(self.requests)
        self.wait(k)
        return self.buffers[k]

    def receive(self, tick: int, uploads: Uploads, last_tick: Any) -> Array:
        """The message of the last tick, on the device if arrays live there. last_tick: its end on the device."""
        message = self.in_buffer(tick)
        if self.device_copy is None:
            return message
        hold_until(uploads.start(message, self.device_copy, last_tick))
        return self.device_copy

    def restore(self, tick: int, message: Array) -> None:
        """Put back a message that is to be read at this tick."""
        restored = self.buffers[(tick - 1) % len(self.buffers)]
        restored[...] = message if self.in_place else to_host(message)


class MPIMailbox(Mailbox):
    """A mailbox for the units of one rank. Messages between its own units stay in memory; the others travel.

    comm: for this mailbox alone; evaluation_comm: for the mailbox that `for_evaluation` returns, or None for none.
    owner: unit → rank. batch: samples in each message. gradients: False where only activations travel.
    in_place: hand device arrays to MPI as they are (host arrays always are).
    nap: sleep between tests of a late message instead of spinning.
    """

    def __init__(
        self,
        network: Network,
        owner: dict[str, int],
        batch: int,
        comm: MPI.Comm,
        evaluation_comm: MPI.Comm | None,
        in_place: bool = True,
        nap: bool = False,
        gradients: bool = True,
    ):
        self.downloads, self.uploads = Downloads(), Uploads()
        self.ends: deque[Any] = deque([None, None], 2)  # when the device is done with each of the last two ticks
        self.incoming: dict[tuple[str, str], Receiver] = {}
        self.outgoing: dict[tuple[str, str], Sender] = {}
        super().__init__(network.first_message)
        me = comm.Get_rank()
        for number, (j, i) in enumerate(network.edges):
            if owner[j] == owner[i]:
                continue
            shape = (batch, *network.units[j].output_shape)
            up = (shape, network.dtype, network.first_message[j, i], in_place, nap)
            down = (shape, network.dtype, network.first_message[i, j], in_place, nap)
            if owner[j] == me:
                self.outgoing[j, i] = Sender(comm, owner[i], 2 * number, *up)
            if owner[i] == me:
                self.incoming[j, i] = Receiver(comm, owner[j], 2 * number, *up)
            if gradients and owner[i] == me:
                self.outgoing[i, j] = Sender(comm, owner[j], 2 * number + 1, *down)
            if gradients and owner[j] == me:
                self.incoming[i, j] = Receiver(comm, owner[i], 2 * number + 1, *down)
        self.evaluation = (
            MPIMailbox(network, owner, batch, evaluation_comm, None, in_place, nap, gradients=False)
            if evaluation_comm
            else None
        )

    def begin(self, tick: int) -> None:
        super().begin(tick)
        if self.incoming:
            wait_for(self.ends[0])  # until then the device may read a buffer that is overwritten now
        for channel in self.incoming.values():
            channel.expect(tick)

    def send(self, sender: str, receiver: str, message: Array) -> None:
        self.downloads.look()
        if (sender, receiver) not in self.outgoing:
            super().send(sender, receiver, message)
        elif self.tick >= self.first_message[sender, receiver]:
            self.outgoing[sender, receiver].send(self.tick, message, self.downloads)

    def receive(self, sender: str, receiver: str) -> Array | None:
        self.downloads.look()
        if (sender, receiver) in self.incoming:
            return self.incoming[sender, receiver].receive(self.tick, self.uploads, self.ends[-1])
        return super().receive(sender, receiver)

    def end(self) -> None:
        super().end()
        self.ends.append(mark())
        self.downloads.finish()

    def clear(self) -> None:
        """Complete every message under way, and drop it."""
        super().clear()
        for end in self.ends:  # the next receives may begin with any buffer
            wait_for(end)
        for channel in (*self.incoming.values(), *self.outgoing.values()):
            channel.complete()

    def waiting(self, receiver: str) -> dict[str, list[Array]]:
        arrived = {
            sender: [channel.in_buffer(self.tick + 1)]
            for (sender, name), channel in self.incoming.items()
            if name == receiver and self.tick >= channel.first_tick
        }
        return super().waiting(receiver) | arrived

    def restore(self, tick: int, sender: str, receiver: str, messages: list[Array]) -> None:
        self.tick = tick - 1
        if (sender, receiver) in self.incoming:
            (message,) = messages
            self.incoming[sender, receiver].restore(tick, message)
        else:
            super().restore(tick, sender, receiver, messages)

    def for_evaluation(self) -> Mailbox:
        assert self.evaluation is not None
        return self.evaluation

    def free(self) -> None:
        """Complete and free every persistent request; the mailbox is of no use afterwards."""
        for channel in (*self.incoming.values(), *self.outgoing.values()):
            channel.free()
        if self.evaluation:
            self.evaluation.free()
