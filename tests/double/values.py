"""Values that the double computes with: poison, equality to the last bit, products in TensorFloat-32."""

from __future__ import annotations

from typing import Any

import numpy


def poison(like: numpy.ndarray) -> numpy.ndarray:
    """Values that nobody should see: NaN, True or the smallest integer."""
    value = numpy.nan if like.dtype.kind == "f" else True if like.dtype.kind == "b" else numpy.iinfo(like.dtype).min
    return numpy.full(like.shape, value, like.dtype)


def same(one: numpy.ndarray, other: numpy.ndarray) -> bool:
    """True if two arrays are equal to the last bit, NaNs included."""
    return one.tobytes() == other.tobytes()


def product_in_tf32(x: numpy.ndarray, y: numpy.ndarray, **options: Any) -> numpy.ndarray:
    return numpy.matmul(_rounded(x), _rounded(y), **options)


def _rounded(values: numpy.ndarray) -> numpy.ndarray:
    """The values with 10 digits after the first, as TensorFloat-32 takes the factors of a product."""
    if values.dtype != numpy.float32:
        return values
    bits = values.view(numpy.uint32)
    return ((bits + numpy.uint32(1 << 12)) & ~numpy.uint32((1 << 13) - 1)).view(numpy.float32)
