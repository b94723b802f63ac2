"""Products of matrices that are recorded in a CUDA graph: cuBLAS, called through its C interface.

CuPy 14 refuses cuBLAS while a graph is recorded, though cuBLAS allows it. The functions are taken from the library that
CuPy has loaded. cuBLAS counts along columns first: to it a row-major x is xᵀ. It is asked for yᵀ xᵀ, and writes x y.

Sources: cuBLAS's documentation, "CUDA Graphs Support", `cublasSetWorkspace` and `cublasGemmStridedBatchedEx`.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any

from sideways.backend.arrays import Array, buffer, compute_stream, contiguous, cuda

WORKSPACE = 32 << 20  # bytes, as NVIDIA advises for GPUs from the Hopper generation on
KEPT, TRANSPOSED = 0, 1  # values of cublasOperation_t
_current: Recorder | None = None


def recorder() -> Recorder | None:
    """Return the recorder that must be given all products now; None if no graph is being recorded."""
    return _current


class Recorder:
    """The products of one graph, which go on using the recorder's workspace at every launch."""

    def __init__(self) -> None:
        self._cublas = cuda().cublas
        self._functions = ctypes.CDLL(self._cublas.__file__)  # finds what the library loads, too
        self._workspace = buffer((WORKSPACE,), "uint8")

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Take all products inside the block. The compute stream must begin and end its recording inside it."""
        global _current
        self._handle = self._cublas.create()
        try:
            self._call("cublasSetStream_v2", ctypes.c_void_p(compute_stream().ptr))  # forgets the workspace
            self._call("cublasSetWorkspace_v2", _address(self._workspace), ctypes.c_size_t(WORKSPACE))
            _current = self
            yield
        finally:
            _current = None
            self._cublas.destroy(self._handle)

    def product(self, x: Array, y: Array, out: Array, in_tf32: bool) -> Array:
        """Record out = x y: (M, K) or (B, M, K) times (K, N) or (B, K, N), of one dtype; out is C-contiguous.

        A matrix without B is multiplied with each of the others.
        """
        (m, k), n = x.shape[-2:], y.shape[-1]
        batch = out.shape[0] if out.ndim == 3 else 1
        (x, x_operation, x_columns, x_step), (y, y_operation, y_columns, y_step) = _layout(x), _layout(y)
        if x.dtype.name == "float64":
            number: Any = ctypes.c_double
            kind, compute = cuda().runtime.CUDA_R_64F, self._cublas.CUBLAS_COMPUTE_64F
        else:
            number = ctypes.c_float
            kind, full = cuda().runtime.CUDA_R_32F, self._cublas.CUBLAS_COMPUTE_32F
            compute = self._cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if in_tf32 else full
        self._call(
            "cublasGemmStridedBatchedEx",
            *(y_operation, x_operation, n, m, k, ctypes.byref(number(1))),
            *(_address(y), kind, y_columns, ctypes.c_longlong(y_step)),
            *(_address(x), kind, x_columns, ctypes.c_longlong(x_step)),
            ctypes.byref(number(0)),
            *(_address(out), kind, n, ctypes.c_longlong(m * n)),
            *(batch, compute, self._cublas.CUBLAS_GEMM_DEFAULT),
        )
        return out

    def _call(self, name: str, *arguments: Any) -> None:
        """Call a function of cuBLAS. Raises CuPy's `CUBLASError` if it fails."""
        self._cublas.check_status(getattr(self._functions, name)(ctypes.c_void_p(self._handle), *arguments))


def _layout(matrices: Array) -> tuple[Array, int, int, int]:
    """Return the matrices, copied if need be, how cuBLAS must take them, and two steps in their memory.

    The steps are those from row to row and from matrix to matrix, in numbers.
    """
    swapped = matrices.swapaxes(-1, -2)
    if swapped.flags.c_contiguous and not matrices.flags.c_contiguous:
        operation, columns = TRANSPOSED, matrices.shape[-2]
    else:
        matrices, operation, columns = contiguous(matrices), KEPT, matrices.shape[-1]
    step = matrices.shape[-2] * matrices.shape[-1] if matrices.ndim == 3 else 0
    return matrices, operation, columns, step


def _address(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.data.ptr)
