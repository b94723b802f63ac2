"""Winograd's minimal filtering: a 3×3 convolution of stride 1 with a quarter of the multiplications.

`Conv2D` takes it for wide layers. A reader of the learning rules can skip this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

from sideways.backend import Array, Shape, column_sums, contiguous, empty, matmul, namespace, window_view, zeros
from sideways.layers.windows import Windows, pad

TILE, STEP = (
    6,
    4,
)  # pixels: the size of a tile of x̃, and the distance to the next; a tile yields 4×4 pixels of y
TILES_PER_BLOCK = (
    400  # the arrays of one block stay in the cache from step to step: 10 to 20 % faster than a whole batch
)
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

        forward     V = B̂ D          U = Ĝ W          M[k] = V[k] U[k], k = 1 … 36          Y = Â M
        backward    dM = Âᵀ dY       dU[k] = V[k]ᵀ dM[k]       dV[k] = dM[k] U[k]ᵀ
                    dW = Ĝᵀ dU       dD = B̂ᵀ dV, added up where tiles overlap, is dx̃

    Intermediate values are larger than the result, so float32 loses about one decimal digit (see `Conv2D`).
    """

    def __init__(self, windows: Windows):
        self.windows = windows

    def forward(self, x: Array, weight: Array, bias: Array) -> tuple[Array, Any]:
        """Returns y, and (U, the V of each block) for the backward pass."""
        c, o = weight.shape[2:]
        (ho, wo), (th, tw) = self.windows.output(x.shape[1:]), self._tiles(x.shape[1:])
        b, g, a = transforms(namespace(x), x.dtype)
        u = _transformed(g, weight).reshape(-1, c, o)
        y = empty(x, (len(x), th * STEP, tw * STEP, o))
        blocks = []
        for block, tiles in self._blocks(x):
            n = len(tiles)
            d = empty(x, (TILE, TILE, n, th, tw, c))
            d[...] = tiles.transpose(3, 4, 0, 1, 2, 5)
            v = _transformed(b, d).reshape(-1, n * th * tw, c)
            m = matmul(v, u)
            m[BIAS_ROW] += bias
            pixels = _transformed(a, m).reshape(STEP, STEP, n, th, tw, o)
            y[block].reshape(n, th, STEP, tw, STEP, o)[...] = pixels.transpose(2, 3, 0, 4, 1, 5)
            blocks.append(v)
        return contiguous(y[:, :ho, :wo]), (u, blocks)

    def recompute(self, x: Array, weight: Array) -> Any:
        """(U, the V of each block), as `forward` returns them."""
        return self.forward(x, weight, zeros(weight, weight.shape[-1:]))[1]

    def backward(
        self, x: Array, weight: Array, dy: Array, scratch: Any, input_gradient: bool
    ) -> tuple[Array | None, Array, Array]:
        """Returns dx (None without `input_gradient`), dW and db."""
        (h, w, c), o = x.shape[1:], weight.shape[-1]
        th, tw = self._tiles((h, w, c))
        b, g, a = transforms(namespace(x), x.dtype)
        u, blocks = scratch
        whole = pad(dy, (0, th * STEP - dy.shape[1], 0, tw * STEP - dy.shape[2]))
        padded = zeros(x, (len(x), th * STEP + 2, tw * STEP + 2, c)) if input_gradient else None
        du, db = zeros(u), zeros(weight, (o,))
        first = 0
        for v in blocks:
            n = v.shape[1] // (th * tw)
            block, first = slice(first, first + n), first + n
            pixels = empty(dy, (STEP, STEP, n, th, tw, o))
            pixels[...] = whole[block].reshape(n, th, STEP, tw, STEP, o).transpose(2, 4, 0, 1, 3, 5)
            dm = _transformed(a.T, pixels).reshape(-1, n * th * tw, o)
            db += column_sums(dm[BIAS_ROW])
            du += matmul(v.transpose(0, 2, 1), dm)
            if padded is not None:
                dv = matmul(dm, u.transpose(0, 2, 1))
                dd = _transformed(b.T, dv).reshape(TILE * TILE, n, th, tw, c)
                pixels_at = OVERLAPPING.pixels_at_each_offset(padded[block], padded.shape[1:])
                for pixels, at_offset in zip(pixels_at, dd, strict=True):
                    pixels += at_offset
        dw = _transformed(g.T, du).reshape(weight.shape)
        if padded is None:
            return None, dw, db
        top, _, left, _ = self.windows.margins((h, w, c))
        return contiguous(padded[:, top : top + h, left : left + w]), dw, db

    def _tiles(self, shape: Shape) -> tuple[int, int]:
        """The rows and columns of tiles on an image (H, W, C); the last may reach beyond y."""
        ho, wo = self.windows.output(shape)
        return -(-ho // STEP), -(-wo // STEP)

    def _blocks(self, x: Array) -> Iterator[tuple[slice, Array]]:
        """Yield blocks of samples, and the tiles of each block (n, th, tw, 6, 6, C) as a view of x̃."""
        (_, h, w, _), (th, tw) = x.shape, self._tiles(x.shape[1:])
        top, _, left, _ = self.windows.margins(x.shape[1:])
        bottom, right = th * STEP + 2 - top - h, tw * STEP + 2 - left - w
        padded = pad(x, (top, bottom, left, right))
        samples = max(1, round(TILES_PER_BLOCK / (th * tw)))
        for first in range(0, len(x), samples):
            block = slice(first, first + samples)
            yield block, window_view(padded[block], (TILE, TILE), (STEP, STEP))


OVERLAPPING = Windows((TILE, TILE), (STEP, STEP), "valid")


@lru_cache
def transforms(xp: ModuleType, dtype: Any) -> tuple[Array, Array, Array]:
    """B̂ (36, 36), Ĝ (36, 9) and Â (16, 36), in this library and dtype."""
    b, g, a = (xp.asarray(rows, dtype) for rows in (B_T, G, A_T))
    return xp.kron(b, b), xp.kron(g, g), xp.kron(a, a)


def _transformed(transform: Array, values: Array) -> Array:
    """The product of a transform (K, L) and values that fill L rows: (K, …)."""
    return matmul(transform, values.reshape(transform.shape[1], -1))
