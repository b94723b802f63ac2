"""The ranks of a job: their communicators, stages and replicas, and the checks that they make together."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy
from mpi4py import MPI

from sideways.balance import Groups, balanced, estimated_costs, measured_costs, speed_up
from sideways.errors import InputError
from sideways.mpi.node import ALL
from sideways.mpi.placement import by_hand, check_ranks
from sideways.mpi.status import Waiting
from sideways.network import Network
from sideways.network.marks import Marks
from sideways.tables import aligned
from sideways.training.checkpoint import PER_SAMPLE

T = TypeVar("T")
REPLICAS = Waiting("the other replicas")
LEADER = Waiting("rank 0 to write a checkpoint")
FILES = Waiting("the files of a checkpoint")
COSTS = Waiting("rank 0 to measure what each unit costs")


@dataclass
class Ranks:
    """The ranks of a job: world rank = replica · stages + stage. Implements `training.processes.Processes`.

    pipeline: the stages of this rank's replica; peers: the replicas of this rank's stage.
    """

    world: MPI.Comm
    stages: int
    replicas: int
    pipeline: MPI.Comm
    peers: MPI.Comm
    addresses: list[tuple[str, int]] = field(default_factory=list)  # rank → host, PID; known once the table is made

    @classmethod
    def split(cls, world: MPI.Comm, units: int, replicas: int) -> Ranks:
        """Make the communicators. Raises `InputError` for a number of ranks that does not fit."""
        stages = check_ranks(world.Get_size(), units, replicas)
        rank = world.Get_rank()
        with ALL:
            pipeline, peers = world.Split(rank // stages, rank), world.Split(rank % stages, rank)
        return cls(world, stages, replicas, pipeline, peers)

    @property
    def stage(self) -> int:
        return self.pipeline.Get_rank()

    @property
    def replica(self) -> int:
        return self.peers.Get_rank()

    # The methods of `Processes`

    @property
    def is_leader(self) -> bool:
        return self.world.Get_rank() == 0

    def barrier(self) -> None:
        with ALL:
            self.world.Barrier()

    def any(self, flags: numpy.ndarray) -> numpy.ndarray:
        with ALL:
            self.world.Allreduce(MPI.IN_PLACE, flags, MPI.LOR)
        return flags

    def gather(self, entries: dict[str, str]) -> dict[str, str]:
        # Pickling is allowed here: a checkpoint is taken between two ticks.
        with ALL:
            parts = self.world.allgather(entries)
        return {key: value for part in parts for key, value in part.items()}

    def join(self, key: str, array: numpy.ndarray) -> numpy.ndarray | None:
        """Join an array over replicas: concatenate samples, average losses. Returns None but in the first replica."""
        if self.replicas == 1:
            return array
        if key.startswith(PER_SAMPLE):
            with REPLICAS:
                parts = self.peers.gather(array)
            return numpy.concatenate(parts) if parts is not None else None
        if key.startswith("loss."):
            array = numpy.array(array)
            with REPLICAS:
                self.peers.Allreduce(MPI.IN_PLACE, array)
            array /= self.replicas
        return array if self.replica == 0 else None

    def to_leader(self, files: Iterable[tuple[str, bytes]], take: Callable[[str, bytes], None]) -> None:
        """Rank 0 takes the files of one rank after the other, so that it holds one file of another rank at a time."""
        if not self.is_leader:
            for file in files:
                with LEADER:
                    self.world.send(file, 0)  # pickled: a checkpoint is taken between two ticks
            with LEADER:
                self.world.send(None, 0)
            return
        for name, content in files:
            take(name, content)
        for rank in range(1, self.world.Get_size()):
            while received := self._file_of(rank):
                take(*received)

    def _file_of(self, rank: int) -> tuple[str, bytes] | None:
        with FILES:
            return self.world.recv(None, rank, 0)

    def from_leader(self, step: Callable[[], T]) -> T:
        return from_rank_0(self.world, step)

    def ended_here(self) -> list[str]:
        """The ranks of this host whose process has ended, in words: the reason why a message cannot be sent."""
        here = socket.gethostname()
        return [
            f"rank {rank} (PID {pid} on {host})"
            for rank, (host, pid) in enumerate(self.addresses)
            if host == here and not _running(pid)
        ]

    def assign_units(
        self, network: Network, batch: int, placement: str, marks: Marks | None = None
    ) -> tuple[Groups, list[float]]:
        """The units of each stage, and the cost of each unit per tick. Every rank must call this function.

        placement: `"measure"` (on rank 0, for all), `"estimate"` (multiply-adds), or by hand, such as `"0-2,3-7"`.
        marks: of `Delayed`; None for `Sideways`.
        """
        names = list(network.units)
        costs = numpy.array(estimated_costs(network, marks))
        if placement != "estimate":
            if self.is_leader:
                costs[:] = measured_costs(network, batch, marks)
            with COSTS:
                self.world.Bcast(costs)
        listed = costs.tolist()
        if placement in ("measure", "estimate"):
            return balanced(names, listed, self.stages), listed
        return by_hand(names, placement, self.stages), listed

    def table(self, network: Network, groups: Groups, costs: Sequence[float], device: str) -> str | None:
        """The table of ranks on rank 0; None elsewhere. Every rank must call this method."""
        with ALL:
            everyone = self.world.allgather((socket.gethostname(), os.getpid(), device))  # pickled, once per job
        self.addresses = [(host, pid) for host, pid, _ in everyone]
        if not self.is_leader:
            return None
        share = dict(zip(network.units, (cost / sum(costs) for cost in costs), strict=True))
        rows = []
        for rank, (host, pid, rank_device) in enumerate(everyone):
            group = groups[rank % self.stages]
            units = group[0] if len(group) == 1 else f"{group[0]} … {group[-1]}"
            rows.append((str(rank), host, str(pid), rank_device, f"{sum(share[u] for u in group):.0%}", units))
        return (
            f"{aligned(('rank', 'host', 'PID', 'device', 'work', 'units'), rows, right=False)}\n"
            f"{self.stages} stage(s) × {self.replicas} replica(s); this placement allows {speed_up(costs, groups):.2f} "
            "× one rank"
        )


def part_of_batch(batch: int, replicas: int) -> int:
    """The samples of each replica. Raises `InputError` for a batch that cannot be split."""
    if batch % replicas:
        raise InputError(f"a batch of {batch} cannot be split over {replicas} replicas")
    return batch // replicas


def from_rank_0(world: MPI.Comm, step: Callable[[], T]) -> T:
    """Take a step on rank 0 alone. Returns its result, or raises its `InputError` or `OSError`, on every rank."""
    outcome: tuple[T | None, Exception | None] = None, None
    if world.Get_rank() == 0:
        try:
            outcome = step(), None
        except (InputError, OSError) as error:
            outcome = None, error
    with ALL:
        result, refusal = world.bcast(outcome)  # pickled, when a job starts
    if refusal:
        raise refusal
    return result


def check_same(world: MPI.Comm, options: dict[str, object]) -> None:
    """Raise `InputError` on every rank if some rank was started with other options than rank 0."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode()).digest()[:8]
    own = numpy.frombuffer(digest, numpy.int64).copy()
    everyone = numpy.empty(world.Get_size(), numpy.int64)
    with ALL:
        world.Allgather(own, everyone)
    others = [rank for rank, value in enumerate(everyone) if value != everyone[0]]
    if others:
        raise InputError(f"rank(s) {', '.join(map(str, others))} were started with other options than rank 0")


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self").exists()  # without /proc every process counts as running
