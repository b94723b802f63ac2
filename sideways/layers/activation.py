"""Activations: functions of one number, applied to every element of an array."""

from __future__ import annotations

from typing import Any

from sideways.backend import Array, fused, greater, kernels, maximum, multiply, subtract, tanh, where
from sideways.errors import InputError
from sideways.layers.base import Layer, ParameterGradients


class ReLU(Layer):
    """The positive part.

    forward     y  = max(x, 0)
    backward    dx = dy · [y > 0]
    """

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y = maximum(x, 0)
        return y, y

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        y = saved
        return relu_gradient(dy, y), {}


@fused(kernels.relu_gradient)
def relu_gradient(dy: Array, y: Array) -> Array:
    """Return dx = dy · [y > 0]."""
    return multiply(dy, greater(y, 0))


class LeakyReLU(Layer):
    """The positive part, and a little of the negative one.

    forward     y  = max(x, α x)                    0 ≤ α < 1
    backward    dx = dy · ([x > 0] + α [x ≤ 0])

    slope: α. Raises `InputError` for an α outside [0, 1).
    """

    def __init__(self, slope: float = 0.01):
        if not 0 <= slope < 1:
            raise InputError(f"the slope of LeakyReLU lies in [0, 1), not {slope}")
        self.slope = slope

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        return maximum(x, multiply(x, self.slope)), x

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        x = saved
        return where(greater(x, 0), dy, multiply(dy, self.slope)), {}

    def __repr__(self) -> str:
        return f"LeakyReLU({self.slope})"


class Tanh(Layer):
    """The hyperbolic tangent.

    forward     y  = tanh x
    backward    dx = dy · (1 - y²)
    """

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y = tanh(x)
        return y, y

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        y = saved
        dx = subtract(1, multiply(y, y))
        dx *= dy
        return dx, {}


class Sigmoid(Layer):
    """The logistic function, computed through tanh, which does not overflow.

    forward     y  = 1 / (1 + e⁻ˣ) = (1 + tanh(x / 2)) / 2
    backward    dx = dy · y (1 - y)
    """

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y = tanh(multiply(x, 0.5))
        y += 1
        y *= 0.5
        return y, y

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        y = saved
        dx = subtract(1, y)
        dx *= y
        dx *= dy
        return dx, {}


class Square(Layer):
    """The square: where x sums two moments, y holds their product (motion energy, Adelson and Bergen, 1985).

    forward     y  = x²
    backward    dx = 2 x · dy
    """

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        return multiply(x, x), x

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        x = saved
        dx = multiply(dy, x)
        dx *= 2
        return dx, {}
