"""Winograd's minimal filtering: a 3×3 convolution of stride 1 with a quarter of the multiplications.

`Conv2D` takes it for wide layers. A reader of the learning rules can skip this file.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from sideways.backend import (
    Array,
    Shape,
    column_sums,
    constant,
    contiguous,
    device_of,
    empty,
    for_host,
    fused,
    is_on_device,
    matmul,
    namespace,
    window_kernels,
    window_view,
    zeros,
)
from sideways.layers.windows import Windows, pad

TILE, STEP = 6, 4  # pixels: the size of a tile of x̃, and the distance to the next; a tile yields 4×4 pixels of y
TILES_PER_BLOCK = 200  # stay in a processor's cache from step to step: 10 to 25 % faster than a whole batch
FEW_WEIGHTS = 1 << 13  # up to this product of the channels a copy of Uᵀ saves more time in dM Uᵀ than it costs
BIAS_ROW = 7  # row (1, 1) of M, which Â adds to all 16 pixels of a tile of y: b is added there, at 1/16 of the cost

B_T = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]]
B_T += [[0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
G = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6]]
G += [[1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
A_T = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


class Winograd:
    """F(4×4, 3×3) (Lavin and Gray, 2016): products of tiles in a basis in which a convolution is a plain product.

    One tile d (6, 6) of x̃ and one filter g (3, 3) yield 4×4 pixels of y; ⊙ multiplies element by element:

        y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A            36 multiplications instead of 144

    For P tiles and all channels the four steps are matrix products. With Kronecker's product ⊗: B̂ = Bᵀ⊗Bᵀ (36, 36),
    Ĝ = G⊗G (36, 9), Â = Aᵀ⊗Aᵀ (16, 36); D (36, P·C) holds the tiles, W (9, C·O), Y (16, P·O):

        forward     V = B̂ D          U = Ĝ W          M[k] = V[k] U[k], k = 0 … 35; M[7] += b          Y = Â M
        backward    dM = Âᵀ dY       dU[k] = V[k]ᵀ dM[k]       dV[k] = dM[k] U[k]ᵀ
                    dW = Ĝᵀ dU       db = Σ rows of dM[7]       dD = B̂ᵀ dV, added up where tiles overlap, is dx̃

    Intermediate values are larger than the result, so that float32 loses digits (see `Conv2D`).
    """

    def __init__(self, windows: Windows):
        self.windows = windows

    def forward(self, x: Array, weight: Array, bias: Array, train: bool = True) -> tuple[Array, Any]:
        """Returns y, and (U, the V of each block) for the backward pass, or without `train` (U, [])."""
        outputs = weight.shape[-1]
        count = self._tiles(x.shape[1:])
        _, _, a = transforms(namespace(x), x.dtype, device_of(x))
        u = transformed_weight(weight)
        y = empty(x, (len(x), *self.windows.output(x.shape[1:]), outputs))
        transformed = []
        for block in _blocks(x, count):
            v = self._transformed_tiles(x[block])
            m = matmul(v, u)
            m[BIAS_ROW] += bias
            lay_tiles(_transformed(a, m).reshape(STEP * STEP, -1, *count, outputs), y[block])
            if train:
                transformed.append(v)
        return y, (u, transformed)

    def recompute(self, x: Array, weight: Array) -> Any:
        """(U, the V of each block), as `forward` returns them."""
        blocks = _blocks(x, self._tiles(x.shape[1:]))
        return transformed_weight(weight), [self._transformed_tiles(x[block]) for block in blocks]

    def backward(
        self, x: Array, weight: Array, dy: Array, scratch: Any, input_gradient: bool
    ) -> tuple[Array | None, Array, Array]:
        """Returns dx (None without `input_gradient`), dW and db."""
        (h, w, c), o = x.shape[1:], weight.shape[-1]
        top, _, left, _ = self.windows.margins((h, w, c))
        count = self._tiles((h, w, c))
        b, g, a = transforms(namespace(x), x.dtype, device_of(x))
        u, transformed = scratch
        dx = None
        if input_gradient:
            dx, u_transposed = empty(x), u.transpose(0, 2, 1)
            if c * o <= FEW_WEIGHTS and for_host(u):
                u_transposed = contiguous(u_transposed)  # saves 3 to 6 % of forward and backward
        for block, v in zip(_blocks(x, count), transformed, strict=True):
            dm = _transformed(a.T, tiles(dy[block], STEP, count, 0, 0)).reshape(TILE * TILE, -1, o)
            du_of_block, db_of_block = matmul(v.transpose(0, 2, 1), dm), column_sums(dm[BIAS_ROW])
            if block.start == 0:
                du, db = du_of_block, db_of_block
            else:
                du += du_of_block
                db += db_of_block
            if dx is not None:
                dv = matmul(dm, u_transposed)
                add_tiles(_transformed(b.T, dv).reshape(TILE * TILE, -1, *count, c), dx[block], top, left)
        return dx, _transformed(g.T, du).reshape(weight.shape), db

    def _transformed_tiles(self, x: Array) -> Array:
        """V (36, P, C) of a block of images."""
        top, _, left, _ = self.windows.margins(x.shape[1:])
        b, _, _ = transforms(namespace(x), x.dtype, device_of(x))
        d = tiles(x, TILE, self._tiles(x.shape[1:]), top, left)
        return _transformed(b, d).reshape(TILE * TILE, -1, x.shape[-1])

    def _tiles(self, shape: Shape) -> tuple[int, int]:
        """The rows and columns of tiles on an image (H, W, C); the last may reach beyond y."""
        ho, wo = self.windows.output(shape)
        return -(-ho // STEP), -(-wo // STEP)


def _blocks(x: Array, count: tuple[int, int]) -> list[slice]:
    """Slices of a batch, of about TILES_PER_BLOCK tiles; on a GPU one slice, since every operation costs a launch."""
    samples = len(x) if is_on_device(x) else max(1, round(TILES_PER_BLOCK / (count[0] * count[1])))
    return [slice(first, first + samples) for first in range(0, len(x), samples)]


@fused(window_kernels.tiles)
def tiles(x: Array, size: int, count: tuple[int, int], top: int, left: int) -> Array:
    """Tiles of size × size pixels of images (n, H, W, C), STEP apart: (size², n, th, tw, C).

    The first tile begins `top` rows above and `left` columns left of the image; pixels outside the image are 0.
    """
    (n, h, w, c), (th, tw) = x.shape, count
    bottom, right = (th - 1) * STEP + size - top - h, (tw - 1) * STEP + size - left - w
    view = window_view(pad(x, (top, bottom, left, right)), (size, size), (STEP, STEP))
    d = empty(x, (size, size, n, th, tw, c))
    d[...] = view.transpose(3, 4, 0, 1, 2, 5)
    return d.reshape(size * size, n, th, tw, c)


@fused(window_kernels.lay_tiles)
def lay_tiles(pixels: Array, y: Array) -> None:
    """Lay tiles (16, n, th, tw, O) side by side into images y (n, Ho, Wo, O), as far as these reach."""
    _, n, th, tw, o = pixels.shape
    _lay(pixels.reshape(STEP, STEP, n, th, tw, o), y)


def _lay(pixels: Array, y: Array) -> None:
    """Lay tiles (4, 4, n, th, tw, O), contiguous or not, side by side into images, as `lay_tiles` does."""
    _, _, n, th, tw, o = pixels.shape
    ho, wo = y.shape[1:3]
    whole = y if (ho, wo) == (th * STEP, tw * STEP) else empty(y, (n, th * STEP, tw * STEP, o))
    whole.reshape(n, th, STEP, tw, STEP, o)[...] = pixels.transpose(2, 3, 0, 4, 1, 5)
    if whole is not y:
        y[...] = whole[:, :ho, :wo]


@fused(window_kernels.add_tiles)
def add_tiles(pixels: Array, dx: Array, top: int, left: int) -> None:
    """Write the sum of overlapping tiles (36, n, th, tw, C) into images dx (n, H, W, C); places as for `tiles`.

    The rows that tiles have in common are added first, then the columns: so only a third of all pixels is added.
    """
    _, n, th, tw, c = pixels.shape
    rows = _added_overlaps(pixels.reshape(TILE, TILE * n, th, tw, c), 2, top)
    rows = rows.reshape(STEP, TILE, n, -1, tw, c).transpose(1, 0, 2, 3, 4, 5)
    columns = _added_overlaps(rows, 4, left)  # (4 columns, 4 rows, n, th, tw, C)
    _lay(columns.transpose(1, 0, 2, 3, 4, 5), dx)


def _added_overlaps(pixels: Array, axis: int, margin: int) -> Array:
    """Tiles side by side along an axis (6, …, t, …), STEP pixels apart, as tiles without an overlap (4, …, t, …).

    The first axis holds the pixels of a tile. The first tile of the result begins `margin` pixels, 0 or 1, behind the
    first pixel. Without a margin the result has one tile more, for the last pixels.
    """
    count = pixels.shape[axis]
    more = 1 - margin
    shape = STEP, *pixels.shape[1:axis], count + more, *pixels.shape[axis + 1 :]
    own = zeros(pixels, shape) if more else empty(pixels, shape)

    def part(pixel: Array, first: int, last: int) -> Array:
        return pixel[(slice(None),) * (axis - 1) + (slice(first, last),)]

    for j in range(STEP):
        part(own[j], 0, count)[...] = pixels[j + margin]
    for j in range(STEP + margin, TILE):  # pixels of the next tile
        part(own[j - STEP - margin], 1, count + more)[...] += part(pixels[j], 0, count - margin)
    if margin:  # a pixel of the tile before
        part(own[STEP - 1], 0, count - 1)[...] += part(pixels[0], 1, count)
    return own


@constant
def transforms(xp: ModuleType, dtype: Any, device: int | None) -> tuple[Array, Array, Array]:
    """B̂ (36, 36), Ĝ (36, 9) and Â (16, 36), in this library and dtype. device: see `device_of`."""
    b, g, a = (xp.asarray(rows, dtype) for rows in (B_T, G, A_T))
    return xp.kron(b, b), xp.kron(g, g), xp.kron(a, a)


def transformed_weight(weight: Array) -> Array:
    """U (36, C, O) of a weight (3, 3, C, O)."""
    _, g, _ = transforms(namespace(weight), weight.dtype, device_of(weight))
    return _transformed(g, weight).reshape(-1, *weight.shape[2:])


def _transformed(transform: Array, values: Array) -> Array:
    """The product of a transform (K, L) and values that fill L rows: (K, …)."""
    return matmul(transform, values.reshape(transform.shape[1], -1))
