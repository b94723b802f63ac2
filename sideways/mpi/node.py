"""The ranks of one node: whether they must share its cores, and which GPU each of them takes."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from mpi4py import MPI

from sideways.backend import device_id, use_device
from sideways.mpi.status import Waiting

ALL = Waiting("all ranks")


@dataclass(frozen=True)
class Node:
    """A rank's place on its node. comm: the ranks of the node. crowded: there are more of them than cores."""

    comm: MPI.Comm
    crowded: bool

    @classmethod
    def of(cls, world: MPI.Comm) -> Node:
        """The node of this rank. Every rank must call this method."""
        with ALL:
            comm = world.Split_type(MPI.COMM_TYPE_SHARED, world.Get_rank())
            cores = set().union(*comm.allgather(os.sched_getaffinity(0)))  # each rank may be bound to some of them
        return cls(comm, comm.Get_size() > len(cores))

    def take_device(self) -> tuple[str, bool]:
        """Compute on a GPU from now on, chosen by this rank's number on the node.

        Returns the device in words, and True if other ranks have the same GPU.

        To be called before anything is put on a device. Ranks that see one GPU each, as under Slurm's
        --gpus-per-task=1, all call theirs number 0; so GPUs are told apart by their addresses on the PCI bus. Warns
        about ranks that share a GPU. Every rank must call this method.
        """
        own = device_id() if use_device(self.comm.Get_rank()) else ""
        with ALL:
            everyone = self.comm.allgather(own)
        if not own:
            return "CPU", False
        sharing = [rank for rank, other in enumerate(everyone) if other == own]
        if len(sharing) > 1 and sharing[0] == self.comm.Get_rank():
            print(f"warning: {len(sharing)} ranks share the GPU {own} on {MPI.Get_processor_name()}", file=sys.stderr)
        return f"GPU {own}", len(sharing) > 1
