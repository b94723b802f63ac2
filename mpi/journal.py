"""Metrics on their way from the top to rank 0, and the agreement to stop, without holding up the pipeline."""

from __future__ import annotations

import signal
from typing import Any

import numpy
from mpi4py import MPI

from sideways.training import Journal, Metrics

TAG = 1
KINDS = ("train", "evaluation")


class Interrupted(KeyboardInterrupt):
    """All ranks agreed to stop after the same clip."""


class RankJournal:
    """Takes the place of `sideways.training.Journal` in a rank.

    The top of each replica sends its metrics to rank 0 in non-blocking messages of five numbers; rank 0 writes a line
    when it has those of all replicas. After each clip the ranks also exchange whether one of them was interrupted; the
    answer to the exchange of one clip is read after the next, when it has long come.
    """

    def __init__(self, world: MPI.Comm, replicas: int, journal: Journal | None):
        self.comm = world.Dup()
        self.replicas, self.journal = replicas, journal
        self.sent: list[tuple[MPI.Request, numpy.ndarray]] = []
        self.came: dict[tuple[int, int], list[numpy.ndarray]] = {}  # (kind, clip) → metrics so far
        self.expected = 0
        self.last: Metrics = None  # of the last evaluation, on rank 0
        self.interrupted = False
        self.votes = numpy.zeros(2, numpy.int32)  # mine, and the largest of all
        self.vote: MPI.Request | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, frame: Any) -> None:
        self.interrupted = True

    def trained(self, clip: int, tick: int, metrics: Metrics) -> None:
        self._pass_on(0, clip, tick, metrics)
        stop = self._answer()
        self.votes[0] = self.interrupted
        self.vote = self.comm.Iallreduce(self.votes[:1], self.votes[1:], MPI.MAX)
        if stop:
            raise Interrupted

    def evaluated(self, clip: int, tick: int, metrics: Metrics) -> None:
        self._pass_on(1, clip, tick, metrics)

    def _answer(self) -> bool:
        if self.vote is None:
            return False
        self.vote.Wait()
        return bool(self.votes[1])

    def _pass_on(self, kind: int, clip: int, tick: int, metrics: Metrics) -> None:
        if metrics:
            line = numpy.array([kind, clip, tick, metrics["loss"], metrics["accuracy"]])
            self.sent = [(request, kept) for request, kept in self.sent if not request.Test()]
            self.sent.append((self.comm.Isend(line, 0, TAG), line))
        if self.journal:
            self.expected += self.replicas
            while self.expected and self.comm.Iprobe(MPI.ANY_SOURCE, TAG):
                self._take()

    def _take(self) -> None:
        """One message (rank 0): write the line when those of all replicas are there."""
        assert self.journal
        line = numpy.empty(5)
        self.comm.Recv(line, MPI.ANY_SOURCE, TAG)
        self.expected -= 1
        kind, clip, tick = (int(number) for number in line[:3])
        lines = self.came.setdefault((kind, clip), [])
        lines.append(line[3:])
        if len(lines) < self.replicas:
            return
        loss, accuracy = numpy.mean(self.came.pop((kind, clip)), axis=0)
        metrics = {"loss": float(loss), "accuracy": float(accuracy)}
        if kind == 0:
            self.journal.trained(clip, tick, metrics)
        else:
            self.journal.evaluated(clip, tick, metrics)
            self.last = metrics

    def close(self) -> None:
        """Take what is still under way; every rank must call it."""
        while self.journal and self.expected:
            self._take()
        for request, _ in self.sent:
            request.Wait()
        self._answer()
        self.comm.Free()
