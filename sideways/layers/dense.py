"""The affine layer: two functions, `forward` and `backward`, with their formulas above them."""

from __future__ import annotations

from typing import Any

import numpy

from sideways.backend import Array, Shape, column_sums, matmul
from sideways.errors import InputError
from sideways.layers.base import Layer, ParameterGradients, check_scheme, initial_weight


class Dense(Layer):
    """An affine map of every row.

    forward     y  = x W + b          x (N, I)   W (I, O)   b (O,)   y (N, O)
    backward    dx = dy Wᵀ            (N, I)
                dW = xᵀ dy            (I, O)
                db = Σₙ dyₙ           (O,)

    inputs, outputs: I, O. init: scheme of W, `"he"` or `"glorot"`; b starts at 0. Raises `InputError` for I or O < 1.
    """

    parameter_names = ("weight", "bias")
    weight: Array
    bias: Array

    def __init__(self, inputs: int, outputs: int, init: str = "he"):
        if inputs < 1 or outputs < 1:
            raise InputError(f"Dense needs at least one feature in and out, not {inputs} and {outputs}")
        self.inputs, self.outputs, self.init = inputs, outputs, check_scheme(init)

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y = matmul(x, self.weight)
        y += self.bias
        return y, x  # the backward pass needs only the input

    def backward(self, dy: Array, x: Any) -> tuple[Array, ParameterGradients]:
        gradients = {"weight": matmul(x.T, dy), "bias": column_sums(dy)}
        return (matmul(dy, self.weight.T) if self.input_gradient else None), gradients

    def initialise(self, rng: numpy.random.Generator, dtype: str) -> None:
        weight = initial_weight(rng, (self.inputs, self.outputs), self.inputs, self.outputs, self.init)
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

    def __repr__(self) -> str:
        return f"Dense({self.inputs}→{self.outputs})"
