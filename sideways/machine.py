"""The machine that a measurement ran on, as benchmarks and reports state it, and the abilities of its MPI."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import Any

import numpy
from threadpoolctl import threadpool_info

from sideways.backend import gpu


def machine() -> dict[str, Any]:
    """The processor, the number of cores this process may use, NumPy, its BLAS, and the GPU (None on the CPU)."""
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    blas: dict[str, Any] = next((library for library in libraries if "numpy" in library["filepath"]), {})  # not SciPy's
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "numpy": numpy.__version__,
        "blas": " ".join(str(blas.get(key, "?")) for key in ("internal_api", "version", "architecture")),
        "gpu": gpu(),
    }


def _processor() -> str:
    """The processor's model name on Linux; on other systems the name that Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def cuda_aware() -> tuple[bool | None, str]:
    """Ask the MPI library of this process if it sends arrays on the GPU. Returns (its answer, the reason for it).

    The answer is None if the library cannot be asked. mpi4py must have been imported, so that the library is loaded.
    """
    try:
        paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libmpi" in line}
        libraries = [ctypes.CDLL(path) for path in sorted(paths)]
    except OSError as error:
        return None, f"the MPI library cannot be asked: {error}"
    for library in libraries:
        if hasattr(library, "MPIX_Query_cuda_support"):
            return bool(library.MPIX_Query_cuda_support()), "as MPIX_Query_cuda_support says"
    return None, "the MPI library has no MPIX_Query_cuda_support"
