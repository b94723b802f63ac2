"""Units and the directed acyclic graph they form: its shapes, its parameters, its static schedule."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sideways.backend import Array, Shape, contiguous, copied, empty, fresh, generator, to_device
from sideways.errors import InputError
from sideways.layers.base import Layer, Sequential

FRAME = "frame"


class Unit:
    """A few layers that act as one: what runs each tick, and what a rank owns.

    name: letters, digits, `_` and `-`.
    layers: run in order on the merged input.
    inputs: names of units, or `"frame"`; or a mapping from these names to adapter layers that their activations pass
        before they are merged. Adapters belong to this unit and are trained with it.
    merge: `"add"`, or `"concat"` (channels, in the order of the inputs).

    `parameters` and `state` map `"<layer index>.<name>"` and `"adapter.<input>.<layer index>.<name>"` to arrays; they
    are there once a `Network` has been built. Write into these arrays, do not replace them.
    """

    def __init__(
        self,
        name: str,
        layers: Iterable[Layer],
        inputs: Sequence[str] | Mapping[str, Sequence[Layer]] = (FRAME,),
        merge: str = "add",
    ):
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in (FRAME, "adapter"):
            raise InputError(
                f"unit name {name!r}: use letters, digits, '_' and '-' only, and neither 'frame' nor 'adapter'"
            )
        if isinstance(inputs, str):
            raise InputError(f"unit {name!r}: inputs is a list of names, such as [{inputs!r}]")
        if not inputs or len(set(inputs)) != len(inputs):
            raise InputError(f"unit {name!r}: inputs must name at least one unit or 'frame', each once; got {inputs}")
        if merge not in ("add", "concat"):
            raise InputError(f"unit {name!r}: unknown merge {merge!r}; choose 'add' or 'concat'")
        self.name, self.inputs, self.merge = name, tuple(inputs), merge
        adapters = inputs if isinstance(inputs, Mapping) else {}
        try:
            self.body = Sequential(layers)
            self.adapters = {j: Sequential(adapters[j]) for j in self.inputs if adapters.get(j)}
        except InputError as error:
            raise InputError(f"unit {name!r}: {error}") from None
        self.parameters: dict[str, Array] = {}
        self.state: dict[str, Array] = {}

    # Shapes

    def check_shapes(self, shapes: Mapping[str, Shape]) -> None:
        """Set `output_shape` and the widths of the merged parts from the shapes of the inputs, or refuse them."""
        adapted = {j: self._adapted_shape(j, shapes[j]) for j in self.inputs}
        first, *others = adapted.values()
        if self.merge == "add" and any(shape != first for shape in others):
            raise InputError(f"unit {self.name!r}: cannot add {_listed(adapted)}: shapes must be equal; {_ADAPT}")
        if self.merge == "concat" and any(shape[:-1] != first[:-1] for shape in others):
            raise InputError(
                f"unit {self.name!r}: cannot concatenate {_listed(adapted)}: all but the channels must be equal; "
                f"{_ADAPT}"
            )
        self.widths = [shape[-1] for shape in adapted.values()]
        self.merged_shape = first if self.merge == "add" else (*first[:-1], sum(self.widths))
        try:
            self.output_shape = self.body.output_shape(self.merged_shape)
        except InputError as error:
            raise InputError(f"unit {self.name!r}, {error}") from None
        self.multiply_adds = self.body.multiply_adds(self.merged_shape) + sum(
            adapter.multiply_adds(shapes[j]) for j, adapter in self.adapters.items()
        )

    def _adapted_shape(self, j: str, shape: Shape) -> Shape:
        try:
            return self.adapters[j].output_shape(shape) if j in self.adapters else shape
        except InputError as error:
            raise InputError(f"unit {self.name!r}, adapter of {j!r}, {error}") from None

    def initialise(self, seed: int, dtype: str) -> None:
        """Draw the parameters: a function of (seed, name) alone, so that any process builds the same unit."""
        random = generator("initial weights", seed, self.name)
        self.body.initialise(random, dtype)
        for adapter in self.adapters.values():
            adapter.initialise(random, dtype)
        self.parameters = self._named(self.body.parameters, {j: a.parameters for j, a in self.adapters.items()})
        self.state = self._named(self.body.state, {j: a.state for j, a in self.adapters.items()})
        if FRAME in self.adapters:
            self.adapters[FRAME].skip_input_gradient()
        if self.inputs == (FRAME,) and not self.adapters:
            self.body.skip_input_gradient()

    @staticmethod
    def _named(body: dict[str, Array], of_adapters: dict[str, dict[str, Array]]) -> dict[str, Array]:
        adapters = {f"adapter.{j}.{name}": array for j, arrays in of_adapters.items() for name, array in arrays.items()}
        return body | adapters

    # The maths

    def forward(self, inputs: Mapping[str, Array], train: bool = True) -> tuple[Array, Any]:
        """a = H(u; θ) with u the merged inputs: name → (N, …). Returns (a, saved)."""
        parts, saved_adapters = [], {}
        for j in self.inputs:
            part = inputs[j]
            if j in self.adapters:
                part, saved_adapters[j] = self.adapters[j].forward(part, train)
            parts.append(part)
        activation, saved = self.body.forward(self._merged(parts), train)
        return fresh(activation, inputs.values()), (saved, saved_adapters)  # an identity too: its input is not kept

    def backward(self, gradient: Array, saved: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """Pull the gradient of a through the Jacobian of H: returns (a message for each input unit, dθ)."""
        saved_body, saved_adapters = saved
        merged, gradients = self.body.backward(gradient, saved_body)
        messages = {}
        for j, part in zip(self.inputs, self._split(merged), strict=True):
            if j in self.adapters:
                part, of_adapter = self.adapters[j].backward(part, saved_adapters[j])
                gradients.update({f"adapter.{j}.{name}": value for name, value in of_adapter.items()})
            if j != FRAME:
                messages[j] = fresh(part, [gradient])
        return messages, gradients

    def _merged(self, parts: list[Array]) -> Array:
        first, *others = parts
        if not others:
            return first
        if self.merge == "add":
            total = copied(first)
            for part in others:
                total += part
            return total
        merged = empty(first, (*first.shape[:-1], sum(self.widths)))
        for part, place in zip(parts, self._places(), strict=True):
            merged[..., place] = part
        return merged

    def _split(self, gradient: Array) -> list[Array]:
        """The gradient of each merged part."""
        if self.merge == "add" or len(self.inputs) == 1:
            return [gradient] * len(self.inputs)
        return [contiguous(gradient[..., place]) for place in self._places()]

    def _places(self) -> list[slice]:
        ends = [sum(self.widths[: i + 1]) for i in range(len(self.widths))]
        return [slice(end - width, end) for end, width in zip(ends, self.widths, strict=True)]

    def observe(self, saved: Any) -> None:
        """Update running statistics from what a training tick's forward saved."""
        saved_body, saved_adapters = saved
        self.body.observe(saved_body)
        for j, adapter in self.adapters.items():
            adapter.observe(saved_adapters[j])

    def at(self, tick: int, first_sample: int) -> None:
        """Told before a forward: the tick, and the place of the batch's first sample in the whole batch."""
        self.body.at(tick, first_sample)
        for adapter in self.adapters.values():
            adapter.at(tick, first_sample)

    def __repr__(self) -> str:
        return f"Unit({self.name!r}, {self.body.layers!r}, inputs={list(self.inputs)}, merge={self.merge!r})"


