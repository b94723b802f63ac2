"""The mailbox: a message that is sent in one tick is read in a later tick, by default the next.

    tick        t                           t+1
    sender      sends a[t]                  sends a[t+1]
    reader      reads a[t-1]                reads a[t]

The mailbox between processes (`mpi/mailbox.py`) has the same methods.
"""

from __future__ import annotations

from collections.abc import Mapping

from sideways.backend import Array
from sideways.network.schedule import Edge


class Mailbox:
    """Messages within one process, kept by reference: the sender made a fresh array, and nobody writes into this array.

    first_message: edge → the tick of the first message that anyone reads; earlier ones are dropped.
    delays: edge → the ticks that a message waits beyond the next tick, by default 0.
    """

    def __init__(self, first_message: Mapping[Edge, int], delays: Mapping[Edge, int] | None = None):
        self.first_message, self.delays = first_message, delays or {}
        self._messages: dict[tuple[Edge, int], Array] = {}  # (edge, the tick at which it is due) → message
        self.clear()

    def begin(self, tick: int) -> None:
        """Begin tick `tick` of the static schedule."""
        self.tick = tick

    def send(self, sender: str, receiver: str, message: Array) -> None:
        """Post a message of this tick."""
        edge = (sender, receiver)
        if self.tick >= self.first_message[edge]:
            self._messages[edge, self.tick + 1 + self.delays.get(edge, 0)] = message

    def receive(self, sender: str, receiver: str) -> Array | None:
        """The message that is due at this tick, or None: read-only, intact until the tick is over."""
        return self._messages.get(((sender, receiver), self.tick))

    def end(self) -> None:
        """End the tick: drop the messages that were due at this tick."""
        self._messages = {key: message for key, message in self._messages.items() if key[1] > self.tick}

    def clear(self) -> None:
        """Drop all messages (a flush)."""
        self.tick, self._messages = -1, {}

    def waiting(self, receiver: str) -> dict[str, list[Array]]:
        """Return the messages that wait for a unit between two ticks: sender → oldest first. For checkpoints."""
        waiting: dict[str, list[Array]] = {}
        for (sender, reader), due in sorted(self._messages, key=lambda key: key[1]):
            if reader == receiver:
                waiting.setdefault(sender, []).append(self._messages[(sender, reader), due])
        return waiting

    def restore(self, tick: int, sender: str, receiver: str, messages: list[Array]) -> None:
        """Put back messages from `waiting`; the newest of them was sent at the tick before `tick`."""
        newest = tick + self.delays.get((sender, receiver), 0)
        for age, message in enumerate(reversed(messages)):
            self._messages[(sender, receiver), newest - age] = message

    def for_evaluation(self) -> Mailbox:
        """A mailbox apart from this one, for the activations of clips that are only evaluated."""
        return Mailbox(self.first_message)
