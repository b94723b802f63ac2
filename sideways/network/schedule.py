"""The static schedule: at which tick each unit runs first, and each edge carries its first message.

    tick     0     1     2      3      4          a chain of three units; forward | backward
    unit 3   ·     ·     f|b    f|b    f|b        f₃ = b₃ = 2: the loss comes in the same tick
    unit 2   ·     f|·   f|·    f|b    f|b        f₂ = 1, b₂ = 3
    unit 1   f|·   f|·   f|·    f|·    f|b        f₁ = 0, b₁ = 4: the gradient has come all the way back

Ticks count from the beginning of the stream (or clip). The graph alone decides, so every rank finds the same schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sideways.network.unit import FRAME

Edge = tuple[str, str]  # sender, receiver: upwards for activations, downwards for gradients


def first_forward(inputs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Compute fᵢ = max over the inputs j of i of (fⱼ + 1); the frame has f = -1. inputs: unit → names, in order."""
    first = {FRAME: -1}
    for name, sources in inputs.items():
        first[name] = max(first[j] + 1 for j in sources)
    del first[FRAME]
    return first


def first_backward(consumers: Mapping[str, Sequence[str]], latency: int) -> dict[str, int]:
    """Compute bᵢ = max over the consumers c of unit i of (b_c + 1); the top has no consumer, its b is the latency."""
    first: dict[str, int] = {}
    for name in reversed(list(consumers)):
        first[name] = max((first[c] + 1 for c in consumers[name]), default=latency)
    return first


def path_lengths(consumers: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """The lengths of the paths from each unit to the top, in ticks, shortest first; the top has one, of length 0."""
    lengths: dict[str, list[int]] = {}
    for name in reversed(list(consumers)):
        lengths[name] = sorted({length + 1 for c in consumers[name] for length in lengths[c]} or {0})
    return lengths


def first_messages(forward: Mapping[str, int], backward: Mapping[str, int], edges: Sequence[Edge]) -> dict[Edge, int]:
    """The tick of the first message on each edge, upwards and downwards: the tick before the receiver reads it."""
    return {(j, i): forward[i] - 1 for j, i in edges} | {(i, j): backward[j] - 1 for j, i in edges}
