"""A process that watches over a rank, so that a rank that is killed is named, by its own host and PID.

Without it only the launcher speaks, and MPICH's at times names another rank, one that it killed itself in turn. Called
before MPI starts: the rank goes on in a child, the parent waits for it. It is the launcher that ends the other ranks;
MPICH's was once seen to miss a rank's death and to wait for ever, so that guards see to it if it does not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
PATIENCE = 4.0  # seconds that the launcher has to end the other ranks
PR_SET_PDEATHSIG = 1  # Linux: the signal that a child gets when its parent dies


def guard() -> None:
    """Returns in the child. The parent passes signals on, and ends as the child ends."""
    parent, launcher = os.getpid(), os.getppid()
    child = os.fork()
    if child == 0:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)
        return

    told: set[int] = set()  # signals that came from outside, for the parent too: the launcher ends the job

    def pass_on(number: int, frame: FrameType | None) -> None:
        told.add(number)
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.kill(child, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, pass_on)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    time.sleep(0.05)  # the same signal, sent to the whole group, may reach the parent after the child
    if code < 0 and -code not in told:
        rank = next((os.environ[name] for name in RANK_VARIABLES if name in os.environ), "?")
        why = f"was killed by signal {-code} ({signal.Signals(-code).name})"
        print(f"sideways: rank {rank} on {socket.gethostname()} (PID {child}) {why}", file=sys.stderr, flush=True)
        if rank != "?" and os.fork() == 0:
            _end_the_others(launcher)
        time.sleep(0.5)  # the launcher passes the line on before it ends the other ranks
    os._exit(code if code >= 0 else 128 - code)


def _end_the_others(launcher: int) -> None:
    """In a process of its own: kill what the launcher started with the same command here, if it still runs then."""
    command = _command(os.getpid())
    os.setsid()
    os.closerange(0, 1 << 16)  # the launcher waits for the last process that holds them
    time.sleep(PATIENCE)
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if _parent(pid) == launcher and _command(pid) == command:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)  # a guard, whose rank dies with it
    os._exit(0)


def _parent(pid: int) -> int:
    """-1 where it is not known."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return -1


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
