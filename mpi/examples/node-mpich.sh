#!/usr/bin/env bash
# One node with 8 GPUs, MPICH: vgg8 has eight units, so each gets a rank and a GPU of its own.
# Each rank takes the GPU of its place on the node. Remove --transport unless this MPICH was built for CUDA
# (MPIR_CVAR_ENABLE_GPU=1 then lets it take device arrays as they are); without it, messages pass pinned host buffers.
set -euo pipefail
export OPENBLAS_NUM_THREADS=1
export MPIR_CVAR_ENABLE_GPU=1
mpirun -n 8 .venv/bin/python -m mpi which-clip --model vgg8-skip --backend cupy \
    --set task_options.size=112 --set task_options.lines=120 --transport cuda-aware "$@"
