"""The mailbox between ranks: persistent, non-blocking, buffered messages, and no allocation in the steady state.

Each edge between two ranks has two channels, activations up and gradients down. Under `Sideways` a channel has two
buffers with a persistent request each, which its messages use in turn:

    tick              t                             t+1
    sender            fill a buffer, Start          fill the other buffer
    receiver          Start its receive             wait for it, read it     (reads the message of t-1 meanwhile)

Under `Delayed` a gradient may wait for ticks before it is read; it waits in its buffer, and the receiver has as many
buffers as messages wait at a time. By the timetable (see `Mailbox`) both ends know which message a channel carries at
a tick, so no empty message travels, and the order of the messages tells the receiver which one has come.

With device arrays a buffer is pinned memory, or device memory where MPI is CUDA-aware. Copies to and from pinned memory
run in streams beside the compute stream. A message leaves as soon as its copy has arrived in its buffer, and is copied
to the device as soon as it has come: each buffer has a place there of its own, so that the copy need not wait until the
last message has been read. The mailbox looks for finished copies and for messages that have come on every call, and
waits for the rest at the end of the tick, or when the message is read. The device reads the message of tick t during
tick t+1; the buffer is used again at tick t+3, once the device has finished tick t+1: there is one buffer more. Without
it the mailbox would wait at tick t+2 for the tick that the host has only just queued.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from mpi4py import MPI

from sideways.backend import Array, Shape, buffer, copied, on_device, pinned, synchronise, to_host
from sideways.backend.streams import Downloads, Uploads, hold_until, mark, wait_for
from sideways.mpi.status import Waiting
from sideways.network import Network
from sideways.network.schedule import Edge
from sideways.rules import Mailbox

MESSAGE = Waiting("another rank")
NAP = 50e-6  # seconds between two tests of a message that has not arrived, where ranks must share cores


def wait(request: MPI.Request, nap: bool, place: Waiting = MESSAGE) -> None:
    """Wait until the request is complete. MPI waits by spinning; with `nap` the core is left to others in between.

    place: what a watchdog reports if the wait never ends.
    """
    with place:
        if not nap:
            request.Wait()
            return
        while not request.Test():
            time.sleep(NAP)


class Channel:
    """One direction of one edge between two ranks: its buffers and persistent requests.

    place: whom the channel waits for, in words. request: makes the persistent request of a buffer.
    timetable: tick → the message that is sent at this tick, or None.
    """

    def __init__(
        self,
        place: str,
        request: Callable[[Array], MPI.Prequest],
        timetable: Callable[[int], int | None],
        shape: Shape,
        dtype: str,
        in_place: bool,
        nap: bool,
    ):
        self.place = Waiting(place)
        self.request, self.timetable, self.nap = request, timetable, nap
        self.in_place = in_place or not on_device()
        self.shape, self.dtype = shape, dtype
        self.buffers: list[Array] = []
        self.requests: list[MPI.Prequest] = []

    def add_buffer(self) -> int:
        """Add a buffer. Returns its number."""
        make = buffer if self.in_place else pinned
        self.buffers.append(make(self.shape, self.dtype))
        if self.in_place:
            synchronise()  # the device may still work with what lay in this memory before, and MPI does not wait for it
        self.requests.append(self.request(self.buffers[-1]))
        return len(self.buffers) - 1

    def wait(self, k: int) -> None:
        """Wait until the message in buffer k has left or arrived; return at once if there is none."""
        wait(self.requests[k], self.nap, self.place)

    def test(self) -> None:
        """Let MPI move the messages under way: it moves a large one only while it is called."""
        for request in self.requests:
            request.Test()

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
    """The sender's end of a channel: two buffers in turn."""

    def __init__(self, comm: MPI.Comm, rank: int, tag: int, *channel: Any):
        place = f"rank {rank} of its replica to take a message"
        super().__init__(place, lambda array: comm.Send_init(array, rank, tag), *channel)
        self.add_buffer()
        self.next = self.add_buffer()

    def send(self, message: Array, downloads: Downloads) -> None:
        """Send a message as soon as its copy is in the buffer."""
        k = self.next
        self.wait(k)  # its last message has left, unless the receiver is late
        downloads.start(message, self.buffers[k], self.requests[k].Start)
        self.next = 1 - k


