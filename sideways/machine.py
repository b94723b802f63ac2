"""The machine: its processor and libraries as reports state them, its free memory, and the abilities of its MPI."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

from sideways.backend import device_memory, gpu, on_device

TRANSPORTS = {  # how GPU arrays travel between ranks
    "host": "through pinned host buffers",
    "cuda-aware": "as they are",
    "nccl": "from GPU to GPU by NCCL",
}


def machine() -> dict[str, Any]:
    """The processor, the number of cores this process may use, NumPy, its BLAS, and the GPU (None on the CPU)."""
    from threadpoolctl import threadpool_info  # where it is missing, `sideways doctor` must still start

    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    blas: dict[str, Any] = next((library for library in libraries if "numpy" in library["filepath"]), {})  # not SciPy's
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
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


# Memory ---------------------------------------------------------------------------------------------------------------

CONTROL_GROUPS = Path("/sys/fs/cgroup")
KILO = 1024  # bytes of a "kB" in /proc

Limit = tuple[int, str]  # bytes that may still be allocated, and the name of what sets this limit


def memory(on_host: bool = False) -> Limit:
    """The bytes that this process may still allocate, and what sets this limit.

    Arrays on a GPU are limited by the free memory of the GPU; with `on_host` the memory of the host counts instead.
    On the host the least of these counts: the memory that the system calls available, and its free swap; the limit of
    the process's control group (a container, a Slurm job); the limits of `ulimit -v` and `ulimit -d`. A limit that
    cannot be read does not count.
    """
    if on_device() and not on_host:
        return device_memory(), "on the GPU"
    return min(
        [*_system_memory(), *_control_groups(), *_process_limits()], default=(sys.maxsize, "no limit could be read")
    )


def in_bytes(count: int) -> str:
    """A number of bytes for people, such as "23.4 GB"."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
    power = min((len(str(max(count, 1))) - 1) // 3, len(units) - 1)
    scaled = 10 * count // 1000**power  # whole numbers alone: a count may be too large for a float
    if scaled >= 10_000_000:
        return f"more than a million {units[power]}"
    return (
        f"{scaled // 10:,}.{scaled % 10} {units[power]}"
        if power and scaled < 1000
        else f"{scaled // 10} {units[power]}"
    )


def _system_memory() -> Iterator[Limit]:
    values = _table(Path("/proc/meminfo"))
    if "MemAvailable" in values:
        yield KILO * (values["MemAvailable"] + values.get("SwapFree", 0)), "available memory of this machine"


def _control_groups() -> Iterator[Limit]:
    """The limits of the control groups that this process is in, and of all groups above them (versions 1 and 2)."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        old = controllers == "memory"
        root = CONTROL_GROUPS / "memory" if old else CONTROL_GROUPS
        limit_name, used_name = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else ("memory.max", "memory.current")
        )
        group = root / path.strip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is None or used is None:
                continue
            statistics = _table(folder / "memory.stat")
            prefix = "total_" if old else ""
            files = sum(statistics.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))  # can be dropped
            yield max(limit - used + files, 0), "the limit of the control group"


def _process_limits() -> Iterator[Limit]:
    try:
        import resource  # a browser and Windows do not have it
    except ImportError:
        return
    status = _table(Path("/proc/self/status"))
    for kind, used, name in (
        (resource.RLIMIT_AS, "VmSize", "ulimit -v"),
        (resource.RLIMIT_DATA, "VmData", "ulimit -d"),
    ):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY and used in status:
            yield max(limit - KILO * status[used], 0), name


def _table(path: Path) -> dict[str, int]:
    """The numbers of a file whose lines are a name, perhaps a colon, and a number: name → number."""
    fields = (line.replace(":", " ").split() for line in _lines(path))
    return {entry[0]: int(entry[1]) for entry in fields if len(entry) > 1 and entry[1].isdecimal()}


def _number(path: Path) -> int | None:
    """The number that a file holds; None if there is no such file, or if it holds a word such as "max"."""
    word = "".join(_lines(path)).strip()
    return int(word) if word.isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
