"""Convolution in two dimensions: one matrix product over all windows (im2col).

Wide 3×3 convolutions are handed over to `winograd.py`, which needs fewer multiplications.
"""

from __future__ import annotations

from typing import Any

import numpy

from sideways.backend import (
    Array,
    Shape,
    column_sums,
    contiguous,
    empty,
    fused,
    kernels,
    matmul,
    tf32,
    window_view,
    zeros,
)
from sideways.errors import InputError
from sideways.layers.base import Layer, ParameterGradients, check_image, check_scheme, initial_weight, pair
from sideways.layers.windows import Margins, Windows, pad
from sideways.layers.winograd import STEP, Winograd

# Winograd's algorithm is faster from these sizes on (`sideways bench layers` shows both):
MIN_CHANNELS, MIN_WEIGHTS = 16, 512  # channels in and out; and their product
MIN_TILES = 64  # in a batch


class Conv2D(Layer):
    """A linear map of every window of an image, the same map everywhere.

    x (N, H, W, C)   W (kh, kw, C, O)   b (O,)   y (N, Ho, Wo, O); x̃ is x with its padding, s the stride

    forward     y[n,i,j,o] = b[o] + Σ_{u,v,c} x̃[n, s·i+u, s·j+v, c] W[u,v,c,o]
    backward    dW[u,v,c,o] = Σ_{n,i,j} x̃[n, s·i+u, s·j+v, c] dy[n,i,j,o]
                db[o] = Σ_{n,i,j} dy[n,i,j,o]
                dx̃[n, s·i+u, s·j+v, c] = Σ_{i,j,o} dy[n,i,j,o] W[u,v,c,o]

    Two algorithms compute these sums: `Im2col` by one matrix product over all windows and, for wide 3×3 convolutions of
    stride 1, `Winograd` with up to four times fewer multiplications. Shapes and precision alone decide. In float32 the
    largest errors of `Winograd` are some twenty times those of `Im2col`: up to 7e-5 of the root mean square of y, dx
    and dW in vgg8 (`sideways bench layers`).
    An algorithm keeps scratch memory for the backward pass, and recomputes its content if another forward pass came in
    between.

    inputs, outputs: C and O. kernel, stride: one number, or (rows, columns). padding: `"same"` (zeros around x, so that
    Ho = ⌈H / s⌉) or `"valid"` (windows inside x). init: of W, see `initial_weight`; b starts at 0. Raises `InputError`
    for numbers below 1 and unknown words.
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
        self.windows = Windows(self.kernel, self.stride, padding)
        self.init = check_scheme(init)
        self._forwards = 0  # the number of forward passes so far; the last one left the scratch
        self._scratch: Any = None

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y, scratch = self.algorithm(x.shape).forward(x, self.weight, self.bias)
        self._forwards += 1
        self._scratch = scratch if train else None
        return y, (x, self._forwards)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        x, number = saved
        algorithm = self.algorithm(x.shape)
        scratch, self._scratch = self._scratch, None
        if scratch is None or number != self._forwards:  # another forward pass came in between
            scratch = algorithm.recompute(x, self.weight)
        dx, weight, bias = algorithm.backward(x, self.weight, dy, scratch, self.input_gradient)
        return dx, {"weight": weight, "bias": bias}

    def algorithm(self, shape: Shape) -> Im2col | Winograd:
        """The algorithm for a batch of this shape (N, H, W, C)."""
        ho, wo = self.windows.output(shape[1:])
        tiles = shape[0] * -(-ho // STEP) * -(-wo // STEP)
        wide = min(self.inputs, self.outputs) >= MIN_CHANNELS and self.inputs * self.outputs >= MIN_WEIGHTS
        # Winograd's algorithm computes 3×3 convolutions of stride 1 alone, and pays for many channels and large images.
        # With the rounding of TensorFloat-32 its intermediate values would lose too many digits.
        if not tf32() and self.kernel == (3, 3) and self.stride == (1, 1) and wide and tiles >= MIN_TILES:
            return Winograd(self.windows)
        return Im2col(self.windows)

    def initialise(self, rng: numpy.random.Generator, dtype: str) -> None:
        area = self.kernel[0] * self.kernel[1]
        shape = (*self.kernel, self.inputs, self.outputs)
        weight = initial_weight(rng, shape, area * self.inputs, area * self.outputs, self.init)
        self.set_arrays(dtype, weight=weight, bias=numpy.zeros(self.outputs))

    def output_shape(self, shape: Shape) -> Shape:
        channels = check_image(shape)[2]
        if channels != self.inputs:
            raise InputError(
                f"expects {self.inputs} channels, its input {shape} has {channels}; "
                f"Conv2D({channels}, {self.outputs}, …) would fit"
            )
        return (*self.windows.output(shape), self.outputs)

    def multiply_adds(self, shape: Shape) -> int:
        ho, wo, outputs = self.output_shape(shape)
        return ho * wo * outputs * self.inputs * self.kernel[0] * self.kernel[1]

    def __repr__(self) -> str:
        return f"Conv2D({self.inputs}→{self.outputs}, {self.kernel[0]}×{self.kernel[1]})"


class Im2col:
    """A convolution as one matrix product: the windows of x̃ are the rows of a matrix X (N·Ho·Wo, kh·kw·C).

    forward     Y = X W + b                             W (kh·kw·C, O)   Y (N·Ho·Wo, O)
    backward    dW = Xᵀ dY        db = Σ rows of dY
                dx: see `input_gradient_by_convolution` and `input_gradient_by_addition`

    X has kh·kw / s² times as many elements as x (a 1×1 window of stride 1 is a pixel of x: nothing is copied).
    """

    def __init__(self, windows: Windows):
        self.windows, self.kernel, self.stride = windows, windows.kernel, windows.stride

    def forward(self, x: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Returns y, and X for the backward pass."""
        outputs = weight.shape[-1]
        rows = self.recompute(x, weight)
        y = matmul(rows, weight.reshape(-1, outputs))
        y += bias
        return y.reshape(len(x), *self.windows.output(x.shape[1:]), outputs), rows

    def recompute(self, x: Array, weight: Array) -> Array:
        """X, as `forward` returns it."""
        return windows_as_rows(x, self.kernel, self.stride, self.windows.margins(x.shape[1:]))

    def backward(
        self, x: Array, weight: Array, dy: Array, rows: Array, input_gradient: bool
    ) -> tuple[Array | None, Array, Array]:
        """Returns dx (None without `input_gradient`), dW and db."""
        inputs, outputs = weight.shape[-2:]
        dy_rows = dy.reshape(-1, outputs)
        dw = matmul(rows.T, dy_rows).reshape(weight.shape)
        db = column_sums(dy_rows)
        if not input_gradient:
            return None, dw, db
        if self.stride == (1, 1) and outputs <= inputs:  # else the rows of the convolution would be wider
            return self.input_gradient_by_convolution(x, weight, dy), dw, db
        return self.input_gradient_by_addition(x, weight, dy_rows), dw, db

    def input_gradient_by_convolution(self, x: Array, weight: Array, dy: Array) -> Array:
        """dx for stride 1: dy, padded until each pixel of x meets all its windows, convolved with W turned by 180°."""
        (kh, kw), (top, bottom, left, right) = self.kernel, self.windows.margins(x.shape[1:])
        margins = kh - 1 - top, kh - 1 - bottom, kw - 1 - left, kw - 1 - right
        turned = contiguous(weight[::-1, ::-1].transpose(0, 1, 3, 2))  # (kh, kw, O, C)
        rows = windows_as_rows(dy, self.kernel, (1, 1), margins)
        return matmul(rows, turned.reshape(-1, x.shape[-1])).reshape(x.shape)

    def input_gradient_by_addition(self, x: Array, weight: Array, dy_rows: Array) -> Array:
        """dx for any stride: the gradients of all windows, dY Wᵀ, added up where the windows overlap."""
        dx_rows = matmul(dy_rows, weight.reshape(-1, weight.shape[-1]).T)
        of_windows = dx_rows.reshape(len(x), *self.windows.output(x.shape[1:]), -1, x.shape[-1])
        return add_windows(of_windows, self.windows, x.shape[1:])


