"""Winograd's minimal filtering: a 3×3 convolution with a quarter of the multiplications. One of `Conv2D`'s two ways."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

from sideways.backend import Array, Shape, column_sums, contiguous, empty, namespace, windows, zeros
from sideways.layers.windows import Grid, pad

TILE, STEP = 6, 4  # pixels: a tile of x̃, and from one to the next; each yields STEP × STEP pixels of y
AT_ONCE = 400  # tiles of a block: what is made of one block is still in the cache when it is used; 10 to 20 % faster
ONES = 7  # the place (1, 1) of a tile, which Aᵀ·A adds to every pixel of y: a bias goes in there, at 1/16 of the cost

B_T = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]]
B_T += [[0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
G = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6]]
G += [[1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
A_T = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


class Winograd:
    """F(4×4, 3×3) (Lavin and Gray, 2016): products of tiles in a basis in which a convolution is a plain product.

    Of one tile d (6, 6) of x̃, one filter g (3, 3) and the 4×4 pixels of y that they yield, with ⊙ element by element:

        y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A            36 multiplications instead of 144

    For P tiles and all channels the four steps are matrix products. ⊗ is Kronecker's product: B̂ = Bᵀ⊗Bᵀ (36, 36),
    Ĝ = G⊗G (36, 9), Â = Aᵀ⊗Aᵀ (16, 36); D (36, P·C) holds the tiles, W (9, C·O), Y (16, P·O):

        forward     V = B̂ D          U = Ĝ W          M[k] = V[k] U[k], k = 1 … 36          Y = Â M
        backward    dM = Âᵀ dY       dU[k] = V[k]ᵀ dM[k]       dV[k] = dM[k] U[k]ᵀ
                    dW = Ĝᵀ dU       dD = B̂ᵀ dV, added up where tiles overlap, is dx̃

    Error: intermediate values are larger than the result, so float32 loses about a digit (see `Conv2D`).
    """

    def __init__(self, grid: Grid):
        self.grid = grid

    def forward(self, x: Array, weight: Array, bias: Array) -> tuple[Array, Any]:
        """y, and (U, the V of each block) for the backward pass."""
        xp, (_, _, c, o) = namespace(x), weight.shape
        (ho, wo), (th, tw) = self.grid.output(x.shape[1:]), self._tiles(x.shape[1:])
        b, g, a = transforms(xp, x.dtype)
        u = _product(g, weight).reshape(-1, c, o)
        y = empty(x, (len(x), th * STEP, tw * STEP, o))
        blocks = []
        for block, tiles in self._blocks(x):
            n = len(tiles)
            d = empty(x, (TILE, TILE, n, th, tw, c))
            d[...] = tiles.transpose(3, 4, 0, 1, 2, 5)
            v = _product(b, d).reshape(-1, n * th * tw, c)
            m = xp.matmul(v, u, out=empty(x, (TILE * TILE, n * th * tw, o)))
            m[ONES] += bias
            pixels = _product(a, m).reshape(STEP, STEP, n, th, tw, o)
            y[block].reshape(n, th, STEP, tw, STEP, o)[...] = pixels.transpose(2, 3, 0, 4, 1, 5)
            blocks.append(v)
        return contiguous(y[:, :ho, :wo]), (u, blocks)

    def again(self, x: Array, weight: Array) -> Any:
        """What `forward` kept, made once more."""
        return self.forward(x, weight, zeros(weight, weight.shape[-1:]))[1]

    def backward(
        self, x: Array, weight: Array, dy: Array, kept: Any, input_gradient: bool
    ) -> tuple[Array | None, Array, Array]:
        """(dx, or None if nobody reads it; dW; db)."""
        xp, (h, w, c), o = namespace(x), x.shape[1:], weight.shape[-1]
        th, tw = self._tiles((h, w, c))
        b, g, a = transforms(xp, x.dtype)
        u, blocks = kept
        whole = pad(dy, (0, th * STEP - dy.shape[1], 0, tw * STEP - dy.shape[2]))
        padded = zeros(x, (len(x), th * STEP + 2, tw * STEP + 2, c)) if input_gradient else None
        du, db = zeros(u), zeros(weight, (o,))
        first = 0
        for v in blocks:
            n = v.shape[1] // (th * tw)
            block, first = slice(first, first + n), first + n
            pixels = empty(dy, (STEP, STEP, n, th, tw, o))
            pixels[...] = whole[block].reshape(n, th, STEP, tw, STEP, o).transpose(2, 4, 0, 1, 3, 5)
            dm = _product(a.T, pixels).reshape(-1, n * th * tw, o)
            db += column_sums(dm[ONES])
            du += xp.matmul(v.transpose(0, 2, 1), dm, out=empty(u))
            if padded is not None:
                dv = xp.matmul(dm, u.transpose(0, 2, 1), out=empty(v))
                dd = _product(b.T, dv).reshape(TILE * TILE, n, th, tw, c)
                for place, tiles in zip(dd, OVERLAPPING.shifts(padded[block], padded.shape[1:]), strict=True):
                    tiles += place
        dw = _product(g.T, du).reshape(weight.shape)
        if padded is None:
            return None, dw, db
        top, _, left, _ = self.grid.margins((h, w, c))
        return contiguous(padded[:, top : top + h, left : left + w]), dw, db

    def _tiles(self, shape: Shape) -> tuple[int, int]:
        """Rows and columns of tiles; the last may reach beyond y."""
        ho, wo = self.grid.output(shape)
        return -(-ho // STEP), -(-wo // STEP)

    def _blocks(self, x: Array) -> Iterator[tuple[slice, Array]]:
        """Blocks of samples, and their tiles (n, th, tw, 6, 6, C) as a view of x̃."""
        (_, h, w, _), (th, tw) = x.shape, self._tiles(x.shape[1:])
        top, _, left, _ = self.grid.margins(x.shape[1:])
        bottom, right = th * STEP + 2 - top - h, tw * STEP + 2 - left - w
        padded = pad(x, (top, bottom, left, right))
        samples = max(1, round(AT_ONCE / (th * tw)))
        for first in range(0, len(x), samples):
            block = slice(first, first + samples)
            yield block, windows(padded[block], (TILE, TILE), (STEP, STEP))


OVERLAPPING = Grid((TILE, TILE), (STEP, STEP), "valid")


@lru_cache
def transforms(xp: ModuleType, dtype: Any) -> tuple[Array, Array, Array]:
    """B̂ (36, 36), Ĝ (36, 9) and Â (16, 36)."""
    squares = (xp.kron(matrix, matrix) for matrix in (xp.asarray(rows, dtype) for rows in (B_T, G, A_T)))
    return tuple(squares)  # type: ignore[return-value]


def _product(transform: Array, values: Array) -> Array:
    """A transform (K, L) of values (L places, …): (K, …)."""
    columns = values.reshape(transform.shape[1], -1)
    return namespace(values).matmul(transform, columns, out=empty(values, (transform.shape[0], columns.shape[1])))
