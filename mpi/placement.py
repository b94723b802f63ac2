"""Which rank runs which units: contiguous groups in the network's order, as even as whole units allow."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sideways.bench.units import Runs
from sideways.errors import InputError
from sideways.network import Network

Groups = list[list[str]]  # stage → names of its units


def measured_costs(network: Network, batch: int, repeats: int = 3) -> list[float]:
    """Seconds of forward and backward of each unit: the best of some repeats, on made-up activations."""
    costs = []
    for unit in network.units.values():
        runs = Runs(network, unit, batch)
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


def by_hand(names: Sequence[str], text: str, stages: int) -> Groups:
    """Groups written as `0-2,3-7`: unit numbers, from 0, every unit once and in order."""
    groups: Groups = []
    following = 0
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (-1, -1)
        if first != following or last < first or last >= len(names):
            raise InputError(
                f"--placement {text}: write units 0-{len(names) - 1} in order, such as {_example(len(names))}"
            )
        groups.append(list(names[first : last + 1]))
        following = last + 1
    if following != len(names) or len(groups) != stages:
        raise InputError(
            f"--placement {text} makes {len(groups)} groups of units 0-{following - 1}; needed are {stages} groups "
            f"of all units 0-{len(names) - 1}"
        )
    return groups


def _example(units: int) -> str:
    return f"0-{units // 2 - 1},{units // 2}-{units - 1}" if units > 1 else "0"


def check_ranks(ranks: int, units: int, replicas: int) -> int:
    """The number of stages, or `InputError` with the numbers of ranks that would work."""
    if replicas < 1:
        raise InputError(f"--replicas must be at least 1, not {replicas}")
    if ranks % replicas or ranks // replicas > units:
        fitting = ", ".join(str(stages * replicas) for stages in range(1, units + 1))
        raise InputError(
            f"{ranks} ranks cannot share {units} units in {replicas} replica(s): mpirun -n {fitting} would work"
        )
    return ranks // replicas


def speed_up(costs: Sequence[float], groups: Groups) -> float:
    """The speed-up over one rank that a placement allows: all work over the work of the dearest group."""
    remaining = iter(costs)
    shares = [sum(next(remaining) for _ in group) for group in groups]
    return sum(shares) / max(shares)
