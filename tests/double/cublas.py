"""The double's `cupy.cuda.cublas`: CuPy's own module over a library of ours.

The library has the names of all functions of cuBLAS that CuPy asks for. Those that the project calls in C
lead back into this module; they compute with NumPy, in the order and with the memory that their arguments name.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import subprocess
import tempfile
from collections.abc import Callable
from ctypes import c_int, c_longlong, c_size_t, c_void_p
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import cupy_backends
import numpy
from numpy.lib.stride_tricks import as_strided

from double.arrays import ndarray
from double.clock import Hazard, clock
from double.values import product_in_tf32

OWN = {  # name → types of the arguments
    "cublasCreate_v2": (c_void_p,),
    "cublasDestroy_v2": (c_void_p,),
    "cublasSetStream_v2": (c_void_p, c_void_p),
    "cublasSetWorkspace_v2": (c_void_p, c_void_p, c_size_t),
    "cublasGemmStridedBatchedEx": (
        *(c_void_p, c_int, c_int, c_int, c_int, c_int, c_void_p),  # handle, operations, m, n, k, alpha
        *(c_void_p, c_int, c_int, c_longlong) * 2,  # A and B: address, kind, step between columns, between matrices
        *(c_void_p, c_void_p, c_int, c_int, c_longlong),  # beta, C
        *(c_int, c_int, c_int),  # batch, compute type, algorithm
    ),
}
KINDS = {0: "float32", 1: "float64"}  # of cudaDataType: CUDA_R_32F, CUDA_R_64F
OPERATIONS = {0: False, 1: True}  # of cublasOperation_t: is transposed


def _library(folder: str) -> ctypes.CDLL:
    """A library with the name of cuBLAS's, and its functions."""
    (module,) = Path(cupy_backends.__file__).parent.glob("cuda/libs/cublas.*.so")
    names = {name.decode() for name in re.findall(rb"\0(cublas[A-Z]\w+)", module.read_bytes())} - {*OWN}
    code = [f"int {name}(void) {{ return 15; }}" for name in sorted(names)]  # CUBLAS_STATUS_NOT_SUPPORTED
    c_names = {c_int: "int", c_void_p: "void *", c_size_t: "unsigned long", c_longlong: "long long"}
    for name, types in OWN.items():
        declared = ", ".join(f"{c_names[kind]} x{number}" for number, kind in enumerate(types))
        passed = ", ".join(f"x{number}" for number in range(len(types)))
        code += [f"int (*double_{name})({declared});", f"int {name}({declared}) {{ return double_{name}({passed}); }}"]
    (soname,) = {name.decode() for name in re.findall(rb"\0(libcublas\.so\.\d+)", module.read_bytes())}
    path, versions = f"{folder}/{soname}", Path(f"{folder}/versions")
    versions.write_text(f"{soname} {{ global: *; }};")
    options = f"-Wl,-soname,{soname},--version-script={versions}"
    command = ["c++", "-x", "c", "-shared", "-fPIC", options, "-o", path, "-"]
    subprocess.run(command, input="\n".join(code), text=True, check=True, capture_output=True)
    return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)


def _real() -> ModuleType:
    """CuPy's own module over the library, whose functions lead to those of this module."""
    with tempfile.TemporaryDirectory() as folder:
        library = _library(folder)
        for name, types in OWN.items():
            callback = ctypes.CFUNCTYPE(c_int, *types)(partial(_answered, globals()[name]))
            callbacks.append(callback)
            ctypes.c_void_p.in_dll(library, f"double_{name}").value = ctypes.cast(callback, c_void_p).value
        return importlib.import_module("cupy_backends.cuda.libs.cublas")


callbacks: list[Any] = []  # lives as long as the library
handles: dict[int, list[Any]] = {}  # handle → its stream, and the address of its workspace (0: cuBLAS's own)
made = 0  # handles


