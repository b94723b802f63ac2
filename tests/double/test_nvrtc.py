"""Every kernel compiles for real GPUs: the code that CuPy makes of it, with the compiler that CuPy would call.

This needs no GPU, but functions that CuPy does not promise to keep.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from double.elementwise import parsed
from double.signatures import real
from sideways.backend.fused import KERNELS

ARRAY, INDEXER, SCALAR = 1, 2, 3  # CuPy's kinds of arguments
HEADERS = "#include <cupy/complex.cuh>\n#include <cupy/carray.cuh>\n"


def cupy_source(kernel, dtype):
    """The CUDA C++ that CuPy makes of a kernel for contiguous arrays of this dtype."""
    internals = real._core._kernel
    made = real.ElementwiseKernel(kernel.inputs, kernel.outputs, kernel.code, kernel.name)

    def described(parameter):
        type_ = np.dtype(dtype if parameter.dtype == "T" else parameter.dtype).type
        if parameter.dtype == "int32":
            return internals._ArgInfo(SCALAR, real._core._scalar.CScalar, type_, 0, True, True)
        return internals._ArgInfo(ARRAY, real.ndarray, type_, 1, True, True)

    arguments = [described(parameter) for parameter in (*parsed(kernel.inputs), *parsed(kernel.outputs))]
    arguments.append(internals._ArgInfo(INDEXER, real._core._carray.Indexer, None, 1, True, True))
    types = internals._TypeMap((("T", np.dtype(dtype).type),))
    of_kernel = made.params, made.operation, kernel.name, ""
    return HEADERS + internals._get_elementwise_kernel_code(tuple(arguments), types, *of_kernel)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_nvrtc_compiles_the_code_that_cupy_makes_of_a_kernel(kernel, dtype, architecture, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", real)  # which imports itself to find the compiler
    nvrtc = real.cuda.nvrtc
    own, (runtime,) = Path(real.__file__).parent, find_spec("nvidia.cuda_runtime").submodule_search_locations
    cccl = [f"{own}/_core/include/cupy/_cccl/{part}" for part in ("libcudacxx", "thrust", "cub")]
    folders = [f"{own}/_core/include", *cccl, f"{runtime}/include"]
    options = [f"--gpu-architecture={architecture}", "--std=c++17", *(f"-I{folder}" for folder in folders)]
    program = nvrtc.createProgram(cupy_source(kernel, dtype), f"{kernel.name}.cu", (), ())
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    assert nvrtc.getCUBIN(program)
