"""The log of a rank: metrics travel to rank 0, and all ranks agree to stop, without holding up the pipeline."""

from __future__ import annotations

import signal
from collections import deque
from typing import Any

import numpy
from mpi4py import MPI

from sideways.training.evaluation import METRICS, Metrics
from sideways.training.log import RunLog

TAG = 1


class RankLog:
    """The log of a rank: the protocol `Log` of `sideways/training/log.py`, over ranks.

    The top of each replica sends its metrics to rank 0 in short non-blocking messages; rank 0 writes a line when the
    metrics of all replicas have arrived. After each tick the ranks also vote on whether one of them was asked to stop.
    All ranks read the result of a vote at the same later tick, which is further away than any two ranks can drift
    apart: the result has always arrived, and reading never blocks.

    world: all ranks, in `stages` × `replicas`. run_log: on rank 0, the log that writes; None elsewhere.
    """

    def __init__(self, world: MPI.Comm, stages: int, replicas: int, run_log: RunLog | None):
        self.comm = world.Dup()
        self.replicas, self.run_log = replicas, run_log
        self.sent: list[tuple[MPI.Request, numpy.ndarray]] = []
        self.arrived: dict[tuple[int, int], list[numpy.ndarray]] = {}  # (kind, clip) → metrics of the replicas so far
        self.expected = 0  # messages that rank 0 has yet to receive
        self.delay = stages + 1  # ticks between a vote and its result
        self.votes: deque[tuple[MPI.Request, numpy.ndarray]] = deque()  # each: this rank's vote, the largest of all
        self.stop_asked = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask_to_stop)

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        self.stop_asked = 1

    def stop_requested(self, pending: int | None = None) -> bool:
        vote, stop = numpy.array([self.stop_asked, 0], numpy.int32), False
        self.votes.append((self.comm.Iallreduce(vote[:1], vote[1:], MPI.MAX), vote))
        while len(self.votes) > (self.delay if pending is None else pending):
            stop = self._result_of_vote() or stop
        return stop

    def _result_of_vote(self) -> bool:
        request, vote = self.votes.popleft()
        request.Wait()
        return bool(vote[1])

    def trained(self, clip: int, tick: int, metrics: Metrics) -> None:
        self._send(0, clip, tick, metrics)

    def evaluated(self, clip: int, tick: int, metrics: Metrics) -> None:
        self._send(1, clip, tick, metrics)

    def compared(self, clip: int, tick: int, cosines: dict[str, float] | None) -> None:
        if self.run_log:
            self.run_log.compared(clip, tick, cosines)

    def _send(self, kind: int, clip: int, tick: int, metrics: Metrics) -> None:
        """Send the metrics, where there are any, to rank 0; there, receive those that have arrived."""
        if metrics is not None:
            line = numpy.array([kind, clip, tick, *(metrics.get(name, numpy.nan) for name in METRICS)])
            self.sent = [(request, kept) for request, kept in self.sent if not request.Test()]
            self.sent.append((self.comm.Isend(line, 0, TAG), line))
        if self.run_log:
            self.expected += self.replicas
            while self.expected and self.comm.Iprobe(MPI.ANY_SOURCE, TAG):
                self._receive()

    def _receive(self) -> None:
        """Receive one message on rank 0, and write the line when the metrics of all replicas are there."""
        assert self.run_log
        line = numpy.empty(3 + len(METRICS))
        self.comm.Recv(line, MPI.ANY_SOURCE, TAG)
        self.expected -= 1
        kind, clip, tick = (int(number) for number in line[:3])
        lines = self.arrived.setdefault((kind, clip), [])
        lines.append(line[3:])
        if len(lines) < self.replicas:
            return
        columns = zip(METRICS, numpy.transpose(self.arrived.pop((kind, clip))), strict=True)
        known = ((name, column[~numpy.isnan(column)]) for name, column in columns)  # NaN: a replica lacks the metric
        metrics = {name: float(numpy.mean(values)) for name, values in known if len(values)}
        write = self.run_log.evaluated if kind else self.run_log.trained
        write(clip, tick, metrics)

    def flush(self) -> int:
        """Receive all metrics under way. Every rank must call this method."""
        while self.run_log and self.expected:
            self._receive()
        for request, _ in self.sent:
            request.Wait()
        self.sent = []
        return self.run_log.flush() if self.run_log else 0

    def close(self) -> None:
        """Complete every message. Every rank must call this method."""
        self.flush()
        while self.votes:
            self._result_of_vote()
        self.comm.Free()
