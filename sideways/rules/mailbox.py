"""The mailbox: a message that is sent in one tick is read in a later tick, under `Sideways` in the next.

    tick        t                           t+1
    sender      sends a[t]                  sends a[t+1]
    reader      reads a[t-1]                reads a[t]

The mailbox between processes (`sideways/mpi/mailbox.py`) has the same methods.
"""

from __future__ import annotations

from collections.abc import Callable

from sideways.backend import Array
from sideways.network.schedule import Edge


class Mailbox:
    """Messages within one process, kept by reference: the sender made a fresh array, and nobody writes into this array.

    A message has an edge and a tick s: it is the sender's activation of tick s, or a gradient that the sender has
    pulled through the Jacobian at its input of tick s.
    timetable: (edge, t) → the s of the message that is sent at tick t, or None; a message that it does not name would
        never be read, and is dropped.
    """

    def __init__(self, timetable: Callable[[Edge, int], int | None]):
        self.timetable = timetable
        self.clear()

    def begin(self, tick: int) -> None:
        """Begin tick `tick` of the static schedule."""
        self.tick = tick

    def send(self, sender: str, receiver: str, message: Array, s: int) -> None:
        """Post a message of tick s."""
        if s == self.timetable((sender, receiver), self.tick):
            self._messages[sender, receiver, s] = message

    def receive(self, sender: str, receiver: str, s: int) -> Array | None:
        """Take the message of tick s, or None: read-only, intact until this tick is over."""
        return self._messages.pop((sender, receiver, s), None)

    def lasting(self, receiver: str, inputs: dict[str, Array]) -> dict[str, Array]:
        """The inputs of a unit, received at this tick, as arrays that stay intact for longer."""
        return inputs

    def end(self) -> None:
        """End the tick."""

    def clear(self) -> None:
        """Drop all messages (a flush)."""
        self.tick, self._messages = -1, dict[tuple[str, str, int], Array]()

    def waiting(self, receiver: str) -> dict[tuple[str, int], Array]:
        """The messages that wait for a unit between two ticks: (sender, s) → message. For checkpoints."""
        return {(sender, s): message for (sender, name, s), message in self._messages.items() if name == receiver}

    def restore(self, receiver: str, messages: dict[tuple[str, int], Array]) -> None:
        """Put back the messages of `waiting`."""
        self._messages |= {(sender, receiver, s): message for (sender, s), message in messages.items()}

    def for_evaluation(self) -> Mailbox:
        """A mailbox apart from this one, for the activations of clips that are only evaluated."""
        return Mailbox(self.timetable)
