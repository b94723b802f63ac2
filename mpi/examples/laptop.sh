#!/usr/bin/env bash
# A laptop: two ranks on two cores. mpirun comes with `pip install '.[mpi]'`; run it from the clone.
set -euo pipefail
export OPENBLAS_NUM_THREADS=1 # a core per rank; more threads only get in each other's way
.venv/bin/mpirun -n 2 .venv/bin/python -m mpi pan-skip --clips 100 "$@"
