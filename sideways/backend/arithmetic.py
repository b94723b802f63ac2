"""Arithmetic on arrays of NumPy or CuPy whose results take their memory from the pool (`empty`).

Layers, losses and optimizers are written with these functions, so that their code reads like their formulas. Results
are C-contiguous and have the dtype of the first array among the arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, wraps
from types import ModuleType
from typing import Any, TypeVar, cast

import numpy

from sideways.backend.arrays import Array, Shape, copied, device_of, empty, namespace, products_in_tf32, tf32
from sideways.backend.blas import is_recording, recorder

F = TypeVar("F", bound=Callable[..., Any])
NUMBER = (int, float)
BOOLEAN = numpy.dtype(bool)
FEW_BYTES = 4096  # smaller results come from NumPy's own allocator, as in the pool


def constant(make: F) -> F:
    """Decorate a function of hashable arguments that makes arrays which never change: each is made once, and kept.

    CUDA graphs read such arrays, so they must neither be given back nor be made while a graph is recorded.
    """

    @cache
    @wraps(make)
    def made(*arguments: Any) -> Any:
        assert not is_recording(), f"{make.__name__}: what is recorded is not there before the graph is launched"
        return make(*arguments)

    return cast(F, made)


def matmul(x: Array, y: Array) -> Array:
    """The matrix product x y: (…, M, K) times (…, K, N) is (…, M, N). On a GPU, in the precision of `use_backend`."""
    return _product(x, y, (*x.shape[:-1], y.shape[-1]), tf32())


def _product(x: Array, y: Array, shape: Shape, in_tf32: bool) -> Array:
    """The matrix product x y, of this shape."""
    out = empty(x, shape)
    if isinstance(x, numpy.ndarray):
        return numpy.matmul(x, y, out=out)
    if (recording := recorder()) is not None:
        return recording.product(x, y, out, in_tf32)
    with products_in_tf32() if in_tf32 else nullcontext():
        return namespace(x).matmul(x, y, out=out)


def dot(x: Array, y: Array) -> Array:
    """Σ x y over all elements of two arrays of one shape: a number of the library, which stays on the device."""
    if recorder() is not None:
        return _product(x.reshape(1, -1), y.reshape(-1, 1), (1, 1), False).reshape(())
    return x.reshape(-1) @ y.reshape(-1)


def add(x: Array, y: Array) -> Array:
    """x + y; y has the shape of x or is repeated along the axes of x."""
    return namespace(x).add(x, y, out=_result(x))


def add_to_rows(x: Array, y: Array) -> None:
    """Add a vector y (C,) to all rows of x (…, C), in place."""
    x, y = in_long_rows(x, y)
    x += y


def multiply_rows(x: Array, y: Array) -> None:
    """Multiply all rows of x (…, C) by a vector y (C,), element by element, in place."""
    x, y = in_long_rows(x, y)
    x *= y


def subtract(x: Array | float, y: Array) -> Array:
    """x - y, where x is an array or one number; y has the shape of the array x or is repeated along its axes."""
    if isinstance(x, NUMBER):
        return namespace(y).subtract(x, y, out=_result(y))
    if x.size < MANY:
        return namespace(x).subtract(x, y, out=_result(x))
    return _of_rows(namespace(x).subtract, x, y)


def multiply(x: Array, y: Array | float) -> Array:
    """x · y, element by element; y is one number, has the shape of x or is repeated along the axes of x."""
    if isinstance(y, NUMBER) or x.size < MANY:
        return namespace(x).multiply(x, y, out=_result(x))
    return _of_rows(namespace(x).multiply, x, y)


def divide(x: Array, y: Array) -> Array:
    """x / y, element by element; y has the shape of x or is repeated along the axes of x."""
    return namespace(x).divide(x, y, out=_result(x))


def maximum(x: Array, y: Array | float) -> Array:
    """The larger of x and y, element by element; y is one number or has the shape of x."""
    if isinstance(y, NUMBER) and isinstance(x, numpy.ndarray) and x.flags.c_contiguous:
        if x.size >= MANY:  # NumPy compares with an array of equal numbers twice as fast as with one number
            out, numbers = empty(x), _equal_numbers(y, (_row_length(x.size, 1),), x.dtype)
            numpy.maximum(x.reshape(-1, len(numbers)), numbers, out=out.reshape(-1, len(numbers)))
            return out
        y = _equal_numbers(y, (), x.dtype)  # half a microsecond less than a number of Python's
    return namespace(x).maximum(x, y, out=_result(x))


def sqrt(x: Array) -> Array:
    """√x, element by element."""
    return namespace(x).sqrt(x, out=_result(x))


def tanh(x: Array) -> Array:
    """tanh x, element by element."""
    return namespace(x).tanh(x, out=_result(x))


def equal(x: Array, y: Any) -> Array:
    """[x = y], element by element; y is one number or has the shape of x: an array of booleans."""
    return namespace(x).equal(x, y, out=_result(x, BOOLEAN))


def greater(x: Array, y: Any) -> Array:
    """[x > y], element by element; y is one number or has the shape of x: an array of booleans."""
    if isinstance(y, NUMBER) and isinstance(x, numpy.ndarray):
        y = _equal_numbers(y, (), x.dtype)  # half a microsecond less than a number of Python's
    return namespace(x).greater(x, y, out=_result(x, BOOLEAN))


def where(condition: Array, x: Array, y: Array) -> Array:
    """x where the condition holds and y elsewhere, element by element."""
    chosen = copied(y)
    namespace(x).copyto(chosen, x, where=condition)
    return chosen


def _result(x: Array, dtype: Any = None) -> Array | None:
    """Memory for a result of x's shape, or None: then NumPy allocates the result itself.

    A product of four numbers then takes 0.57 of the time.
    """
    if x.nbytes < FEW_BYTES and x.ndim and isinstance(x, numpy.ndarray) and x.flags.c_contiguous:
        return None
    return empty(x, dtype=dtype)


def _of_rows(function: Callable[..., Array], x: Array, y: Array) -> Array:
    """The array function(x, y), where y has the shape of x or is repeated along the axes of x."""
    out = empty(x)
    x, y = in_long_rows(x, y)
    function(x, y, out=out.reshape(x.shape))
    return out


LONG = 1024  # numbers in a long row
MANY = 1024  # rows from which on the preparation of long rows pays


def in_long_rows(x: Array, y: Array) -> tuple[Array, Array]:
    """Return views of x (…, C) and y (C,) for an operation on all rows; of other shapes, x and y themselves.

    For each row of 16 numbers NumPy takes longer to begin than to compute: for 8192 rows 89 µs. As 128 rows of 1024
    numbers, for which y is repeated, it takes 41 µs.
    """
    if y.ndim != 1 or x.size < MANY * y.size or not isinstance(x, numpy.ndarray) or not x.flags.c_contiguous:
        return x, y
    channels = y.size
    repeats = _row_length(x.size // channels, channels)
    long_y = numpy.empty((repeats, channels), y.dtype)
    long_y[...] = y
    return x.reshape(-1, repeats * channels), long_y.reshape(-1)


@cache
def _row_length(rows: int, channels: int) -> int:
    """The most rows, a power of two, that divide all rows and together have at most LONG numbers."""
    length = 1
    while rows % (2 * length) == 0 and 2 * length * channels <= LONG:
        length *= 2
    return length


@constant
def _equal_numbers(value: float, shape: Shape, dtype: Any) -> Array:
    return numpy.full(shape, value, dtype)


def column_sums(x: Array) -> Array:
    """Σ over all axes but the last: x (…, C) → (C,).

    Computed as the product 1ᵀ X, which BLAS reads once at the speed of memory; `sum(axis=0)` adds row by row.
    """
    rows = x.reshape(-1, x.shape[-1])
    return _product(_ones(namespace(x), len(rows), x.dtype, device_of(x)), rows, (1, x.shape[-1]), False).reshape(-1)


def column_sums_of_each(x: Array) -> Array:
    """The column sums of each matrix: x (N, M, C) → (N, C), as the products 1ᵀ X."""
    n, m, c = x.shape
    return _product(_ones(namespace(x), m, x.dtype, device_of(x)), x, (n, 1, c), False).reshape(n, c)


@constant
def _ones(xp: ModuleType, count: int, dtype: Any, device: int | None) -> Array:
    """The row vector 1ᵀ (1, count). device: see `device_of`."""
    return xp.ones((1, count), dtype)
