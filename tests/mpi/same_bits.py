"""Run under mpirun: random networks, trained over ranks and in one process, must end with the same bits.

`mpirun -n K python same_bits.py SEED COUNT sideways|delayed [staged] [cuda-aware] [nccl]`; rank 0 prints how many
networks agreed, and names those that did not. With more words the ranks compute with CuPy, once in each of these ways.
The single process that they are compared with also does, unless `import cupy` finds the device double: then the single
process computes with NumPy. Each rank is that single process for some of the networks.
"""

import importlib
import itertools
import os
import sys
from functools import partial

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from mpi4py import MPI
from together import together

import sideways as sw
from sideways.mpi.mailbox import MPIMailbox
from sideways.mpi.nccl import NCCLMailbox, peers_of
from sideways.training.prefetch import Prefetch

WORLD = MPI.COMM_WORLD
MODES = [("flush", 1), ("flush", 3), ("flush", "clip"), ("stream", 1), ("stream", 4), ("stream", "clip")]


def random_network(random, fewest):
    """Draw a network: convolutions, skips of any length, both merges, adapters, normalisation, dropout, identities."""
    count = int(random.integers(max(fewest, 2), 8))
    units = []
    for i in range(count):
        earlier = ["frame", *(unit.name for unit in units)]
        inputs = {earlier[-1], *random.choice(earlier, random.integers(0, 3))}
        if i == count - 1:
            inputs |= {u.name for u in units if not any(u.name in other.inputs for other in units)}
        inputs = [str(j) for j in random.permutation(sorted(inputs))]
        if i < count - 1 and random.random() < 0.2:  # a unit without layers: the identity, or a sum
            units.append(sw.Unit(f"u{i}", [], inputs, "add"))
            continue
        merge = str(random.choice(["add", "concat"]))
        adapters = {j: [sw.Conv2D(2, 2, kernel=1)] if random.random() < 0.3 else [] for j in inputs}
        layers = [sw.Conv2D(2 * len(inputs) if merge == "concat" else 2, 2, kernel=3)]
        layers += [sw.BatchNorm(2)] if random.random() < 0.5 else []
        layers += [sw.Tanh() if random.random() < 0.5 else sw.ReLU()]
        layers += [sw.Dropout(0.3)] if random.random() < 0.3 else []
        layers += [sw.GlobalAveragePool(), sw.Dense(2, 3)] if i == count - 1 else []
        units.append(sw.Unit(f"u{i}", layers, adapters, merge))
    return sw.Network(units, (4, 5, 2), seed=int(random.integers(1000)))


def train(rule, clips, reads_frame=True, owns_top=True):
    """Train on clips, with an evaluation before the end of each, while frames are under way. Returns all outputs."""
    outputs, prefetch = [], Prefetch(rule)
    for frames, targets in clips:
        none = [None] * len(frames)
        for _, frame, target in prefetch.pairs(frames if reads_frame else none, targets if owns_top else none):
            rule.tick(frame, target, prefetch.fetch)
        outputs += rule.evaluate(frames if reads_frame else none, targets if owns_top else None).outputs
        rule.end_clip()
    sw.synchronise()  # pinned memory must outlive the copies from it
    return [sw.to_host(output) for output in outputs]


def on_device(network):
    """Move a network to the device. Returns it, and a wrapper of communicators, so that a double can watch messages."""
    sw.use_backend("cupy")
    moved = sw.Network(list(network.units.values()), network.input_shape, network.seed, network.dtype)
    if "double" not in sys.modules:
        return moved, lambda comm: comm
    from double.messages import Watched

    return moved, Watched


