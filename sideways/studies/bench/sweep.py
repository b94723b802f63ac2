"""`sideways bench step --sweep`: Sideways' tick beside PyTorch's steps, on a grid of widths, sizes and batches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from threadpoolctl import threadpool_limits

from sideways.backend import on_device
from sideways.errors import InputError
from sideways.models import build_model
from sideways.studies.bench.output import print_table, write_json
from sideways.studies.bench.step import CLASSES, in_turn, pytorch, tick_of_sideways

WIDTHS, SIZES, BATCHES = (16, 64), (16, 32, 64), (8, 32)
CHANNELS = 3
HEAD = ("width", "size", "batch", "Sideways ms", "PyTorch's best ms", "which", "ratio", "lowest", "highest")
SECONDS = 0.2  # of one method in one repeat, at least


def sweep(model: str, repeats: int, compiled: bool, path: str | None) -> None:
    """Print the time of Sideways' tick and of PyTorch's best step in each cell of the grid, on one thread.

    compiled: whether PyTorch's networks also run through `torch.compile`, which takes a minute for each cell.
    """
    cells = []
    with threadpool_limits(1, user_api="blas"):
        for width in WIDTHS:
            for size in SIZES:
                for batch in BATCHES:
                    cells.append(_cell(model, width, size, batch, repeats, compiled))
                    print(f"width {width}, {size}×{size}, batch {batch}: {cells[-1]['ratio']:.2f}", flush=True)
    print_table(HEAD, [_row(cell) for cell in cells])
    ratios = [cell["ratio"] for cell in cells]
    print(
        f"\n{model}, frames of {CHANNELS} channels, float32, SGD with momentum, one thread. All methods ran in turn,"
        f"\n{repeats} times. ratio: Sideways' time over that of the method of PyTorch with the least median, the median"
        "\nof the ratios of each repeat; lowest and highest are their quartiles. On the host, times are those of the"
        f"\nprocessor, so that other processes count less. Mean of the ratios: {statistics.mean(ratios):.2f}, largest:"
        f" {max(ratios):.2f}."
    )
    write_json(path, cells)


def _cell(model: str, width: int, size: int, batch: int, repeats: int, compiled: bool) -> dict[str, Any]:
    """The seconds of each method for one width, frame size and batch, and their ratio."""
    network = build_model(model, (size, size, CHANNELS), CLASSES, width=width)
    peers = pytorch(network, batch, 1, compiled)
    if not peers:
        raise InputError("the sweep compares with PyTorch, which is not installed or sees no such device")
    runs = {"Sideways": tick_of_sideways(network, batch), **peers}
    seconds = in_turn(runs, _count(runs["Sideways"], network.depth), repeats, clock())
    best = min(peers, key=lambda name: statistics.median(seconds[name]))
    ratios = [own / other for own, other in zip(seconds["Sideways"], seconds[best], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if repeats > 1 else ratios * 3
    cell = {"width": width, "size": size, "batch": batch, "best": best, "seconds": seconds}
    return cell | {"ratio": middle, "low": low, "high": high}


def clock() -> Callable[[], float]:
    """The clock: of the processor on the host; on a device the one on the wall, since the host waits for the device."""
    return time.perf_counter if on_device() else time.process_time


def _count(run: Callable[[], None], depth: int) -> int:
    """The calls that take SECONDS, once the network is filled."""
    for _ in range(2 * depth):
        run()
    start = time.perf_counter()
    run()
    return max(3, round(SECONDS / (time.perf_counter() - start)))


def _row(cell: dict[str, Any]) -> Sequence[str]:
    milliseconds = (f"{1e3 * statistics.median(cell['seconds'][name]):.2f}" for name in ("Sideways", cell["best"]))
    ratios = (f"{cell[name]:.2f}" for name in ("ratio", "low", "high"))
    sizes = (str(cell[name]) for name in ("width", "size", "batch"))
    return (*sizes, *milliseconds, cell["best"].removeprefix("PyTorch, "), *ratios)
