"""`sideways bench step`: the time of a training step, unit by unit, then of Sideways and Delayed beside PyTorch's."""

from __future__ import annotations

import copy
import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any

import numpy
from threadpoolctl import threadpool_limits

from sideways.backend import empty, namespace, synchronise, to_device
from sideways.balance import UnitTimer
from sideways.losses import SoftmaxCrossEntropy
from sideways.models import build_model
from sideways.network import FRAME, Network, Unit
from sideways.optimizers import SGD
from sideways.rules import Delayed, Rule, Sideways
from sideways.studies.bench.output import print_table, write_json
from sideways.tables import aligned

HEAD = ("", "forward ms", "backward ms", "update ms", "fixed ms", "GFLOP/s", "of sgemm")
STEP_HEAD = ("one step", "ms", "spread", "frames/s", "to Sideways'", "spread", "ms to PyTorch's better")
PARTS = ("forward", "backward", "update")
CLASSES = 101
OPTIMIZER = SGD(1e-4, momentum=0.9)


def step(model: str, size: int, batch: int, repeats: int, threads: int, compiled: bool, path: str | None) -> None:
    """Time forward, backward and update of each unit; then the ticks of each rule and PyTorch's steps, in turn.

    compiled: whether PyTorch's network also runs through `torch.compile`.
    """
    with threadpool_limits(threads, user_api="blas"):
        network = build_model(model, (size, size, 3), CLASSES)
        rate = sgemm_rate(next(iter(network.units.values())))
        units = [_of_unit(network, unit, batch, repeats) for unit in copy.deepcopy(network).units.values()]
        peers = pytorch(network, batch, threads, compiled)
        period = 2 * network.depth - 1
        seconds = in_turn({**_ticks(network, batch), **peers}, period, repeats)
    whole = {name: statistics.median(times) for name, times in seconds.items()}
    flops = batch * sum(unit["flops"] for unit in units)
    rows = [_row(unit["unit"], unit, batch * unit["flops"], rate) for unit in units]
    parts = {part: sum(unit[part] for unit in units) for part in (*PARTS, "fixed")}
    rows.append(_row("units, one by one", parts, flops, rate))
    tick = f"{flops / whole['Sideways'] / 1e9:.1f}", f"{flops / whole['Sideways'] / rate:.0%}"
    rows.append(("whole tick", "", f"{1e3 * whole['Sideways']:.1f}", "", "", *tick))
    print_table(HEAD, rows)
    best = min((whole[name] for name in peers), default=None)
    print(f"\n{_steps_table(seconds, batch, best)}")
    print(
        f"\n{model}, depth D = {network.depth}, batches of {batch} frames of {size}×{size}, float32, SGD with momentum,"
        f"\n{threads} BLAS thread(s). Times of units are medians of {repeats}. For the times of steps, 2D-1 steps of"
        f"\neach method ran in turn; they are medians of {repeats} such means. Delayed learns from the loss of one tick"
        "\nin n, and updates once for each of these ticks; the other methods update in every step."
        f"\nsgemm: {rate / 1e9:.1f} GFLOP/s, measured here. GFLOP/s count the multiply-adds of direct convolutions:"
        "\nWinograd's algorithm needs fewer, and may pass 100 %. fixed: the part of the three that does not grow with"
        "\nthe batch, that of Python and of the parameters, from batches of 1 and 2."
        + ("" if peers else "\nThere is no comparison with PyTorch, which is not installed or sees no such device.")
    )
    results = {"sgemm_flops_per_second": rate, "units": units, "seconds": seconds, "batch": batch, "threads": threads}
    write_json(path, results)


