#!/usr/bin/env bash
# Two hosts over ssh, MPICH: one rank on each. `ssh node2` must not ask for a password, and this folder, with .venv, must
# lie at the same path on both hosts. Only the first host writes into runs/.
# Where a host has several networks, UCX_NET_DEVICES=eth0 chooses the one for the messages.
set -euo pipefail
export OPENBLAS_NUM_THREADS=1
.venv/bin/mpirun -launcher ssh -hosts "${HOSTS:-node1,node2}" -ppn 1 -n 2 \
    .venv/bin/sideways train pan-skip --clips 100 "$@"
