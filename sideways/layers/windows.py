"""The geometry of windows on an image, shared by the convolution and the pools."""

from __future__ import annotations

from sideways.backend import Array, Shape, empty
from sideways.errors import InputError
from sideways.layers.base import check_image

Margins = tuple[int, int, int, int]  # rows of padding above and below an image, columns to its left and right


class Windows:
    """Windows of `kernel` rows and columns, `stride` apart, over an image.

    `"valid"`: windows lie inside the image, out = ⌊(in - kernel) / stride⌋ + 1. `"same"`: out = ⌈in / stride⌉; the
    image is padded evenly, and an odd row or column of padding goes to the bottom or right. Shapes are (H, W, C).
    """

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int], padding: str):
        if padding not in ("same", "valid"):
            raise InputError(f"unknown padding {padding!r}: choose 'same' or 'valid'")
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self._outputs: dict[Shape, tuple[int, int]] = {}  # shape of an image → (Ho, Wo), once computed
        self._margins: dict[Shape, Margins] = {}  # shape of an image → its margins, once computed

    @property
    def overlap(self) -> bool:
        """True if windows share pixels."""
        return self.stride[0] < self.kernel[0] or self.stride[1] < self.kernel[1]

    def tiles_exactly(self, shape: Shape) -> bool:
        """True if every pixel of an image of this shape lies in exactly one window."""
        return self.stride == self.kernel and not any(extent % k for extent, k in zip(shape, self.kernel, strict=False))

    def output(self, shape: Shape) -> tuple[int, int]:
        """The rows and columns of windows (Ho, Wo) on an image of this shape.

        Raises `InputError` if a window without padding is larger than the image.
        """
        if shape not in self._outputs:
            self._outputs[shape] = self._output(shape)
        return self._outputs[shape]

    def _output(self, shape: Shape) -> tuple[int, int]:
        h, w, _ = check_image(shape)
        (kh, kw), (sh, sw) = self.kernel, self.stride
        if self.padding == "same":
            return -(-h // sh), -(-w // sw)
        if h < kh or w < kw:
            raise InputError(f"a window of {self.kernel} does not fit into {(h, w)}; padding='same' would")
        return (h - kh) // sh + 1, (w - kw) // sw + 1

    def margins(self, shape: Shape) -> Margins:
        """The padding around an image of this shape."""
        if shape not in self._margins:
            self._margins[shape] = self._margins_of(shape)
        return self._margins[shape]

    def _margins_of(self, shape: Shape) -> Margins:
        if self.padding == "valid":
            return 0, 0, 0, 0
        ho, wo = self.output(shape)
        rows = max((ho - 1) * self.stride[0] + self.kernel[0] - shape[0], 0)
        columns = max((wo - 1) * self.stride[1] + self.kernel[1] - shape[1], 0)
        return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2

    def padded_shape(self, shape: Shape) -> Shape:
        """The shape of an image of this shape with its padding."""
        top, bottom, left, right = self.margins(shape)
        return top + shape[0] + bottom, left + shape[1] + right, shape[2]

    def pad(self, x: Array, value: float = 0.0) -> Array:
        """Images x (N, H, W, C) with padding of this value around each; x itself if there is no padding."""
        return pad(x, self.margins(x.shape[1:]), value)

    def unpad(self, padded: Array, shape: Shape) -> Array:
        """The part of padded images, as a view, that held images of this shape."""
        top, _, left, _ = self.margins(shape)
        return padded[:, top : top + shape[0], left : left + shape[1], :]

    def pixels_at_each_offset(self, padded: Array, shape: Shape) -> list[Array]:
        """Views of padded images: for each offset (u, v) in a window, row by row, that pixel of all windows.

        Each view is (N, Ho, Wo, C). shape: of an image without its padding.
        """
        (ho, wo), (sh, sw) = self.output(shape), self.stride
        return [
            padded[:, u : u + sh * (ho - 1) + 1 : sh, v : v + sw * (wo - 1) + 1 : sw, :]
            for u in range(self.kernel[0])
            for v in range(self.kernel[1])
        ]


def pad(x: Array, margins: Margins, value: float = 0.0) -> Array:
    """Images x (N, H, W, C) with rows above and below and columns left and right of each; x itself for no margins."""
    top, bottom, left, right = margins
    if not any(margins):
        return x
    n, h, w, c = x.shape
    padded = empty(x, (n, top + h + bottom, left + w + right, c))
    padded[:, :top] = padded[:, top + h :] = value  # only the border is filled
    padded[:, :, :left] = padded[:, :, left + w :] = value
    padded[:, top : top + h, left : left + w] = x
    return padded
