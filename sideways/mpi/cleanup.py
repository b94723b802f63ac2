"""The end of a job on one host: no process and no shared memory of the job stays behind. A watchdog calls it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

GRACE = 4.0  # seconds that the launcher has to end the other ranks
LAST = 2.0  # seconds that the launcher has to end then
LAUNCHERS = ("mpirun", "mpiexec", "mpiexec.hydra", "hydra_pmi_proxy", "prterun", "prted")  # of MPICH and Open MPI
SEGMENTS = ("mpich_shm_", "sm_segment", "vader_segment")  # files of MPICH and Open MPI in /dev/shm
Segments = dict[str, int]  # path → inode


def end_the_others(launchers: Sequence[Process], segments: Segments) -> None:
    """End what is left of the job on this host, in a process of its own. Returns at once.

    launchers: see `launchers_of`. The job's watchdogs that still run after `GRACE` are killed, and `LAST` later the
    launchers with all that they have started: mpirun waits for ever for a host that cannot be reached any more.
    segments: the shared memory of the job, see `shared_memory`; removed when no process has it any more.
    """
    me, command, parent = os.getpid(), _command(os.getpid()), os.getppid()
    if os.fork():
        return
    os.setsid()
    os.closerange(0, 1 << 16)  # the launcher waits until no process has its pipes open
    mine = (me, os.getpid())

    def others() -> list[int]:
        pids = (pid for pid in _processes() if pid not in mine)
        return [pid for pid in pids if _parent(pid) == parent and _command(pid) == command]

    def launcher_tree() -> list[int]:
        roots = [process.pid for process in launchers if process.runs]
        return [pid for pid in _descendants(roots) if pid not in mine]

    _wait_while(others, GRACE)
    _kill(others())  # the kernel kills its rank with it, even a rank that is stopped
    _wait_while(launcher_tree, LAST)
    _kill(launcher_tree())
    for _ in range(20):
        _remove(segments)
        if not any(Path(path).exists() for path in segments):
            break
        time.sleep(0.1)
    os._exit(0)


@dataclass(frozen=True)
class Process:
    """A process. Its number may be used again, but not with the same time of start (in ticks since the machine's)."""

    pid: int
    start: str

    @property
    def runs(self) -> bool:
        return _start(self.pid) == self.start


def launchers_of(pid: int) -> list[Process]:
    """The launchers on this host that have started a process: its parent, its parent's parent, … as far as they are
    programs of MPI."""
    found: list[Process] = []
    while (pid := _parent(pid)) > 1 and os.path.basename(_command(pid).split(b"\0")[0]).decode() in LAUNCHERS:
        found.append(Process(pid, _start(pid)))
    return found


def shared_memory(pid: int) -> Segments:
    """The files of MPI in /dev/shm that a process has mapped. MPICH leaves its file there when a rank is killed."""
    files = _mapped(pid)
    return {path: inode for path, inode in files.items() if Path(path).name.startswith(SEGMENTS)}


def is_stopped(pid: int) -> bool:
    """Tell if a process is stopped, as by SIGSTOP."""
    return _stat(pid)[:1] == ["T"]


def _remove(segments: Segments) -> None:
    """Remove the files that no process has mapped and that are still the job's own."""
    in_use = {path for pid in _processes() for path in _mapped(pid)}
    for path, inode in segments.items():
        with contextlib.suppress(OSError):
            if path not in in_use and os.stat(path).st_ino == inode:
                os.unlink(path)


def _mapped(pid: int) -> Segments:
    """The files in /dev/shm that a process has mapped; none if the process has ended or belongs to another user."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    fields = (line.split(maxsplit=5) for line in lines if "/dev/shm/" in line)
    return {entry[5]: int(entry[4]) for entry in fields if len(entry) == 6}


def _wait_while(pids: Callable[[], list[int]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while pids() and time.monotonic() < deadline:
        time.sleep(0.1)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _descendants(roots: list[int]) -> list[int]:
    """Processes, and all that they have started, the oldest generation first."""
    parents = {pid: _parent(pid) for pid in _processes()}
    found = list(roots)
    for pid in found:  # the list grows
        found += [child for child, parent in parents.items() if parent == pid and child not in found]
    return found


def _start(pid: int) -> str:
    """The time at which a process has started; empty if it has ended."""
    stat = _stat(pid)
    return stat[19] if len(stat) > 19 and stat[0] != "Z" else ""


def _processes() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]


def _parent(pid: int) -> int:
    """The PID of a process's parent, -1 if it is not known."""
    stat = _stat(pid)
    return int(stat[1]) if len(stat) > 1 and stat[0] != "Z" else -1


def _stat(pid: int) -> list[str]:
    """The state of a process, its parent, and what else Linux tells; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _command(pid: int) -> bytes:
    """The command line of a process, empty if it is not known."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
