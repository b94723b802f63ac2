"""Motion compensation by block matching: a guess of a future frame that needs no training, as in video codecs.

For each block of the newest frame, the displacement is searched that explains the block best from the frame before it;
the motion is then taken to go on. Displacements are whole pixels. Source: Jain and Jain, 1981.
"""

from __future__ import annotations

from itertools import product

import numpy

BLOCK = 8  # pixels on a side
REACH = 4  # pixels: the largest displacement between two frames along each axis


def continued(
    earlier: numpy.ndarray, newest: numpy.ndarray, ahead: int, block: int = BLOCK, reach: int = REACH
) -> numpy.ndarray:
    """Guess the frames `ahead` ticks after `newest`, where `earlier` are the frames one tick before; all (T, H, W, C).

        v(B)     = argmin_v Σ_{p ∈ B} (newest[p] - earlier[p - v])²        |v_y|, |v_x| ≤ reach
        guess[p] = newest[p - ahead · v(block of p)]

    Of equally good displacements the shortest is taken. Pixels outside a frame are those at its nearest border.
    """
    t, h, w, _ = newest.shape
    along_axis = range(-reach, reach + 1)
    displacements = numpy.array(sorted(product(along_axis, repeat=2), key=lambda v: v[0] ** 2 + v[1] ** 2))
    rows, columns = numpy.arange(h), numpy.arange(w)
    errors = []
    for dy, dx in displacements:
        shifted = earlier[:, (rows - dy).clip(0, h - 1)][:, :, (columns - dx).clip(0, w - 1)]
        errors.append(_sums_over_blocks(((newest - shifted) ** 2).sum(axis=-1), block))
    best = displacements[numpy.argmin(errors, axis=0)]  # (T, blocks down, blocks across, 2)
    of_pixel = best[:, rows // block][:, :, columns // block]  # (T, H, W, 2)
    from_row = (rows[:, None] - ahead * of_pixel[..., 0]).clip(0, h - 1)
    from_column = (columns - ahead * of_pixel[..., 1]).clip(0, w - 1)
    return newest[numpy.arange(t)[:, None, None], from_row, from_column]


def _sums_over_blocks(x: numpy.ndarray, block: int) -> numpy.ndarray:
    """The sums over blocks of x (T, H, W): (T, ⌈H / block⌉, ⌈W / block⌉); blocks at the end may be smaller."""
    down = numpy.add.reduceat(x, numpy.arange(0, x.shape[1], block), axis=1)
    return numpy.add.reduceat(down, numpy.arange(0, x.shape[2], block), axis=2)
