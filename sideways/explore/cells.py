"""Space-time diagrams of a network: what each unit does at each tick, read off the library's schedule and trace.

The explorer's page and the animated pictures show these cells. `schedule.js` computes the same for graphs that are
edited in the page; the tests hold it to this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sideways.layers import Dense
from sideways.network import FRAME, Network, Unit
from sideways.rules.trace import trace

# The colour of frame n is entry n mod 7, with the ink that reads on it: Okabe and Ito's, as in plots.py, without black.
FRAME_COLOURS = (
    ("#0072B2", "#ffffff"),
    ("#E69F00", "#000000"),
    ("#56B4E9", "#000000"),
    ("#D55E00", "#000000"),
    ("#009E73", "#000000"),
    ("#F0E442", "#000000"),
    ("#CC79A7", "#000000"),
)


@dataclass(frozen=True)
class Cell:
    """One unit at one tick.

    activation: the frames mixed in what its forward yields at this tick; none if it does not run.
    gradient: the (frame, tick) pairs of all activations whose Jacobians its gradient was pulled through; none if it
        does not run backward.
    held: frames in an activation that the unit keeps, idle, until the gradient comes (blocked backpropagation only).
    """

    activation: list[int] = field(default_factory=list)
    gradient: list[tuple[int, int]] = field(default_factory=list)
    held: list[int] = field(default_factory=list)


Cells = list[dict[str, Cell]]  # tick → unit → cell


def chain(depth: int, skips: Sequence[tuple[int, int]] = ()) -> Network:
    """A network of units u1 … uD, each as small as can be; skips: pairs (source, consumer), 0 for the frame."""
    names = [FRAME, *(f"u{i}" for i in range(1, depth + 1))]
    units = []
    for i in range(1, depth + 1):
        inputs = [names[i - 1], *(names[source] for source, consumer in sorted(skips) if consumer == i)]
        units.append(Unit(names[i], [Dense(len(inputs), 1)], inputs, merge="concat"))
    return Network(units, input_shape=(1,))


def sideways_cells(network: Network, ticks: int) -> Cells:
    """Sideways, from the first tick of a clip on: the library's own trace."""
    cells: Cells = []
    for t in range(ticks):
        met = trace(network, t).items()
        cells.append({n: Cell(sorted(f for f, _ in m.activation), sorted(m.gradient)) for n, m in met})
    return cells


def blocked_cells(network: Network, ticks: int) -> Cells:
    """Backpropagation, one unit-step per tick: a frame goes up and its gradient down before the next frame may enter.

    Within the 2D-1 ticks of a cycle, unit i runs forward at fᵢ and backward at bᵢ: those of the static schedule, which
    is the way of the first frame under any rule. Frames that arrive meanwhile are lost.
    """
    cycle = 2 * network.depth - 1
    cells: Cells = []
    for t in range(ticks):
        start = t - t % cycle  # the frame of this cycle, too: it came at its first tick
        cells.append({})
        for name in network.units:
            up, down = start + network.first_forward[name], start + network.first_backward[name]
            through = {start + network.first_forward[unit] for unit in _above(network, name)}
            cells[t][name] = Cell(
                activation=[start] if t == up else [],
                gradient=sorted((start, tick) for tick in through) if t == down else [],
                held=[start] if up < t < down else [],
            )
    return cells


def _above(network: Network, name: str) -> set[str]:
    """The unit itself and all that its activation reaches."""
    return {name}.union(*(_above(network, consumer) for consumer in network.consumers[name]))


def exported(network: Network, ticks: int) -> dict[str, Any]:
    """The schedule and both diagrams of a network, as JSON holds them; `explored` in schedule.js is its twin."""
    return {
        "units": [{"name": name, "inputs": list(unit.inputs)} for name, unit in network.units.items()],
        "consumers": network.consumers,
        "depth": network.depth,
        "latency": network.latency,
        "first_forward": network.first_forward,
        "first_backward": network.first_backward,
        "to_top": network.to_top,
        "sideways": [{name: asdict(cell) for name, cell in row.items()} for row in sideways_cells(network, ticks)],
        "blocked": [{name: asdict(cell) for name, cell in row.items()} for row in blocked_cells(network, ticks)],
    }
