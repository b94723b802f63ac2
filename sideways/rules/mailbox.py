"""The mailbox: messages between units, sent in one tick and read in the next.

A rule knows only these methods; a mailbox that carries messages between processes has the same ones.
"""

from __future__ import annotations

from sideways.backend import Array


class Mailbox:
    """Messages within one process, kept by reference: the sender made a fresh array, and nobody writes into it.

    Between any two units goes at most one message per tick and direction, so (sender, receiver) names it.
    """

    def __init__(self) -> None:
        self._readable: dict[tuple[str, str], Array] = {}  # sent at the last tick
        self._sent: dict[tuple[str, str], Array] = {}  # sent at this tick: not to be read before the next

    def begin(self, tick: int) -> None:
        """Tick `tick` of the static schedule begins. Nothing to prepare here; between processes: receives."""

    def send(self, sender: str, receiver: str, message: Array) -> None:
        """Post a message of this tick."""
        self._sent[sender, receiver] = message

    def receive(self, sender: str, receiver: str) -> Array:
        """The message that was sent at the last tick: read-only, intact until this tick is over."""
        return self._readable[sender, receiver]

    def deliver(self) -> None:
        """End the tick: what was sent becomes readable, what was readable is gone."""
        self._readable, self._sent = self._sent, {}

    def clear(self) -> None:
        """Drop all messages under way (a flush)."""
        self._readable, self._sent = {}, {}

    def waiting(self, receiver: str) -> dict[str, Array]:
        """Between two ticks: the messages that a unit will read in the next one, by sender. For checkpoints."""
        return {j: message for (j, i), message in self._readable.items() if i == receiver}

    def restore(self, tick: int, sender: str, receiver: str, message: Array) -> None:
        """Put back a message that is to be read at tick `tick`."""
        self._readable[sender, receiver] = message

    def for_evaluation(self) -> Mailbox:
        """A mailbox apart from this one, for the activations of clips that are only evaluated."""
        return Mailbox()
