"""The rule of one rank: the library's own tick, with a mailbox that reaches other ranks and, for replicas, a mean."""

from __future__ import annotations

from typing import Any

import numpy
from mpi4py import MPI

from sideways.backend import Array, synchronise, to_device, to_host
from sideways.network import Unit
from sideways.rules import Sideways


class ReplicatedSideways(Sideways):
    """Sideways on a part of each batch: every unit's gradient is the mean over the replicas of its rank.

    The sum starts as soon as the unit's backward is done, and travels while the next units run; the updates follow at
    the end of the tick. `peers`: the ranks that own the same units.
    """

    def __init__(self, *arguments: Any, peers: MPI.Comm, **options: Any):
        super().__init__(*arguments, **options)
        self.peers = peers
        self._under_way: list[tuple[Unit, dict[str, Array], numpy.ndarray, MPI.Request]] = []
        self._buffers: dict[str, tuple[numpy.ndarray, numpy.ndarray]] = {}

    def agree(self) -> None:
        """Running statistics become their mean over the replicas."""
        for unit in self.units:
            for array in unit.state.values():
                first = to_host(array).copy()
                self.peers.Bcast(first)
                beyond = to_host(array) - first
                self.peers.Allreduce(MPI.IN_PLACE, beyond)
                array[...] = to_device(first + beyond / self.peers.Get_size())  # equal ones stay as they are

    def learn(self, unit: Unit, gradients: dict[str, Array]) -> None:
        if not gradients or not self.optimizers:
            return super().learn(unit, gradients)
        if unit.name not in self._buffers:
            size = sum(gradient.size for gradient in gradients.values())
            self._buffers[unit.name] = (numpy.empty(size, self.network.dtype), numpy.empty(size, self.network.dtype))
        mine, total = self._buffers[unit.name]
        end = 0
        for gradient in gradients.values():
            start, end = end, end + gradient.size
            mine[start:end] = to_host(gradient).reshape(-1)
        synchronise()
        self._under_way.append((unit, gradients, total, self.peers.Iallreduce(mine, total)))
        return None

    def settle(self) -> None:
        for unit, gradients, total, request in self._under_way:
            request.Wait()
            total /= self.peers.Get_size()
            end = 0
            for gradient in gradients.values():
                start, end = end, end + gradient.size
                gradient[...] = to_device(total[start:end].reshape(gradient.shape))
            super().learn(unit, gradients)
        self._under_way.clear()
