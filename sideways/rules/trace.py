"""Which frames met where: read off the static schedule, no arithmetic needed."""

from __future__ import annotations

from dataclasses import dataclass

from sideways.network import FRAME, Network

Pairs = frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Trace:
    """What met in one unit at one tick, as pairs (frame, tick), both counted from the beginning of the clip or stream.

    activation: the frames mixed in the unit's activation, each with the tick of that activation.
    gradient: every activation whose Jacobian the unit's pseudo-gradient has been pulled through, from the loss down to
        the unit itself: (frame, tick) says that an activation of that tick held that frame. One frame throughout would
        be the exact gradient of that frame. Empty before the unit's first backward.
    """

    activation: Pairs
    gradient: Pairs


def trace(network: Network, tick: int) -> dict[str, Trace]:
    """The `Trace` of every unit after this tick."""
    none: Pairs = frozenset()
    now = {name: Trace(none, none) for name in network.units}
    for t in range(max(0, tick - 3 * network.depth), tick + 1):  # nothing older can reach this tick
        before, now = now, {}
        for name, unit in network.units.items():
            frames: set[int] = set()
            if t >= network.first_forward[name]:
                for j in unit.inputs:
                    frames |= {t} if j == FRAME else {frame for frame, _ in before[j].activation}
            held = frozenset((frame, t) for frame in frames)
            if t < network.first_backward[name]:
                now[name] = Trace(held, none)
                continue
            arriving = [before[consumer].gradient for consumer in network.consumers[name]]
            now[name] = Trace(held, held.union(*arriving))
    return now
