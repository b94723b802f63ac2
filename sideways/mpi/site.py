"""The checks that `sideways doctor --mpi` makes in every rank of a small job: `python -m sideways.mpi.site CHECK`.

A rank prints what it finds as lines of JSON, each as soon as it is known, so that a check that hangs has still told how
far it came. `sideways/studies/site.py` starts the jobs, reads the lines, and says what they mean.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import secrets
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy

import sideways
from sideways.backend import gpu, use_backend, use_device
from sideways.errors import InputError
from sideways.machine import machine
from sideways.mpi.watchdog import RANK_VARIABLES

SIZES = (8, 64_000, 6_400_000)  # bytes of the messages that are timed
MOST_PAIRS = 28  # all pairs of eight ranks; of more ranks only neighbours are timed
SECONDS = 0.3  # for the round trips of one pair with one size
TRANSPORT_VARIABLES = ("MPIR_CVAR_", "UCX_", "FI_", "OMPI_MCA_btl", "OMPI_MCA_pml", "OMPI_MCA_mtl")


def main() -> None:
    """Make one check, and end by SIGALRM, which MPI cannot hold up, if it takes longer than the time limit."""
    parser = argparse.ArgumentParser(prog="python -m sideways.mpi.site")
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds")
    parser.add_argument("--runs", default="runs", help="the folder of all run directories")
    options = parser.parse_args()
    signal.alarm(int(options.limit) + 5)  # on other hosts nobody else may be left to end this process
    CHECKS[options.check](options)


def tell(**facts: Any) -> None:
    """Print facts with the number and the host of this rank, as one line in one write."""
    number = next((int(os.environ[name]) for name in RANK_VARIABLES if name in os.environ), 0)
    line = json.dumps({"host": socket.gethostname(), "rank": number, **facts})
    os.write(1, f"{line}\n".encode())


# Without MPI ----------------------------------------------------------------------------------------------------------


def versions(options: argparse.Namespace) -> None:
    """Tell the versions of everything that changes results, and the variables that change how MPI works."""
    import mpi4py

    mpi4py.rc.initialize = False  # the library tells its version without being started
    from mpi4py import MPI

    use_backend("numpy")
    facts = machine()
    tell(
        versions={
            "Python": platform.python_version(),
            "NumPy": numpy.__version__,
            "sideways": sideways.__version__,
            "code of sideways": digest(Path(sideways.__file__).parent),
            "mpi4py": mpi4py.__version__,
            "MPI": _in_short(MPI.Get_library_version()),
            "processor": facts["cpu"],
            "BLAS": facts["blas"],
            "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "not set"),
        },
        variables=[f"{name}={value}" for name, value in os.environ.items() if name.startswith(TRANSPORT_VARIABLES)],
        interfaces=[name for _, name in socket.if_nameindex() if name != "lo"],
    )


def digest(folder: Path) -> str:
    """Eight digits that differ if any source file of the package differs."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def _in_short(library: str) -> str:
    """The name, version and device of an MPI library, from its long description."""
    lines = [" ".join(line.split()) for line in library.splitlines()]
    short = lines[0].partition(",")[0].replace("MPICH Version:", "MPICH")
    device = next((line.partition(": ")[2] for line in lines if line.startswith("MPICH Device:")), "")
    return f"{short} ({device})" if device else short


def gpus(options: argparse.Namespace) -> None:
    """Tell how many GPUs CuPy can use on this host, and the name of the first."""
    try:
        use_backend("cupy")
        tell(gpus=use_device(0), name=gpu())
    except InputError as error:
        tell(gpus=0, reason=str(error).removeprefix("backend 'cupy': "))


# Over MPI -------------------------------------------------------------------------------------------------------------


def messages(options: argparse.Namespace) -> None:
    """Exchange a small message with every other rank, then add up a number over all ranks."""
    from sideways.mpi.world import MPI, RANK, WORLD

    ranks = WORLD.Get_size()
    own, inbox = numpy.array([RANK]), numpy.full(ranks, -1)
    others = [other for other in range(ranks) if other != RANK]
    receives = {other: WORLD.Irecv(inbox[other : other + 1], other) for other in others}
    sends = [WORLD.Isend(own, other) for other in others]
    deadline = time.monotonic() + options.limit / 2
    missing = others
    while missing and time.monotonic() < deadline:
        missing = [other for other in missing if not receives[other].Test()]
        time.sleep(0.001)
    tell(missing=missing)
    if missing:
        time.sleep(1.0)  # the other ranks tell as well before the launcher ends them all
        os._exit(0)
    MPI.Request.Waitall(sends)
    total = numpy.empty_like(own)
    WORLD.Allreduce(own, total)
    tell(total=int(total[0]))
    MPI.Finalize()


def wildcard(options: argparse.Namespace) -> None:
    """Receive a message of each other rank on rank 0, without naming the sender."""
    from sideways.mpi.world import MPI, RANK, WORLD

    if RANK:
        WORLD.Send(numpy.array([RANK]), 0)
    else:
        inbox = numpy.empty(1, int)
        senders: set[int] = set()
        while len(senders) < WORLD.Get_size() - 1:
            if WORLD.Iprobe(MPI.ANY_SOURCE):
                WORLD.Recv(inbox, MPI.ANY_SOURCE)
                senders.add(int(inbox[0]))
        tell(senders=sorted(senders))
    MPI.Finalize()


