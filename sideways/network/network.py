"""The network: units as a directed acyclic graph, with their shapes, their parameters and the static schedule."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from sideways.backend import Array, Shape, to_device
from sideways.errors import InputError
from sideways.network import schedule
from sideways.network.marks import Marks
from sideways.network.shapes import check_graph, infer_shapes
from sideways.network.sizes import check_parameters_fit
from sideways.network.summary import summary
from sideways.network.unit import FRAME, Unit


class Network:
    """A directed acyclic graph of units, listed in topological order; the last is the top and the only sink.

    input_shape: one frame, (H, W, C).
    seed: of the initial weights; a unit's weights depend on (seed, its name) alone.
    dtype: `"float32"` or `"float64"`.

    The network works on copies of the units that it is given. Its schedule is static (see `schedule.py`):

        first_forward[i]    the tick at which unit i first runs forward
        first_backward[i]   the tick at which unit i first runs backward
        first_message[e]    the tick at which edge e = (sender, receiver) carries its first message
        path_lengths[i]     the lengths in ticks of the paths from unit i to the top, shortest first

    Raises `InputError`, naming the unit, for a graph that cannot be built, or whose parameters do not fit into memory.
    """

    def __init__(self, units: Sequence[Unit], input_shape: Shape, seed: int = 0, dtype: str = "float32"):
        if dtype not in ("float32", "float64"):
            raise InputError(f"unknown dtype {dtype!r}: choose 'float32' or 'float64'")
        sizes = tuple(input_shape) if isinstance(input_shape, Sequence) else ()
        if not sizes or any(not isinstance(extent, int) or extent < 1 for extent in sizes):
            raise InputError(f"input_shape must be positive sizes such as (32, 32, 3), not {input_shape}")
        check_graph(units)
        units = [copy.deepcopy(unit) for unit in units]
        self.input_shape, self.seed, self.dtype = sizes, seed, dtype
        self.units = {unit.name: unit for unit in units}
        self.top = units[-1]
        self.consumers = {unit.name: [c.name for c in units if unit.name in c.inputs] for unit in units}
        self.edges = [(j, unit.name) for unit in units for j in unit.inputs if j != FRAME]  # source, consumer
        self.shapes = infer_shapes(units, sizes)  # of the frame and of every unit's output, without N
        self.output_shape = self.top.output_shape
        self.first_forward = schedule.first_forward({unit.name: unit.inputs for unit in units})
        self.latency = self.first_forward[self.top.name]
        self.depth = self.latency + 1
        self.first_backward = schedule.first_backward(self.consumers, self.latency)
        self.first_message = schedule.first_messages(self.first_forward, self.first_backward, self.edges)
        self.path_lengths = schedule.path_lengths(self.consumers)
        check_parameters_fit(units, dtype)
        for unit in units:
            unit.initialise(seed, dtype)

    @property
    def parameters(self) -> dict[str, dict[str, Array]]:
        """Parameters: unit → key → array."""
        return {name: unit.parameters for name, unit in self.units.items()}

    @property
    def state(self) -> dict[str, dict[str, Array]]:
        """Running statistics: unit → key → array."""
        return {name: unit.state for name, unit in self.units.items()}

    def load(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Write values (unit → key → array) into the parameters and running statistics of those names."""
        for name, arrays in values.items():
            if name not in self.units:
                raise InputError(f"there is no unit {name!r}; the units are {', '.join(self.units)}")
            own = self.units[name].parameters | self.units[name].state
            for key, value in arrays.items():
                if key not in own or own[key].shape != value.shape:
                    expected = own[key].shape if key in own else f"one of {', '.join(own)}"
                    raise InputError(f"unit {name!r}: cannot load {key} {value.shape}; expected {expected}")
                own[key][...] = to_device(value, self.dtype)

    def marks(self, learn_every: int = 1) -> Marks:
        """The ticks whose losses `Delayed` learns from, one in `learn_every`, and what follows for each unit."""
        return Marks(self.path_lengths, self.latency, learn_every)

    def timetable(self, edge: schedule.Edge, tick: int, marks: Marks | None = None) -> int | None:
        """The message that is sent on an edge at this tick (see `Mailbox`). marks: of `Delayed`; else `Sideways`."""
        if marks:
            sender, receiver = edge
            if receiver in self.units[sender].inputs:  # a gradient
                return marks.pull(sender, tick)
        return tick if tick >= self.first_message[edge] else None

    def summary(self) -> str:
        """Return a table of the units. Its column "out of step" says by how many frames a unit's pseudo-gradient is
        behind its activations under `Sideways`: twice the length of the unit's shortest and of its longest path to the
        top. Its column "kept" says how many inputs the unit keeps under `Delayed`."""
        return summary(self.units, self.first_forward, self.first_backward, self.path_lengths)
