"""Run under mpirun: replicas of random networks on a device end with the bits of replicas with NumPy.

`mpirun -n K python sums.py SEED COUNT`, over the double of CuPy: the sums travel through pinned memory, as device
arrays that MPI takes, and by NCCL. Each rank prints how many networks agreed.
"""

import os
import sys

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import cupy  # noqa: F401 (the double)
import numpy as np
from double.messages import Watched
from mpi4py import MPI
from same_bits import random_network, train
from together import together

import sideways as sw
from sideways.mpi.nccl import peers_of
from sideways.mpi.replicas import ReplicatedDelayed, ReplicatedSideways

WORLD = MPI.COMM_WORLD
# Backend, and whether MPI takes arrays in place; or NCCL adds up.
WAYS = (("numpy", False), ("numpy", True), ("cupy", False), ("cupy", True), ("cupy", "nccl"))


def parameters_after(seed, number, backend, in_place):
    """The parameters that this rank's replica ends with."""
    random = np.random.default_rng([seed, number])
    network = random_network(random, 2)
    sw.use_backend(backend)
    own = sw.Network(list(network.units.values()), network.input_shape, network.seed, network.dtype)
    parts = np.random.default_rng([seed, number, WORLD.Get_rank()])  # each replica has its own part of the batch
    length = 2 * network.depth
    clips = [(parts.random((length, 3, 4, 5, 2), np.float32), parts.integers(0, 3, (length, 3))) for _ in range(2)]
    kind, options = (ReplicatedDelayed, {"learn_every": 2}) if number % 2 else (ReplicatedSideways, {})
    peers = Watched(WORLD.Dup()) if backend == "cupy" else WORLD.Dup()
    options |= {"nccl": peers_of(WORLD)} if in_place == "nccl" else {"in_place": in_place}
    rule = kind(own, sw.SoftmaxCrossEntropy(), sw.SGD(0.1, 0.9), peers=peers, **options)
    train(rule, clips)
    return {f"{name} {key}": sw.to_host(a) for name, u in own.units.items() for key, a in u.parameters.items()}


def main():
    seed, count = map(int, sys.argv[1:])
    agreed = 0
    for number in range(count):
        first, *others = (parameters_after(seed, number, *way) for way in WAYS)
        agreed += all(np.array_equal(first[key], other[key]) for other in others for key in first)
    print(f"{agreed} of {count} agreed", flush=True)


if __name__ == "__main__":
    together(main)
