"""A process that watches over each rank, so that a rank that is killed is named, by its host and PID.

Without it only the launcher reports a death, and MPICH's sometimes names a rank that it killed itself. It has also been
seen to miss a death and hang; so if the job is still running after 4 s, the watchdogs end it.
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
    """Fork, before MPI starts. The child returns and becomes the rank; the parent stays and watches over it.

    The parent passes signals on to the rank, and ends with the rank's exit code.
    """
    parent, launcher = os.getpid(), os.getppid()
    rank_pid = os.fork()
    if rank_pid == 0:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the parent died before the line above, so the kernel will send no signal
                os._exit(1)
        return

    passed_on: set[int] = set()  # signals that reached the parent too: the launcher, or Ctrl-C, ends the job

    def pass_on(number: int, frame: FrameType | None) -> None:
        passed_on.add(number)
        with contextlib.suppress(ProcessLookupError):  # the rank has ended already
            os.kill(rank_pid, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, pass_on)
    _, status = os.waitpid(rank_pid, 0)
    code = os.waitstatus_to_exitcode(status)
    time.sleep(0.05)  # a signal to the whole process group may reach the parent after the rank
    if code < 0 and -code not in passed_on:
        rank = next((os.environ[name] for name in RANK_VARIABLES if name in os.environ), "?")
        reason = f"was killed by signal {-code} ({signal.Signals(-code).name})"
        print(f"sideways: rank {rank} on {socket.gethostname()} (PID {rank_pid}) {reason}", file=sys.stderr, flush=True)
        if rank != "?" and os.fork() == 0:
            _end_the_others(launcher)
        time.sleep(0.5)  # the launcher shows the line before it ends the other ranks
    os._exit(code if code >= 0 else 128 - code)


def _end_the_others(launcher: int) -> None:
    """Wait, in a process of its own, then kill the watchdogs of this job on this host that still run."""
    command = _command(os.getpid())
    os.setsid()
    os.closerange(0, 1 << 16)  # the launcher waits until no process has its pipes open
    time.sleep(PATIENCE)
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if _parent(pid) == launcher and _command(pid) == command:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)  # the kernel kills its rank with it
    os._exit(0)


def _parent(pid: int) -> int:
    """The PID of a process's parent, -1 if it is not known."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return -1


def _command(pid: int) -> bytes:
    """The command line of a process, empty if it is not known."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
