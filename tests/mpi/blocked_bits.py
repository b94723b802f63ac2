"""Run under mpirun: blocked backpropagation over ranks must end with the bits of backpropagation in one process.

`mpirun -n K python blocked_bits.py`; each rank prints a line: `rank: ok`, or `rank: ` and the units that differ.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from mpi4py import MPI
from together import together

import sideways as sw
from sideways.models import build_model
from sideways.mpi.blocked import Blocked

WORLD = MPI.COMM_WORLD


def main():
    rank = WORLD.Get_rank()
    networks = [build_model("vgg5-skip", (8, 8, 1), 4, width=4) for _ in range(2)]
    names = list(networks[0].units)
    parts = np.array_split(np.arange(len(names)), WORLD.Get_size())
    owner = {names[i]: number for number, part in enumerate(parts) for i in part}
    optimizer = sw.SGD(0.05, momentum=0.9)
    blocked = Blocked(networks[0], owner, 3, optimizer, nap=True)
    alone = sw.Backprop(networks[1], sw.SoftmaxCrossEntropy(), optimizer)
    for frame in np.random.default_rng(0).normal(size=(5, 3, 8, 8, 1)).astype(np.float32):
        blocked.step(frame, np.arange(3))
        alone.tick(frame, np.arange(3))
    wrong = [
        name
        for name in names
        if owner[name] == rank
        for key, array in networks[0].units[name].parameters.items()
        if not np.array_equal(array, networks[1].units[name].parameters[key])
    ]
    os.write(1, f"{rank}: {' '.join(wrong) or 'ok'}\n".encode())  # in one piece: the ranks write at once


if __name__ == "__main__":
    together(main)
