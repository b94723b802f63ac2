"""The processes that train a network together: a single one, or the ranks under `mpirun` (`sideways/mpi/ranks.py`)."""

from __future__ import annotations

from typing import Protocol

import numpy


class Processes(Protocol):
    """The operations by which processes share a run. Every process must make the same calls in the same order."""

    @property
    def is_leader(self) -> bool:
        """True in the one process that writes the run directory."""

    @property
    def alone(self) -> bool:
        """True if there is no other process."""

    def barrier(self) -> None:
        """Wait for all processes."""

    def any(self, flags: numpy.ndarray) -> numpy.ndarray:
        """True for each flag (bool, of equal shape in all processes) that is set in any process."""

    def gather(self, entries: dict[str, str]) -> dict[str, str]:
        """Merge the entries of all processes."""

    def join(self, key: str, array: numpy.ndarray) -> numpy.ndarray | None:
        """Join an array of a unit's state (`rules/state.py`) over all replicas; None if another process writes it."""


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
