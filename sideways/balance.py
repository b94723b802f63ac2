"""How long each unit takes, one at a time, on made-up activations: for the benchmarks, and to place units on ranks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy

from sideways.backend import Array, synchronise, to_device
from sideways.network import FRAME, Network, Unit
from sideways.optimizers import Optimizer


@dataclass
class Times:
    """Seconds of every repetition."""

    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    update: list[float] = field(default_factory=list)


class UnitTimer:
    """One unit with inputs and a gradient for it, to be run again and again."""

    def __init__(self, network: Network, unit: Unit, batch: int, optimizer: Optimizer | None = None):
        random = numpy.random.default_rng(0)
        shapes = {FRAME: network.input_shape} | {name: other.output_shape for name, other in network.units.items()}

        def made(shape: tuple[int, ...]) -> Array:
            return to_device(random.normal(size=(batch, *shape)), network.dtype)

        self.unit, self.optimizer = unit, optimizer.for_unit(unit.name) if optimizer else None
        self.inputs, self.gradient = {j: made(shapes[j]) for j in unit.inputs}, made(unit.output_shape)
        self.gradient *= 1e-3  # so that many updates change little
        self.times = Times()

    def run(self) -> None:
        """Forward, backward and update once, each timed."""
        unit, times = self.unit, self.times
        marks = [_now()]
        _, saved = unit.forward(self.inputs)
        marks.append(_now())
        _, gradients = unit.backward(self.gradient, saved)
        marks.append(_now())
        if self.optimizer:
            self.optimizer.update(unit.parameters, gradients, 0)
        marks.append(_now())
        for part, start, end in zip((times.forward, times.backward, times.update), marks, marks[1:], strict=False):
            part.append(end - start)


def _now() -> float:
    synchronise()
    return time.perf_counter()


Groups = list[list[str]]  # stage → names of its units


def measured_costs(network: Network, batch: int, repeats: int = 3) -> list[float]:
    """Seconds of forward and backward of each unit: the best of some repeats, on made-up activations."""
    costs = []
    for unit in network.units.values():
        runs = UnitTimer(network, unit, batch)
        for _ in range(repeats):
            runs.run()
        costs.append(min(map(sum, zip(runs.times.forward, runs.times.backward, strict=True))))
    return costs


def estimated_costs(network: Network) -> list[float]:
    """Multiply-adds of each unit, at least 1."""
    return [float(max(unit.multiply_adds, 1)) for unit in network.units.values()]


def balanced(names: Sequence[str], costs: Sequence[float], stages: int) -> Groups:
    """Contiguous, non-empty groups whose dearest is as cheap as can be.

    best[k][i]: the cheapest dearest group when the first i units form k groups; each last group j … i-1 is tried.
    """
    n = len(names)
    before = [0.0]
    for cost in costs:
        before.append(before[-1] + cost)
    infinity = float("inf")
    best = [[infinity] * (n + 1) for _ in range(stages + 1)]
    cut = [[0] * (n + 1) for _ in range(stages + 1)]
    best[0][0] = 0.0
    for k in range(1, stages + 1):
        for i in range(k, n + 1):
            for j in range(k - 1, i):
                dearest = max(best[k - 1][j], before[i] - before[j])
                if dearest < best[k][i]:
                    best[k][i], cut[k][i] = dearest, j
    groups: Groups = []
    end = n
    for k in range(stages, 0, -1):
        groups.append(list(names[cut[k][end] : end]))
        end = cut[k][end]
    return groups[::-1]


def speed_up(costs: Sequence[float], groups: Groups) -> float:
    """The speed-up over one rank that a placement allows: all work over the work of the dearest group."""
    remaining = iter(costs)
    shares = [sum(next(remaining) for _ in group) for group in groups]
    return sum(shares) / max(shares)
