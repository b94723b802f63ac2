"""Space-time diagrams: the work of each unit at each tick, read off the library's own schedule and trace.

The explorer's page and the animated GIFs draw these cells. For graphs that a reader edits in the page, `schedule.js`
computes the cells again in JavaScript; the tests compare both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sideways.layers import Dense
from sideways.network import FRAME, Network, Unit
from sideways.rules.trace import delayed_trace, trace

# Frame n has the colour of entry n mod 7, (background, text on it): Okabe and Ito's palette without its black.
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

    activation: the frames that are mixed in the unit's activation of this tick; empty if it does not run forward.
    gradient: (frame, tick) of all activations whose Jacobians its gradient was pulled through; empty if it does not run
        backward.
    waiting: the frames in an activation that an idle unit keeps for the gradient (blocked backpropagation only).
    """

    activation: list[int] = field(default_factory=list)
    gradient: list[tuple[int, int]] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class DelayedCell(Cell):
    """One unit at one tick of `Delayed`.

    pulled: the tick s if the gradient of the unit's activation of tick s is pulled at this tick; None if none is.
    kept: the ticks whose inputs the unit keeps during this tick, oldest first; this tick and s may be among them.
    learns: the last part of the unit's gradient of a marked loss is pulled at this tick, so the unit learns.
    """

    pulled: int | None = None
    kept: list[int] = field(default_factory=list)
    learns: bool = False


Cells = list[dict[str, Cell]]  # tick → unit → cell


def chain(depth: int, skips: Sequence[tuple[int, int]] = ()) -> Network:
    """Build a chain of the smallest possible units u1 … uD. skips: pairs (source, consumer), 0 being the frame."""
    names = [FRAME, *(f"u{i}" for i in range(1, depth + 1))]
    units = []
    for i in range(1, depth + 1):
        inputs = [names[i - 1], *(names[source] for source, consumer in sorted(skips) if consumer == i)]
        units.append(Unit(names[i], [Dense(len(inputs), 1)], inputs, merge="concat"))
    return Network(units, input_shape=(1,))


def sideways_cells(network: Network, ticks: int) -> Cells:
    """The cells of Sideways from the first tick of a clip on, taken from the library's trace."""
    cells: Cells = []
    for t in range(ticks):
        row = {}
        for name, unit_trace in trace(network, t).items():
            row[name] = Cell(sorted(frame for frame, _ in unit_trace.activation), sorted(unit_trace.gradient))
        cells.append(row)
    return cells


def blocked_cells(network: Network, ticks: int) -> Cells:
    """The cells of backpropagation with one unit's pass per tick, where a frame enters when the one before it is done.

    A cycle of 2D-1 ticks takes one frame up and its gradient down. Within the cycle, unit i runs forward at fᵢ and
    backward at bᵢ of the static schedule, which the first frame follows under any rule. Other frames are lost.
    """
    cycle = 2 * network.depth - 1
    cells: Cells = []
    for t in range(ticks):
        start = t - t % cycle  # first tick of the cycle, and so the number of its frame
        cells.append({})
        for name in network.units:
            up, down = start + network.first_forward[name], start + network.first_backward[name]
            through = {start + network.first_forward[unit] for unit in _above(network, name)}
            cells[t][name] = Cell(
                activation=[start] if t == up else [],
                gradient=sorted((start, tick) for tick in through) if t == down else [],
                waiting=[start] if up < t < down else [],
            )
    return cells


def delayed_cells(network: Network, learn_every: int, ticks: int) -> list[dict[str, DelayedCell]]:
    """The cells of Delayed, which learns from the loss of one tick in `learn_every`, from the library's marks."""
    marks = network.marks(learn_every)
    kept: dict[str, list[int]] = {name: [] for name in network.units}
    cells: list[dict[str, DelayedCell]] = []
    for t in range(ticks):
        cells.append({})
        for name, unit_trace in delayed_trace(network, marks, t).items():
            if name != network.top.name and marks.has_loss(name, t):
                kept[name].append(t)
            pulled = marks.pull(name, t)
            cells[t][name] = DelayedCell(
                activation=sorted(frame for frame, _ in unit_trace.activation),
                gradient=sorted(unit_trace.gradient),
                pulled=pulled,
                kept=list(kept[name]),
                learns=marks.learns(name, t),
            )
            kept[name] = [s for s in kept[name] if s != pulled]
    return cells


def _above(network: Network, name: str) -> set[str]:
    """The unit itself and all units that its activation reaches."""
    return {name}.union(*(_above(network, consumer) for consumer in network.consumers[name]))


def exported(network: Network, ticks: int, learn_every: int = 1) -> dict[str, Any]:
    """The schedule and the diagrams of a network as JSON values; `explored` in schedule.js computes them again.

    learn_every: the loss of one tick in so many is learnt from in the diagram of Delayed.
    """
    marks = network.marks(learn_every)
    return {
        "units": [{"name": name, "inputs": list(unit.inputs)} for name, unit in network.units.items()],
        "consumers": network.consumers,
        "depth": network.depth,
        "latency": network.latency,
        "first_forward": network.first_forward,
        "first_backward": network.first_backward,
        "path_lengths": network.path_lengths,
        "sideways": _values(sideways_cells(network, ticks)),
        "blocked": _values(blocked_cells(network, ticks)),
        "learn_every": learn_every,
        "most_kept": {name: marks.most_kept(name) for name in network.units},
        "delayed": _values(delayed_cells(network, learn_every, ticks)),
    }


def _values(cells: Sequence[Mapping[str, Cell]]) -> list[dict[str, dict[str, Any]]]:
    """The cells as JSON values: tick → unit → field → value."""
    return [{name: asdict(cell) for name, cell in row.items()} for row in cells]
