"""The newest of several moments, and how each moment differs from the one before it."""

from __future__ import annotations

from typing import Any

from sideways.backend import Array, Shape, copied, empty, multiply, subtract
from sideways.errors import InputError
from sideways.layers.base import Layer, ParameterGradients


class Changes(Layer):
    """The newest moment of a video, and the differences of successive moments.

    x holds m moments of C channels each, the newest first: x₀ = x[t], x₁ = x[t-1], …, x_{m-1}.

    forward     y₀ = x₀,    yₖ = xₖ₋₁ - xₖ              0 < k < m;  x, y (N, …, m C)
    backward    dxₖ = dyₖ₊₁ - dyₖ,    dx₀ = dy₀ + dy₁   with dy_m = 0

    Without the newest moment y₀ is left out, so that y is (N, …, (m - 1) C), and dy₀ is 0.

    A layer with weights can compute differences by itself. But successive frames are nearly equal, so that their
    difference is a small part of what it sees, and is learnt slowly. After `Changes` a batch normalisation can bring
    the differences to the size of the frame.

    moments: m, at least 2. newest: whether y₀ is part of y. Raises `InputError` for fewer moments, and for channels
    that are not m equal groups.
    """

    def __init__(self, moments: int, newest: bool = True):
        if moments < 2:
            raise InputError(f"Changes needs at least two moments, not {moments}")
        self.moments, self.newest = moments, newest

    def output_shape(self, shape: Shape) -> Shape:
        if shape[-1] % self.moments:
            raise InputError(f"the {shape[-1]} channels of {shape} are not {self.moments} moments of equal size")
        return shape if self.newest else (*shape[:-1], shape[-1] - shape[-1] // self.moments)

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        c = x.shape[-1] // self.moments
        if not self.newest:
            return subtract(x[..., :-c], x[..., c:]), c
        y = copied(x)
        y[..., c:] *= -1
        y[..., c:] += x[..., :-c]
        return y, c

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        c, changes = saved, dy[..., saved:] if self.newest else dy
        dx = empty(dy, (*dy.shape[:-1], changes.shape[-1] + c))
        dx[..., :c] = dy[..., :c] if self.newest else 0
        dx[..., c:] = multiply(changes, -1)
        dx[..., :-c] += changes
        return dx, {}

    def __repr__(self) -> str:
        return f"Changes({self.moments}{'' if self.newest else ', newest=False'})"
