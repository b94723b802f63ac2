"""Activations: functions of one number, applied to each."""

from __future__ import annotations

from typing import Any

from sideways.backend import Array, empty, namespace
from sideways.errors import InputError
from sideways.layers.base import Gradients, Layer


class ReLU(Layer):
    """The positive part.

    forward     y  = max(x, 0)
    backward    dx = dy · [y > 0]
    """

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y = namespace(x).maximum(x, 0, out=empty(x))
        return y, y

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        y, xp = saved, namespace(dy)
        positive = xp.greater(y, 0, out=empty(y, dtype=bool))
        return xp.multiply(dy, positive, out=empty(dy)), {}


class LeakyReLU(Layer):
    """The positive part, and a little of the negative one.

    forward     y  = max(x, α x)                    0 ≤ α < 1
    backward    dx = dy · ([x > 0] + α [x ≤ 0])
    """

    def __init__(self, slope: float = 0.01):
        if not 0 <= slope < 1:
            raise InputError(f"the slope of LeakyReLU lies in [0, 1), not {slope}")
        self.slope = slope

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        xp = namespace(x)
        y = xp.multiply(x, self.slope, out=empty(x))
        return xp.maximum(x, y, out=y), x

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        xp = namespace(dy)
        dx = xp.multiply(dy, self.slope, out=empty(dy))
        xp.copyto(dx, dy, where=xp.greater(saved, 0, out=empty(saved, dtype=bool)))
        return dx, {}

    def __repr__(self) -> str:
        return f"LeakyReLU({self.slope})"


class Tanh(Layer):
    """The hyperbolic tangent.

    forward     y  = tanh x
    backward    dx = dy · (1 - y²)
    """

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y = namespace(x).tanh(x, out=empty(x))
        return y, y

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        y, xp = saved, namespace(dy)
        dx = xp.multiply(y, y, out=empty(y))
        xp.subtract(1, dx, out=dx)
        dx *= dy
        return dx, {}


class Sigmoid(Layer):
    """The logistic function, through tanh, which does not overflow.

    forward     y  = 1 / (1 + e⁻ˣ) = (1 + tanh(x / 2)) / 2
    backward    dx = dy · y (1 - y)
    """

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        xp = namespace(x)
        y = xp.multiply(x, 0.5, out=empty(x))
        xp.tanh(y, out=y)
        y += 1
        y *= 0.5
        return y, y

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        y, xp = saved, namespace(dy)
        dx = xp.subtract(1, y, out=empty(y))
        dx *= y
        dx *= dy
        return dx, {}


class Square(Layer):
    """The square: where x sums two moments, y holds their product (motion energy, Adelson and Bergen, 1985).

    forward     y  = x²
    backward    dx = 2 x · dy
    """

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        return namespace(x).multiply(x, x, out=empty(x)), x

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        dx = namespace(dy).multiply(dy, saved, out=empty(dy))
        dx *= 2
        return dx, {}
