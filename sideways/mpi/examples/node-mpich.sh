#!/usr/bin/env bash
# One node with 8 GPUs, MPICH: vgg8 has eight units, so each gets a rank and a GPU of its own.
# Rank k of the node takes GPU k. Remove --transport unless this MPICH was built for CUDA: messages then pass through
# pinned host buffers. MPIR_CVAR_ENABLE_GPU=1 lets a CUDA build take device arrays.
set -euo pipefail
export OPENBLAS_NUM_THREADS=1
export MPIR_CVAR_ENABLE_GPU=1
mpirun -n 8 .venv/bin/sideways train which-clip --model vgg8-skip --backend cupy \
    --set task_options.size=112 --set task_options.lines=120 --transport cuda-aware "$@"
