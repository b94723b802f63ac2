"""Convolution in two dimensions, in one of two ways: as one matrix product, or with fewer multiplications."""

from __future__ import annotations

from typing import Any

import numpy

from sideways.backend import Array, Shape
from sideways.errors import InputError
from sideways.layers.base import Gradients, Layer, check_image, check_scheme, initial_weight, pair
from sideways.layers.columns import Columns
from sideways.layers.windows import Grid
from sideways.layers.winograd import STEP, Winograd

# From where on Winograd's way is faster (`sideways bench layers` shows both):
CHANNELS, WEIGHTS = 16, 512  # channels in and out; and their product
TILES = 64  # of a batch


class Conv2D(Layer):
    """A linear map of every window of an image, the same map everywhere.

    x (N, H, W, C)   W (kh, kw, C, O)   b (O,)   y (N, Ho, Wo, O); x̃ is x with its padding, s the stride

    forward     y[n,i,j,o] = b[o] + Σ_{u,v,c} x̃[n, s·i+u, s·j+v, c] W[u,v,c,o]
    backward    dW[u,v,c,o] = Σ_{n,i,j} x̃[n, s·i+u, s·j+v, c] dy[n,i,j,o]
                db[o] = Σ_{n,i,j} dy[n,i,j,o]
                dx̃[n, s·i+u, s·j+v, c] = Σ_{i,j,o} dy[n,i,j,o] W[u,v,c,o]

    Two ways to compute them, told apart by shapes alone: `Columns`, one matrix product over all windows; and for wide
    3×3 convolutions of stride 1 `Winograd`, with up to four times fewer multiplications.
    In float32 its largest errors are some twenty times those of `Columns`: up to 7e-5 of the root mean square of y, dx
    and dW in vgg8 (`sideways bench layers`).
    What a way keeps for its backward pass is scratch: made again if another forward came in between.

    inputs, outputs: C and O. kernel, stride: one number, or (rows, columns). padding: `"same"` (zeros around x, so that
    Ho = ⌈H / s⌉) or `"valid"` (windows inside x). init: of W, `"he"` or `"glorot"`; b starts at 0. Raises `InputError`
    for numbers below 1 and other words.
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
        self._scratch: Any = None

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
        return (*self.grid.output(shape), self.outputs)

    def multiply_adds(self, shape: Shape) -> int:
        ho, wo, outputs = self.output_shape(shape)
        return ho * wo * outputs * self.inputs * self.kernel[0] * self.kernel[1]

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y, scratch = self.way(x.shape).forward(x, self.weight, self.bias)
        self._forwards += 1
        self._scratch = scratch if train else None
        return y, (x, self._forwards)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        x, number = saved
        way = self.way(x.shape)
        scratch, self._scratch = self._scratch, None
        if scratch is None or number != self._forwards:  # another forward came in between
            scratch = way.again(x, self.weight)
        dx, weight, bias = way.backward(x, self.weight, dy, scratch, self.input_gradient)
        return dx, {"weight": weight, "bias": bias}

    def way(self, shape: Shape) -> Columns | Winograd:
        """How a batch of this shape (N, H, W, C) is convolved."""
        ho, wo = self.grid.output(shape[1:])
        tiles = shape[0] * -(-ho // STEP) * -(-wo // STEP)
        suits = self.kernel == (3, 3) and self.stride == (1, 1)
        wide = min(self.inputs, self.outputs) >= CHANNELS and self.inputs * self.outputs >= WEIGHTS
        return Winograd(self.grid) if suits and wide and tiles >= TILES else Columns(self.grid)

    def __repr__(self) -> str:
        return f"Conv2D({self.inputs}→{self.outputs}, {self.kernel[0]}×{self.kernel[1]})"
