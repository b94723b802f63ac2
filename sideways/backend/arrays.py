"""Arrays of NumPy or CuPy: the choice of the library, transfers, memory and windows.

Other modules ask here for everything that the two libraries do differently.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy

from sideways.backend.pool import memory_pool
from sideways.errors import InputError

Array = Any  # a numpy.ndarray or a cupy.ndarray
Shape = tuple[int, ...]

# The library ----------------------------------------------------------------------------------------------------------

BACKENDS = ("numpy", "cupy")
PRECISIONS = ("float32", "tf32")
AS_ON_DEVICE = "SIDEWAYS_AS_ON_DEVICE" in os.environ  # see `for_host`
_chosen: ModuleType | None = None
_tf32 = False


def use_backend(name: str, precision: str = "float32") -> None:
    """Choose where new networks live: `"numpy"` (the default) or `"cupy"`. `SIDEWAYS_BACKEND` does the same.

    precision: `"tf32"` lets a GPU compute the products of convolutions and dense layers in TensorFloat-32: it rounds
        the factors to 10 binary digits, and adds in float32. All else stays in full precision, sums over rows too.

    Raises `InputError` for an unknown name, for TensorFloat-32 without a GPU, when CuPy is not installed and when there
    is no GPU that it can use.
    """
    global _chosen, _tf32
    if name not in BACKENDS:
        raise InputError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    if precision == "tf32" and name == "numpy":
        raise InputError("precision 'tf32' needs a GPU: NumPy computes in full precision (--backend cupy)")
    _chosen = numpy if name == "numpy" else _load_cupy()
    _tf32 = precision == "tf32"
    if _chosen is not numpy:
        _compute_in("FP32")  # whatever the environment variable CUPY_TF32 says


def tf32() -> bool:
    """True if products are computed in TensorFloat-32."""
    return _tf32


@contextlib.contextmanager
def products_in_tf32() -> Iterator[None]:
    """Compute the products of matrices inside the block in TensorFloat-32, on the device."""
    _compute_in("TF32")
    try:
        yield
    finally:
        _compute_in("FP32")


def _compute_in(name: str) -> None:
    core = _current()._core
    core.set_compute_type(numpy.float32, getattr(core._routines_linalg, f"COMPUTE_TYPE_{name}"))


def default_backend() -> str:
    """The name in the environment variable `SIDEWAYS_BACKEND`, else `"numpy"`."""
    return os.environ.get("SIDEWAYS_BACKEND") or "numpy"


def backend_name() -> str:
    """The name of the backend on which new networks are built."""
    return _current().__name__


def namespace(array: Array) -> ModuleType:
    """The library that made this array: `numpy` or `cupy`."""
    return numpy if isinstance(array, numpy.ndarray) else _current()


def _current() -> ModuleType:
    """The library chosen by `use_backend` or, when it is first needed, by the environment."""
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


# The device -----------------------------------------------------------------------------------------------------------


def on_device() -> bool:
    """True if new arrays live on a GPU."""
    return _current() is not numpy


def use_device(index: int) -> int:
    """Compute on this GPU from now on and return the number of GPUs of this node (0 for NumPy).

    An index beyond the last GPU counts on from the first.
    """
    if (xp := _current()) is numpy:
        return 0
    devices = xp.cuda.runtime.getDeviceCount()
    xp.cuda.Device(index % devices).use()
    return devices


def device_of(array: Array) -> int | None:
    """The number of the GPU that an array lies on; None for a host array."""
    return None if isinstance(array, numpy.ndarray) else array.device.id


def device_id() -> str:
    """The address of the GPU that computes on the PCI bus, which is the same in all processes: "0000:3B:00.0"."""
    return cuda().Device().pci_bus_id


def gpu() -> str | None:
    """The name of the GPU that computes, and CuPy's version; None for NumPy."""
    if not on_device():
        return None
    properties = cuda().runtime.getDeviceProperties(cuda().Device().id)
    return f"{properties['name'].decode()}, CuPy {_current().__version__}"


def device_memory() -> int:
    """The bytes that are free on the GPU that computes, with those that CuPy's pool keeps for new arrays."""
    free, _ = cuda().runtime.memGetInfo()
    return free + _current().get_default_memory_pool().free_bytes()


def device_peak(work: Callable[[], Any]) -> int:
    """The bytes that the GPU's memory pool must take from the device for `work`: a pool of its own, empty at first."""
    pool = cuda().MemoryPool()
    with cuda().using_allocator(pool.malloc):
        work()
        synchronise()
    return pool.total_bytes()


def device_library() -> ModuleType:
    """Return CuPy, where arrays live on a device."""
    return _current()


def cuda() -> Any:
    """CuPy's module of streams, events and memory."""
    return device_library().cuda


def compute_stream() -> Any:
    """The CUDA stream that computes: CuPy's current one."""
    return cuda().get_current_stream()


def synchronise() -> None:
    """Wait until the device has finished all work queued on it. Does nothing for NumPy."""
    if on_device():
        compute_stream().synchronize()


# Transfers ------------------------------------------------------------------------------------------------------------


