"""The processes that train a network together: one here, one for each rank under `mpirun` (`mpi/ranks.py`)."""

from __future__ import annotations

from typing import Protocol

import numpy


class Processes(Protocol):
    """What a run asks of the processes that share it. Every process must make the same calls in the same order."""

    @property
    def is_leader(self) -> bool:
        """Whether this is the one process that writes the run directory."""

    @property
    def alone(self) -> bool:
        """Whether there are no others."""

    def barrier(self) -> None:
        """Wait for all processes."""

    def any(self, flags: numpy.ndarray) -> numpy.ndarray:
        """The flags (bool, the same shape everywhere) that are set in some process."""

    def gather(self, entries: dict[str, str]) -> dict[str, str]:
        """The entries of all processes together."""

    def join(self, key: str, array: numpy.ndarray) -> numpy.ndarray | None:
        """An array of the state of a unit (`rules/state.py`) for all replicas; None where another process writes it."""


class OneProcess:
    """A run that has one process to itself."""

    is_leader = True
    alone = True

    def barrier(self) -> None:
        pass

    def any(self, flags: numpy.ndarray) -> numpy.ndarray:
        return flags

    def gather(self, entries: dict[str, str]) -> dict[str, str]:
        return entries

    def join(self, key: str, array: numpy.ndarray) -> numpy.ndarray | None:
        return array