def windows_as_rows(x: Array, kernel: tuple[int, int], stride: tuple[int, int], margins: Margins) -> Array:
    """The windows of images (N, H, W, C), which get margins of zeros, as rows (N·Ho·Wo, kh·kw·C)."""
    if kernel == stride == (1, 1) and not any(margins):
        return x.reshape(-1, x.shape[-1])
    rows = copied_windows(x, kernel, stride, margins)
    return rows.reshape(-1, kernel[0] * kernel[1] * x.shape[-1])


@fused(kernels.copied_windows)
def copied_windows(x: Array, kernel: tuple[int, int], stride: tuple[int, int], margins: Margins) -> Array:
    """The windows of images (N, H, W, C), which get margins of zeros: (N, Ho, Wo, kh, kw, C)."""
    view = window_view(pad(x, margins), kernel, stride)
    windows = empty(x, view.shape)
    windows[...] = view
    return windows


@fused(kernels.add_windows)
def add_windows(of_windows: Array, windows: Windows, image: Shape) -> Array:
    """The sum of windows (N, Ho, Wo, kh·kw, C), each in its place, as images (N, H, W, C)."""
    padded = zeros(of_windows, (len(of_windows), *windows.padded_shape(image)))
    for offset, pixels in enumerate(windows.pixels_at_each_offset(padded, image)):
        pixels += of_windows[:, :, :, offset, :]
    return contiguous(windows.unpad(padded, image))
