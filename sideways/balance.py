"""Balance: measure what each unit of a network costs, and cut the network into stages of about equal cost.

A stage is a group of neighbouring units that share a rank. The launcher (`sideways/mpi/`) cuts networks for its ranks,
and the benchmarks time units. Torchgpipe has the counterparts in `balance/profile.py` and `blockpartition.py`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy

from sideways.backend import Array, Shape, synchronise, to_device
from sideways.network.marks import Marks
from sideways.network.network import Network
from sideways.network.unit import FRAME, Unit
from sideways.optimizers import Optimizer

Groups = list[list[str]]  # stage → names of its units

# Costs ---------------------------------------------------------------------------------------------------------------


@dataclass
class Times:
    """The seconds of every repetition."""

    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    update: list[float] = field(default_factory=list)


class UnitTimer:
    """Times one unit by itself, on random inputs and a random gradient.

    batch: samples of an input. optimizer: a template for the update; None leaves the update out.
    """

    def __init__(self, network: Network, unit: Unit, batch: int, optimizer: Optimizer | None = None):
        random = numpy.random.default_rng(0)

        def draw(shape: Shape) -> Array:
            return to_device(random.normal(size=(batch, *shape)), network.dtype)

        self.unit, self.optimizer = unit, optimizer.for_unit(unit.name) if optimizer else None
        self.inputs = {j: draw(network.shapes[j]) for j in unit.inputs}
        self.gradient = draw(unit.output_shape)
        self.gradient *= 1e-3  # small steps keep the parameters finite over many updates
        self.times = Times()

    def run(self) -> None:
        """Run forward, backward and update once, and append their seconds to `times`."""
        unit, times = self.unit, self.times
        moments = [_now()]
        _, saved = unit.forward(self.inputs)
        moments.append(_now())
        _, gradients = unit.backward(self.gradient, saved)
        moments.append(_now())
        if self.optimizer:
            self.optimizer.update(unit.parameters, gradients, 0)
        moments.append(_now())
        for seconds, start, end in zip(
            (times.forward, times.backward, times.update), moments, moments[1:], strict=False
        ):
            seconds.append(end - start)


def _now() -> float:
    """The time in seconds, once the device has done all its work."""
    synchronise()
    return time.perf_counter()


def measured_costs(network: Network, batch: int, marks: Marks | None = None, repeats: int = 3) -> list[float]:
    """Seconds per tick of each unit: the least of `repeats` runs on random inputs. marks: see `cost_per_tick`."""
    costs = []
    for name, unit in network.units.items():
        timer = UnitTimer(network, unit, batch)
        for _ in range(repeats):
            timer.run()
        pairs = zip(timer.times.forward, timer.times.backward, strict=True)
        costs.append(min(cost_per_tick(network, name, *pair, marks) for pair in pairs))
    return costs


def estimated_costs(network: Network, marks: Marks | None = None) -> list[float]:
    """Multiply-adds per tick of each unit for one sample, at least 1. marks: see `cost_per_tick`."""
    costs = []
    for name, unit in network.units.items():
        products = 1 if unit.inputs == (FRAME,) else 2  # dW; and dx, unless the only input is the frame
        cost = cost_per_tick(network, name, unit.multiply_adds, products * unit.multiply_adds, marks)
        costs.append(float(max(cost, 1)))
    return costs


def cost_per_tick(network: Network, name: str, forward: float, backward: float, marks: Marks | None) -> float:
    """The mean cost of a unit per tick, given the costs of one forward and of one backward pass.

    marks: of `Delayed`; None for `Sideways`.

        Sideways    forward + backward
        Delayed     forward + p (forward + backward)        p pulls per tick; each runs forward again on kept inputs
                    forward + p backward                    for the top, which pulls in the tick of the loss
    """
    if marks is None:
        return forward + backward
    again = 0.0 if name == network.top.name else forward
    return forward + len(marks.lengths[name]) / marks.every * (again + backward)


# Stages --------------------------------------------------------------------------------------------------------------


def balanced(names: Sequence[str], costs: Sequence[float], stages: int) -> Groups:
    """Cut the units into contiguous, non-empty groups, so that the most expensive group costs as little as possible.

    names, costs: of the units, in the network's order. Dynamic programming over the cost of the most expensive group:

        best[k][i] = min over j < i of max(best[k-1][j], cost of units j … i-1)       first i units, k groups
    """
    n = len(names)
    total = [0.0]  # total[i]: cost of the first i units
    for cost in costs:
        total.append(total[-1] + cost)
    infinity = float("inf")
    best = [[infinity] * (n + 1) for _ in range(stages + 1)]
    cut = [[0] * (n + 1) for _ in range(stages + 1)]  # the j of the minimum
    best[0][0] = 0.0
    for k in range(1, stages + 1):
        for i in range(k, n + 1):
            for j in range(k - 1, i):
                most_expensive = max(best[k - 1][j], total[i] - total[j])
                if most_expensive < best[k][i]:
                    best[k][i], cut[k][i] = most_expensive, j
    groups: Groups = []
    end = n
    for k in range(stages, 0, -1):
        groups.append(list(names[cut[k][end] : end]))
        end = cut[k][end]
    return groups[::-1]


def speed_up(costs: Sequence[float], groups: Groups) -> float:
    """The speed-up over one rank that a placement allows: the cost of all units over that of the costliest group."""
    remaining = iter(costs)
    group_costs = [sum(next(remaining) for _ in group) for group in groups]
    return sum(group_costs) / max(group_costs)
