"""`mpirun -n K python -m mpi RECIPE …`: what `sideways train RECIPE …` does, with the units spread over K ranks."""

import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: bit-identical, and a core per rank

from mpi.watchdog import guard

if __name__ == "__main__":
    guard()  # before MPI starts: from here on this is the child

    from mpi.training import Job

    sys.exit(Job().run())
