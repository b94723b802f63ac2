"""What a benchmark ran on: printed above every table, and kept in its JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
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


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The table, and above it the machine."""
    about = machine()
    on = f"; {about['gpu']}" if about["gpu"] else ""
    print(
        f"{about['cpu']}, {about['cores']} cores; NumPy {about['numpy']}, {about['blas']}{on}\n\n{aligned(head, rows)}"
    )


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = zip(row, widths, strict=True)
        lines.append("  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(cells)).rstrip())
    return "\n".join(lines)


def write_json(path: str | None, results: Any) -> None:
    """The machine and the results, if a file was asked for."""
    if path:
        Path(path).write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")
