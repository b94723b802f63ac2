"""A rank's status, in a page of memory that its watchdog reads: how far it is, and where it waits inside MPI.

The rank writes a few bytes without a lock, a copy or an allocation. The watchdog needs no answer from the rank, so it
also sees a rank that computes for long without a pause, and a rank that hangs inside MPI.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from sideways.mpi.cleanup import GRACE, LAST, is_stopped, shared_memory

VARIABLE = "SIDEWAYS_WATCHDOG"  # in the environment of a rank: descriptors of the page and of a pipe, and a UDP port
TEXT = 120  # bytes of each text in the page
SIZE = 16 + 2 * TEXT
SPARE = 2.0  # seconds that a rank gives the others beyond those that they need to end a job
SIOCGIFADDR = 0x8915  # Linux: ask for the IPv4 address of an interface


class Status:
    """The page: a counter and a tick of 8 bytes each, then two texts.

    The counter grows when a wait inside MPI begins and when it ends, and is odd during the wait.
    """

    def __init__(self, page: mmap.mmap):
        view = memoryview(page)
        self.numbers = view[:16].cast("Q")
        self.activity_text, self.place_text = view[16 : 16 + TEXT], view[16 + TEXT :]

    @classmethod
    def create(cls) -> tuple[Status, int]:
        """Make a page. Returns its status and a descriptor, by which a child process can open the page too."""
        descriptor = os.memfd_create("sideways-status")
        os.ftruncate(descriptor, SIZE)
        return cls.of(descriptor), descriptor

    @classmethod
    def of(cls, descriptor: int) -> Status:
        return cls(mmap.mmap(descriptor, SIZE))

    def tick(self, ticks: int) -> None:
        """Record the number of training ticks so far."""
        self.numbers[1] = ticks

    def activity(self, text: str) -> None:
        """Record an activity, such as "evaluation"."""
        self.activity_text[:] = padded(text)

    def read(self) -> tuple[int, str]:
        """The counter, and the tick, the activity and the place of a wait in words."""
        count, ticks = self.numbers
        activity, place = (bytes(text).rstrip(b"\0").decode(errors="replace") for text in self._texts())
        words = [f"tick {ticks}"] * bool(ticks) + [activity or "start-up"]
        return count, ", ".join(words + [f"waiting inside MPI for {place}"] * (count % 2))

    def _texts(self) -> tuple[memoryview, memoryview]:
        return self.activity_text, self.place_text


def padded(text: str) -> bytes:
    return text.encode(errors="replace")[:TEXT].ljust(TEXT, b"\0")


class Waiting:
    """A context in which this rank waits inside MPI. It may be entered again and again, without an allocation."""

    def __init__(self, text: str):
        self.text = padded(text)

    def __enter__(self) -> None:
        STATUS.place_text[:] = self.text
        numbers = STATUS.numbers
        numbers[0] = (numbers[0] + 1) | 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        numbers = STATUS.numbers
        numbers[0] = (numbers[0] + 2) & ~1  # even, also if an exception has ended the wait


@contextmanager
def doing(activity: str, afterwards: str) -> Iterator[None]:
    """Record an activity for as long as the block runs, and another one for the time after the block."""
    STATUS.activity(activity)
    yield
    STATUS.activity(afterwards)


def _inherited() -> tuple[Status, int, int]:
    """The page, the pipe and the port of this rank's watchdog; without one, a page that nobody reads, -1 and 0."""
    page, pipe, port = (int(number) for number in os.environ.pop(VARIABLE, "-1,-1,0").split(","))
    if page < 0:
        return Status.create()[0], -1, 0
    status = Status.of(page)
    os.close(page)
    os.set_inheritable(pipe, False)
    return status, pipe, port


STATUS, _PIPE, _PORT = _inherited()


def adopt() -> None:
    """Take over what the watchdog has made, in a process that was forked after this module was imported."""
    global STATUS, _PIPE, _PORT
    STATUS, _PIPE, _PORT = _inherited()


def introduce(world: Any, patience: float) -> None:
    """Tell the watchdogs of all ranks about each other. Every rank must call this function, once.

    world: the communicator of all ranks. patience: seconds, see `Beats`.
    """
    own = (socket.gethostname(), os.getpid(), addresses(), _PORT, os.urandom(8).hex())
    with Waiting("the other ranks, at start-up"):
        everyone = world.allgather(own)  # pickled, once per job
    if _PIPE < 0:
        return
    table = {"rank": world.Get_rank(), "patience": patience, "token": everyone[0][-1]}
    table["segments"] = shared_memory(os.getpid())  # a watchdog that read this itself might have to wait for the rank
    with suppress(BrokenPipeError), open(_PIPE, "w") as pipe:  # broken: the watchdog is about to end this process
        json.dump(table | {"members": [member[:-1] for member in everyone]}, pipe)
    words = f"sideways: rank {world.Get_rank()} on {socket.gethostname()} (PID {os.getpid()})"
    threading.Thread(target=_end_with_a_stopped_watchdog, args=(os.getppid(), patience, words), daemon=True).start()


def _end_with_a_stopped_watchdog(watchdog: int, patience: float, words: str) -> None:
    """Kill the watchdog, and so this rank, if the watchdog stays stopped although the other ranks must have ended.

    Nobody else could do it where no other rank of the job runs on this host.
    """
    seconds = 0
    while seconds < patience + GRACE + LAST + SPARE:
        time.sleep(1)
        seconds = seconds + 1 if is_stopped(watchdog) else 0
    print(f"{words}: its watchdog (PID {watchdog}) has been stopped for {seconds} s. The job ends", file=sys.stderr)
    os.kill(watchdog, signal.SIGKILL)


def addresses() -> list[str]:
    """The IPv4 addresses of this host."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found.append(socket.inet_ntoa(answer[20:24]))
    return found