_ADAPT = "give an input adapter layers, such as inputs={'conv1': [MaxPool2D(2), Conv2D(16, 32, kernel=1)], …}"


def _listed(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


class Network:
    """A directed acyclic graph of units, listed in topological order; the last is the top and the only sink.

    input_shape: one frame, (H, W, C).
    seed: of the initial weights; a unit's weights depend on (seed, its name) alone.
    dtype: `"float32"` or `"float64"`.

    The network works on copies of the units it is given. Its schedule is static:

        first_forward[i]    fᵢ = max over i's inputs j of (fⱼ + 1); 0 from the frame alone
        first_backward[i]   bᵢ = max over i's consumers c of (b_c + 1); for the top, its first_forward

    in ticks since the stream (or the clip, after a flush) began. `to_top[i]` holds the ticks that the shortest and the
    longest path from i to the top take. Raises `InputError`, naming the unit, for a graph
    that cannot be built.
    """

    def __init__(self, units: Sequence[Unit], input_shape: Shape, seed: int = 0, dtype: str = "float32"):
        if dtype not in ("float32", "float64"):
            raise InputError(f"unknown dtype {dtype!r}: choose 'float32' or 'float64'")
        sizes = tuple(input_shape) if isinstance(input_shape, Sequence) else ()
        self.input_shape, self.seed, self.dtype = sizes, seed, dtype
        if not sizes or any(not isinstance(extent, int) or extent < 1 for extent in sizes):
            raise InputError(f"input_shape must be positive sizes such as (32, 32, 3), not {input_shape}")
        _check_graph(units)
        units = [copy.deepcopy(unit) for unit in units]
        self.units = {unit.name: unit for unit in units}
        self.top = units[-1]
        self.consumers = {unit.name: [c.name for c in units if unit.name in c.inputs] for unit in units}
        shapes = {FRAME: self.input_shape}
        for unit in units:
            unit.check_shapes(shapes)
            shapes[unit.name] = unit.output_shape
        self.output_shape = self.top.output_shape
        self._make_schedule()
        for unit in units:
            unit.initialise(seed, dtype)

    def _make_schedule(self) -> None:
        self.first_forward: dict[str, int] = {FRAME: -1}
        for name, unit in self.units.items():
            self.first_forward[name] = max(self.first_forward[j] + 1 for j in unit.inputs)
        del self.first_forward[FRAME]
        self.depth = self.first_forward[self.top.name] + 1
        self.latency = self.depth - 1
        self.first_backward: dict[str, int] = {self.top.name: self.latency}
        self.to_top: dict[str, tuple[int, int]] = {self.top.name: (0, 0)}
        for name in reversed(self.units):
            if name != self.top.name:
                consumers = self.consumers[name]
                self.first_backward[name] = max(self.first_backward[c] + 1 for c in consumers)
                shortest, longest = zip(*(self.to_top[c] for c in consumers), strict=True)
                self.to_top[name] = (min(shortest) + 1, max(longest) + 1)

    @property
    def parameters(self) -> dict[str, dict[str, Array]]:
        """unit → key → array."""
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

    def summary(self) -> str:
        """A table of the units. "Out of step": by how many frames a unit's pseudo-gradient is behind its activations,
        twice the length of its shortest and of its longest path to the top."""
        head = ("unit", "inputs", "output", "parameters", "mult-adds", "forward", "backward", "out of step")
        rows = [head]
        for name, unit in self.units.items():
            short, long = self.to_top[name]
            rows.append(
                (
                    name,
                    f" {'+' if unit.merge == 'add' else '‖'} ".join(unit.inputs),
                    "×".join(map(str, unit.output_shape)),
                    f"{sum(array.size for array in unit.parameters.values()):,}",
                    f"{unit.multiply_adds:,}",
                    f"tick {self.first_forward[name]}",
                    f"tick {self.first_backward[name]}",
                    f"{2 * short}" if short == long else f"{2 * short} … {2 * long}",
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        parameters = sum(array.size for unit in self.units.values() for array in unit.parameters.values())
        work = sum(unit.multiply_adds for unit in self.units.values())
        return "\n".join(
            [
                *lines,
                f"{len(self.units)} units, depth {self.depth}, latency {self.latency} ticks; {parameters:,} "
                f"parameters, {work:,} multiply-adds per frame",
                "forward, backward: the first tick of each; out of step: frames; + adds, ‖ concatenates channels",
            ]
        )


def _check_graph(units: Sequence[Unit]) -> None:
    if not units:
        raise InputError("a network needs at least one unit")
    known: list[str] = []
    layers: set[int] = set()
    for unit in units:
        if not isinstance(unit, Unit):
            raise InputError(f"a network is made of units: Unit('name', [{unit!r}], inputs=[…]), not {unit!r}")
        if unit.name in known:
            raise InputError(f"two units are called {unit.name!r}")
        for j in unit.inputs:
            if j != FRAME and j not in known:
                later = any(other.name == j for other in units)
                why = "comes later (list units in topological order)" if later else "does not exist"
                raise InputError(f"unit {unit.name!r}: its input {j!r} {why}; it may read {', '.join([FRAME, *known])}")
        known.append(unit.name)
        for layer in (layer for chain in (unit.body, *unit.adapters.values()) for layer in chain.layers):
            if id(layer) in layers:
                raise InputError(f"unit {unit.name!r}: the layer object {layer!r} is used twice; make a second one")
            layers.add(id(layer))
    for unit in units[:-1]:
        if not any(unit.name in other.inputs for other in units):
            raise InputError(f"unit {unit.name!r}: no unit consumes it; only the last unit may be without a consumer")
