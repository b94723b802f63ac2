"""Placement: how many stages a job has, and groups of units by hand. Needs no MPI."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sideways.balance import Groups
from sideways.errors import InputError


def check_ranks(ranks: int, units: int, replicas: int) -> int:
    """The number of stages. Raises `InputError` with the numbers of ranks that would work."""
    if replicas < 1:
        raise InputError(f"--replicas must be at least 1, not {replicas}")
    if ranks % replicas or ranks // replicas > units:
        fitting = ", ".join(str(stages * replicas) for stages in range(1, units + 1))
        raise InputError(
            f"{ranks} ranks cannot share {units} units in {replicas} replica(s): mpirun -n {fitting} would work"
        )
    return ranks // replicas


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
