"""Traces: the frames that met in each unit, read off the static schedule without any arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from sideways.network import FRAME, Network
from sideways.network.marks import Marks

Pairs = frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Trace:
    """The frames that met in one unit at one tick: pairs (frame, tick), counted from the start of the clip or stream.

    activation: the frames mixed in the unit's activation, each with the tick of that activation.
    gradient: every activation whose Jacobian the unit's pseudo-gradient was pulled through, from the loss down to the
        unit itself: (frame, tick) says that an activation of that tick held that frame. A gradient with one frame
        throughout is the exact gradient of that frame. Empty before the unit's first backward pass.
    """

    activation: Pairs
    gradient: Pairs


def trace(network: Network, tick: int) -> dict[str, Trace]:
    """The trace of every unit after a tick of `Sideways`."""
    none: Pairs = frozenset()
    now = {name: Trace(none, none) for name in network.units}
    for t in range(max(0, tick - 3 * network.depth), tick + 1):  # nothing older can reach this tick
        before, now = now, {}
        for name, unit in network.units.items():
            frames: set[int] = set()
            if t >= network.first_forward[name]:
                for j in unit.inputs:
                    frames |= {t} if j == FRAME else {frame for frame, _ in before[j].activation}
            activation = frozenset((frame, t) for frame in frames)
            if t < network.first_backward[name]:
                now[name] = Trace(activation, none)
                continue
            arriving = [before[consumer].gradient for consumer in network.consumers[name]]
            now[name] = Trace(activation, activation.union(*arriving))
    return now


def delayed_trace(network: Network, marks: Marks, tick: int) -> dict[str, Trace]:
    """The trace of every unit after a tick of `Delayed`: a gradient returns through the ticks of its activations."""
    ticks = {tick, *range(max(0, tick - 2 * network.latency), tick)}  # tick is -1 before the first tick: nothing met
    activations = {t: {name: met.activation for name, met in trace(network, t).items()} for t in ticks}

    def pulled(name: str, s: int) -> Pairs:
        """The pairs that the gradient of an activation of tick s went through, without parts that reach no loss."""
        above = (c for c in network.consumers[name] if marks.has_loss(c, s + 1))
        return activations[s][name].union(*(pulled(consumer, s + 1) for consumer in above))

    moments = {name: marks.pull(name, tick) for name in network.units}
    return {
        name: Trace(activations[tick][name], frozenset() if s is None else pulled(name, s))
        for name, s in moments.items()
    }
