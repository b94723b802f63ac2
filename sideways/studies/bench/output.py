"""The output of every benchmark: a table below a line on the machine, and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sideways.machine import machine
from sideways.tables import aligned


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the machine, and the table below it."""
    here = machine()
    gpu = f"; {here['gpu']}" if here["gpu"] else ""
    print(f"{here['cpu']}, {here['cores']} cores; NumPy {here['numpy']}, {here['blas']}{gpu}\n\n{aligned(head, rows)}")


def write_json(path: str | None, results: Any, **more: Any) -> None:
    """Write the machine, the results and more by their names to a JSON file, if a path is given."""
    if path:
        Path(path).write_text(json.dumps({"machine": machine(), "results": results, **more}, indent=2) + "\n")
