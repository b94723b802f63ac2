"""A live stream for several ranks: rank 0 takes the frames, and passes each on to the ranks that need it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy
from mpi4py import MPI

from sideways.data import LiveStream, Source
from sideways.errors import InputError
from sideways.mpi.status import Waiting

FRAME = Waiting("a frame of the live stream, from rank 0")


@contextlib.contextmanager
def relayed(world: MPI.Comm, source: Source) -> Iterator[None]:
    """While the block runs, pass each frame that rank 0 takes from a live stream to every rank that needs frames."""
    stream = source.task
    if not isinstance(stream, LiveStream):  # the only task whose frames cannot be had twice: `task.live`
        yield
        return
    opened = stream.source
    with FRAME:
        comm = world.Dup()
        readers = [rank for rank, needs in enumerate(comm.allgather(source.decodes)) if needs and rank]
    if comm.Get_rank() == 0:
        assert opened is not None
        stream.source = _passed_on(comm, opened, readers)
    else:
        stream.source = _received(comm, stream.frame_shape)
    try:
        yield
    finally:
        stream.source = opened


def _passed_on(comm: MPI.Comm, frames: Iterator[numpy.ndarray], readers: list[int]) -> Iterator[numpy.ndarray]:
    under_way: list[tuple[MPI.Request, numpy.ndarray]] = []
    for frame in frames:
        under_way = [(request, kept) for request, kept in under_way if not request.Test()]
        under_way += [(comm.Isend(frame, rank), frame) for rank in readers]
        yield frame
    raise InputError("the stream has ended, which ends a run over several ranks; --resume goes on from its checkpoint")


def _received(comm: MPI.Comm, shape: tuple[int, ...]) -> Iterator[numpy.ndarray]:
    while True:
        frame = numpy.empty(shape, numpy.uint8)
        with FRAME:
            comm.Recv(frame, 0, 0)
        yield frame
