"""The ways in which messages between ranks travel, and the mailbox of each way."""

from __future__ import annotations

from collections.abc import Callable

from mpi4py import MPI

from sideways.backend import on_device
from sideways.backend.nccl import library
from sideways.errors import InputError
from sideways.machine import cuda_aware
from sideways.mpi.mailbox import MPIMailbox
from sideways.mpi.nccl import NCCLMailbox, peers_of
from sideways.mpi.node import ALL
from sideways.mpi.ranks import Ranks
from sideways.mpi.world import WORLD
from sideways.network import Network
from sideways.network.schedule import Edge


def transport_of(wish: str, shared: bool) -> str:
    """The way in `TRANSPORTS` that arrays travel. wish: one of them, or auto; shared: some ranks share a GPU.

    Every rank must call this function. Raises `InputError` for a way that cannot be taken.
    """
    if wish == "nccl":
        library()
        if shared:
            raise InputError("--transport nccl needs a GPU for each rank: omit it, or choose host")
    if not on_device():
        if wish == "cuda-aware":
            raise InputError("--transport cuda-aware hands GPU arrays to MPI: it goes with --backend cupy")
        return "host"
    able, reason = cuda_aware()
    if wish == "cuda-aware" and able is False:
        raise InputError(f"--transport cuda-aware: this MPI cannot do that ({reason}); omit it, or choose host")
    if wish != "auto":
        return wish
    with ALL:
        return "cuda-aware" if WORLD.allreduce(bool(able), MPI.LAND) else "host"


def make_mailbox(
    network: Network,
    timetable: Callable[[Edge, int], int | None],
    owner: dict[str, int],
    batch: int,
    ranks: Ranks,
    transport: str,
    crowded: bool,
) -> MPIMailbox | NCCLMailbox:
    """The mailbox of a rank. Every rank must call this function."""
    if transport == "nccl":
        return NCCLMailbox(network, timetable, owner, ranks.stage, batch, peers_of(ranks.pipeline))
    with ALL:
        comms = ranks.pipeline.Dup(), ranks.pipeline.Dup()
    return MPIMailbox(network, timetable, owner, batch, *comms, transport == "cuda-aware", crowded)
