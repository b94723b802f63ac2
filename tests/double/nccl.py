"""The double's `cupy.cuda.nccl`: CuPy's names and arguments, carried over MPI, in the order of CUDA's streams.

Every rank must name the same messages in the same group, else the processes wait for each other, as on real GPUs.
"""

from __future__ import annotations

import ctypes
import importlib
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy
from mpi4py import MPI

from double.arrays import ndarray
from double.clock import Hazard, clock
from double.signatures import check

FUNCTIONS = (
    "AllGather AllReduce Bcast Broadcast CommAbort CommCount CommCuDevice CommDestroy CommGetAsyncError CommInitAll "
    "CommInitRankConfig CommSplit CommUserRank GetErrorString GetUniqueId GetVersion GroupEnd GroupStart Recv Reduce "
    "ReduceScatter Send"
)
TAG = 20_000
DTYPES = {"NCCL_FLOAT32": "float32", "NCCL_FLOAT64": "float64"}


def _real() -> Any:
    """CuPy's own module. It asks for NCCL's library, of 350 MB; an empty one is enough for names and arguments."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libnccl.so.2"
        functions = "".join(f"int nccl{name}(void) {{ return 0; }}\n" for name in FUNCTIONS.split())
        command = ["c++", "-x", "c", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", str(library), "-"]
        subprocess.run(command, input=functions, text=True, check=True, capture_output=True)
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module("cupy_backends.cuda.libs.nccl")


real = _real()
available = True
NCCL_FLOAT32, NCCL_FLOAT64, NCCL_SUM = real.NCCL_FLOAT32, real.NCCL_FLOAT64, real.NCCL_SUM
made = 0  # identities
open_groups = 0
queued: list[tuple[Any, ...]] = []  # in the open group


def get_unique_id() -> bytes:
    global made
    made += 1
    return struct.pack("ii", MPI.COMM_WORLD.Get_rank(), made)


def groupStart() -> None:  # noqa: N802
    global open_groups
    open_groups += 1


def groupEnd() -> None:  # noqa: N802
    """Carry out all that was queued: each piece of work in its stream, all messages together."""
    global open_groups
    open_groups -= 1
    if open_groups:
        return
    clock.counts["group"] += 1
    work, sent, received = list(queued), [], []
    queued.clear()
    for kind, comm, array, peer, stream in work:
        with clock.inside(stream):
            clock.work(f"an NCCL {kind}", **{"reads" if kind == "send" else "writes": [array._memory]})
        if kind == "send":
            sent.append(comm.isend(array._values.copy(), peer))
        else:
            received.append((array, comm.irecv(1 << 22, peer)))
    for array, request in received:
        array._values[...] = request.wait()
    MPI.Request.waitall(sent)


class NcclCommunicator:
    """`cupy.cuda.nccl.NcclCommunicator`: each process finds the others through the process that made the identity."""

    def __init__(self, ndev: int, commId: bytes, rank: int):
        world = MPI.COMM_WORLD
        creator, number = struct.unpack("ii", commId)
        if world.Get_rank() == creator:
            ranks = {rank: creator} | dict(world.recv(tag=TAG + number) for _ in range(ndev - 1))
            members = [ranks[i] for i in range(ndev)]
            for member in members:
                if member != creator:
                    world.send(members, member, TAG + number)
        else:
            world.send((rank, world.Get_rank()), creator, TAG + number)
            members = world.recv(source=creator, tag=TAG + number)
        self._comm = world.Create_group(world.group.Incl(members), TAG + number)

    def send(self, *arguments: Any) -> None:
        self._queue("send", "send", *arguments)

    def recv(self, *arguments: Any) -> None:
        self._queue("receive", "recv", *arguments)

    def _queue(self, kind: str, name: str, *arguments: Any) -> None:
        check(real.NcclCommunicator, name, (self, *arguments), {})
        pointer, count, dtype, peer, stream = arguments
        if not open_groups:
            raise Hazard("a message outside a group may wait for ever for one that is named later")
        queued.append((kind, self._comm, array_at(pointer, count, dtype), peer, clock.streams[stream]))

    def allReduce(self, *arguments: Any) -> None:  # noqa: N802
        check(real.NcclCommunicator, "allReduce", (self, *arguments), {})
        pointer, result, count, dtype, operation, stream = arguments
        part, total = array_at(pointer, count, dtype), array_at(result, count, dtype)
        assert operation == NCCL_SUM
        with clock.inside(clock.streams[stream]):
            clock.work("an NCCL sum", [part._memory], [total._memory])
        own = part._values.copy()
        self._comm.Allreduce(own, total._values)


def array_at(pointer: int, count: int, dtype: int) -> ndarray:
    """The device array that lies at an address."""
    array = clock.pointers.get(pointer)
    if array is None:
        raise Hazard("NCCL is given the address of an array that nobody holds")
    (name,) = (name for key, name in DTYPES.items() if globals()[key] == dtype)
    if array.size != count or array.dtype != numpy.dtype(name):
        raise Hazard(f"NCCL is given {count} numbers in {name} for an array of {array.size} in {array.dtype}")
    return array