class Receiver(Channel):
    """The receiver's end of a channel."""

    def __init__(self, comm: MPI.Comm, rank: int, tag: int, *channel: Any):
        place = f"a message from rank {rank} of its replica"
        super().__init__(place, lambda array: comm.Recv_init(array, rank, tag), *channel)
        self.messages: dict[int, int] = {}  # s → the buffer of the message of tick s, which nobody has read
        self.unused: list[int] = []  # numbers of buffers
        self.read: list[int] = []  # the buffer that is read at this tick
        self.read_before: list[int] = []  # the buffer that the device may still read: it may be one tick behind
        self.places: list[Array] = []  # on the device, one for each buffer in pinned memory
        self.new: dict[int, Any] = {}  # buffer → when the device is done with what lay in its place before
        self.uploads: dict[int, Any] = {}  # buffer → when its message, which nobody has read, is in its place
        # The other buffers follow in the first ticks, at most as many as messages wait at a time.
        self.unused.append(self.add_buffer())

    def expect(self, tick: int) -> None:
        """Make room for the message that is sent at this tick."""
        s = self.timetable(tick)
        if s is not None:
            self.requests[self._room_for(s)].Start()

    def _room_for(self, s: int) -> int:
        self.messages[s] = self.unused.pop() if self.unused else self.add_buffer()
        return self.messages[s]

    def add_buffer(self) -> int:
        if not self.in_place:
            self.places.append(buffer(self.shape, self.dtype))
            self.new[len(self.places) - 1] = mark()
        return super().add_buffer()

    def look(self, uploads: Uploads) -> None:
        """Let MPI move the messages under way, and start the upload of those that have come."""
        if self.in_place:
            self.test()
            return
        for k in self.messages.values():
            if k not in self.uploads and self.requests[k].Test():
                self._upload(k, uploads)

    def _upload(self, k: int, uploads: Uploads) -> None:
        # The host waited until the device was done with this place before it used buffer k again.
        self.uploads[k] = uploads.start(self.buffers[k], self.places[k], self.new.pop(k, None))

    def receive(self, s: int, uploads: Uploads) -> Array | None:
        """Take the message of tick s, on the device if arrays live there; None if there is none.

        The message stays intact until this tick ends.
        """
        if s not in self.messages:
            return None
        k = self.messages.pop(s)
        self.wait(k)
        self.read.append(k)
        if self.in_place:
            return self.buffers[k]
        if k not in self.uploads:
            self._upload(k, uploads)
        hold_until(self.uploads.pop(k))
        return self.places[k]

    def end(self) -> None:
        """End the tick: the buffers that nobody reads any more may be used again."""
        if on_device():
            self.unused += self.read_before
            self.read, self.read_before = [], self.read
        else:
            self.unused += self.read
            self.read.clear()

    def complete(self) -> None:
        super().complete()
        while self.uploads:
            wait_for(self.uploads.popitem()[1])  # until then its buffer must not change
        self.unused = list(range(len(self.buffers)))
        for numbers in (self.messages, self.read, self.read_before):
            numbers.clear()

    def waiting(self) -> dict[int, Array]:
        """Wait for the messages that nobody has read. Returns s → message, in its buffer."""
        for k in self.messages.values():
            self.wait(k)
        return {s: self.buffers[k] for s, k in self.messages.items()}

    def restore(self, s: int, message: Array) -> None:
        """Put back a message from `waiting`."""
        self.buffers[self._room_for(s)][...] = message if self.in_place else to_host(message)


