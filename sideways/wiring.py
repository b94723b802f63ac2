"""From stages to units: the wires between them, skip edges, and the layers that make two shapes fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sideways.backend import Shape
from sideways.errors import InputError
from sideways.layers import Conv2D, Dense, GlobalAveragePool, Layer, MaxPool2D, Sequential
from sideways.network import FRAME, Unit


@dataclass(frozen=True)
class Stage:
    """A unit before it is built: its name, and a function that makes its layers for the shape of its merged input.

    inputs: names of stages before it, or `"frame"`; by default the stage right before it.
    """

    name: str
    layers: Callable[[Shape], list[Layer]]
    inputs: tuple[str, ...] = ()


def read_edges(skip: str | Sequence[str]) -> list[tuple[str, str]]:
    """Read skip edges, written as `"source>consumer"` in a list or with commas."""
    edges: list[tuple[str, str]] = []
    for text in skip.split(",") if isinstance(skip, str) else skip:
        parts = [part.strip() for part in text.split(">")]
        if len(parts) != 2:
            raise InputError(f"a skip edge is written 'conv1>conv4', not {'>'.join(parts)!r}")
        source, consumer = parts
        if (source, consumer) in edges:
            raise InputError(f"skip edge {source}>{consumer} is listed twice")
        edges.append((source, consumer))
    return edges


def wired(stages: list[Stage], input_shape: Shape, skips: list[tuple[str, str]], merge: str) -> list[Unit]:
    """The stages as units: each reads its inputs, and the sources of the skip edges that end in it.

    Raises `InputError` for edges that do not jump upwards, and for frames that do not suit the layers.
    """
    names = [FRAME, *(stage.name for stage in stages)]
    for source, consumer in skips:
        if source not in names or consumer not in names or names.index(consumer) - names.index(source) < 2:
            raise InputError(
                f"skip edge {source}>{consumer}: it must jump over at least one unit, upwards, of {', '.join(names)}"
            )
    shapes, units = {FRAME: input_shape}, []
    for previous, stage in zip(names, stages, strict=False):
        first, *others = stage.inputs or (previous,)
        sources = [first, *others, *(source for source, consumer in skips if consumer == stage.name)]
        adapters = {source: _adapter(shapes[source], shapes[first], merge) for source in sources}
        adapted = [Sequential(adapters[source]).output_shape(shapes[source]) for source in sources]
        channels = sum(shape[-1] for shape in adapted) if merge == "concat" else shapes[first][-1]
        merged = (*shapes[first][:-1], channels)
        try:
            unit = Unit(stage.name, stage.layers(merged), adapters, merge)
            shapes[stage.name] = unit.body.output_shape(merged)
        except InputError as error:
            raise InputError(f"frames of {input_shape} do not suit this model: unit {stage.name!r}, {error}") from None
        units.append(unit)
    return units


def _adapter(shape: Shape, target: Shape, merge: str) -> list[Layer]:
    """The layers that bring an activation to the shape that it is merged with."""
    layers: list[Layer] = []
    if len(shape) == 3 and len(target) == 1:
        layers.append(GlobalAveragePool())
    elif shape[:-1] != target[:-1]:
        factors = (shape[0] // target[0], shape[1] // target[1])
        layers.append(MaxPool2D(factors))
    if merge == "add" and shape[-1] != target[-1]:
        project: Layer = Conv2D(shape[-1], target[-1], kernel=1) if len(target) == 3 else Dense(shape[-1], target[-1])
        layers.append(project)
    return layers
