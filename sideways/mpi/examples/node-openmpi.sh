#!/usr/bin/env bash
# One node with 8 GPUs, Open MPI. `ompi_info --parsable --all | grep mpi_built_with_cuda_support:value` tells whether
# this Open MPI is CUDA-aware. If not, leave out --transport: messages then pass through pinned host buffers.
set -euo pipefail
mpirun -n 8 --bind-to core -x OPENBLAS_NUM_THREADS=1 .venv/bin/sideways train which-clip --model vgg8-skip \
    --backend cupy --set task_options.size=112 --set task_options.lines=120 --transport cuda-aware "$@"
