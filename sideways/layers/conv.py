"""Convolution in two dimensions: one matrix product over all windows (im2col).

Wide 3×3 convolutions are handed over to `winograd.py`, which needs fewer multiplications.
"""

from __future__ import annotations

from typing import Any

import numpy

from sideways.backend import (
    Array,
    Shape,
    add_to_rows,
    column_sums,
    contiguous,
    copied,
    empty,
    for_host,
    fused,
    matmul,
    tf32,
    window_kernels,
    windows_of,
    zeros,
)
from sideways.errors import InputError
from sideways.layers.base import Layer, ParameterGradients, check_image, check_scheme, initial_weight, pair
from sideways.layers.windows import Margins, Windows, pad
from sideways.layers.winograd import STEP, Winograd

# Winograd's algorithm takes .6 to .8 of the time from these sizes on (`sideways bench layers` shows both):
MIN_CHANNELS = 16  # in and out
MIN_PIXELS = 512  # of y, in a batch
MIN_PRODUCTS = 1 << 20  # pixels of y in a batch, times channels in, times channels out
# Two windows are one row (see `Im2col`) up to this product of the channels, or on the host four times as much for few
# channels out, if a batch of y has four times as many pixels: less time, though a third more multiplications for a 3×3
# kernel.
MOST_WEIGHTS = 64
FEW_OUTPUTS = 16


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
        self._algorithms: dict[tuple[Shape, bool, bool], Im2col | Winograd] = {}  # see `algorithm`
        self._forwards = 0  # the number of forward passes so far; the last one left the scratch
        self._scratch: Any = None

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y, scratch = self.algorithm(x.shape).forward(x, self.weight, self.bias, train)
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
        """The algorithm for a batch of this shape (N, H, W, C), chosen once."""
        key = shape, tf32(), for_host()
        if key not in self._algorithms:
            self._algorithms[key] = self._best_algorithm(*key)
        return self._algorithms[key]

    def _best_algorithm(self, shape: Shape, in_tf32: bool, on_host: bool) -> Im2col | Winograd:
        ho, wo = self.windows.output(shape[1:])
        pixels, weights = shape[0] * ho * wo, self.inputs * self.outputs
        wide = min(self.inputs, self.outputs) >= MIN_CHANNELS and pixels * weights >= MIN_PRODUCTS
        tiles = -(-ho // STEP) * -(-wo // STEP)
        many = pixels >= MIN_PIXELS and 2 * ho * wo >= tiles * STEP * STEP  # tiles of y are at least half full
        # Winograd's algorithm computes 3×3 convolutions of stride 1 alone, and pays for many channels and pixels.
        # With the rounding of TensorFloat-32 its intermediate values would lose too many digits.
        if not in_tf32 and self.kernel == (3, 3) and self.stride == (1, 1) and wide and many:
            return Winograd(self.windows)
        most = 4 * MOST_WEIGHTS if self.outputs <= FEW_OUTPUTS and on_host else MOST_WEIGHTS
        few, overlap = weights <= min(most, pixels / 4), self.kernel[1] > self.stride[1]
        return Im2col(self.windows, together=2 if few and overlap and wo % 2 == 0 else 1)

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

    X has kh·kw / s² times as many elements as x (a 1×1 window of stride 1 is a pixel of x: nothing is copied). To copy
    many small windows takes longer than to multiply them. So `together` = k > 1 neighbours in a row of windows, which
    share pixels, can be one row of X; their k·O numbers, which are neighbours in y, are one row of Y. With the matrix
    T (kh·(kw + s (k-1))·C, k·O), which holds W once for each of the neighbours, a = 0 … k-1, and zeros elsewhere:

    forward     T[u, s·a+v, c, a, o] = W[u,v,c,o]       Y = X T + b
    backward    dT = Xᵀ dY        dW[u,v,c,o] = Σₐ dT[u, s·a+v, c, a, o]

    A further pass over Y to add b, and over dY for db, takes up to half as long as the products. So a copy of windows
    with more rows than columns gets a column of ones, and T a row that holds b once for each neighbour. (On a GPU b is
    added afterwards: there rows of odd length are slow to multiply.)

    forward     Y = [X 1] [T; b … b]                    backward    [dT; db₀ … dbₖ₋₁] = [X 1]ᵀ dY        db = Σₐ dbₐ

    windows: of the convolution. together: k, which must divide Wo.
    """

    def __init__(self, windows: Windows, together: int = 1):
        self.windows, self.kernel, self.stride, self.together = windows, windows.kernel, windows.stride, together
        (kh, kw), (sh, sw) = self.kernel, self.stride
        self.joined = Windows((kh, kw + sw * (together - 1)), (sh, sw * together), windows.padding)

    def forward(self, x: Array, weight: Array, bias: Array, train: bool = True) -> tuple[Array, Array]:
        """Returns y, and X or [X 1] for the backward pass."""
        outputs, rows = weight.shape[-1], self.recompute(x, weight)
        if self.together > 1:
            weight = joined_weight(weight, self.together, self.stride[1])
        matrix = weight.reshape(-1, self.together * outputs)
        with_bias = len(matrix) < rows.shape[1]
        y = matmul(rows, matrix_and_bias(matrix, bias) if with_bias else matrix)
        y = y.reshape(len(x), *self.windows.output(x.shape[1:]), outputs)
        if not with_bias:
            add_to_rows(y, bias)
        return y, rows

    def recompute(self, x: Array, weight: Array) -> Array:
        """X or [X 1], as `forward` returns it."""
        joined, shape = self.joined, x.shape[1:]
        (ho, wo), (kh, kw) = joined.output(shape), joined.kernel
        ones = for_host(x) and (kh, kw) != (1, 1) and len(x) * ho * wo > kh * kw * shape[2]
        return windows_as_rows(x, joined.kernel, joined.stride, joined.margins(shape), ones)

    def backward(
        self, x: Array, weight: Array, dy: Array, rows: Array, input_gradient: bool
    ) -> tuple[Array | None, Array, Array]:
        """Returns dx (None without `input_gradient`), dW and db."""
        inputs, outputs = weight.shape[-2:]
        dw = matmul(rows.T, dy.reshape(len(rows), self.together * outputs))
        columns = self.joined.kernel[0] * self.joined.kernel[1] * inputs
        if columns < rows.shape[1]:
            dw, db = dw[:columns], dw[columns].reshape(self.together, outputs).sum(axis=0)
        else:
            db = column_sums(dy)
        if self.together > 1:
            dw = parted_gradient(dw, weight.shape, self.together, self.stride[1])
        dw = dw.reshape(weight.shape)
        if not input_gradient:
            return None, dw, db
        if self.stride == (1, 1) and outputs <= inputs:  # else the rows of the convolution would be wider
            return self.input_gradient_by_convolution(x, weight, dy), dw, db
        return self.input_gradient_by_addition(x, weight, dy.reshape(-1, outputs)), dw, db

    def input_gradient_by_convolution(self, x: Array, weight: Array, dy: Array) -> Array:
        """dx for stride 1: dy, padded until each pixel of x meets all its windows, convolved with W turned by 180°.

        On the host `together` pixels of dx are computed as one row, if they divide W.
        """
        (kh, kw), (top, bottom, left, right) = self.kernel, self.windows.margins(x.shape[1:])
        margins = kh - 1 - top, kh - 1 - bottom, kw - 1 - left, kw - 1 - right
        turned = contiguous(weight[::-1, ::-1].transpose(0, 1, 3, 2))  # (kh, kw, O, C)
        together = self.together if x.shape[2] % self.together == 0 and for_host(dy) else 1
        if together > 1:
            turned = joined_weight(turned, together, 1)
        rows = windows_as_rows(dy, (kh, kw + together - 1), (1, together), margins)
        return matmul(rows, turned.reshape(rows.shape[1], -1)).reshape(x.shape)

    def input_gradient_by_addition(self, x: Array, weight: Array, dy_rows: Array) -> Array:
        """dx for any stride: the gradients of all windows, dY Wᵀ, added up where the windows overlap."""
        dx_rows = matmul(dy_rows, weight.reshape(-1, weight.shape[-1]).T)
        of_windows = dx_rows.reshape(len(x), *self.windows.output(x.shape[1:]), -1, x.shape[-1])
        return add_windows(of_windows, self.windows, x.shape[1:])


def matrix_and_bias(matrix: Array, bias: Array) -> Array:
    """Append k copies of a bias (O,) to a weight (K, k·O) as its last row: (K + 1, k·O)."""
    both = empty(matrix, (len(matrix) + 1, matrix.shape[1]))
    both[:-1] = matrix
    both[-1].reshape(-1, len(bias))[...] = bias
    return both


@fused(window_kernels.joined_weight)
def joined_weight(weight: Array, together: int, stride: int) -> Array:
    """T (kh, kw + s (k-1), C, k, O) of `Im2col`, of a weight (kh, kw, C, O). together: k. stride: s, in columns."""
    kh, kw, inputs, outputs = weight.shape
    joined = zeros(weight, (kh, kw + stride * (together - 1), inputs, together, outputs))
    for a in range(together):
        joined[:, stride * a : stride * a + kw, :, a] = weight
    return joined


@fused(window_kernels.parted_gradient)
def parted_gradient(gradient: Array, shape: Shape, together: int, stride: int) -> Array:
    """The gradient of a weight of this shape, as the sum of the parts of dT; arguments as for `joined_weight`."""
    kh, kw, inputs, outputs = shape
    parts = gradient.reshape(kh, -1, inputs, together, outputs)
    dw = copied(parts[:, :kw, :, 0])
    for a in range(1, together):
        dw += parts[:, stride * a : stride * a + kw, :, a]
    return dw


def windows_as_rows(
    x: Array, kernel: tuple[int, int], stride: tuple[int, int], margins: Margins, ones: bool = False
) -> Array:
    """The windows of images (N, H, W, C), which get margins of zeros, as rows (N·Ho·Wo, kh·kw·C).

    ones: True appends a column of ones, if the windows of host images are copied.
    """
    if kernel == stride == (1, 1) and not any(margins):
        return x.reshape(-1, x.shape[-1])
    return windows_of(pad(x, margins), kernel, stride, ones) if ones else copied_windows(x, kernel, stride, margins)


@fused(window_kernels.copied_windows)
def copied_windows(x: Array, kernel: tuple[int, int], stride: tuple[int, int], margins: Margins) -> Array:
    """The windows of images (N, H, W, C), which get margins of zeros: rows (N·Ho·Wo, kh·kw·C)."""
    return windows_of(pad(x, margins), kernel, stride)


@fused(window_kernels.add_windows)
def add_windows(of_windows: Array, windows: Windows, image: Shape) -> Array:
    """The sum of windows (N, Ho, Wo, kh·kw, C), each in its place, as images (N, H, W, C)."""
    padded = zeros(of_windows, (len(of_windows), *windows.padded_shape(image)))
    for offset, pixels in enumerate(windows.pixels_at_each_offset(padded, image)):
        pixels += of_windows[:, :, :, offset, :]
    return contiguous(windows.unpad(padded, image))
