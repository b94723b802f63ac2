"""Metrics on their way from the top to rank 0, and the agreement to stop, without holding up the pipeline."""

from __future__ import annotations

import signal
from collections import deque
from typing import Any

import numpy
from mpi4py import MPI

from sideways.training.evaluation import METRICS, Metrics
from sideways.training.run import Journal

TAG = 1


class RankJournal:
    """Takes the place of `sideways.training.Journal` in a rank.

    The top of each replica sends its metrics to rank 0 in short non-blocking messages; rank 0 writes a line when it has
    those of all replicas. After each tick the ranks also exchange whether one of them was asked to stop. The answer is
    read some ticks later, by all at the same tick: no rank can be that far ahead of another, so it has long come.
    """

    def __init__(self, world: MPI.Comm, stages: int, replicas: int, journal: Journal | None):
        self.comm = world.Dup()
        self.replicas, self.journal = replicas, journal
        self.sent: list[tuple[MPI.Request, numpy.ndarray]] = []
        self.came: dict[tuple[int, int], list[numpy.ndarray]] = {}  # (kind, clip) → metrics so far
        self.expected = 0
        self.delay = stages + 1  # ticks between a vote and its answer
        self.votes: deque[tuple[MPI.Request, numpy.ndarray]] = deque()  # each with mine, and the largest of all
        self.asked = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = 1

    def stop(self, pending: int | None = None) -> bool:
        """After each tick: whether it was the last, for all ranks. An evaluation asks after each batch of clips.

        pending: how many votes may wait for their answer then; by default those of the ticks that ranks are apart.
        """
        vote, last = numpy.array([self.asked, 0], numpy.int32), False
        self.votes.append((self.comm.Iallreduce(vote[:1], vote[1:], MPI.MAX), vote))
        while len(self.votes) > (self.delay if pending is None else pending):
            last = self._answer() or last
        return last

    def _answer(self) -> bool:
        request, vote = self.votes.popleft()
        request.Wait()
        return bool(vote[1])

    def trained(self, clip: int, tick: int, metrics: Metrics) -> None:
        self._pass_on(0, clip, tick, metrics)

    def evaluated(self, clip: int, tick: int, metrics: Metrics) -> None:
        self._pass_on(1, clip, tick, metrics)

    def measured(self, clip: int, tick: int, cosines: dict[str, float] | None) -> None:
        if self.journal:
            self.journal.measured(clip, tick, cosines)

    def _pass_on(self, kind: int, clip: int, tick: int, metrics: Metrics) -> None:
        if metrics is not None:
            line = numpy.array([kind, clip, tick, *(metrics.get(name, numpy.nan) for name in METRICS)])
            self.sent = [(request, kept) for request, kept in self.sent if not request.Test()]
            self.sent.append((self.comm.Isend(line, 0, TAG), line))
        if self.journal:
            self.expected += self.replicas
            while self.expected and self.comm.Iprobe(MPI.ANY_SOURCE, TAG):
                self._take()

    def _take(self) -> None:
        """One message (rank 0): write the line when those of all replicas are there."""
        assert self.journal
        line = numpy.empty(3 + len(METRICS))
        self.comm.Recv(line, MPI.ANY_SOURCE, TAG)
        self.expected -= 1
        kind, clip, tick = (int(number) for number in line[:3])
        lines = self.came.setdefault((kind, clip), [])
        lines.append(line[3:])
        if len(lines) < self.replicas:
            return
        columns = zip(METRICS, numpy.transpose(self.came.pop((kind, clip))), strict=True)
        told = ((name, column[~numpy.isnan(column)]) for name, column in columns)  # a replica may have seen nothing
        metrics = {name: float(numpy.mean(values)) for name, values in told if len(values)}
        write = self.journal.evaluated if kind else self.journal.trained
        write(clip, tick, metrics)

    def settle(self) -> int:
        """Take what is still under way: bytes of metrics.jsonl (rank 0). Every rank must call it."""
        while self.journal and self.expected:
            self._take()
        for request, _ in self.sent:
            request.Wait()
        self.sent = []
        return self.journal.settle() if self.journal else 0

    def close(self) -> None:
        """Complete every message; every rank must call it."""
        self.settle()
        while self.votes:
            self._answer()
        self.comm.Free()
