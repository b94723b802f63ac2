"""The affine layer, and the one that makes rows of images for it."""

from __future__ import annotations

import math
from typing import Any

import numpy

from sideways.backend import Array, Shape, column_sums, empty, namespace
from sideways.errors import InputError
from sideways.layers.base import Gradients, Layer, check_scheme, initial_weight


class Dense(Layer):
    """An affine map of every row.

    forward     y  = x W + b          x (N, I)   W (I, O)   b (O,)   y (N, O)
    backward    dx = dy Wᵀ            (N, I)
                dW = xᵀ dy            (I, O)
                db = Σₙ dyₙ           (O,)

    inputs, outputs: I and O. init: of W, `"he"` or `"glorot"`; b starts at 0. Raises `InputError` for numbers below 1.
    """

    parameter_names = ("weight", "bias")
    weight: Array
    bias: Array

    def __init__(self, inputs: int, outputs: int, init: str = "he"):
        if inputs < 1 or outputs < 1:
            raise InputError(f"Dense needs at least one feature in and out, not {inputs} and {outputs}")
        self.inputs, self.outputs = inputs, outputs
        self.init = check_scheme(init)

    def initialise(self, rng: numpy.random.Generator, dtype: str) -> None:
        shape = (self.inputs, self.outputs)
        weight = initial_weight(rng, shape, self.inputs, self.outputs, self.init)
        self.set_arrays(dtype, weight=weight, bias=numpy.zeros(self.outputs))

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise InputError(f"needs a vector (I,), not {shape}; put Flatten() or GlobalAveragePool() before it")
        if shape[0] != self.inputs:
            raise InputError(
                f"expects {self.inputs} features, its input has {shape[0]}; Dense({shape[0]}, {self.outputs}) would fit"
            )
        return (self.outputs,)

    def multiply_adds(self, shape: Shape) -> int:
        return self.inputs * self.outputs

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y = empty(x, (x.shape[0], self.outputs))
        namespace(x).matmul(x, self.weight, out=y)
        y += self.bias
        return y, x

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        x = saved
        gradients = {"weight": x.T @ dy, "bias": column_sums(dy)}
        if not self.input_gradient:
            return None, gradients
        dx = empty(x)
        namespace(x).matmul(dy, self.weight.T, out=dx)
        return dx, gradients

    def __repr__(self) -> str:
        return f"Dense({self.inputs}→{self.outputs})"


class Flatten(Layer):
    """Each sample as one row: (N, …) → (N, I). Backward gives the row its shape again."""

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        return x.reshape(x.shape[0], -1), x.shape

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        return dy.reshape(saved), {}
