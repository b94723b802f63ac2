"""A process that watches over a rank, so that a rank that is killed is named, by its own host and PID.

Without it only the launcher speaks, and MPICH's at times names another rank, one that it killed itself in turn. Called
before MPI starts: the rank goes on in a child, the parent waits for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from types import FrameType

RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
PR_SET_PDEATHSIG = 1  # Linux: the signal that a child gets when its parent dies


def guard() -> None:
    """Returns in the child. The parent passes signals on, and ends as the child ends."""
    parent = os.getpid()
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
        time.sleep(0.5)  # the launcher passes the line on before it ends the other ranks
    os._exit(code if code >= 0 else 128 - code)
