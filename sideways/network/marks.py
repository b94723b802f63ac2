"""Marked ticks: the losses that `Delayed` learns from, and what follows for each unit and each edge.

The loss of one tick in n is learnt from: m = D-1, D-1+n, D-1+2n, … are the marked ticks. The loss of tick m depends on
the activation of tick s of unit i if a path of length m - s leads from the unit to the top:

    tick         s            s + l = m           s + 2l
    top                       loss, marked
    unit i       aᵢ[s]                            the gradient is there: pull it through the Jacobian at uᵢ[s]

Several marked losses may depend on aᵢ[s]. The gradient is complete when that of the last of them has come. The graph
and n alone decide all of this, so every rank finds the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Marks:
    """The marked ticks of a network, t = 0 being the start of the stream or clip (see `Network.marks`).

    path_lengths, latency: of the network. learn_every: the n above.
    """

    def __init__(self, path_lengths: Mapping[str, Sequence[int]], latency: int, learn_every: int):
        self.first, self.every = latency, learn_every
        # The lengths of the paths from each unit to the top, without those whose losses are never the last: if a longer
        # path is longer by a multiple of n, then a marked loss at the end of the shorter one is followed by another.
        self.lengths = {
            name: [own for own in lengths if not any(o > own and (o - own) % learn_every == 0 for o in lengths)]
            for name, lengths in path_lengths.items()
        }

    def is_marked(self, tick: int) -> bool:
        """Say whether the loss of this tick is learnt from."""
        return tick >= self.first and (tick - self.first) % self.every == 0

    def has_loss(self, name: str, tick: int) -> bool:
        """Say whether a marked loss depends on the unit's activation of this tick."""
        return any(self.is_marked(tick + length) for length in self.lengths[name])

    def pull(self, name: str, tick: int) -> int | None:
        """The tick s for which the gradient of the unit's activation of tick s is complete at `tick`; None without any.

        There is never more than one: if tick - l and tick - k are both marked, then k and l differ by a multiple of n,
        and only the longer of the two can lead to the last loss.
        """
        return next((tick - 2 * length for length in self.lengths[name] if self.is_marked(tick - length)), None)

    def learns(self, name: str, tick: int) -> bool:
        """Say whether the last part of the unit's gradient of a marked loss comes at this tick."""
        return self.is_marked(tick - self.lengths[name][-1])

    def most_kept(self, name: str) -> int:
        """Bound the inputs that the unit keeps at a time, this tick's among them: Σ (⌊2l / n⌋ + 1) over the lengths l.

        With n = 1 and with n ≥ 2D-1 a stream reaches the bound. The top keeps none: it pulls in the same tick.
        """
        return sum(2 * length // self.every + 1 for length in self.lengths[name] if length)
