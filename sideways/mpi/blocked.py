"""Blocked backpropagation over ranks: the baseline that Sideways is measured against.

The network is cut into the same units and ranks, but a frame must go all the way up, and its gradient all the way down,
before the next frame may start:

    step      0     1     2     3     4     5     6     7          three units, a rank each
    unit 3    ·     ·     F0    B0    ·     ·     ·     ·          F0: forward on frame 0
    unit 2    ·     F0    ·     ·     B0    ·     ·     F1         B0: backward and update from the loss of frame 0
    unit 1    F0    ·     ·     ·     ·     B0    F1    ·

Model parallelism alone spreads the memory, not the time: on a chain one rank works and all others wait. The gradients
are exact, those of `sideways.backprop`. `sideways bench pipeline` and `bench latency` run this (`bench.py`).
"""

from __future__ import annotations

from typing import Any

import numpy
from mpi4py import MPI

from sideways.backend import Array, to_device, to_host
from sideways.losses import SoftmaxCrossEntropy
from sideways.mpi.mailbox import wait
from sideways.mpi.world import RANK, WORLD
from sideways.network import FRAME, Network
from sideways.optimizers import SGD
from sideways.rules.rule import add_up


class Blocked:
    """One rank's part in model-parallel backpropagation. Running statistics are not updated.

    owner: unit → the rank that runs it. batch: samples per frame. optimizer: a template, copied for each unit.
    nap: whether to sleep while waiting, because ranks must share cores.
    """

    def __init__(self, network: Network, owner: dict[str, int], batch: int, optimizer: SGD, nap: bool):
        self.network, self.owner, self.batch, self.nap = network, owner, batch, nap
        self.units = [unit for name, unit in network.units.items() if owner[name] == RANK]
        self.loss = SoftmaxCrossEntropy()
        self.optimizers = {unit.name: optimizer.for_unit(unit.name) for unit in self.units}
        self.numbers = {name: number for number, name in enumerate(network.units)}
        self.local_messages: dict[tuple[str, str], Array] = {}  # (sender, receiver) → message, both of this rank
        self.requests: list[MPI.Request] = []  # of the messages that this rank has sent in this step

    def step(self, frame: Array, labels: Array) -> None:
        """Train on one frame (N, H, W, C) with labels (N,). Returns when every rank has done its part."""
        output, saved = self._forward(to_device(frame))
        self._backward(output, to_device(labels), saved)
        for request in (*self.requests, WORLD.Ibarrier()):  # the barrier is the lock: no rank begins the next frame
            wait(request, self.nap)
        self.requests.clear()

    def _forward(self, frame: Array) -> tuple[Array | None, dict[str, Any]]:
        """Run this rank's units forward, bottom to top.

        Returns the top's activation (None if another rank owns the top), and unit → what its backward pass needs.
        """
        network, output, saved = self.network, None, {}
        for unit in self.units:
            inputs = {
                j: frame if j == FRAME else self._receive(j, unit.name, network.units[j].output_shape)
                for j in unit.inputs
            }
            activation, saved[unit.name] = unit.forward(inputs)
            if unit is network.top:
                output = activation
            for consumer in network.consumers[unit.name]:
                self._send(unit.name, consumer, activation)
        return output, saved

    def _backward(self, output: Array | None, labels: Array, saved: dict[str, Any]) -> None:
        """Run this rank's units backward, top to bottom, and update each of them."""
        for unit in reversed(self.units):
            if unit is self.network.top:
                _, gradient = self.loss(output, labels)
            else:
                consumers = self.network.consumers[unit.name]
                gradient = add_up([self._receive(c, unit.name, unit.output_shape) for c in consumers])
            messages, gradients = unit.backward(gradient, saved[unit.name])
            self.optimizers[unit.name].update(unit.parameters, gradients, 0)
            for j, message in messages.items():
                self._send(unit.name, j, message)

    def _receive(self, sender: str, receiver: str, shape: tuple[int, ...]) -> Array:
        """Wait for the message (N, *shape) from one unit to another, which this rank owns."""
        if self.owner[sender] == RANK:
            return self.local_messages.pop((sender, receiver))
        message = numpy.empty((self.batch, *shape), self.network.dtype)
        wait(WORLD.Irecv(message, self.owner[sender], self._tag(sender, receiver)), self.nap)
        return to_device(message)

    def _send(self, sender: str, receiver: str, message: Array) -> None:
        """Send a message from one unit, which this rank owns, to another."""
        if self.owner[receiver] == RANK:
            self.local_messages[sender, receiver] = message
        else:
            self.requests.append(WORLD.Isend(to_host(message), self.owner[receiver], self._tag(sender, receiver)))

    def _tag(self, sender: str, receiver: str) -> int:
        """The number that tells the messages from `sender` to `receiver` from all others between two ranks."""
        return self.numbers[sender] * len(self.numbers) + self.numbers[receiver]
