"""The rule of one rank: the library's own tick, with a mailbox that reaches other ranks and, for replicas, a mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mpi4py import MPI

from sideways.backend import Array, buffer, pinned, to_device, to_host
from sideways.backend.streams import Downloads, Uploads, hold_until
from sideways.network import Unit
from sideways.rules import Sideways


class ReplicatedSideways(Sideways):
    """Sideways on a part of each batch: every unit's gradient is the mean over the replicas of its rank.

    The sum starts as soon as the unit's gradient is there, and travels while the next units run; the updates follow at
    the end of the tick. `peers`: the ranks that own the same units.
    """

    def __init__(self, *arguments: Any, peers: MPI.Comm, **options: Any):
        super().__init__(*arguments, **options)
        self.peers = peers
        self.downloads, self.uploads = Downloads(), Uploads()
        self._of_unit: dict[str, Sum] = {}
        self._under_way: list[tuple[Unit, dict[str, Array]]] = []

    def average_statistics(self) -> None:
        """Running statistics become their mean over the replicas."""
        for unit in self.units:
            for array in unit.state.values():
                first = to_host(array).copy()
                self.peers.Bcast(first)
                beyond = to_host(array) - first
                self.peers.Allreduce(MPI.IN_PLACE, beyond)
                array[...] = to_device(first + beyond / self.peers.Get_size())  # equal ones stay as they are

    def apply_gradients(self, unit: Unit, gradients: dict[str, Array]) -> None:
        if not gradients or not self.optimizers:
            return super().apply_gradients(unit, gradients)
        if unit.name not in self._of_unit:
            size = sum(gradient.size for gradient in gradients.values())
            self._of_unit[unit.name] = Sum(self.peers, size, self.network.dtype)
        over = self._of_unit[unit.name]
        for part, gradient in over.parts(gradients):
            part[...] = gradient.reshape(-1)
        self._under_way.append((unit, gradients))
        self.downloads.start(over.flat, over.mine, over.start)
        self.downloads.look()
        return None

    def finish_updates(self) -> None:
        self.downloads.finish()
        for unit, gradients in self._under_way:
            over = self._of_unit[unit.name]
            over.finish(self.uploads)
            for part, gradient in over.parts(gradients):
                gradient[...] = part.reshape(gradient.shape)
            super().apply_gradients(unit, gradients)
        self._under_way.clear()


class Sum:
    """One unit's gradients, end to end in one array, on their way to their mean over replicas.

    flat: where the unit lives; mine, total: what is sent and what comes, in pinned memory for device arrays.
    """

    def __init__(self, peers: MPI.Comm, size: int, dtype: str):
        self.peers = peers
        self.flat, self.mine, self.total = buffer((size,), dtype), pinned((size,), dtype), pinned((size,), dtype)

    def parts(self, gradients: dict[str, Array]) -> Iterator[tuple[Array, Array]]:
        """The place of each gradient in `flat`."""
        end = 0
        for gradient in gradients.values():
            start, end = end, end + gradient.size
            yield self.flat[start:end], gradient

    def start(self) -> None:
        self.request = self.peers.Iallreduce(self.mine, self.total)

    def finish(self, uploads: Uploads) -> None:
        """Wait for the others; the mean is in `flat` for what is computed from now on."""
        self.request.Wait()
        self.total /= self.peers.Get_size()
        hold_until(uploads.start(self.total, self.flat, None))
