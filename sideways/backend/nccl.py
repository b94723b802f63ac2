"""NCCL: arrays travel from GPU to GPU, in a stream beside the compute stream, and the host waits for none of them."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from sideways.backend.arrays import Array, cuda, on_device
from sideways.backend.streams import mark
from sideways.errors import InputError


def library() -> ModuleType:
    """CuPy's module of NCCL. Raises `InputError` where it cannot be used."""
    if not on_device():
        raise InputError("NCCL joins GPUs: it goes with --backend cupy")
    try:
        nccl = importlib.import_module("cupy.cuda.nccl")
        available = nccl.available
    except (ImportError, AttributeError):
        available = False
    if not available:
        raise InputError("NCCL is not installed: pip install nvidia-nccl-cu12 (or -cu13, as CuPy's wheel is)")
    return nccl


def identity() -> Any:
    """A new identity for `Peers`, to be made by one of them and told to the others."""
    return library().get_unique_id()


class Peers:
    """Processes with a GPU each that send each other arrays, and add them up. All of them must be made together.

    size: how many there are; rank: the number of this one.
    """

    def __init__(self, size: int, identity: Any, rank: int):
        self._nccl = library()
        self.size = size
        self._communicator = self._nccl.NcclCommunicator(size, identity, rank)
        self._stream = cuda().Stream(non_blocking=True)
        self._types = {"float32": self._nccl.NCCL_FLOAT32, "float64": self._nccl.NCCL_FLOAT64}

    @contextlib.contextmanager
    def group(self) -> Iterator[None]:
        """Send and receive all that is named inside the block together, after all work that is queued so far.

        The arrays must not be given back before `done` has happened.
        """
        self._stream.wait_event(mark())
        self._nccl.groupStart()
        try:
            yield
        finally:
            self._nccl.groupEnd()

    def send(self, array: Array, rank: int) -> None:
        """Send an array to a peer, inside a group."""
        kind = self._types[array.dtype.name]
        self._communicator.send(array.data.ptr, array.size, kind, rank, self._stream.ptr)

    def receive(self, array: Array, rank: int) -> None:
        """Receive an array from a peer, inside a group. Messages between two peers keep their order."""
        kind = self._types[array.dtype.name]
        self._communicator.recv(array.data.ptr, array.size, kind, rank, self._stream.ptr)

    def add_up(self, array: Array) -> None:
        """Put the sum over all peers in the place of an array, after all work that is queued so far."""
        self._stream.wait_event(mark())
        kind, pointer = self._types[array.dtype.name], array.data.ptr
        self._communicator.allReduce(pointer, pointer, array.size, kind, self._nccl.NCCL_SUM, self._stream.ptr)

    def done(self) -> Any:
        """An event that happens when all that was sent, received or added up so far is complete."""
        return self._stream.record(cuda().Event(disable_timing=True))
