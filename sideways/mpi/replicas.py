"""Replicas: the library's own tick, with each unit's gradient averaged over the replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from mpi4py import MPI

from sideways.backend import Array, buffer, namespace, on_device, pinned, to_device, to_host
from sideways.backend.nccl import Peers
from sideways.backend.streams import Downloads, Uploads, hold_until
from sideways.mpi.status import Waiting
from sideways.network import Unit
from sideways.rules import Delayed, Sideways

SUM = Waiting("a sum over replicas")


class ReplicatedSideways(Sideways):
    """Sideways on a part of each batch: every unit's gradient is the mean over the replicas of its rank.

    The sum starts as soon as the unit's gradient is there, and travels while the next units run; the updates follow at
    the end of the tick. peers: the ranks that own the same units; in_place: MPI takes arrays of the device as they are;
    nccl: the same ranks, if NCCL adds up instead of MPI. Other options as for `Sideways`.
    """

    def __init__(
        self, *arguments: Any, peers: MPI.Comm, in_place: bool = False, nccl: Peers | None = None, **options: Any
    ):
        super().__init__(*arguments, **options)
        self.peers = peers
        copies = Downloads(), Uploads()
        self._mean: Callable[[int, str], GradientMean] = (
            partial(NCCLMean, nccl) if nccl else partial(MPIMean, peers, in_place, *copies)
        )
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
            self._means[unit.name] = self._mean(size, self.network.dtype)
        mean = self._means[unit.name]
        for part, gradient in mean.parts(gradients):
            part[...] = gradient.reshape(-1)
        self._under_way.append((unit, gradients))
        mean.start()
        for under_way, _ in self._under_way:
            self._means[under_way.name].look()
        return None

    def finish_updates(self) -> None:
        """Wait for the sums of this tick, and update each unit with its mean gradient."""
        for unit, gradients in self._under_way:
            mean = self._means[unit.name]
            mean.finish()
            for part, gradient in mean.parts(gradients):
                gradient[...] = part.reshape(gradient.shape)
            super().apply_gradients(unit, gradients)
        self._under_way.clear()


class ReplicatedDelayed(ReplicatedSideways, Delayed):
    """Delayed on a part of each batch. Each pull is averaged at its own tick, so that all replicas keep one sum."""


class GradientMean:
    """The mean of one unit's gradients over replicas; all of them lie end to end in `flat`, on the unit's device."""

    def __init__(self, size: int, dtype: str):
        self.flat = buffer((size,), dtype)

    def parts(self, gradients: dict[str, Array]) -> Iterator[tuple[Array, Array]]:
        """Pairs of the part of `flat` that belongs to a gradient, and that gradient."""
        end = 0
        for gradient in gradients.values():
            start, end = end, end + gradient.size
            yield self.flat[start:end], gradient

    def start(self) -> None:
        """Start the sum over the replicas; `flat` must be filled."""
        raise NotImplementedError

    def look(self) -> None:
        """Let the sum travel."""

    def finish(self) -> None:
        """Wait for the sum. The mean is in `flat` for all work that is queued from now on."""
        raise NotImplementedError


class MPIMean(GradientMean):
    """A mean that MPI adds up.

    own, total: the gradients sent and the sum received, for device arrays in pinned memory unless MPI takes them
    `in_place`.
    """

    def __init__(self, peers: MPI.Comm, in_place: bool, downloads: Downloads, uploads: Uploads, size: int, dtype: str):
        super().__init__(size, dtype)
        self.peers, self.request, self.in_place = peers, MPI.REQUEST_NULL, in_place or not on_device()
        self.downloads, self.uploads = downloads, uploads
        make = buffer if self.in_place else pinned
        self.own, self.total = make((size,), dtype), make((size,), dtype)

    def start(self) -> None:
        self.downloads.start(self.flat, self.own, self._add_up)

    def _add_up(self) -> None:
        self.request = self.peers.Iallreduce(self.own, self.total)

    def look(self) -> None:
        self.downloads.look()
        self.request.Test()  # MPI moves the sums only while it is called

    def finish(self) -> None:
        self.downloads.finish()
        with SUM:
            self.request.Wait()
        if self.in_place:
            namespace(self.flat).divide(self.total, self.peers.Get_size(), out=self.flat)
        else:
            self.total /= self.peers.Get_size()
            hold_until(self.uploads.start(self.total, self.flat, None))


class NCCLMean(GradientMean):
    """A mean that NCCL adds up, on the device."""

    def __init__(self, peers: Peers, size: int, dtype: str):
        super().__init__(size, dtype)
        self.peers, self.complete = peers, None

    def start(self) -> None:
        self.peers.add_up(self.flat)
        self.complete = self.peers.done()

    def finish(self) -> None:
        hold_until(self.complete)
        self.flat /= self.peers.size
