"""An identity path around some layers inside one unit: a residual block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy

from sideways.backend import Array, Shape, add
from sideways.errors import InputError
from sideways.layers.base import Layer, ParameterGradients, Sequential


class Shortcut(Sequential):
    """Layers with a path around them (He et al., 2016).

    Both paths see the same tick: unlike a skip edge between units, a shortcut brings no two frames together.

    forward     y  = H(x) + P(x)               H the layers; P the identity, or the layers of `projection`
    backward    dx = J_Hᵀ dy + J_Pᵀ dy

    Parameters are called `"i.<name>"` (of layer i) and `"projection.i.<name>"` (of layer i of the projection).
    Raises `InputError` if the two paths give different shapes.
    """

    def __init__(self, layers: Iterable[Layer], projection: Iterable[Layer] = ()):
        super().__init__(layers)
        self.projection = Sequential(projection)

    def initialise(self, rng: numpy.random.Generator, dtype: str) -> None:
        super().initialise(rng, dtype)
        self.projection.initialise(rng, dtype)

    def output_shape(self, shape: Shape) -> Shape:
        straight, around = super().output_shape(shape), self.projection.output_shape(shape)
        if straight != around:
            raise InputError(
                f"its layers give {straight}, the path around them {around}; "
                f"a projection such as [Conv2D({shape[-1]}, {straight[-1]}, kernel=1)] makes them fit"
            )
        return straight

    def multiply_adds(self, shape: Shape) -> int:
        return super().multiply_adds(shape) + self.projection.multiply_adds(shape)

    def skip_input_gradient(self) -> None:
        super().skip_input_gradient()
        self.projection.skip_input_gradient()

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        straight, saved = super().forward(x, train)
        around, saved_around = self.projection.forward(x, train)
        return add(straight, around), [saved, saved_around]

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        straight, gradients = super().backward(dy, saved[0])
        around, of_projection = self.projection.backward(dy, saved[1])
        gradients.update({f"projection.{name}": gradient for name, gradient in of_projection.items()})
        if not self.input_gradient:
            return None, gradients
        return add(straight, around), gradients

    def update_statistics(self, saved: Any) -> None:
        super().update_statistics(saved[0])
        self.projection.update_statistics(saved[1])

    def set_position(self, tick: int, first_sample: int) -> None:
        super().set_position(tick, first_sample)
        self.projection.set_position(tick, first_sample)

    @property
    def parameters(self) -> dict[str, Array]:
        around = {f"projection.{name}": value for name, value in self.projection.parameters.items()}
        return super().parameters | around

    @property
    def state(self) -> dict[str, Array]:
        around = {f"projection.{name}": value for name, value in self.projection.state.items()}
        return super().state | around
