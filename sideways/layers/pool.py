"""Pools: one number for each window of each channel; and the nearest-neighbour upsampling that undoes their size."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

from sideways.backend import (
    Array,
    Shape,
    column_sums_of_each,
    contiguous,
    copied,
    empty,
    equal,
    fused,
    maximum,
    multiply,
    namespace,
    window_kernels,
    zeros,
)
from sideways.layers.base import Layer, ParameterGradients, check_image, pair
from sideways.layers.windows import Windows

BYTES_PER_BLOCK = 1 << 22  # bytes of x that stay in the cache: a third faster than a large batch at once


class _Pool(Layer):
    """Base of the pools over windows of `size`, `stride` apart, in each channel.

    size, stride: one number, or (rows, columns). padding: `"valid"` or `"same"`.
    """

    def __init__(
        self, size: int | tuple[int, int], stride: int | tuple[int, int] | None = None, padding: str = "valid"
    ):
        self.size = pair(size, "size")
        self.windows = Windows(self.size, self.size if stride is None else pair(stride, "stride"), padding)

    def output_shape(self, shape: Shape) -> Shape:
        return (*self.windows.output(shape), shape[2])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.size[0]}×{self.size[1]})"


class MaxPool2D(_Pool):
    """The largest number of each window.

    forward     y[n,i,j,c]  = max_{u,v} x̃[n, s·i+u, s·j+v, c]            x (N, H, W, C) → y (N, Ho, Wo, C)
    backward    each dy goes to the first pixel of its window, row by row, where x̃ = y: to exactly one, also in a tie

    size: of a window, one number, or (rows, columns); stride s: from one to the next, by default the size. padding:
    `"valid"` (windows inside x) or `"same"` (-∞ around it, so that Ho = ⌈H / s⌉). Raises `InputError` for other values.
    """

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y = max_pool(x, self.windows)
        return y, (x, y)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        x, y = saved
        return max_pool_gradient(dy, x, y, self.windows), {}


@fused(window_kernels.max_pool)
def max_pool(x: Array, windows: Windows) -> Array:
    """Return y, the largest number of each window of x̃."""
    padded = windows.pad(x, -float("inf"))
    (kh, kw), (sh, sw), (ho, wo) = windows.kernel, windows.stride, windows.output(x.shape[1:])
    # The largest of each column of a window, then of each row of these: kh + kw - 2 comparisons, not kh·kw - 1.
    columns = reduce(maximum, [padded[:, u : u + sh * (ho - 1) + 1 : sh] for u in range(kh)])
    y = reduce(maximum, [columns[:, :, v : v + sw * (wo - 1) + 1 : sw] for v in range(kw)])
    return contiguous(y)


@fused(window_kernels.max_pool_gradient)
def max_pool_gradient(dy: Array, x: Array, y: Array, windows: Windows) -> Array:
    """Return dx of a max-pool of finite numbers: each dy goes to the first pixel of its window where x̃ = y."""
    n, shape = len(x), x.shape[1:]
    make = empty if windows.tiles_exactly(shape) else zeros
    padded = make(dy, (n, *windows.padded_shape(shape)))
    samples = max(1, BYTES_PER_BLOCK // (math.prod(shape) * dy.itemsize))
    for first in range(0, n, samples):
        block = slice(first, first + samples)
        _distribute(dy[block], x[block], y[block], windows, padded[block])
    return contiguous(windows.unpad(padded, shape))


def _distribute(dy: Array, x: Array, y: Array, windows: Windows, padded: Array) -> None:
    """Write dx̃ of a block of samples into `padded`, which holds zeros where windows overlap or leave gaps."""
    shape = x.shape[1:]
    unclaimed = empty(y, dtype=bool)
    unclaimed.fill(True)  # windows whose gradient has not gone to a pixel yet
    pixels_at = windows.pixels_at_each_offset(windows.pad(x, -float("inf")), shape)
    gradients_at = windows.pixels_at_each_offset(padded, shape)
    for pixels, gradients in zip(pixels_at, gradients_at, strict=True):
        first = equal(pixels, y)
        first &= unclaimed
        unclaimed ^= first
        if windows.overlap:
            gradients += multiply(dy, first)
        else:
            namespace(dy).multiply(dy, first, out=gradients)


class AveragePool2D(_Pool):
    """The mean of each window; padding does not count.

    forward     y[n,i,j,c] = (1 / |window|) Σ_{u,v} x̃[n, s·i+u, s·j+v, c]     x (N, H, W, C) → y (N, Ho, Wo, C)
    backward    every pixel of a window receives dy / |window|

    size, stride and padding: as for `MaxPool2D`, with zeros around x.
    """

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        first, *others = self.windows.pixels_at_each_offset(self.windows.pad(x), x.shape[1:])
        y = copied(first)
        for pixels in others:
            y += pixels
        y *= self._weights(x, x.shape[1:])
        return y, x.shape

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        n, shape = saved[0], saved[1:]
        share = multiply(dy, self._weights(dy, shape))
        padded = zeros(dy, (n, *self.windows.padded_shape(shape)))
        for pixels in self.windows.pixels_at_each_offset(padded, shape):
            pixels += share
        return contiguous(self.windows.unpad(padded, shape)), {}

    def _weights(self, like: Array, shape: Shape) -> Any:
        """1 / |window| for images of this shape (H, W, C), in the library and dtype of `like`.

        One number, or (1, Ho, Wo, 1), one for each window, if some windows reach into the padding.
        """
        if not any(self.windows.margins(shape)):
            return 1.0 / (self.size[0] * self.size[1])
        image = (*shape[:2], 1)
        inside = zeros(like, (1, *image)) + 1
        return 1.0 / sum(self.windows.pixels_at_each_offset(self.windows.pad(inside), image))


class GlobalAveragePool(Layer):
    """The mean of each channel over the whole image.

    forward     y[n,c] = (1 / HW) Σ_{i,j} x[n,i,j,c]       x (N, H, W, C) → y (N, C)
    backward    dx[n,i,j,c] = dy[n,c] / HW
    """

    def output_shape(self, shape: Shape) -> Shape:
        return (check_image(shape)[2],)

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        n, h, w, c = x.shape
        y = column_sums_of_each(x.reshape(n, h * w, c))
        y *= 1.0 / (h * w)
        return y, x.shape

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        n, h, w, c = saved
        dx = empty(dy, saved)
        dx[...] = (dy * (1.0 / (h * w))).reshape(n, 1, 1, c)
        return dx, {}


class Upsample2D(Layer):
    """Each pixel repeated in a block of `size` rows and columns (nearest neighbour), for decoders.

    forward     y[n,i,j,c] = x[n, ⌊i/size⌋, ⌊j/size⌋, c]       x (N, H, W, C) → y (N, H·size, W·size, C)
    backward    dx[n,i,j,c] = the sum of dy over that pixel's block
    """

    def __init__(self, size: int | tuple[int, int] = 2):
        self.size = pair(size, "size")
        self.windows = Windows(self.size, self.size, "valid")

    def output_shape(self, shape: Shape) -> Shape:
        h, w, c = check_image(shape)
        return (h * self.size[0], w * self.size[1], c)

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y = empty(x, (x.shape[0], *self.output_shape(x.shape[1:])))
        for pixels in self.windows.pixels_at_each_offset(y, y.shape[1:]):
            pixels[...] = x
        return y, x.shape

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        dx = zeros(dy, saved)
        for pixels in self.windows.pixels_at_each_offset(dy, dy.shape[1:]):
            dx += pixels
        return dx, {}

    def __repr__(self) -> str:
        return f"Upsample2D({self.size[0]}×{self.size[1]})"
