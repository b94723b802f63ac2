"""The processes that train a network together: a single one, or the ranks under `mpirun` (`sideways/mpi/ranks.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import numpy

T = TypeVar("T")


class Processes(Protocol):
    """The operations by which processes share a run. Every process must make the same calls in the same order."""

    @property
    def is_leader(self) -> bool:
        """True in the one process that reads and writes the run directory."""

    def barrier(self) -> None:
        """Wait for all processes."""

    def any(self, flags: numpy.ndarray) -> numpy.ndarray:
        """True for each flag (bool, of equal shape in all processes) that is set in any process."""

    def gather(self, entries: dict[str, str]) -> dict[str, str]:
        """Merge the entries of all processes."""

    def join(self, key: str, array: numpy.ndarray) -> numpy.ndarray | None:
        """Join an array of a unit's state (`rules/state.py`) over all replicas; None if another process has it."""

    def to_leader(self, files: Iterable[tuple[str, bytes]], take: Callable[[str, bytes], None]) -> None:
        """Call `take(name, content)` in the leader for each file of each process."""

    def from_leader(self, step: Callable[[], T]) -> T:
        """Take a step in the leader alone. Returns its result, or raises its `InputError`, in every process."""


class OneProcess:
    """A run that has one process to itself."""

    is_leader = True

    def barrier(self) -> None:
        pass

    def any(self, flags: numpy.ndarray) -> numpy.ndarray:
        return flags

    def gather(self, entries: dict[str, str]) -> dict[str, str]:
        return entries

    def join(self, key: str, array: numpy.ndarray) -> numpy.ndarray | None:
        return array

    def to_leader(self, files: Iterable[tuple[str, bytes]], take: Callable[[str, bytes], None]) -> None:
        for name, content in files:
            take(name, content)

    def from_leader(self, step: Callable[[], T]) -> T:
        return step()