def in_turn(
    runs: Mapping[str, Callable[[], None]], period: int, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Run each function `period` times, then the next function, and all of this `repeats` times.

    clock: returns seconds. Returns name → the mean seconds of one call, for each repeat. The calls of one period need
    not be equal.
    """
    for run in runs.values():  # The network fills, and every buffer is allocated, before the clock starts.
        for _ in range(2 * period):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = clock()
            for _ in range(period):
                run()
            seconds[name].append((clock() - start) / period)
    return seconds


def sgemm_rate(unit: Unit) -> float:
    """FLOP/s of a square float32 matrix product of 1024 rows, on the device of this unit: the best of twenty."""
    parameter = next(iter(unit.parameters.values()))
    a = to_device(numpy.random.default_rng(0).normal(size=(1024, 1024)), "float32")
    product, times = empty(parameter, (1024, 1024), "float32"), []
    for _ in range(20):
        synchronise()
        start = time.perf_counter()
        namespace(a).matmul(a, a, out=product)
        synchronise()
        times.append(time.perf_counter() - start)
    return 2 * 1024**3 / min(times)


def _of_unit(network: Network, unit: Unit, batch: int, repeats: int) -> dict[str, Any]:
    """Median seconds of a unit's forward, backward and update, and its floating-point operations for one sample."""

    def timed(samples: int) -> dict[str, float]:
        timer = UnitTimer(network, unit, samples, OPTIMIZER)
        for _ in range(repeats + 1):
            timer.run()
        return {part: statistics.median(getattr(timer.times, part)[1:]) for part in PARTS}

    times, one, two = timed(batch), sum(timed(1).values()), sum(timed(2).values())
    times["fixed"] = min(max(2 * one - two, 0.0), one)  # a line through both, at a batch of 0
    products = 2 if unit.inputs == (FRAME,) else 3  # forward and dW; and dx, unless the only input is the frame
    return {"unit": unit.name, **times, "flops": 2 * products * unit.multiply_adds}


def _row(name: str, times: dict[str, Any], flops: float, rate: float) -> tuple[str, ...]:
    speed = flops / sum(times[part] for part in PARTS)
    milliseconds = (f"{1e3 * times[part]:.2f}" for part in (*PARTS, "fixed"))
    return (name, *milliseconds, f"{speed / 1e9:.1f}", f"{speed / rate:.0%}")


def _ticks(network: Network, batch: int) -> dict[str, Callable[[], None]]:
    """Functions that run one tick: of Sideways, and of Delayed with n = 1 and n = 2D - 1. Each has its own network."""
    every = (1, 2 * network.depth - 1)
    delayed = {f"Delayed, n = {n}": _ticking(partial(Delayed, learn_every=n), network, batch) for n in every}
    return {"Sideways": tick_of_sideways(network, batch), **delayed}


def tick_of_sideways(network: Network, batch: int) -> Callable[[], None]:
    """A function that runs one tick of Sideways on a network of its own."""
    return _ticking(Sideways, network, batch)


def _ticking(kind: Callable[..., Rule], network: Network, batch: int) -> Callable[[], None]:
    random = numpy.random.default_rng(0)
    frames, labels = random.normal(size=(4, batch, *network.input_shape)).astype("float32"), numpy.arange(batch) % 10
    rule = kind(copy.deepcopy(network), SoftmaxCrossEntropy(), OPTIMIZER, boundary="stream")
    numbers = count()

    def run() -> None:
        rule.tick(frames[next(numbers) % len(frames)], labels)
        synchronise()

    return run


def pytorch(network: Network, batch: int, threads: int, compiled: bool) -> dict[str, Callable[[], None]]:
    """Functions that run a step in PyTorch, by name; none without PyTorch, or where it sees no such device."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    from sideways.studies.bench.torch_network import torch_steps

    torch.set_num_threads(threads)
    return torch_steps(network, batch, OPTIMIZER, compiled)


def _steps_table(seconds: Mapping[str, list[float]], batch: int, best: float | None) -> str:
    """A row for each rule and for each layout of PyTorch: a step's milliseconds, its frames/s, and ratios of both."""
    rows = []
    for name, times in seconds.items():
        value = statistics.median(times)
        ratios = [own / other for own, other in zip(seconds["Sideways"], times, strict=True)]
        rows.append(
            (
                *(name, f"{1e3 * value:.2f}", f"{1e3 * _spread(times):.2f}", f"{batch / value:.1f}"),
                *(f"{statistics.median(ratios):.2f}", f"{_spread(ratios):.2f}"),
                f"{value / best:.2f}" if best else "",
            )
        )
    return aligned(STEP_HEAD, rows) + (
        "\nspread: between the quartiles. to Sideways': frames/s over Sideways' frames/s of the same repeat."
    )


def _spread(values: list[float]) -> float:
    """The distance between the quartiles."""
    low, high = numpy.percentile(values, (25, 75))
    return float(high - low)
