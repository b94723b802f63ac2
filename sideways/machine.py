"""What a benchmark ran on: printed above every table, and kept in its JSON."""

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
    """CPU, cores that may be used, NumPy and its BLAS; the GPU, where one computes."""
    loaded = [library for library in threadpool_info() if library["user_api"] == "blas"]
    blas: dict[str, Any] = next(
        (library for library in loaded if "numpy" in library["filepath"]), {}
    )  # SciPy has one too
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "numpy": numpy.__version__,
        "blas": " ".join(str(blas.get(key, "?")) for key in ("internal_api", "version", "architecture")),
        "gpu": gpu(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def cuda_aware() -> tuple[bool | None, str]:
    """Whether the MPI that this process has loaded takes device arrays (None: it does not say), and who says so."""
    try:
        paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libmpi" in line}
        libraries = [ctypes.CDLL(path) for path in sorted(paths)]
    except OSError as error:
        return None, f"it cannot be asked: {error}"
    for library in libraries:
        if hasattr(library, "MPIX_Query_cuda_support"):
            return bool(library.MPIX_Query_cuda_support()), "its MPIX_Query_cuda_support says so"
    return None, "it has no MPIX_Query_cuda_support"
