"""Runs side by side, with mean and spread over seeds: a table and a plot for `sideways compare`."""

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
METRICS = {"accuracy": 3, "top5": 3, "loss": 4, "milliseconds_per_frame": 3}  # column in results.json → digits shown


def compare_runs(folders: Sequence[str], out: str) -> None:
    """Print a row and draw a curve for each folder: a run, or a folder of runs as --seeds and --split all make it.

    Raises `InputError` for a folder without a finished run, and if `out` is no .png.
    """
    if Path(out).suffix != ".png":
        raise InputError(f"--out: the plot is a .png, not {out}")
    short_names = [Path(folder).resolve().name for folder in folders]
    names = short_names if len(set(short_names)) == len(set(folders)) else folders
    groups = {name: runs_in(Path(folder)) for name, folder in zip(names, folders, strict=True)}
    rows = [_row(name, runs) for name, runs in groups.items()]
    print(aligned(HEAD, rows))
    print("\n±: standard deviation over the runs of a row; a single run has none.")
    plot_runs(groups, Path(out))
    print(f"Plot: {out}")


def runs_in(folder: Path) -> list[Path]:
    """The finished runs in a folder, which may itself be a run. Raises `InputError` if there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run")
    if (folder / "results.json").exists():
        return [folder]
    runs = sorted(path.parent for path in folder.glob("*/results.json"))
    if not runs:
        raise InputError(f"{folder}: no finished run in it (no results.json)")
    return runs


def _row(name: str, runs: Sequence[Path]) -> tuple[str, ...]:
    configs = [_read(run / "config.json") for run in runs]
    results = [_read(run / "results.json") for run in runs]
    settings = ["/".join(sorted({str(config[key]) for config in configs})) for key in ("model", "rule")]
    cells = [name, *settings, str(len(runs))]
    for metric, digits in METRICS.items():
        values = [result[metric] for result in results if result.get(metric) is not None]
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
