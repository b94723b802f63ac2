"""Where windows lie on an image: shared by the convolution and the pools."""

from __future__ import annotations

from sideways.backend import Array, Shape, empty
from sideways.errors import InputError
from sideways.layers.base import check_image


class Grid:
    """Windows of `kernel` rows and columns, `stride` apart, over an image.

    `"valid"`: windows lie inside the image, out = ⌊(in - kernel) / stride⌋ + 1. `"same"`: out = ⌈in / stride⌉, the
    image is padded evenly and an odd row or column of padding goes to the bottom / right.
    """

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int], padding: str):
        if padding not in ("same", "valid"):
            raise InputError(f"unknown padding {padding!r}: choose 'same' or 'valid'")
        self.kernel, self.stride, self.padding = kernel, stride, padding

    @property
    def overlaps(self) -> bool:
        """Whether windows share pixels."""
        return self.stride[0] < self.kernel[0] or self.stride[1] < self.kernel[1]

    def covers(self, shape: Shape) -> bool:
        """Whether every pixel of an image (H, W, C) lies in exactly one window."""
        return self.stride == self.kernel and not any(extent % k for extent, k in zip(shape, self.kernel, strict=False))

    def output(self, shape: Shape) -> tuple[int, int]:
        """(Ho, Wo) for an image of this shape (H, W, C)."""
        extent = check_image(shape)[:2]
        if self.padding == "same":
            return -(-extent[0] // self.stride[0]), -(-extent[1] // self.stride[1])
        if extent[0] < self.kernel[0] or extent[1] < self.kernel[1]:
            raise InputError(f"a window of {self.kernel} does not fit into {extent}; padding='same' would")
        return (extent[0] - self.kernel[0]) // self.stride[0] + 1, (extent[1] - self.kernel[1]) // self.stride[1] + 1

    def margins(self, shape: Shape) -> tuple[int, int, int, int]:
        """Rows of padding above and below, columns to the left and right, of an image of this shape (H, W, C)."""
        if self.padding == "valid":
            return 0, 0, 0, 0
        ho, wo = self.output(shape)
        rows = max((ho - 1) * self.stride[0] + self.kernel[0] - shape[0], 0)
        columns = max((wo - 1) * self.stride[1] + self.kernel[1] - shape[1], 0)
        return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2

    def pad(self, x: Array, value: float = 0.0) -> Array:
        """x with its padding around it; x itself where there is none."""
        return pad(x, self.margins(x.shape[1:]), value)

    def unpad(self, padded: Array, shape: Shape) -> Array:
        """The part of a padded array (as a view) that held an image of this shape (H, W, C)."""
        top, _, left, _ = self.margins(shape)
        return padded[:, top : top + shape[0], left : left + shape[1], :]

    def shifts(self, padded: Array, shape: Shape) -> list[Array]:
        """One view per place (u, v) in the window: what all windows hold there, each (N, Ho, Wo, C)."""
        (ho, wo), (sh, sw) = self.output(shape), self.stride
        return [
            padded[:, u : u + sh * (ho - 1) + 1 : sh, v : v + sw * (wo - 1) + 1 : sw, :]
            for u in range(self.kernel[0])
            for v in range(self.kernel[1])
        ]


def pad(x: Array, margins: tuple[int, int, int, int], value: float = 0.0) -> Array:
    """x (N, H, W, C) with rows above and below and columns left and right of it; x itself where there are none."""
    top, bottom, left, right = margins
    if not any(margins):
        return x
    n, h, w, c = x.shape
    padded = empty(x, (n, top + h + bottom, left + w + right, c))
    padded[:, :top] = padded[:, top + h :] = value  # only the border is filled
    padded[:, :, :left] = padded[:, :, left + w :] = value
    padded[:, top : top + h, left : left + w] = x
    return padded
