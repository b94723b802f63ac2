"""Placement: which rank runs which units, in contiguous groups of the network's order."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy

from mpi.ranks import Ranks
from sideways.balance import Groups, balanced, estimated_costs, measured_costs
from sideways.errors import InputError
from sideways.network import Network


def assign_units(network: Network, ranks: Ranks, batch: int, placement: str) -> tuple[Groups, list[float]]:
    """The units of each stage, and the cost of each unit. Every rank must call this function.

    placement: `"measure"` (on rank 0, for all), `"estimate"` (multiply-adds), or groups by hand such as `"0-2,3-7"`.
    """
    names = list(network.units)
    costs = numpy.array(estimated_costs(network))
    if placement != "estimate":
        if ranks.is_leader:
            costs[:] = measured_costs(network, batch)
        ranks.world.Bcast(costs)
    listed = costs.tolist()
    if placement in ("measure", "estimate"):
        return balanced(names, listed, ranks.stages), listed
    return by_hand(names, placement, ranks.stages), listed


def by_hand(names: Sequence[str], text: str, stages: int) -> Groups:
    """Read groups written as `0-2,3-7`: unit numbers, from 0, every unit once and in order."""
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
