"""`mpirun -n K python -m sideways.mpi RECIPE …` is `mpirun -n K sideways train RECIPE …`."""

import sys

from sideways.mpi.launch import start

if __name__ == "__main__":
    start(sys.argv[1:])
