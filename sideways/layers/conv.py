"""Convolution in two dimensions, as matrix products over the columns of the image."""

from __future__ import annotations

from typing import Any

import numpy

from sideways.backend import Array, Shape, column_sums, contiguous, empty, namespace, windows, zeros
from sideways.errors import InputError
from sideways.layers.base import Gradients, Layer, check_image, check_scheme, initial_weight, pair
from sideways.layers.padding import Grid, pad


class Conv2D(Layer):
    """A linear map of every window of an image, the same map everywhere.

    x (N, H, W, C)   W (kh, kw, C, O)   b (O,)   y (N, Ho, Wo, O); x̃ is x with its padding, s the stride

    forward     y[n,i,j,o] = b[o] + Σ_{u,v,c} x̃[n, s·i+u, s·j+v, c] W[u,v,c,o]
                that is, Y = X W + b with the windows of x̃ as rows: X (N·Ho·Wo, kh·kw·C), W (kh·kw·C, O)
    backward    dW = Xᵀ dY            (kh·kw·C, O)
                db = Σ rows of dY     (O,)
                dx̃[n, s·i+u, s·j+v, c] = Σ_{i,j,o} dy[n,i,j,o] W[u,v,c,o]
                for s = 1 that is a convolution of dy with W turned by 180°; else the rows of dY Wᵀ are added up
                where their windows lay

    The columns X are kernel² times as large as x: they are scratch, made again if another forward came in between.
    """

    parameter_names = ("weight", "bias")
    weight: Array
    bias: Array

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str = "same",
        init: str = "he",
    ):
        if inputs < 1 or outputs < 1:
            raise InputError(f"Conv2D needs at least one channel in and out, not {inputs} and {outputs}")
        self.inputs, self.outputs = inputs, outputs
        self.kernel, self.stride = pair(kernel, "kernel"), pair(stride, "stride")
        self.grid = Grid(self.kernel, self.stride, padding)
        self.init = check_scheme(init)
        self._forwards = 0  # counts forwards: the number of the one that the scratch below belongs to
        self._columns: Array | None = None

    def initialise(self, rng: numpy.random.Generator, dtype: str) -> None:
        area = self.kernel[0] * self.kernel[1]
        shape = (*self.kernel, self.inputs, self.outputs)
        weight = initial_weight(rng, shape, area * self.inputs, area * self.outputs, self.init)
        self.place(dtype, weight=weight, bias=numpy.zeros(self.outputs))

    def output_shape(self, shape: Shape) -> Shape:
        channels = check_image(shape)[2]
        if channels != self.inputs:
            raise InputError(
                f"expects {self.inputs} channels, its input {shape} has {channels}; "
                f"Conv2D({channels}, {self.outputs}, …) would fit"
            )
        return (*self.grid.output(shape), self.outputs)

    def multiply_adds(self, shape: Shape) -> int:
        ho, wo, outputs = self.output_shape(shape)
        return ho * wo * outputs * self.inputs * self.kernel[0] * self.kernel[1]

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        columns = self._windows_as_rows(x)
        y = empty(x, (x.shape[0], *self.output_shape(x.shape[1:])))
        rows = y.reshape(-1, self.outputs)
        namespace(x).matmul(columns, self.weight.reshape(-1, self.outputs), out=rows)
        rows += self.bias
        self._forwards += 1
        self._columns = columns if train else None
        return y, (x, self._forwards)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        x, number = saved
        columns, self._columns = self._columns, None
        if columns is None or number != self._forwards:  # another forward came in between
            columns = self._windows_as_rows(x)
        rows = dy.reshape(-1, self.outputs)
        gradients = {"weight": (columns.T @ rows).reshape(self.weight.shape), "bias": column_sums(rows)}
        del columns
        if not self.input_gradient:
            return None, gradients
        return (self._turned(x, dy) if self.stride == (1, 1) else self._scattered(x, rows)), gradients

    def _windows_as_rows(self, x: Array) -> Array:
        """X (N·Ho·Wo, kh·kw·C): each window of the padded image as a row (a 1×1 window is the image itself)."""
        return _as_rows(self.grid.pad(x), self.kernel, self.stride)

    def _turned(self, x: Array, dy: Array) -> Array:
        """dx for stride 1: dy, widened so that each pixel of x meets all windows it was in, convolved with W turned."""
        (kh, kw), (top, bottom, left, right) = self.kernel, self.grid.margins(x.shape[1:])
        widened = pad(dy, (kh - 1 - top, kh - 1 - bottom, kw - 1 - left, kw - 1 - right))
        turned = contiguous(self.weight[::-1, ::-1].transpose(0, 1, 3, 2))  # (kh, kw, O, C)
        dx = empty(x)
        rows = dx.reshape(-1, self.inputs)
        namespace(x).matmul(_as_rows(widened, self.kernel, (1, 1)), turned.reshape(-1, self.inputs), out=rows)
        return dx

    def _scattered(self, x: Array, rows: Array) -> Array:
        """dx for any stride: the gradient of every window, dY Wᵀ, added up where the windows overlap."""
        n, h, w, c = x.shape
        ho, wo = self.grid.output((h, w, c))
        top, bottom, left, right = self.grid.margins((h, w, c))
        of_windows = empty(x, (n, ho, wo, self.kernel[0] * self.kernel[1], c))
        weight = self.weight.reshape(-1, self.outputs)
        namespace(x).matmul(rows, weight.T, out=of_windows.reshape(rows.shape[0], -1))
        padded = zeros(x, (n, top + h + bottom, left + w + right, c))
        for place, pixels in enumerate(self.grid.shifts(padded, (h, w, c))):
            pixels += of_windows[:, :, :, place, :]
        return contiguous(self.grid.unpad(padded, (h, w, c)))

    def __repr__(self) -> str:
        return f"Conv2D({self.inputs}→{self.outputs}, {self.kernel[0]}×{self.kernel[1]})"


def _as_rows(x: Array, kernel: tuple[int, int], stride: tuple[int, int]) -> Array:
    view = windows(x, kernel, stride)  # (N, Ho, Wo, kh, kw, C)
    rows = view.shape[0] * view.shape[1] * view.shape[2]
    if kernel == stride == (1, 1):
        return x.reshape(rows, -1)
    columns = empty(x, view.shape)
    columns[...] = view
    return columns.reshape(rows, -1)
