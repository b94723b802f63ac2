"""sideways.studies.bench.output."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sideways.machine import machine
from sideways.tables import aligned


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The table, and above it the machine."""
    about = machine()
    on = f"; {about['gpu']}" if about["gpu"] else ""
    print(
        f"{about['cpu']}, {about['cores']} cores; NumPy {about['numpy']}, {about['blas']}{on}\n\n{aligned(head, rows)}"
    )


def write_json(path: str | None, results: Any) -> None:
    """The machine and the results, if a file was asked for."""
    if path:
        Path(path).write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")
