"""A convolution as one matrix product over the columns of an image (im2col). One of `Conv2D`'s two ways."""

from __future__ import annotations

from sideways.backend import Array, column_sums, contiguous, empty, namespace, windows, zeros
from sideways.layers.windows import Grid, pad


class Columns:
    """Windows of x̃ as the rows of a matrix X (N·Ho·Wo, kh·kw·C), with W (kh·kw·C, O).

    forward     Y = X W + b
    backward    dW = Xᵀ dY        db = Σ rows of dY
                dx̃: for stride 1 a convolution of dy with W turned by 180°, by columns of its own; where those would be
                wider (O > C), or for other strides, the rows of dY Wᵀ are added up where their windows lay

    X is kernel² times as large as x (a 1×1 window is the image itself: nothing is copied).
    """

    def __init__(self, grid: Grid):
        self.grid, self.kernel, self.stride = grid, grid.kernel, grid.stride

    def forward(self, x: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
        """y, and X for the backward pass."""
        columns, outputs = self.again(x, weight), weight.shape[-1]
        y = empty(x, (len(x), *self.grid.output(x.shape[1:]), outputs))
        rows = y.reshape(-1, outputs)
        namespace(x).matmul(columns, weight.reshape(-1, outputs), out=rows)
        rows += bias
        return y, columns

    def again(self, x: Array, weight: Array) -> Array:
        """What `forward` kept, made once more."""
        return _as_rows(self.grid.pad(x), self.kernel, self.stride)

    def backward(
        self, x: Array, weight: Array, dy: Array, columns: Array, input_gradient: bool
    ) -> tuple[Array | None, Array, Array]:
        """(dx, or None if nobody reads it; dW; db)."""
        rows = dy.reshape(-1, dy.shape[-1])
        dw = namespace(x).matmul(columns.T, rows, out=empty(weight, (columns.shape[1], rows.shape[1])))
        dx = None
        if input_gradient:
            turned = self.stride == (1, 1) and weight.shape[-1] <= weight.shape[-2]
            dx = self._turned(x, weight, dy) if turned else self._scattered(x, weight, rows)
        return dx, dw.reshape(weight.shape), column_sums(rows)

    def _turned(self, x: Array, weight: Array, dy: Array) -> Array:
        """dx for stride 1: dy, widened so that each pixel of x meets all windows it was in, convolved with W turned."""
        (kh, kw), (top, bottom, left, right) = self.kernel, self.grid.margins(x.shape[1:])
        widened = pad(dy, (kh - 1 - top, kh - 1 - bottom, kw - 1 - left, kw - 1 - right))
        turned = contiguous(weight[::-1, ::-1].transpose(0, 1, 3, 2))  # (kh, kw, O, C)
        dx = empty(x)
        rows = dx.reshape(-1, x.shape[-1])
        namespace(x).matmul(_as_rows(widened, self.kernel, (1, 1)), turned.reshape(-1, x.shape[-1]), out=rows)
        return dx

    def _scattered(self, x: Array, weight: Array, rows: Array) -> Array:
        """dx for any stride: the gradient of every window, dY Wᵀ, added up where the windows overlap."""
        n, h, w, c = x.shape
        ho, wo = self.grid.output((h, w, c))
        top, bottom, left, right = self.grid.margins((h, w, c))
        of_windows = empty(x, (n, ho, wo, self.kernel[0] * self.kernel[1], c))
        namespace(x).matmul(rows, weight.reshape(-1, weight.shape[-1]).T, out=of_windows.reshape(len(rows), -1))
        padded = zeros(x, (n, top + h + bottom, left + w + right, c))
        for place, pixels in enumerate(self.grid.shifts(padded, (h, w, c))):
            pixels += of_windows[:, :, :, place, :]
        return contiguous(self.grid.unpad(padded, (h, w, c)))


def _as_rows(x: Array, kernel: tuple[int, int], stride: tuple[int, int]) -> Array:
    view = windows(x, kernel, stride)  # (N, Ho, Wo, kh, kw, C)
    rows = view.shape[0] * view.shape[1] * view.shape[2]
    if kernel == stride == (1, 1):
        return x.reshape(rows, -1)
    columns = empty(x, view.shape)
    columns[...] = view
    return columns.reshape(rows, -1)
