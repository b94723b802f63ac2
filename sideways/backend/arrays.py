"""The file that knows NumPy from CuPy: the array namespace, transfers, memory, seeds, strided windows.

Layers, losses, rules and optimizers ask here for everything an array library does differently from another. They take
their namespace from the arrays they are given (`namespace(x)`), so host and device networks can live side by side.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy

from sideways.backend.pool import memory_pool
from sideways.errors import InputError

Array = Any  # a numpy.ndarray or a cupy.ndarray
Shape = tuple[int, ...]

BACKENDS = ("numpy", "cupy")
_chosen: ModuleType | None = None


def use_backend(name: str) -> None:
    """Choose where new networks live: `"numpy"` (the default) or `"cupy"`. `SIDEWAYS_BACKEND` does the same.

    Raises `InputError` for an unknown name, when CuPy is not installed and when there is no GPU it can use.
    """
    global _chosen
    if name not in BACKENDS:
        raise InputError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}")
    _chosen = numpy if name == "numpy" else _load_cupy()


def default_backend() -> str:
    """What `SIDEWAYS_BACKEND` names, else `"numpy"`."""
    return os.environ.get("SIDEWAYS_BACKEND") or "numpy"


def _current() -> ModuleType:
    """The namespace chosen, by `use_backend` or, at the first need, by the environment."""
    if _chosen is None:
        use_backend(default_backend())
    assert _chosen is not None
    return _chosen


def _load_cupy() -> ModuleType:
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        raise InputError(
            "backend 'cupy': CuPy is not installed; pip install '.[cuda12]' or '.[cuda13]' in the clone"
        ) from None
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own CUDARuntimeError, or a loader error where the driver is missing
        raise InputError(
            f"backend 'cupy': CuPy is installed but finds no usable GPU ({error}); install the NVIDIA driver"
        ) from None
    if devices == 0:
        raise InputError("backend 'cupy': CuPy is installed but this machine shows no GPU; check nvidia-smi")
    return cupy


def backend_name() -> str:
    """The name of the backend on which new networks are built."""
    return _current().__name__


def on_device() -> bool:
    """Whether new arrays live on a GPU."""
    return _current() is not numpy


def cuda() -> Any:
    """CuPy's streams, events and memory."""
    return _current().cuda


def compute_stream() -> Any:
    """The stream that computes: the current one."""
    return cuda().get_current_stream()


def namespace(array: Array) -> ModuleType:
    """The library that made this array: `numpy` or `cupy`."""
    return numpy if isinstance(array, numpy.ndarray) else _current()


def to_device(values: Any, dtype: Any = None) -> Array:
    """A C-contiguous array of the current backend; no copy is made where none is needed."""
    xp = _current()
    return xp.ascontiguousarray(xp.asarray(values, dtype=dtype))


def to_host(array: Array) -> numpy.ndarray:
    """The values as a NumPy array (waits for the device to finish computing them)."""
    return array.get() if is_on_device(array) else numpy.asarray(array)


def is_on_device(array: Any) -> bool:
    """Whether these are values of a device array."""
    return hasattr(array, "get") and hasattr(array, "dtype")


def synchronise() -> None:
    """Wait until the device has done all that was asked of it; nothing to do for NumPy."""
    if on_device():
        compute_stream().synchronize()


def finite(values: Any) -> bool:
    """Whether host values hold no NaN and no infinity. Device arrays pass unseen: looking would stall the device."""
    return not isinstance(values, numpy.ndarray) or bool(numpy.isfinite(values).all())


# Memory ---------------------------------------------------------------------------------------------------------------


def empty(like: Array, shape: Shape | None = None, dtype: Any = None) -> Array:
    """An uninitialised, C-contiguous array beside `like` (same library, and same shape and dtype unless given)."""
    shape = like.shape if shape is None else shape
    dtype = like.dtype if dtype is None else dtype
    if isinstance(like, numpy.ndarray):
        return memory_pool.empty(shape, dtype)
    return _current().empty(shape, dtype)


def zeros(like: Array, shape: Shape | None = None, dtype: Any = None) -> Array:
    """As `empty`, filled with zeros."""
    array = empty(like, shape, dtype)
    array.fill(0)
    return array


def copied(array: Array) -> Array:
    """A C-contiguous copy."""
    copy = empty(array)
    copy[...] = array
    return copy


def contiguous(array: Array) -> Array:
    """The array itself if it is C-contiguous, else a C-contiguous copy."""
    return array if array.flags.c_contiguous else copied(array)


def fresh(array: Array, others: Iterable[Array]) -> Array:
    """The array itself if it is C-contiguous and shares no memory with the others, else a C-contiguous copy."""
    shares = any(namespace(array).may_share_memory(array, other) for other in others)
    return copied(array) if shares else contiguous(array)


def buffer(shape: Shape, dtype: Any) -> Array:
    """An uninitialised array of the current backend, outside the pool: for what is kept."""
    return _current().empty(shape, dtype)


def pinned(shape: Shape, dtype: Any) -> numpy.ndarray:
    """A host array that messages pass through: page-locked for CuPy, so that copies run beside work."""
    if not on_device():
        return numpy.empty(shape, dtype)
    count = int(numpy.prod(shape))
    memory = cuda().alloc_pinned_memory(max(count, 1) * numpy.dtype(dtype).itemsize)
    return numpy.frombuffer(memory, dtype, count).reshape(shape)


def use_device(index: int) -> int:
    """Compute on this GPU (counted round the node's GPUs) from now on; returns how many there are (0 for NumPy)."""
    if (xp := _current()) is numpy:
        return 0
    devices = xp.cuda.runtime.getDeviceCount()
    xp.cuda.Device(index % devices).use()
    return devices


def gpu() -> str | None:
    """The name of the GPU that computes, and CuPy's version; None for NumPy."""
    if not on_device():
        return None
    properties = cuda().runtime.getDeviceProperties(cuda().Device().id)
    return f"{properties['name'].decode()}, CuPy {_current().__version__}"


# Shapes and sums ------------------------------------------------------------------------------------------------------


def windows(x: Array, kernel: tuple[int, int], stride: tuple[int, int]) -> Array:
    """All windows of a batch of images, as a view (nothing is copied).

    x (N, H, W, C) → (N, Ho, Wo, kh, kw, C) with Ho = (H - kh) // stride + 1, and Wo alike.
    """
    (n, h, w, c), (kh, kw), (sh, sw) = x.shape, kernel, stride
    step_n, step_h, step_w, step_c = x.strides
    shape = (n, (h - kh) // sh + 1, (w - kw) // sw + 1, kh, kw, c)
    strides = (step_n, step_h * sh, step_w * sw, step_h, step_w, step_c)
    return namespace(x).lib.stride_tricks.as_strided(x, shape, strides)


def column_sums(x: Array) -> Array:
    """Σ over all axes but the last: x (…, C) → (C,).

    Written as the product 1ᵀ X, which BLAS reads once at memory speed; `sum(axis=0)` adds row by row.
    """
    rows = x.reshape(-1, x.shape[-1])
    return namespace(x).ones(rows.shape[0], x.dtype) @ rows


# Randomness -----------------------------------------------------------------------------------------------------------
