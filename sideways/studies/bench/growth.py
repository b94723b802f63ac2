"""`sideways bench growth`: the time of a tick as the work grows, and the cost of the Python around each unit."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import Any

import numpy
from threadpoolctl import threadpool_limits

from sideways.backend import synchronise
from sideways.layers import Conv2D, Dense, GlobalAveragePool, ReLU
from sideways.losses import SoftmaxCrossEntropy
from sideways.network import FRAME, Network, Unit
from sideways.optimizers import SGD
from sideways.rules import Sideways
from sideways.studies.bench.output import print_table, write_json

HEAD = ("", "ms/tick", "spread", "to the first", "multiply-adds, to the first")
GROWTHS = {  # quantity that grows → (batch, size, width, units of a chain)
    "batch": [(n, 32, 16, 4) for n in (1, 2, 4, 8, 16, 32)],
    "frame size": [(8, size, 16, 4) for size in (16, 32, 64, 128)],
    "width": [(8, 32, width, 4) for width in (8, 16, 32, 64)],
    "depth": [(8, 32, 16, depth) for depth in (2, 4, 8, 16)],
}


def growth(repeats: int, path: str | None) -> None:
    """Time the ticks of chains of 3×3 convolutions, and of chains of trivial units: medians of this many repeats."""
    results: list[dict[str, Any]] = []
    with threadpool_limits(1, user_api="blas"):
        for quantity, cases in GROWTHS.items():
            for case in cases:
                batch, size, width, depth = case
                network = chain(size, width, depth)
                work = batch * sum(unit.multiply_adds for unit in network.units.values())
                value = dict(zip(GROWTHS, case, strict=True))[quantity]
                results.append({"what": quantity, "value": value, "work": work, **_ticks(network, batch, repeats)})
        trivial = {units: _ticks(_trivial(units), 1, 20 * repeats) for units in (8, 16, 32, 64)}
    first: dict[str, dict[str, Any]] = {}
    rows = []
    for result in results:
        base = first.setdefault(result["what"], result)
        ratios = result["seconds"] / base["seconds"], result["work"] / base["work"]
        rows.append((f"{result['what']} {result['value']}", *_cells(result), *(f"{ratio:.1f}" for ratio in ratios)))
    print_table(HEAD, rows)
    print("\nbatch 8, 32×32 frames, width 16, 4 units, unless the row says otherwise; one BLAS thread.\n")
    print_table(
        ("trivial units", "ms/tick", "spread", "µs per unit"),
        [(str(k), *_cells(t), f"{1e6 * t['seconds'] / k:.1f}") for k, t in trivial.items()],
    )
    slope = (trivial[64]["seconds"] - trivial[8]["seconds"]) / 56
    print(f"\nEach further unit costs {1e6 * slope:.1f} µs per tick: one ReLU of four numbers, forward and backward.")
    write_json(path, {"growth": results, "trivial": {str(k): t for k, t in trivial.items()}})


def _cells(result: dict[str, Any]) -> tuple[str, str]:
    return f"{1e3 * result['seconds']:.3f}", f"{1e3 * result['spread']:.3f}"


def chain(size: int, width: int, depth: int) -> Network:
    """A chain of 3×3 convolutions with ReLUs, all of one width, and a classifier."""
    widths = [3, *[width] * (depth - 1)]
    pairs = list(pairwise(widths))
    names = [FRAME, *(f"conv{i + 1}" for i in range(len(pairs)))]
    units = [
        Unit(name, [Conv2D(c, o, kernel=3), ReLU()], [below])
        for (below, name), (c, o) in zip(pairwise(names), pairs, strict=True)
    ]
    top = Unit("classifier", [GlobalAveragePool(), Dense(width, 10)], [names[-1]])
    return Network([*units, top], (size, size, 3))


def _trivial(units: int) -> Network:
    """A chain of units that compute next to nothing: one ReLU of four numbers each."""
    names = [FRAME, *(f"unit{i}" for i in range(1, units + 1))]
    return Network([Unit(name, [ReLU()], [below]) for below, name in pairwise(names)], (4,))


def _ticks(network: Network, batch: int, repeats: int) -> dict[str, float]:
    """Median seconds of a tick, and the spread between the quartiles, measured once all units are busy."""
    rule = Sideways(network, SoftmaxCrossEntropy(), SGD(1e-4, momentum=0.9), boundary="stream")
    frame = numpy.random.default_rng(0).normal(size=(batch, *network.input_shape)).astype(numpy.float32)
    labels, times = numpy.zeros(batch, int), []
    for tick in range(2 * network.depth + repeats):
        start = time.perf_counter()
        rule.tick(frame, labels)
        synchronise()
        if tick >= 2 * network.depth:
            times.append(time.perf_counter() - start)
    low, high = numpy.percentile(times, (25, 75))
    return {"seconds": statistics.median(times), "spread": float(high - low)}