def speed(options: argparse.Namespace) -> None:
    """Time messages there and back between two ranks after the other; the ranks that wait sleep."""
    from sideways.mpi.world import MPI, RANK, WORLD

    for pair in pairs(WORLD.Get_size()):
        if RANK in pair:
            leads, partner = pair[0] == RANK, sum(pair) - RANK
            halves = [statistics.median(_round_trips(WORLD, partner, leads, size)) / 2 for size in SIZES]
            clock = _clock_offset(WORLD, partner, leads)
            if leads:
                tell(pair=pair, seconds=dict(zip(map(str, SIZES), halves, strict=True)), clock=clock)
        _wait_for_all(WORLD)
    MPI.Finalize()


def pairs(ranks: int) -> list[tuple[int, int]]:
    """The pairs of ranks that are timed: all of them, or only neighbours if there are many ranks."""
    numbers = range(ranks)
    everyone = list(combinations(numbers, 2))
    return everyone if len(everyone) <= MOST_PAIRS else list(pairwise(numbers))


def _round_trips(comm: Any, partner: int, leads: bool, size: int) -> list[float]:
    """Send `size` bytes to the partner and back, several times. Returns the seconds of each round trip."""
    outgoing, incoming = numpy.ones(size, numpy.uint8), numpy.empty(size, numpy.uint8)

    def round_trip() -> float:
        start = time.perf_counter()
        if leads:
            comm.Send(outgoing, partner)
            comm.Recv(incoming, partner)
        else:
            comm.Recv(incoming, partner)
            comm.Send(outgoing, partner)
        return time.perf_counter() - start

    warm = min(round_trip() for _ in range(3))  # the first message makes the connection
    repeats = numpy.array([max(5, min(1000, int(SECONDS / warm)))])
    if leads:
        comm.Send(repeats, partner)
    else:
        comm.Recv(repeats, partner)
    return [round_trip() for _ in range(repeats[0])]


def _clock_offset(comm: Any, partner: int, leads: bool) -> float:
    """The seconds by which the partner's clock is ahead of the leader's, from the quickest of 50 questions."""
    answer = numpy.zeros(1)
    estimates = []
    for _ in range(50):
        if leads:
            asked = time.time()
            comm.Send(answer, partner)
            comm.Recv(answer, partner)
            answered = time.time()
            estimates.append((answered - asked, answer[0] - (asked + answered) / 2))
        else:
            comm.Recv(answer, partner)
            comm.Send(numpy.array([time.time()]), partner)
    return float(min(estimates)[1]) if leads else 0.0


def _wait_for_all(comm: Any) -> None:
    """A barrier in which the ranks sleep, so that they take no core from those that still measure."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.001)


def files(options: argparse.Namespace) -> None:
    """Write a file on rank 0 where runs go, and look on every rank if it is there within a second."""
    from sideways.mpi.world import MPI, RANK, WORLD

    path, created, problem = Path(options.runs) / f".sideways-{secrets.token_hex(8)}", [], ""
    if RANK == 0:
        created = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("a file of sideways doctor\n")
        except OSError as error:
            problem = f"{error.filename}: {error.strerror}"
    path, problem = WORLD.bcast((path.absolute(), problem))
    deadline = time.monotonic() + 1.0
    while not (sees := path.exists()) and not problem and time.monotonic() < deadline:
        time.sleep(0.02)
    tell(sees=sees, folder=str(path.parent), problem=problem)
    _wait_for_all(WORLD)
    if RANK == 0 and not problem:
        path.unlink()
        for folder in created:
            folder.rmdir()
    MPI.Finalize()


def udp(options: argparse.Namespace) -> None:
    """Send datagrams to every other rank, as the watchdogs do, and tell from which ranks none came."""
    from sideways.mpi.status import addresses
    from sideways.mpi.world import MPI, RANK, WORLD

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("", 0))
        door.setblocking(False)
        everyone = WORLD.allgather((addresses(), door.getsockname()[1]))
        targets = [(host, port) for rank, (hosts, port) in enumerate(everyone) if rank != RANK for host in hosts]
        heard = {RANK}
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            for target in targets:
                with contextlib.suppress(OSError):  # no route leads from here to this address
                    door.sendto(b"%d" % RANK, target)
            time.sleep(0.05)
            heard.update(_datagrams(door))
    tell(silent=sorted(set(range(WORLD.Get_size())) - heard))
    MPI.Finalize()


def _datagrams(door: socket.socket) -> Iterator[int]:
    """The ranks that sent the datagrams which have arrived."""
    while True:
        try:
            text = door.recv(64)
        except BlockingIOError:  # none is left
            return
        if text.isdigit():
            yield int(text)


CHECKS: dict[str, Callable[[argparse.Namespace], None]] = {
    "versions": versions,
    "messages": messages,
    "wildcard": wildcard,
    "speed": speed,
    "files": files,
    "gpus": gpus,
    "udp": udp,
}

if __name__ == "__main__":
    main()
