"""A process that watches over each rank, so that nobody waits for ever for a rank that is killed, stopped or cut off.

    launcher ─┬─ watchdog ── rank 0        The watchdogs send each other beats by UDP; `Beats` judges what they tell.
              └─ watchdog ── rank 1        The rank tells its watchdog by a page of memory (`Status`) how far it is.

A watchdog that finds a rank silent, or its launcher gone, prints one line that names the rank, tells the other
watchdogs, and kills its own rank. Without watchdogs only the launcher reports a death, and MPICH's sometimes names a
rank that it killed itself. It has also been seen to miss a death and hang; so if the job is still running after 4 s,
the watchdogs end it, and 2 s later the launcher.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from types import FrameType
from typing import NoReturn

from sideways.mpi.cleanup import GRACE, Segments, end_the_others, is_stopped, launchers_of
from sideways.mpi.heartbeat import Beats, Member
from sideways.mpi.status import VARIABLE, Status

RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
PATIENCE = 60.0  # seconds, the default of --patience
START_UP = 60.0  # seconds, or twice the patience if that is longer: how long a rank may wait for others to start
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # passed on to the rank
BOTH = 0.5  # seconds; two signals within them are one Ctrl-C, from the terminal and from the launcher
PR_SET_PDEATHSIG = 1  # Linux: the signal that a child gets when its parent dies
COPIES = 3  # of each datagram that is sent only once


def guard(start_up: float = START_UP) -> None:
    """Fork, before MPI starts. The child returns and becomes the rank; the parent stays and watches over it.

    start_up: seconds that the rank may wait for other ranks to start; then it tells the patience of the job.
    The parent passes signals on to the rank, and ends with the rank's exit code.
    """
    parent = os.getpid()
    status, page = Status.create()
    table, table_end = os.pipe()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", 0))
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # they wait until the watchdog can pass them on
    rank_pid = os.fork()
    if rank_pid == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the parent died before the line above, so the kernel will send no signal
                os._exit(1)
        os.environ[VARIABLE] = f"{page},{table_end},{udp.getsockname()[1]}"
        os.set_inheritable(page, True)
        os.set_inheritable(table_end, True)
        udp.close()
        os.close(table)
        return
    os.close(table_end)
    Watchdog(rank_pid, start_up, status, table, udp).run()


class Watchdog:
    """The watchdog of one rank.

    rank_pid: the rank's process. table: a pipe on which the rank tells, once MPI has started, where all watchdogs are;
    start_up: seconds until then. udp: the socket of the beats.
    """

    def __init__(self, rank_pid: int, start_up: float, status: Status, table: int, udp: socket.socket):
        self.rank_pid, self.status, self.table, self.udp = rank_pid, status, table, udp
        self.parent, self.launchers = os.getppid(), launchers_of(os.getpid())
        self.rank = next((os.environ[name] for name in RANK_VARIABLES if name in os.environ), "?")
        number = int(self.rank) if self.rank.isdecimal() else 0
        self.host, now = socket.gethostname(), time.monotonic()
        alone = [Member(number, self.host, rank_pid)]
        self.beats = Beats(alone, number, start_up, now)  # until the table of all ranks arrives
        self.text_of_table = b""
        self.token = ""
        self.routes: dict[int, tuple[str, int]] = {}  # rank → the address from which its watchdog was heard
        self.next_beat = now
        self.passed_on: list[tuple[int, float]] = []  # signals that reached this process: the launcher ends the job
        self.segments: Segments = {}
        self.deadline: float | None = None  # when the rank is killed, on the clock of the beats
        self.last_words = ""  # printed then

    def run(self) -> NoReturn:
        """Watch until the rank ends, or has to be ended."""
        bell, ringer = socket.socketpair()  # a signal makes `poll` return
        for end in (bell, ringer, self.udp):
            end.setblocking(False)
        signal.set_wakeup_fd(ringer.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._pass_on)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        poll = select.poll()
        for descriptor in (bell, self.udp, self.table):
            poll.register(descriptor, select.POLLIN)
        while True:
            self._end_if_the_rank_has_ended()
            self._end_after_a_second_signal()
            if time.monotonic() >= self.next_beat:
                self._end_if_the_launcher_has_ended()
                self._beat()
            for descriptor, _ in poll.poll(max(0.0, 1e3 * (self.next_beat - time.monotonic())) + 1):
                if descriptor == self.udp.fileno():
                    self._receive()
                elif descriptor == bell.fileno():
                    bell.recv(64)
                elif not self._read_table():
                    poll.unregister(self.table)

    # The rank's process, and signals

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.passed_on.append((number, time.monotonic()))
        with contextlib.suppress(ProcessLookupError):  # the rank has ended already
            os.kill(self.rank_pid, number)

    def _end_after_a_second_signal(self) -> None:
        moments = [moment for number, moment in self.passed_on if number != signal.SIGUSR1]
        if moments and moments[-1] - moments[0] > BOTH:
            self._end("", 130)

    def _end_if_the_launcher_has_ended(self) -> None:
        if os.getppid() == self.parent:
            return
        if self.deadline is None and not self.passed_on:  # else the job is about to end anyway
            self._tell_all("lost")  # rank 0 prints the reason: what is written here may have no reader any more
        self._end("", 1)

    def _end_if_the_rank_has_ended(self) -> None:
        pid, status = os.waitpid(self.rank_pid, os.WNOHANG)
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        time.sleep(0.05)  # a signal to the whole process group may reach the parent after the rank
        while self._receive():
            pass
        # The launcher kills ranks too, once a job ends; then the reason has been told already.
        killed = code < 0 and -code not in [number for number, _ in self.passed_on] and self.deadline is None
        self._tell_all("end" if code else "bye")
        if killed:
            reason = f"was killed by signal {-code} ({signal.Signals(-code).name})"
            _print(f"rank {self.rank} on {self.host} (PID {self.rank_pid}) {reason}")
        if code and self.rank != "?":
            end_the_others(self.launchers, self.segments)
        if killed:
            time.sleep(0.5)  # the launcher shows the line before it ends the other ranks
        os._exit(code if code >= 0 else 128 - code)

    def _end(self, reason: str, code: int) -> NoReturn:
        """Print the reason, and end this rank and the others, whatever they do."""
        if reason:
            _print(f"{reason}. The job ends; its checkpoints stand")
        self._tell_all("end")
        os.kill(self.rank_pid, signal.SIGKILL)  # works on a process that is stopped, too
        if self.rank != "?":
            end_the_others(self.launchers, self.segments)
        time.sleep(0.5 if reason else 0.0)  # the launcher shows the line before it ends the other ranks
        os._exit(code)

    # Beats

    def _read_table(self) -> bool:
        """Read a part of the table of all watchdogs. Returns False at the end."""
        part = os.read(self.table, 1 << 16)
        self.text_of_table += part
        if part:
            return True
        if self.text_of_table:  # else the rank has ended before it knew the others
            table = json.loads(self.text_of_table)
            members = [Member(rank, *member) for rank, member in enumerate(table["members"])]
            self.beats = Beats(members, table["rank"], table["patience"], time.monotonic())
            self.token, self.next_beat = table["token"], time.monotonic()
            self.segments = table["segments"]
        return False

    def _beat(self) -> None:
        """Send a beat to rank 0's watchdog, and end the job if that is due."""
        beats = self.beats
        self.next_beat = time.monotonic() + beats.interval
        beats.advance(time.monotonic())
        if not is_stopped(self.rank_pid):
            beats.hear(beats.own, *self.status.read())
        if self.token and not beats.is_hub:
            self._send("beat", beats.hub)
        if self.deadline is None and (reason := beats.verdict()):  # else somebody has told the reason already
            self._end(reason, 1)
        if warning := beats.warning():
            _print(warning)
        if self.deadline is not None and beats.time >= self.deadline:
            self._end(self.last_words, 1)

    def _send(self, kind: str, rank: int) -> None:
        """Send a datagram to the watchdog of a rank: by the address that has worked, else by all."""
        member = self.beats.members[rank]
        everywhere = [(address, member.port) for address in member.addresses] if member.port else []
        record = self.beats.records.get(rank)
        is_heard = record and record.heard is not None and self.beats.time - record.heard < 3 * self.beats.interval
        known = [self.routes[rank]] if rank in self.routes else []
        datagram = json.dumps([self.token, kind, self.beats.own, rank, *self._news()]).encode()
        for address in known if known and is_heard else {*known, *everywhere}:
            with contextlib.suppress(OSError):  # no way to this address, or a full buffer
                self.udp.sendto(datagram, address)

    def _news(self) -> tuple[int, str]:
        """The status of the rank. A rank that is stopped does not count as one that waits inside MPI."""
        count, activity = self.status.read()
        return (count & ~1, f"stopped; {activity}") if is_stopped(self.rank_pid) else (count, activity)

    def _tell_all(self, kind: str) -> None:
        """Send a datagram to all other watchdogs, more than once, because nobody will repeat it."""
        if self.token:
            for _ in range(COPIES):
                for rank in self.beats.members:
                    if rank != self.beats.own:
                        self._send(kind, rank)

    def _receive(self) -> bool:
        """Receive a datagram; ignore one that is not of this job, or not for this rank. Returns False without any."""
        try:
            datagram, address = self.udp.recvfrom(1 << 12)
        except OSError:
            return False
        try:
            token, kind, sender, receiver, count, activity = json.loads(datagram)
        except (ValueError, TypeError):
            return True
        if self.token and token == self.token and receiver == self.beats.own:
            self.routes[sender] = address
            self._act_on(kind, sender, count, activity)
        return True

    def _act_on(self, kind: str, sender: int, count: int, activity: str) -> None:
        beats = self.beats
        if kind == "beat":
            beats.hear(sender, count, activity)
            if beats.is_hub:
                self._send("beat", sender)
        elif kind == "bye":
            beats.forget(sender)
            if sender == beats.hub:
                words = f"{beats.members[beats.own]} [{self.status.read()[1]}] has not ended, although rank 0 has"
                self._set_deadline(beats.patience, words)
        elif kind == "lost" and beats.is_hub and self.deadline is None:
            self._end(f"the launcher that started {beats.members[sender]} has ended there", 1)
        elif kind in ("end", "lost"):  # the launcher may end this rank before the deadline
            self._set_deadline(GRACE, "")

    def _set_deadline(self, seconds: float, words: str) -> None:
        deadline = self.beats.time + seconds
        if self.deadline is None or deadline < self.deadline:
            self.deadline, self.last_words = deadline, words


def _print(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more
        print(f"sideways: {line}", file=sys.stderr, flush=True)
