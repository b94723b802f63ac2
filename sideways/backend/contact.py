"""First contact with a GPU: the libraries of CuPy, its operations beside NumPy's, and ways to make faults show."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy

from sideways.backend.arrays import Array, cuda, device_id, device_library, use_backend

Operation = Callable[[Any, Any, Any, Any], Any]  # library, x (8, 6, 6, 4), y (8, 6, 6, 4), w (36, 5, 4) → array

OPERATIONS: dict[str, Operation] = {
    "maximum": lambda xp, x, y, w: xp.maximum(x, 0, out=xp.empty_like(x)),
    "greater": lambda xp, x, y, w: xp.multiply(x, xp.greater(x, 0)),
    "tanh, exp, log, sqrt": lambda xp, x, y, w: xp.tanh(x) + xp.exp(x) + xp.log(y * y + 1) + xp.sqrt(y * y),
    "addition in place to a strided view": lambda xp, x, y, w: _added(x, y),
    "product of matrices": lambda xp, x, y, w: xp.matmul(x.reshape(-1, 4), w[0].T),
    "product of a transposed matrix": lambda xp, x, y, w: xp.matmul(x.reshape(-1, 4).T, y.reshape(-1, 4)),
    "products of many matrices": lambda xp, x, y, w: xp.matmul(w, w.transpose(0, 2, 1)),
    "product with one row": lambda xp, x, y, w: xp.matmul(xp.ones((1, 288), x.dtype), x.reshape(-1, 4)),
    "product of two vectors": lambda xp, x, y, w: x.reshape(-1) @ y.reshape(-1),
    "windows": lambda xp, x, y, w: _windows(xp, x).copy(),
    "sums and largest elements": lambda xp, x, y, w: x.max(axis=1) + x.sum(axis=1) + x.mean(),
    "chosen elements": lambda xp, x, y, w: w[xp.arange(5), xp.asarray([1, 2, 3, 4, 0])],
    "copy where a condition holds": lambda xp, x, y, w: _copied(xp, x, y),
    "whole numbers of 64 bits": lambda xp, x, y, w: xp.arange(1, 9, dtype=xp.uint64) * xp.uint64(0x9E3779B97F4A7C15),
}
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
SPIN = """
extern "C" __global__ void spin(long long cycles) { long long start = clock64(); while (clock64() - start < cycles); }
"""


def libraries() -> list[str]:
    """Lines about what CuPy loads only when it needs it. Raises an error that names the first part that is missing."""
    use_backend("cupy")
    runtime = cuda().runtime
    driver = _version(runtime.driverGetVersion())
    lines = [f"CUDA {_version(runtime.runtimeGetVersion())}, driver for CUDA up to {driver}"]
    for number in range(runtime.getDeviceCount()):
        properties = runtime.getDeviceProperties(number)
        architecture = f"sm_{properties['major']}{properties['minor']}"
        lines.append(f"GPU {number}: {properties['name'].decode()}, {architecture}")
    compiler = cuda().nvrtc.getVersion()
    cuda().device.get_cublas_handle()
    return [*lines, f"NVRTC {'.'.join(map(str, compiler))} and cuBLAS are there; GPU {device_id()} computes"]


def wrong_operations() -> list[str]:
    """Each operation that the layers use whose result on the device is not NumPy's, in words."""
    use_backend("cupy")
    xp = device_library()
    random, wrong = numpy.random.default_rng(0), []
    arrays = [random.normal(size=shape) for shape in ((8, 6, 6, 4), (8, 6, 6, 4), (36, 5, 4))]
    for name, operation in OPERATIONS.items():
        for dtype, tolerance in TOLERANCE.items():
            host = [array.astype(dtype) for array in arrays]
            try:
                found = operation(xp, *map(xp.asarray, host)).get()
            except Exception as error:  # of CUDA, cuBLAS or the compiler
                wrong.append(f"{name}, {dtype}: {type(error).__name__}: {error}")
                continue
            expected = operation(numpy, *host)
            if found.dtype != expected.dtype or not numpy.allclose(found, expected, rtol=tolerance, atol=tolerance):
                wrong.append(f"{name}, {dtype}: the numbers are not NumPy's")
    return wrong


def hold_up(cycles: int = 3_000_000) -> None:
    """Keep the compute stream busy for some milliseconds, so that work that does not wait for it comes too early."""
    device_library().RawKernel(SPIN, "spin")((1,), (1,), (numpy.int64(cycles),))


@contextlib.contextmanager
def refusing_to_wait() -> Iterator[None]:
    """Raise an error inside the block where the host waits for the device."""
    with importlib.import_module("cupyx").allow_synchronize(False):
        yield


def pool_bytes() -> int:
    """The bytes that the memory pool has taken from the device."""
    return device_library().get_default_memory_pool().total_bytes()


def all_here(arrays: Iterable[Array]) -> bool:
    """True if all these arrays lie on the GPU that computes."""
    return all(array.device.id == cuda().Device().id for array in arrays)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _added(x: Any, y: Any) -> Any:
    part = x[:, 1::2, ::2]
    part += y[:, 1::2, ::2]
    return x


def _copied(xp: Any, x: Any, y: Any) -> Any:
    xp.copyto(x, y, where=xp.greater(y, 0))
    return x


def _windows(xp: Any, x: Any) -> Any:
    strides = (*x.strides[:3], *x.strides[1:])
    return xp.lib.stride_tricks.as_strided(x, (8, 4, 4, 3, 3, 4), strides)