class MPIMailbox(Mailbox):
    """A mailbox for the units of one rank. Messages between its own units stay in memory; the others travel.

    timetable: the messages of each tick, see `Mailbox`.
    comm: for this mailbox alone; evaluation_comm: for the mailbox that `for_evaluation` returns, or None for none.
    owner: unit → rank. batch: samples in each message. gradients: False where only activations travel.
    in_place: hand device arrays to MPI as they are (host arrays always are).
    nap: sleep between tests of a late message instead of spinning.
    """

    def __init__(
        self,
        network: Network,
        timetable: Callable[[Edge, int], int | None],
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
        self.channels: list[Channel] = []
        super().__init__(timetable)
        me = comm.Get_rank()
        for number, (j, i) in enumerate(network.edges):
            if owner[j] == owner[i]:
                continue
            shape = (batch, *network.units[j].output_shape)
            up = (partial(timetable, (j, i)), shape, network.dtype, in_place, nap)
            down = (partial(timetable, (i, j)), shape, network.dtype, in_place, nap)
            if owner[j] == me:
                self.outgoing[j, i] = Sender(comm, owner[i], 2 * number, *up)
            if owner[i] == me:
                self.incoming[j, i] = Receiver(comm, owner[j], 2 * number, *up)
            if gradients and owner[i] == me:
                self.outgoing[i, j] = Sender(comm, owner[j], 2 * number + 1, *down)
            if gradients and owner[j] == me:
                self.incoming[i, j] = Receiver(comm, owner[i], 2 * number + 1, *down)
        self.channels += [*self.incoming.values(), *self.outgoing.values()]
        self.evaluation = (
            MPIMailbox(network, timetable, owner, batch, evaluation_comm, None, in_place, nap, gradients=False)
            if evaluation_comm
            else None
        )

    def begin(self, tick: int) -> None:
        super().begin(tick)
        if self.incoming:
            wait_for(self.ends[0])  # until then the device may read a buffer that is overwritten now
        for channel in self.incoming.values():
            channel.expect(tick)

    def _look(self) -> None:
        """Start the messages whose copies have arrived, and let MPI move those under way."""
        self.downloads.look()
        for sender in self.outgoing.values():
            sender.test()
        for receiver in self.incoming.values():
            receiver.look(self.uploads)

    def send(self, sender: str, receiver: str, message: Array, s: int) -> None:
        self._look()
        if (sender, receiver) not in self.outgoing:
            super().send(sender, receiver, message, s)
        elif s == self.timetable((sender, receiver), self.tick):
            self.outgoing[sender, receiver].send(message, self.downloads)

    def receive(self, sender: str, receiver: str, s: int) -> Array | None:
        self._look()
        if (sender, receiver) in self.incoming:
            return self.incoming[sender, receiver].receive(s, self.uploads)
        return super().receive(sender, receiver, s)

    def lasting(self, receiver: str, inputs: dict[str, Array]) -> dict[str, Array]:
        """The inputs of a unit; those from other ranks are copied, because their buffers are used again."""
        return {j: copied(x) if (j, receiver) in self.incoming else x for j, x in inputs.items()}

    def end(self) -> None:
        self.ends.append(mark())
        self.downloads.finish()
        for channel in self.incoming.values():
            channel.end()

    def clear(self) -> None:
        """Complete every message under way, and drop it."""
        super().clear()
        for end in self.ends:  # the next receives may begin with any buffer
            wait_for(end)
        for channel in self.channels:
            channel.complete()

    def waiting(self, receiver: str) -> dict[tuple[str, int], Array]:
        arrived = {
            (sender, s): message
            for (sender, name), channel in self.incoming.items()
            if name == receiver
            for s, message in channel.waiting().items()
        }
        return super().waiting(receiver) | arrived

    def restore(self, receiver: str, messages: dict[tuple[str, int], Array]) -> None:
        for (sender, s), message in messages.items():
            if (sender, receiver) in self.incoming:
                self.incoming[sender, receiver].restore(s, message)
            else:
                super().restore(receiver, {(sender, s): message})

    def for_evaluation(self) -> Mailbox:
        assert self.evaluation is not None
        return self.evaluation

    def free(self) -> None:
        """Complete and free every persistent request; the mailbox is of no use afterwards."""
        for channel in self.channels:
            channel.free()
        if self.evaluation:
            self.evaluation.free()
