"""Steps that all ranks take together outside the tick: take or refuse a step, bring parameters to and from rank 0."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import TypeVar

from mpi4py import MPI

from sideways.backend import to_device, to_host
from sideways.errors import InputError
from sideways.mpi.ranks import Ranks
from sideways.mpi.status import Waiting
from sideways.mpi.world import RANK, WORLD
from sideways.network import Network

T = TypeVar("T")
AGREEMENT = Waiting("all ranks to have taken a step")
PARAMETERS = Waiting("the parameters of all ranks")


class RefusedError(Exception):
    """Some rank has refused bad input, and has printed the reason. code: the exit code of the job."""

    def __init__(self, code: int = 2):
        super().__init__(code)
        self.code = code


def on_all_ranks(step: Callable[[], T]) -> T:
    """Take a step on every rank. If some ranks refuse the step, the first of these prints the reason, and all ranks
    raise `RefusedError`: a rank that ended alone would leave the others waiting in the next collective call."""
    error: InputError | OSError | None = None
    try:
        result = step()
    except (InputError, OSError) as refusal:
        error = refusal
    with AGREEMENT:
        first = WORLD.allreduce(RANK if error else WORLD.Get_size(), MPI.MIN)
        refusals = WORLD.allreduce(1 if error else 0)
    if first == RANK:
        where = f"rank {RANK} on {socket.gethostname()}: " if refusals < WORLD.Get_size() else ""
        print(f"sideways: {where}{error}", file=sys.stderr, flush=True)
    if first < WORLD.Get_size():
        raise RefusedError
    return result


def gather_parameters(network: Network, ranks: Ranks, owned: set[str]) -> None:
    """Bring every unit's parameters and running statistics to rank 0."""
    comm = ranks.pipeline
    rank = comm.Get_rank()
    for tag, (name, unit) in enumerate(network.units.items()):
        with PARAMETERS:
            owner = comm.allreduce(rank if name in owned else 0, MPI.MAX)
        for array in (unit.parameters | unit.state).values():
            values = to_host(array).copy()
            with PARAMETERS:
                if rank == owner and owner != 0:
                    comm.Send(values, 0, tag)
                elif rank == 0 and owner != 0:
                    comm.Recv(values, owner, tag)
            array[...] = to_device(values)


def spread_parameters(network: Network) -> None:
    """Bring rank 0's parameters and running statistics to every rank."""
    for unit in network.units.values():
        for array in (unit.parameters | unit.state).values():
            values = to_host(array).copy()
            with PARAMETERS:
                WORLD.Bcast(values)
            array[...] = to_device(values)
