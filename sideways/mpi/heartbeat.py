"""The judgement of a watchdog: which rank is silent, and is any rank still making progress?

    watchdog of rank 0   ←  a beat each second, and an answer to each  →   the watchdog of every other rank

A beat says how far the rank is. Beats come from the watchdogs, which neither Python nor MPI nor a long computation of
the rank can stop. This module does no input or output, and gets the time from its caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

LISTED = 8  # ranks that a message lists at most


@dataclass
class Member:
    """A rank of the job, and the UDP address of its watchdog."""

    rank: int
    host: str
    pid: int
    addresses: list[str] = field(default_factory=list)
    port: int = 0

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host} (PID {self.pid})"


@dataclass
class Record:
    """The last news of a rank. Times are in seconds of the watchdog's own clock; None: never heard of."""

    heard: float | None = None
    count: int = 0  # the counter of `Status`: odd while the rank waits inside MPI
    changed: float = 0.0  # when the counter changed
    activity: str = ""


class Beats:
    """The news of the ranks that one watchdog listens to: all ranks on rank 0, elsewhere its own rank and rank 0.

    own: the rank that this watchdog guards. patience: seconds after which a silent rank ends the job.
    A gap between two calls of `advance` counts for at most two intervals: a watchdog that was stopped itself, or had no
    core, must not take its own absence for the silence of others.
    """

    def __init__(self, members: Sequence[Member], own: int, patience: float, now: float):
        self.members = {member.rank: member for member in members}
        self.own, self.patience = own, patience
        self.hub = min(self.members)
        self.time, self._before = 0.0, now
        self.records = {rank: Record() for rank in ({*self.members} if own == self.hub else {self.hub, own})}
        self._warned = False

    @property
    def interval(self) -> float:
        """Seconds between two beats."""
        return min(1.0, self.patience / 10)

    @property
    def is_hub(self) -> bool:
        return self.own == self.hub

    def advance(self, now: float) -> None:
        """Advance the watchdog's own clock to `now`, in seconds."""
        self.time += min(max(now - self._before, 0.0), 2 * self.interval)
        self._before = now

    def hear(self, rank: int, count: int, activity: str) -> None:
        """Record a beat of a rank. For the own rank: each time that its process is seen not to be stopped."""
        record = self.records.get(rank)
        if record is None:
            return
        if record.heard is None or count != record.count:
            record.changed = self.time
        record.heard, record.count, record.activity = self.time, count, activity

    def forget(self, rank: int) -> None:
        """Expect no more beats from a rank, which has ended as it should."""
        if rank != self.own:
            self.records.pop(rank, None)

    def verdict(self) -> str | None:
        """The reason to end the job, in words; None if there is none."""
        return self._silence() or self._standstill()

    def warning(self) -> str | None:
        """A line, once, about ranks that were never heard of: beats do not get through, so silence says nothing."""
        unheard = [self.members[rank] for rank, record in self.records.items() if record.heard is None]
        if self._warned or not unheard or self.time < self.patience or not self.is_hub:
            return None
        self._warned = True
        return (
            f"warning: no heartbeat has reached {self.members[self.own]} from {_listed(unheard)} (does a firewall stop "
            "UDP between the hosts?); the job goes on, but nobody would notice if a rank there fell silent"
        )

    def _silence(self) -> str | None:
        late = {rank: self.time - record.heard for rank, record in self.records.items() if record.heard is not None}
        longest = max(late.values(), default=0.0)
        # Several watchdogs would notice at the same time that rank 0 is silent; the first of them tells the others.
        if longest < self.patience + (0 if self.is_hub else self._stagger):
            return None
        silent = [rank for rank, seconds in late.items() if seconds > longest - 3 * self.interval]
        if silent == [self.own]:
            return f"{self._with_activity(self.own)} has been stopped for {longest:.0f} s, as its watchdog noticed"
        names = "; ".join(self._with_activity(rank) for rank in silent[:LISTED])
        names += f"; and {len(silent) - LISTED} more" * (len(silent) > LISTED)
        return f"nothing has been heard for {longest:.0f} s of {names}; noticed by {self.members[self.own]}"

    def _standstill(self) -> str | None:
        """All ranks wait inside MPI, and none has made a step for so long as patience lasts."""
        if not self.is_hub:
            return None
        records = self.records.values()
        recent = self.time - 3 * self.interval
        if not all(record.heard is not None and record.heard > recent and record.count % 2 for record in records):
            return None  # a rank that is not heard of may be stopped, and is judged by `_silence`
        seconds = self.time - max(record.changed for record in records)
        if seconds < self.patience + (self._stagger if len(self.members) == 1 else 0):
            return None
        where = "; ".join(
            f"{self.members[rank]}: {record.activity}" for rank, record in [*self.records.items()][:LISTED]
        )
        where += f"; and {len(records) - LISTED} more" * (len(records) > LISTED)
        return f"no rank has made progress for {seconds:.0f} s: {where}"

    @property
    def _stagger(self) -> float:
        return min(0.1 * self.own, 3.0)

    def _with_activity(self, rank: int) -> str:
        return f"{self.members[rank]} [{self.records[rank].activity}]"


def _listed(members: Sequence[Member]) -> str:
    return ", ".join(map(str, members[:LISTED])) + f" and {len(members) - LISTED} more" * (len(members) > LISTED)
