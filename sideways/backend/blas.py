"""Products of matrices that are recorded in a CUDA graph: cuBLAS, called through its C interface.

CuPy 14 refuses cuBLAS while a graph is recorded, though cuBLAS allows it. The functions are those of the library that
CuPy uses. cuBLAS counts along columns first: to it a row-major x is xᵀ. It is asked for yᵀ xᵀ, and writes x y.

Sources: cuBLAS's documentation, "CUDA Graphs Support", `cublasSetWorkspace` and `cublasGemmStridedBatchedEx`.
"""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from collections.abc import Iterator
from typing import Any

from sideways.backend.arrays import Array, buffer, compute_stream, contiguous, cuda

WORKSPACE = 32 << 20  # bytes; NVIDIA advises at least so many for the Hopper generation, and fewer for all others
KEPT, TRANSPOSED = 0, 1  # values of cublasOperation_t
_current: Recorder | None = None


def recorder() -> Recorder | None:
    """Return the recorder that takes all products now; None where CuPy computes them."""
    return _current


def is_recording() -> bool:
    """True while work of the compute stream is recorded instead of done."""
    return _current is not None and compute_stream().is_capturing()


class Recorder:
    """A handle of cuBLAS with a workspace, which graphs may use at every launch: both live as long as the recorder."""

    def __init__(self) -> None:
        self._cublas = cuda().cublas
        # Functions are also looked for in the libraries that CuPy's module is linked to, cuBLAS among them.
        self._functions = ctypes.CDLL(self._cublas.__file__)
        self._workspace = buffer((WORKSPACE,), "uint8")
        self._handle = self._cublas.create()
        weakref.finalize(self, self._cublas.destroy, self._handle).atexit = False  # CUDA may have ended before

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Take all products inside the block, in the compute stream, whether it is recorded or not."""
        global _current
        self._call("cublasSetStream_v2", ctypes.c_void_p(compute_stream().ptr))
        # The workspace must follow: with another stream, cuBLAS has gone back to a workspace of its own.
        self._call("cublasSetWorkspace_v2", _address(self._workspace), ctypes.c_size_t(WORKSPACE))
        before, _current = _current, self
        try:
            yield
        finally:
            _current = before

    def product(self, x: Array, y: Array, out: Array, in_tf32: bool) -> Array:
        """Compute out = x y: (M, K) or (B, M, K) times (K, N) or (B, K, N), of one dtype; out is C-contiguous.

        A single matrix is multiplied with each of the others.
        """
        (m, k), n = x.shape[-2:], y.shape[-1]
        assert max(x.ndim, y.ndim) <= 3 and y.shape[-2] == k and x.dtype == y.dtype == out.dtype, (x.shape, y.shape)
        assert x.dtype.name in ("float32", "float64"), x.dtype
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
    step = matrices.shape[-2] * matrices.shape[-1] if matrices.ndim == 3 and len(matrices) > 1 else 0
    return matrices, operation, columns, step


def _address(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.data.ptr)
