#!/usr/bin/env bash
# A laptop: two ranks on two cores. Run this from the clone; `pip install '.[mpi]'` brings mpirun.
set -euo pipefail
export OPENBLAS_NUM_THREADS=1 # one core per rank: more threads would slow each other down
.venv/bin/mpirun -n 2 .venv/bin/sideways train pan-skip --clips 100 "$@"
