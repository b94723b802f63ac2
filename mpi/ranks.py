"""What a rank knows of the others: its communicators, which units live where, which GPU is its own."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy
from mpi4py import MPI

from sideways.backend import use_device
from sideways.balance import Groups, speed_up
from sideways.errors import InputError
from sideways.network import Network


@dataclass
class Ranks:
    """World rank = replica · stages + stage. `pipeline`: the stages of one replica; `peers`: one stage's replicas."""

    world: MPI.Comm
    stages: int
    replicas: int
    pipeline: MPI.Comm
    peers: MPI.Comm
    local_ranks: int  # on this node
    local_rank: int
    crowded: bool  # more ranks than cores on this node: waiting must not spin
    everyone: list[tuple[str, int]] = field(default_factory=list)  # rank → host, PID; known once the table is made

    @classmethod
    def split(cls, world: MPI.Comm, units: int, replicas: int) -> Ranks:
        """Communicators of our own; `InputError` for a number of ranks that does not fit."""
        stages = check_ranks(world.Get_size(), units, replicas)
        rank = world.Get_rank()
        node = world.Split_type(MPI.COMM_TYPE_SHARED, rank)
        cores = set().union(*node.allgather(os.sched_getaffinity(0)))  # each rank may be bound to some of them
        return cls(
            world,
            stages,
            replicas,
            world.Split(rank // stages, rank),
            world.Split(rank % stages, rank),
            node.Get_size(),
            node.Get_rank(),
            node.Get_size() > len(cores),
        )

    @property
    def stage(self) -> int:
        return self.pipeline.Get_rank()

    @property
    def replica(self) -> int:
        return self.peers.Get_rank()

    def gone(self) -> list[str]:
        """The ranks of this host whose process has ended: who is to blame when a message cannot be sent."""
        here = socket.gethostname()
        return [
            f"rank {rank} (PID {pid} on {host})"
            for rank, (host, pid) in enumerate(self.everyone)
            if host == here and not _running(pid)
        ]

    def take_device(self) -> str:
        """Compute on the GPU of this rank's place on the node; what it is, in words."""
        devices = use_device(self.local_rank)
        if not devices:
            return "CPU"
        if self.local_ranks > devices and self.local_rank == 0:
            print(f"warning: {self.local_ranks} ranks share {devices} GPU(s) on this node", file=sys.stderr)
        return f"GPU {self.local_rank % devices}"


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self").exists()  # without /proc nobody is blamed


def part_of_batch(batch: int, replicas: int) -> int:
    """The samples of each replica, or `InputError`."""
    if batch % replicas:
        raise InputError(f"a batch of {batch} cannot be split over {replicas} replicas")
    return batch // replicas


def check_same(world: MPI.Comm, options: dict[str, object]) -> None:
    """`InputError` on every rank if some rank was started with other options than rank 0."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode()).digest()[:8]
    mine = numpy.frombuffer(digest, numpy.int64).copy()
    everyone = numpy.empty(world.Get_size(), numpy.int64)
    world.Allgather(mine, everyone)
    others = [rank for rank, value in enumerate(everyone) if value != everyone[0]]
    if others:
        raise InputError(f"rank(s) {', '.join(map(str, others))} were started with other options than rank 0")


def table(ranks: Ranks, network: Network, groups: Groups, costs: Sequence[float], device: str) -> str | None:
    """On rank 0, the table of ranks; None elsewhere. Every rank must call it."""
    everyone = ranks.world.allgather((socket.gethostname(), os.getpid(), device))  # only here is anything pickled
    ranks.everyone = [(host, pid) for host, pid, _ in everyone]
    if ranks.world.Get_rank():
        return None
    share = dict(zip(network.units, (cost / sum(costs) for cost in costs), strict=True))
    rows = [("rank", "host", "PID", "device", "work", "units")]
    for rank, (host, pid, what) in enumerate(everyone):
        group = groups[rank % ranks.stages]
        units = group[0] if len(group) == 1 else f"{group[0]} … {group[-1]}"
        rows.append((str(rank), host, str(pid), what, f"{sum(share[u] for u in group):.0%}", units))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    allowed = speed_up(costs, groups)
    lines.append(
        f"{ranks.stages} stage(s) × {ranks.replicas} replica(s); this placement allows {allowed:.2f} × one rank"
    )
    return "\n".join(lines)


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
