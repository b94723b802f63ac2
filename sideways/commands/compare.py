"""`sideways compare RUN…`: runs side by side, mean and spread over seeds, as a table and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sideways.errors import InputError
from sideways.tables import aligned
from sideways.training.metrics import mean_and_spread
from sideways.training.report.plots import plot_runs

HEAD = ("run", "model", "rule", "runs", "accuracy", "top-5", "loss", "ms/frame")


def compare(places: Sequence[str], out: str) -> None:
    """A row and a curve for each place: a run, or a folder of runs (as --seeds and --split all make)."""
    if Path(out).suffix != ".png":
        raise InputError(f"--out: the plot is a .png, not {out}")
    short = [Path(place).resolve().name for place in places]
    names = short if len(set(short)) == len(set(places)) else places
    groups = {name: runs_in(Path(place)) for name, place in zip(names, places, strict=True)}
    rows = [_row(name, runs) for name, runs in groups.items()]
    print(aligned(HEAD, rows))
    print("\n±: standard deviation over the runs of a row; a single run has none.")
    plot_runs(groups, Path(out))
    print(f"Plot: {out}")


def runs_in(place: Path) -> list[Path]:
    """The finished runs at a place, or `InputError`."""
    if not place.is_dir():
        raise InputError(f"{place}: no such run")
    found = [place] if (place / "results.json").exists() else sorted(p.parent for p in place.glob("*/results.json"))
    if not found:
        raise InputError(f"{place}: no finished run in it (no results.json)")
    return found


def _row(name: str, runs: Sequence[Path]) -> tuple[str, ...]:
    configs = [_read(run / "config.json") for run in runs]
    results = [_read(run / "results.json") for run in runs]
    same = {key: {str(config[key]) for config in configs} for key in ("model", "rule")}
    cells = [name, *("/".join(sorted(values)) for values in same.values()), str(len(runs))]
    for key, digits in (("accuracy", 3), ("top5", 3), ("loss", 4), ("milliseconds_per_frame", 3)):
        values = [result[key] for result in results if result.get(key) is not None]
        if not values:
            cells.append("")
            continue
        mean, spread = mean_and_spread(values)
        cells.append(f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if len(values) > 1 else ""))
    return tuple(cells)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error})") from None
