"""Replicas: the library's own tick, with each unit's gradient averaged over the replicas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mpi4py import MPI

from sideways.backend import Array, buffer, namespace, pinned, to_device, to_host
from sideways.backend.streams import Downloads, Uploads, hold_until
from sideways.mpi.status import Waiting
from sideways.network import Unit
from sideways.rules import Delayed, Sideways

SUM = Waiting("a sum over replicas")


class ReplicatedSideways(Sideways):
    """Sideways on a part of each batch: every unit's gradient is the mean over the replicas of its rank.

    The sum starts as soon as the unit's gradient is there, and travels while the next units run; the updates follow at
    the end of the tick. peers: the ranks that own the same units; in_place: MPI takes arrays of the device as they are.
    Other options as for `Sideways`.
    """

    def __init__(self, *arguments: Any, peers: MPI.Comm, in_place: bool = False, **options: Any):
        super().__init__(*arguments, **options)
        self.peers, self.in_place = peers, in_place
        self.downloads, self.uploads = Downloads(), Uploads()
        self._means: dict[str, GradientMean] = {}  # by unit
        self._under_way: list[tuple[Unit, dict[str, Array]]] = []

    def average_statistics(self) -> None:
        """Average the running statistics over the replicas."""
        for unit in self.units:
            for array in unit.state.values():
                first = to_host(array).copy()
                with SUM:
                    self.peers.Bcast(first)
                    difference = to_host(array) - first
                    self.peers.Allreduce(MPI.IN_PLACE, difference)
                # Statistics that are equal on all replicas keep their last bit: their differences are 0.
                array[...] = to_device(first + difference / self.peers.Get_size())

    def apply_gradients(self, unit: Unit, gradients: dict[str, Array]) -> None:
        """Start the sum over replicas; `finish_updates` updates the unit when the sum is there."""
        if not gradients or not self.optimizers:
            return super().apply_gradients(unit, gradients)
        if unit.name not in self._means:
            size = sum(gradient.size for gradient in gradients.values())
            self._means[unit.name] = GradientMean(self.peers, size, self.network.dtype, self.in_place)
        mean = self._means[unit.name]
        for part, gradient in mean.parts(gradients):
            part[...] = gradient.reshape(-1)
        self._under_way.append((unit, gradients))
        self.downloads.start(mean.flat, mean.own, mean.start)
        self.downloads.look()
        for under_way, _ in self._under_way:
            self._means[under_way.name].request.Test()  # MPI moves the sums only while it is called
        return None

    def finish_updates(self) -> None:
        """Wait for the sums of this tick, and update each unit with its mean gradient."""
        self.downloads.finish()
        for unit, gradients in self._under_way:
            mean = self._means[unit.name]
            mean.finish(self.uploads)
            for part, gradient in mean.parts(gradients):
                gradient[...] = part.reshape(gradient.shape)
            super().apply_gradients(unit, gradients)
        self._under_way.clear()


class ReplicatedDelayed(ReplicatedSideways, Delayed):
    """Delayed on a part of each batch. Each pull is averaged at its own tick, so that all replicas keep one sum."""


class GradientMean:
    """The mean of one unit's gradients over replicas; all gradients of the unit lie end to end in one array.

    flat: on the unit's device; own, total: the gradients sent and the sum received, for device arrays in pinned memory
    unless MPI takes them `in_place`.
    """

    def __init__(self, peers: MPI.Comm, size: int, dtype: str, in_place: bool):
        self.peers, self.request, self.in_place = peers, MPI.REQUEST_NULL, in_place
        make = buffer if in_place else pinned
        self.flat, self.own, self.total = buffer((size,), dtype), make((size,), dtype), make((size,), dtype)

    def parts(self, gradients: dict[str, Array]) -> Iterator[tuple[Array, Array]]:
        """Pairs of the part of `flat` that belongs to a gradient, and that gradient."""
        end = 0
        for gradient in gradients.values():
            start, end = end, end + gradient.size
            yield self.flat[start:end], gradient

    def start(self) -> None:
        """Start the sum over the replicas; `own` must be filled."""
        self.request = self.peers.Iallreduce(self.own, self.total)

    def finish(self, uploads: Uploads) -> None:
        """Wait for the sum. The mean is in `flat` for all work that is queued from now on."""
        with SUM:
            self.request.Wait()
        if self.in_place:
            namespace(self.flat).divide(self.total, self.peers.Get_size(), out=self.flat)
        else:
            self.total /= self.peers.Get_size()
            hold_until(uploads.start(self.total, self.flat, None))
