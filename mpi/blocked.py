"""mpi.blocked."""

from __future__ import annotations

import numpy
from mpi4py import MPI

from mpi.mailbox import wait
from mpi.world import WORLD
from sideways.backend import Array
from sideways.losses import SoftmaxCrossEntropy
from sideways.network import FRAME, Network, Unit
from sideways.optimizers import SGD
from sideways.rules.rule import add_up


class Blocked:
    """Model-parallel backpropagation: the same units and ranks, one frame at a time, one rank at work at a time."""

    def __init__(self, network: Network, owner: dict[str, int], batch: int, optimizer: SGD, nap: bool):
        self.network, self.owner, self.batch, self.nap = network, owner, batch, nap
        self.loss = SoftmaxCrossEntropy()
        self.optimizers = {name: optimizer.for_unit(name) for name in network.units}
        self.me = WORLD.Get_rank()
        numbers = {name: number for number, name in enumerate(network.units)}
        self.tag = lambda j, i: numbers[j] * len(numbers) + numbers[i]

    def step(self, frame: Array, labels: Array) -> None:
        mine = [unit for name, unit in self.network.units.items() if self.owner[name] == self.me]
        held: dict[tuple[str, str], Array] = {}
        sent: list[MPI.Request] = []
        saved = {}
        for unit in mine:
            inputs = {j: frame if j == FRAME else self._take(held, j, unit, j) for j in unit.inputs}
            activation, saved[unit.name] = unit.forward(inputs)
            for consumer in self.network.consumers[unit.name]:
                self._give(held, sent, unit.name, consumer, activation)
        for unit in reversed(mine):
            if unit is self.network.top:
                _, gradient = self.loss(activation, labels)
            else:
                consumers = self.network.consumers[unit.name]
                gradient = add_up([self._take(held, c, unit, unit.name) for c in consumers])
            messages, gradients = unit.backward(gradient, saved[unit.name])
            self.optimizers[unit.name].update(unit.parameters, gradients, 0)
            for j, message in messages.items():
                self._give(held, sent, unit.name, j, message)
        for request in (*sent, WORLD.Ibarrier()):
            wait(request, self.nap)  # the next frame starts when the gradient of this one has come all the way back

    def _take(self, held: dict[tuple[str, str], Array], sender: str, receiver: Unit, shaped_as: str) -> Array:
        if self.owner[sender] == self.me:
            return held.pop((sender, receiver.name))
        message = numpy.empty((self.batch, *self.network.units[shaped_as].output_shape), self.network.dtype)
        wait(WORLD.Irecv(message, self.owner[sender], self.tag(sender, receiver.name)), self.nap)
        return message

    def _give(
        self, held: dict[tuple[str, str], Array], sent: list[MPI.Request], sender: str, receiver: str, message: Array
    ) -> None:
        if self.owner[receiver] == self.me:
            held[sender, receiver] = message
        else:
            sent.append(WORLD.Isend(message, self.owner[receiver], self.tag(sender, receiver)))
