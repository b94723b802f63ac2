"""The communicator of all ranks, and the number of this rank. Importing this module starts MPI."""

import mpi4py

mpi4py.rc.finalize = False  # after an error MPI_Finalize would wait for ranks that never come

from sideways.mpi.status import Waiting  # noqa: E402

with Waiting("MPI to start"):
    from mpi4py import MPI

WORLD = MPI.COMM_WORLD
RANK = WORLD.Get_rank()
