"""The mailbox between GPUs by NCCL: all messages of one tick travel in one group, from GPU to GPU.

    tick        t                                         t+1
    compute     forward, backward, update ─┐              reads the messages of t ─┐
    messages                               └ group of t                            └ group of t+1

The group starts when the device has finished the tick, and runs beside the work of the next tick up to the first
message that is read. By the timetable (see `Mailbox`) all ranks know which messages a group has, and name them in one
order. The host waits for no message; it only keeps at most two ticks ahead of the device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from mpi4py import MPI

from sideways.backend import Array, Shape, buffer, copied
from sideways.backend.nccl import Peers, identity
from sideways.backend.streams import hold_until, mark, wait_for
from sideways.mpi.node import ALL
from sideways.mpi.status import Waiting
from sideways.network import Network
from sideways.network.schedule import Edge
from sideways.rules import Mailbox

GROUP = Waiting("the other ranks to exchange messages by NCCL")


def peers_of(comm: MPI.Comm) -> Peers:
    """Join the ranks of a communicator by NCCL. Every rank must call this function."""
    with ALL:
        own = identity() if comm.Get_rank() == 0 else None
        return Peers(comm.Get_size(), comm.bcast(own), comm.Get_rank())


class Incoming:
    """The receiver's end of an edge: places for messages on the device."""

    def __init__(self, rank: int, shape: Shape, dtype: str):
        self.rank, self.shape, self.dtype = rank, shape, dtype
        self.places: dict[int, Array] = {}  # s → the message of tick s, which nobody has read
        self.unused: list[Array] = []
        self.read: list[Array] = []  # at this tick

    def place_for(self, s: int) -> Array:
        """A place for the message of tick s; there are as many as messages wait at a time."""
        self.places[s] = self.unused.pop() if self.unused else buffer(self.shape, self.dtype)
        return self.places[s]

    def receive(self, s: int) -> Array | None:
        if s not in self.places:
            return None
        self.read.append(self.places.pop(s))
        return self.read[-1]

    def end(self) -> None:
        """End the tick: what was read may be written over by work that waits for the end of this tick."""
        self.unused += self.read
        self.read.clear()

    def clear(self) -> None:
        self.unused += [*self.read, *self.places.values()]
        self.read.clear()
        self.places.clear()


class NCCLMailbox(Mailbox):
    """A mailbox for the units of one rank. Messages between its own units stay in memory; the others travel.

    timetable: the messages of each tick, see `Mailbox`. owner: unit → rank; me: this rank; batch: samples in each
    message. gradients: False where only activations travel, as for evaluations.
    """

    def __init__(
        self,
        network: Network,
        timetable: Callable[[Edge, int], int | None],
        owner: dict[str, int],
        me: int,
        batch: int,
        peers: Peers,
        gradients: bool = True,
    ):
        self.peers = peers
        arguments = network, timetable, owner, me, batch, peers
        self.evaluation = NCCLMailbox(*arguments, gradients=False) if gradients else None
        self.outgoing: dict[Edge, int] = {}  # edge → rank
        self.incoming: dict[Edge, Incoming] = {}
        self.last_group: Any = None  # when its messages have arrived, if the device has not been told to wait for that
        self.to_send: dict[Edge, Array] = {}
        self.sent: list[Array] = []  # at the last tick
        self.ends: deque[Any] = deque([None, None], 2)  # when the device is done with each of the last two ticks
        self.order: list[Edge] = []  # all edges with an end here, in the order of the schedule, equal on all ranks
        for j, i in network.edges:
            for sender, receiver in [(j, i), (i, j)] if gradients else [(j, i)]:
                if owner[sender] == owner[receiver] or me not in (owner[sender], owner[receiver]):
                    continue
                self.order.append((sender, receiver))
                if owner[sender] == me:
                    self.outgoing[sender, receiver] = owner[receiver]
                else:
                    shape = (batch, *network.units[j].output_shape)
                    self.incoming[sender, receiver] = Incoming(owner[sender], shape, network.dtype)
        super().__init__(timetable)

    def begin(self, tick: int) -> None:
        super().begin(tick)
        with GROUP:
            wait_for(self.ends[0])

    def send(self, sender: str, receiver: str, message: Array, s: int) -> None:
        if (sender, receiver) not in self.outgoing:
            super().send(sender, receiver, message, s)
        elif s == self.timetable((sender, receiver), self.tick):
            self.to_send[sender, receiver] = message

    def receive(self, sender: str, receiver: str, s: int) -> Array | None:
        if (sender, receiver) not in self.incoming:
            return super().receive(sender, receiver, s)
        self._hold()
        return self.incoming[sender, receiver].receive(s)

    def _hold(self) -> None:
        """Make the device wait for the last group, before it reads a message or gives back what was sent."""
        hold_until(self.last_group)
        self.last_group = None

    def lasting(self, receiver: str, inputs: dict[str, Array]) -> dict[str, Array]:
        """The inputs of a unit; those from other ranks are copied, because their places are used again."""
        return {j: copied(x) if (j, receiver) in self.incoming else x for j, x in inputs.items()}

    def end(self) -> None:
        self._hold()
        self.sent = list(self.to_send.values())  # kept until the device has waited for the group
        for incoming in self.incoming.values():
            incoming.end()
        due = [(edge, s) for edge in self.order if (s := self.timetable(edge, self.tick)) is not None]
        if due:
            places = {edge: self.incoming[edge].place_for(s) for edge, s in due if edge in self.incoming}
            with GROUP, self.peers.group():
                for edge, _ in due:
                    if edge in self.outgoing:
                        self.peers.send(self.to_send[edge], self.outgoing[edge])
                    else:
                        self.peers.receive(places[edge], self.incoming[edge].rank)
            self.last_group = self.peers.done()
        self.ends.append(mark())
        self.to_send.clear()

    def clear(self) -> None:
        """Drop all messages. Those of the last group have been sent and received by both ends."""
        super().clear()
        self._hold()
        self.to_send.clear()
        self.sent.clear()
        for incoming in self.incoming.values():
            incoming.clear()

    def waiting(self, receiver: str) -> dict[tuple[str, int], Array]:
        self._hold()
        arrived = {
            (sender, s): message
            for (sender, name), incoming in self.incoming.items()
            if name == receiver
            for s, message in incoming.places.items()
        }
        return super().waiting(receiver) | arrived

    def restore(self, receiver: str, messages: dict[tuple[str, int], Array]) -> None:
        for (sender, s), message in messages.items():
            if (sender, receiver) in self.incoming:
                self.incoming[sender, receiver].place_for(s)[...] = message
            else:
                super().restore(receiver, {(sender, s): message})

    def for_evaluation(self) -> Mailbox:
        assert self.evaluation is not None
        return self.evaluation

    def free(self) -> None:
        """End the use of the mailbox: wait on the device for the last group."""
        self._hold()
