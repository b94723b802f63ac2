"""Flatten: the step from images to the rows that `Dense` works on."""

from __future__ import annotations

import math
from typing import Any

from sideways.backend import Array, Shape
from sideways.layers.base import Layer, ParameterGradients


class Flatten(Layer):
    """Each sample as one row.

    forward     y  = x as rows            x (N, …) → y (N, I)
    backward    dx = dy in the shape of x
    """

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        return x.reshape(x.shape[0], -1), x.shape

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        return dy.reshape(saved), {}