def case(seed, number, stages, kind):
    """Draw a network, its groups of units, clips to train it on, and the options of the rule."""
    random = np.random.default_rng([seed, number])
    network = random_network(random, stages)
    boundary, every = MODES[number % len(MODES)]
    names = list(network.units)
    cuts = sorted(random.choice(np.arange(1, len(names)), stages - 1, replace=False).tolist())
    groups = [names[a:b] for a, b in zip([0, *cuts], [*cuts, len(names)], strict=True)]
    length = 2 * network.depth + int(random.integers(0, 3))
    clips = [
        (random.normal(size=(length, 2, 4, 5, 2)).astype(np.float32), random.integers(0, 3, (length, 2)))
        for _ in range(3)
    ]
    options = {"update_every": every, "boundary": boundary}
    if kind == "delayed":
        options["learn_every"] = int(random.choice([1, 2, 3, 2 * network.depth - 2, 2 * network.depth - 1]))
    return network, groups, clips, options


def arrays_of(network, names):
    """The parameters and running statistics of some units, on the host: (unit, key) → array."""
    units = {name: network.units[name].parameters | network.units[name].state for name in names}
    return {(name, key): sw.to_host(array) for name, arrays in units.items() for key, array in arrays.items()}


def alone(rule, network, clips, options):
    """Train in one process. Returns the arrays of all units, and the outputs."""
    outputs = train(rule(network, sw.SoftmaxCrossEntropy(), sw.Adam(1e-3), **options), clips)
    return arrays_of(network, network.units), outputs


def over_ranks(rule, network, groups, clips, options, mode):
    """Train over all ranks. Returns the arrays of this rank's units, and the outputs if it owns the top, else None."""
    own_units = groups[WORLD.Get_rank()]
    owner = {name: stage for stage, group in enumerate(groups) for name in group}
    timetable = network.timetable
    if "learn_every" in options:
        timetable = partial(timetable, marks=network.marks(options["learn_every"]))
    comms = WORLD.Dup(), WORLD.Dup()
    network, wrap = on_device(network) if mode else (network, lambda comm: comm)
    if mode == "nccl":
        mailbox = NCCLMailbox(network, timetable, owner, WORLD.Get_rank(), 2, peers_of(WORLD))
    else:
        mailbox = MPIMailbox(network, timetable, owner, 2, *map(wrap, comms), in_place=mode != "staged", nap=True)
    trained = rule(network, sw.SoftmaxCrossEntropy(), sw.Adam(1e-3), mailbox=mailbox, units=own_units, **options)
    reads_frame = any("frame" in network.units[name].inputs for name in own_units)
    owns_top = network.top.name in own_units
    outputs = train(trained, clips, reads_frame, owns_top)
    mailbox.clear()
    mailbox.free()
    for comm in comms:
        comm.Free()
    return arrays_of(network, own_units), outputs if owns_top else None


def main():
    seed, count, kind, *modes = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    if modes:
        importlib.import_module("cupy")
    reference = "cupy" if modes and "double" not in sys.modules else "numpy"
    rank, stages, agreed = WORLD.Get_rank(), WORLD.Get_size(), 0
    rule = {"sideways": sw.Sideways, "delayed": sw.Delayed}[kind]
    sw.use_backend(reference)
    expected = {}
    for number in range(rank, count, stages):
        network, _, clips, options = case(seed, number, stages, kind)
        expected[number] = alone(rule, network, clips, options)
    for number, mode in itertools.product(range(count), modes or [""]):
        sw.use_backend(reference)
        network, groups, clips, options = case(seed, number, stages, kind)
        arrays, outputs = over_ranks(rule, network, groups, clips, options, mode)
        expected_arrays, expected_outputs = WORLD.bcast(expected.get(number), number % stages)
        same = all(np.array_equal(array, expected_arrays[key]) for key, array in arrays.items())
        if outputs is not None:
            same &= len(outputs) == len(expected_outputs) and all(map(np.array_equal, outputs, expected_outputs))
        if WORLD.allreduce(same, MPI.LAND):
            agreed += 1
        elif rank == 0:
            print(f"network {number} ({options}) differs {mode}", flush=True)
    if rank == 0:
        print(f"{agreed} of {count * len(modes or [''])} agreed", flush=True)


if __name__ == "__main__":
    together(main)
