#!/usr/bin/env bash
# Two hosts over ssh, Open MPI: one rank on each. `ssh node2` must not ask for a password, and this folder, with .venv,
# must lie at the same path on both hosts. Only the first host writes into runs/. Variables travel after -x alone.
# Where a host has several networks, --mca btl_tcp_if_include eth0 chooses the one for the messages.
set -euo pipefail
mpirun --host "${HOSTS:-node1,node2}" -n 2 --mca pml ob1 -x OPENBLAS_NUM_THREADS=1 \
    .venv/bin/sideways train pan-skip --clips 100 "$@"