def to_device(values: Any, dtype: Any = None) -> Array:
    """A C-contiguous array of the current backend; copies only if it must."""
    xp = _current()
    return xp.ascontiguousarray(xp.asarray(values, dtype=dtype))


def to_host(array: Array) -> numpy.ndarray:
    """The values as a NumPy array (waits for the device to finish computing them)."""
    return array.get() if is_on_device(array) else numpy.asarray(array)


def is_on_device(array: Any) -> bool:
    """True for a device array."""
    return hasattr(array, "get") and hasattr(array, "dtype")


def for_host(array: Array = None) -> bool:
    """True if the algorithms that are faster on the host suit an array or, without one, the chosen backend.

    With `SIDEWAYS_AS_ON_DEVICE=1` none do: the host takes those of a GPU, so that tests can compare the last bits.
    """
    on_host = not on_device() if array is None else isinstance(array, numpy.ndarray)
    return on_host and not AS_ON_DEVICE


def finite(values: Any) -> bool:
    """False if host values hold a NaN or an infinity. True for every device array: a look at its values would wait."""
    return not isinstance(values, numpy.ndarray) or bool(numpy.isfinite(values).all())


# Memory ---------------------------------------------------------------------------------------------------------------


def empty(like: Array, shape: Shape | None = None, dtype: Any = None) -> Array:
    """An uninitialised, C-contiguous array of the library of `like`, and of its shape and dtype unless given.

    The memory comes from a pool, the library's own on the device, and returns to it when nobody holds the array.
    """
    shape = like.shape if shape is None else shape
    dtype = like.dtype if dtype is None else dtype
    if isinstance(like, numpy.ndarray):
        return memory_pool.empty(shape, dtype)
    return _current().empty(shape, dtype)


def zeros(like: Array, shape: Shape | None = None, dtype: Any = None) -> Array:
    """An array of zeros; arguments as for `empty`."""
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
    on_host = isinstance(array, numpy.ndarray)
    for other in others:
        # Two host arrays without a base have each their own memory: to see this takes half the time of a comparison.
        apart = on_host and array is not other and array.base is None and other.base is None
        if not apart and namespace(array).may_share_memory(array, other):
            return copied(array)
    return contiguous(array)


def buffer(shape: Shape, dtype: Any) -> Array:
    """An uninitialised array of the current backend, outside the pool of the host, for a caller that keeps it for good.

    The device may still work with what lay in this memory before: a stream other than the compute stream must wait.
    """
    return _current().empty(shape, dtype)


def pinned(shape: Shape, dtype: Any) -> numpy.ndarray:
    """A host array for messages. For CuPy its memory is page-locked, so that copies run while the device computes."""
    if not on_device():
        return numpy.empty(shape, dtype)
    count = int(numpy.prod(shape))
    memory = cuda().alloc_pinned_memory(max(count, 1) * numpy.dtype(dtype).itemsize)
    return numpy.frombuffer(memory, dtype, count).reshape(shape)


# Windows --------------------------------------------------------------------------------------------------------------


def window_view(x: Array, kernel: tuple[int, int], stride: tuple[int, int]) -> Array:
    """All windows of a batch of images, as a view (nothing is copied).

    x (N, H, W, C) → (N, Ho, Wo, kh, kw, C) with Ho = ⌊(H - kh) / sh⌋ + 1 and Wo = ⌊(W - kw) / sw⌋ + 1.
    """
    (n, h, w, c), (kh, kw), (sh, sw) = x.shape, kernel, stride
    step_n, step_h, step_w, step_c = x.strides
    shape = (n, (h - kh) // sh + 1, (w - kw) // sw + 1, kh, kw, c)
    strides = (step_n, step_h * sh, step_w * sw, step_h, step_w, step_c)
    return namespace(x).lib.stride_tricks.as_strided(x, shape, strides)


def windows_of(x: numpy.ndarray, kernel: tuple[int, int], stride: tuple[int, int], ones: bool = False) -> numpy.ndarray:
    """A copy of all windows of a batch of host images, as rows (N·Ho·Wo, kh·kw·C), see `window_view`.

    ones: True appends a column of ones.

    The pixels of a row of a window lie side by side. They are copied as one element of a dtype of so many bytes: for
    windows of 3×4 pixels of 1 or 3 channels this takes .6 and .5 of the time that numbers take, and of 3×3 pixels of 32
    to 128 channels .7 to .8.
    """
    x = contiguous(x)
    (n, h, w, c), (kh, kw), (sh, sw) = x.shape, kernel, stride
    step_n, step_h, step_w, _ = x.strides
    ho, wo = (h - kh) // sh + 1, (w - kw) // sw + 1
    windows = memory_pool.empty((n * ho * wo, kh * kw * c + ones), x.dtype)
    row, step = numpy.dtype((numpy.void, kw * c * x.itemsize)), windows.strides[0]
    rows = numpy.ndarray((n, ho, wo, kh), row, x, 0, (step_n, step_h * sh, step_w * sw, step_h))
    copies = numpy.ndarray((n, ho, wo, kh), row, windows, 0, (step * ho * wo, step * wo, step, row.itemsize))
    copies[...] = rows
    if ones:
        windows[:, -1] = 1
    return windows
