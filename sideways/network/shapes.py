"""The shapes of every unit's input and output, and errors that say which units and layers would fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sideways.backend import Shape
from sideways.errors import InputError
from sideways.network.unit import FRAME, Unit

ADAPT = "give an input adapter layers, such as inputs={'conv1': [MaxPool2D(2), Conv2D(16, 32, kernel=1)], …}"


def check_graph(units: Sequence[Unit]) -> None:
    """Raise `InputError` unless the units form a graph in topological order whose only sink is the last."""
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


def infer_shapes(units: Sequence[Unit], input_shape: Shape) -> dict[str, Shape]:
    """Set the shapes and the work of each unit; return the shapes (without N) of the frame and of every output.

    Raises `InputError`, naming the unit and the shapes, where two shapes do not fit.
    """
    shapes = {FRAME: input_shape}
    for unit in units:
        adapted = {j: _adapted_shape(unit, j, shapes[j]) for j in unit.inputs}
        _check_merge(unit, adapted)
        unit.widths = [shape[-1] for shape in adapted.values()]
        first = next(iter(adapted.values()))
        unit.merged_shape = first if unit.merge == "add" else (*first[:-1], sum(unit.widths))
        try:
            shapes[unit.name] = unit.output_shape = unit.body.output_shape(unit.merged_shape)
        except InputError as error:
            raise InputError(f"unit {unit.name!r}, {error}") from None
        of_adapters = sum(adapter.multiply_adds(shapes[j]) for j, adapter in unit.adapters.items())
        unit.multiply_adds = unit.body.multiply_adds(unit.merged_shape) + of_adapters
    return shapes


def _check_merge(unit: Unit, adapted: Mapping[str, Shape]) -> None:
    first, *others = adapted.values()
    listed = ", ".join(f"{name} {shape}" for name, shape in adapted.items())
    if unit.merge == "add" and any(shape != first for shape in others):
        raise InputError(f"unit {unit.name!r}: cannot add {listed}: shapes must be equal; {ADAPT}")
    if unit.merge == "concat" and any(shape[:-1] != first[:-1] for shape in others):
        raise InputError(
            f"unit {unit.name!r}: cannot concatenate {listed}: all but the channels must be equal; {ADAPT}"
        )


def _adapted_shape(unit: Unit, j: str, shape: Shape) -> Shape:
    try:
        return unit.adapters[j].output_shape(shape) if j in unit.adapters else shape
    except InputError as error:
        raise InputError(f"unit {unit.name!r}, adapter of {j!r}, {error}") from None
