"""Pools: one number for each window of each channel; and the nearest-neighbour upsampling that undoes their size."""

from __future__ import annotations

from typing import Any

from sideways.backend import Array, Shape, contiguous, empty, namespace, zeros
from sideways.layers.base import Gradients, Layer, check_image, pair
from sideways.layers.windows import Grid

CACHE = 1 << 22  # bytes of x that are worked on at once: a third faster than all of a large batch


class _Pool(Layer):
    """What the pools over windows share: windows of `size`, `stride` apart, in each channel.

    size, stride: one number, or (rows, columns). padding: `"valid"` or `"same"`.
    """

    def __init__(
        self, size: int | tuple[int, int], stride: int | tuple[int, int] | None = None, padding: str = "valid"
    ):
        self.size = pair(size, "size")
        self.grid = Grid(self.size, self.size if stride is None else pair(stride, "stride"), padding)

    def output_shape(self, shape: Shape) -> Shape:
        return (*self.grid.output(shape), shape[2])

    def _scatter(self, shape: Shape, parts: Any, like: Array) -> Array:
        """dx of this shape (N, H, W, C): the sum of one part (N, Ho, Wo, C) for each place in the window."""
        top, bottom, left, right = self.grid.margins(shape[1:])
        padded = zeros(like, (shape[0], top + shape[1] + bottom, left + shape[2] + right, shape[3]))
        for pixels, part in zip(self.grid.shifts(padded, shape[1:]), parts, strict=True):
            pixels += part
        return contiguous(self.grid.unpad(padded, shape[1:]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.size[0]}×{self.size[1]})"


class MaxPool2D(_Pool):
    """The largest number of each window.

    forward     y[n,i,j,c]  = max_{u,v} x̃[n, s·i+u, s·j+v, c]            x (N, H, W, C) → y (N, Ho, Wo, C)
    backward    each dy goes to the first place of its window, row by row, where x̃ = y: to exactly one, also in a tie

    size: of a window, one number, or (rows, columns); stride s: from one to the next, by default the size. padding:
    `"valid"` (windows inside x) or `"same"` (-∞ around it, so that Ho = ⌈H / s⌉). Raises `InputError` for others.
    """

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        padded = self.grid.pad(x, -float("inf"))
        (kh, kw), (sh, sw), (ho, wo) = self.grid.kernel, self.grid.stride, self.grid.output(x.shape[1:])
        rows = _largest(x, [padded[:, u : u + sh * (ho - 1) + 1 : sh] for u in range(kh)])
        y = _largest(x, [rows[:, :, v : v + sw * (wo - 1) + 1 : sw] for v in range(kw)])
        return contiguous(y), (x, y)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        x, y = saved
        n, h, w, c = x.shape
        top, bottom, left, right = self.grid.margins((h, w, c))
        make = empty if self.grid.covers((h, w, c)) else zeros
        padded = make(dy, (n, top + h + bottom, left + w + right, c))
        samples = max(1, CACHE // (h * w * c * dy.itemsize))
        for first in range(0, n, samples):
            block = slice(first, first + samples)
            self._give(dy[block], x[block], y[block], padded[block])
        return contiguous(self.grid.unpad(padded, (h, w, c))), {}

    def _give(self, dy: Array, x: Array, y: Array, padded: Array) -> None:
        xp, shape = namespace(dy), x.shape[1:]
        unclaimed, here, share = empty(y, dtype=bool), empty(y, dtype=bool), empty(dy)
        unclaimed.fill(True)  # windows whose gradient has not been given away
        places = self.grid.shifts(self.grid.pad(x, -float("inf")), shape), self.grid.shifts(padded, shape)
        for pixels, gradients in zip(*places, strict=True):
            xp.equal(pixels, y, out=here)
            here &= unclaimed
            unclaimed ^= here
            if self.grid.overlaps:
                gradients += xp.multiply(dy, here, out=share)
            else:
                xp.multiply(dy, here, out=gradients)


def _largest(like: Array, parts: list[Array]) -> Array:
    """The largest of each element of arrays of the same shape."""
    first, *others = parts
    if not others:
        return first
    largest = empty(like, first.shape)
    for part in others:
        first = namespace(like).maximum(first, part, out=largest)
    return largest


class AveragePool2D(_Pool):
    """The mean of each window; padding does not count.

    forward     y[n,i,j,c] = (1 / |window|) Σ_{u,v} x̃[n, s·i+u, s·j+v, c]     x (N, H, W, C) → y (N, Ho, Wo, C)
    backward    every pixel of a window receives dy / |window|

    Options as those of `MaxPool2D`.
    """

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        first, *others = self.grid.shifts(self.grid.pad(x), x.shape[1:])
        y = empty(x, first.shape)
        y[...] = first
        for pixels in others:
            y += pixels
        y *= self._weights(x)
        return y, x.shape

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        share = namespace(dy).multiply(dy, self._weights(dy, saved), out=empty(dy))
        return self._scatter(saved, [share] * (self.size[0] * self.size[1]), dy), {}

    def _weights(self, like: Array, shape: Shape | None = None) -> Any:
        """1 / |window|: one number, or one for each window (Ho, Wo, 1) where some of them reach into the padding."""
        shape = like.shape if shape is None else shape
        if not any(self.grid.margins(shape[1:])):
            return 1.0 / (self.size[0] * self.size[1])
        inside = zeros(like, (1, *shape[1:3], 1)) + 1
        return 1.0 / sum(self.grid.shifts(self.grid.pad(inside), (*shape[1:3], 1)))


class GlobalAveragePool(Layer):
    """The mean of each channel over the whole image.

    forward     y[n,c] = (1 / HW) Σ_{i,j} x[n,i,j,c]       x (N, H, W, C) → y (N, C)
    backward    dx[n,i,j,c] = dy[n,c] / HW
    """

    def output_shape(self, shape: Shape) -> Shape:
        return (check_image(shape)[2],)

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        n, h, w, c = x.shape
        ones = namespace(x).ones((1, h * w), x.dtype)
        y = ones @ x.reshape(n, h * w, c)  # as products: BLAS adds rows faster than sum(axis=1)
        y *= 1.0 / (h * w)
        return y.reshape(n, c), x.shape

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        n, h, w, c = saved
        dx = empty(dy, saved)
        dx[...] = (dy * (1.0 / (h * w))).reshape(n, 1, 1, c)
        return dx, {}


class Upsample2D(Layer):
    """Each pixel as a block of `size` equal ones (nearest neighbour), for decoders.

    forward     y[n,i,j,c] = x[n, ⌊i/size⌋, ⌊j/size⌋, c]       x (N, H, W, C) → y (N, H·size, W·size, C)
    backward    dx[n,i,j,c] = the sum of dy over that pixel's block
    """

    def __init__(self, size: int | tuple[int, int] = 2):
        self.size = pair(size, "size")
        self.grid = Grid(self.size, self.size, "valid")

    def output_shape(self, shape: Shape) -> Shape:
        h, w, c = check_image(shape)
        return (h * self.size[0], w * self.size[1], c)

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        y = empty(x, (x.shape[0], *self.output_shape(x.shape[1:])))
        for pixels in self.grid.shifts(y, y.shape[1:]):
            pixels[...] = x
        return y, x.shape

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        dx = zeros(dy, saved)
        for pixels in self.grid.shifts(dy, dy.shape[1:]):
            dx += pixels
        return dx, {}

    def __repr__(self) -> str:
        return f"Upsample2D({self.size[0]}×{self.size[1]})"
