"""`mpirun -n K python -m mpi RECIPE …` trains as `sideways train RECIPE …` does, with the units spread over K ranks."""

import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported: equal bits, one core per rank

from mpi.watchdog import guard

if __name__ == "__main__":
    guard()  # forks before MPI starts; only the child goes on from here

    from mpi.training import Job

    sys.exit(Job().run())