def _answered(function: Callable[..., None], *arguments: Any) -> int:
    """Call a function, and return cuBLAS's status. C passes no error on: the clock raises it at the next work."""
    try:
        function(*arguments)
    except Exception as error:
        clock.broken.append(str(error))
        return 14  # CUBLAS_STATUS_INTERNAL_ERROR
    return 0


def cublasCreate_v2(place: int) -> None:  # noqa: N802
    global made
    made += 1
    handles[made] = [clock.streams[0], 0]
    c_void_p.from_address(place).value = made


def cublasDestroy_v2(handle: int) -> None:  # noqa: N802
    del handles[handle]


def cublasSetStream_v2(handle: int, number: int | None) -> None:  # noqa: N802
    handles[handle] = [clock.streams[number or 0], 0]  # cuBLAS goes back to a workspace of its own


def cublasSetWorkspace_v2(handle: int, address: int, size: int) -> None:  # noqa: N802
    if clock.pointers[address].nbytes < size:
        raise Hazard("the workspace is smaller than cuBLAS is told")
    handles[handle][1] = address


def cublasGemmStridedBatchedEx(handle: int, *arguments: Any) -> None:  # noqa: N802
    """C = op(A) op(B) for each matrix of a batch, where matrices lie in memory column after column."""
    (a_operation, b_operation, m, n, k, alpha), a, b = arguments[:6], arguments[6:10], arguments[10:14]
    beta, c, (batch, compute, _) = arguments[14], arguments[15:19], arguments[19:]
    stream, workspace = handles[handle]
    if stream is not clock.current or not workspace:
        raise Hazard("a product in another stream than the current one, or without a workspace")
    scalar = ctypes.c_double if compute == real.CUBLAS_COMPUTE_64F else ctypes.c_float
    if (scalar.from_address(alpha).value, scalar.from_address(beta).value) != (1, 0):
        raise Hazard("alpha is not 1, or beta not 0, in the type of the product")
    # Row after row, the transposed matrices are read and written: Cᵀ = op(B)ᵀ op(A)ᵀ.
    x, x_memory = _matrices(*b, n, k, OPERATIONS[b_operation], batch)
    y, y_memory = _matrices(*a, k, m, OPERATIONS[a_operation], batch)
    out, out_memory = _matrices(*c, n, m, False, batch)
    clock.work("matmul", [x_memory, y_memory], [out_memory])
    function = product_in_tf32 if compute == real.CUBLAS_COMPUTE_32F_FAST_TF32 else numpy.matmul
    if numpy.may_share_memory(x, out) or numpy.may_share_memory(y, out):
        raise Hazard("a product that writes over its own factors")
    clock.do(partial(_multiply, function, x, y, out, handle, workspace))


def _multiply(function: Callable[..., Any], x: Any, y: Any, out: Any, handle: int, workspace: int) -> None:
    if handle not in handles or workspace not in clock.pointers:
        raise Hazard("the handle or the workspace of a recorded product has been given back")
    function(x, y, out=out)


def _matrices(
    address: int, kind: int, row: int, step: int, rows: int, columns: int, transposed: bool, batch: int
) -> tuple[numpy.ndarray, Any]:
    """Matrices (batch, rows, columns) and their memory. At the address they, or their transposed, lie row after row."""
    array: ndarray = clock.pointers[address]
    lengths = (columns, rows) if transposed else (rows, columns)
    last = (lengths[0] - 1) * row + lengths[1] + (batch - 1) * step
    if row < lengths[1] or last > array.size or array.dtype != KINDS[kind]:
        raise Hazard(f"cuBLAS is told {rows} × {columns} numbers of kind {kind} for {array.shape}, {array.dtype}")
    size = array.itemsize
    steps = (size, row * size) if transposed else (row * size, size)
    values = array._values.swapaxes(-1, -2) if not array.flags.c_contiguous else array._values
    matrices = as_strided(values.reshape(-1), (batch, rows, columns), (step * size, *steps))
    return matrices if batch > 1 else matrices[0], array._memory


real = _real()
__file__ = real.__file__  # where the project looks for the functions in C


def __getattr__(name: str) -> Any:
    return getattr(real, name)
