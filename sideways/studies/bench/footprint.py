"""The memory of a rank, counted in bytes from shapes and from the static schedule, for `sideways bench plan`.

parameters   with running statistics
gradients    of all the rank's units, which a tick returns; with replicas also the sums over them
optimizer    the momenta of SGD (Adam keeps twice as many)
messages     buffers of messages, two for each, and frames; under `Delayed` as many as wait at a time
kept         the inputs that `Delayed` keeps
working      in one forward and backward pass, of the unit that needs most
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy

from sideways.network import FRAME, Network
from sideways.network.marks import Marks
from sideways.network.schedule import Edge

PARTS = ("parameters", "gradients", "optimizer", "messages", "kept", "working")


def of_rank(
    network: Network,
    group: Sequence[str],
    batch: int,
    replicas: int,
    learn_every: int,
    sizes: Mapping[str, Mapping[str, int]],
) -> dict[str, float]:
    """Count the bytes of a rank that has the units of `group`, by part.

    batch: samples of one replica. learn_every: of Delayed; 0 for Sideways. sizes: unit → what
    `sideways.training.memory.of_unit` counts for one sample.
    """
    marks = network.marks(learn_every) if learn_every else None
    units = [network.units[name] for name in group]
    parameters = sum(array.nbytes for unit in units for array in unit.parameters.values())
    state = sum(array.nbytes for unit in units for array in unit.state.values())

    def size(name: str) -> int:
        """The bytes of an activation, or of the frame."""
        return batch * math.prod(network.shapes[name]) * numpy.dtype(network.dtype).itemsize

    messages = 0
    for j, i in network.edges:
        ends = (j in group) + (i in group)  # 2: the message stays in this rank's memory, as one array of each tick
        if ends:
            waiting = most_waiting(marks, network, (i, j)) if marks and j in group else 2
            messages += (2 + waiting) * size(j)
    messages += sum(2 * size(FRAME) for unit in units if FRAME in unit.inputs)
    kept = sum(marks.most_kept(unit.name) * size(j) for unit in units for j in unit.inputs) if marks else 0
    working = max(part["saved"] + part["scratch"] + part["messages"] / 2 for part in (sizes[name] for name in group))
    return {
        "parameters": parameters + state,
        "gradients": parameters * (1 if replicas == 1 else 4),
        "optimizer": parameters,
        "messages": messages,
        "kept": kept,
        "working": batch * working,
    }


def most_waiting(marks: Marks, network: Network, edge: Edge) -> int:
    """The most gradients of an edge that wait at a time under Delayed, with the one that is being read; at least 1."""
    sender, receiver = edge
    waiting: set[int] = set()
    most = 1
    start = 3 * network.latency
    for t in range(start, start + 4 * network.latency + 2 * marks.every + 1):
        sent, read = marks.pull(sender, t), marks.pull(receiver, t)
        if sent is not None:
            waiting.add(sent)
        most = max(most, len(waiting))
        if read is not None:
            waiting.discard(read + 1)
    return most
