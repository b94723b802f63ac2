"""The log of a rank: metrics travel to rank 0, and all ranks agree to stop, without holding up the pipeline."""

from __future__ import annotations

import signal
from collections import deque
from typing import Any

import numpy
from mpi4py import MPI

from sideways.mpi.status import Waiting
from sideways.training.evaluation import METRICS, Metrics
from sideways.training.log import RunLog

TAG = 1
METRICS_OF_TOP = Waiting("metrics, from the top of a replica to rank 0")
VOTE = Waiting("the result of a vote on whether to stop")


class RankLog:
    """The log of a rank: the protocol `Log` of `sideways/training/log.py`, over ranks.

    The top of each replica sends its metrics to rank 0 in short non-blocking messages; rank 0 writes a line when the
    metrics of all replicas have arrived. Every top sends one message for each line, in the order of the lines, and
    rank 0 takes the messages of a line from one top after the other. It always names the sender: MPICH's receives from
    any sender have been seen to hang between hosts.
    After each tick the ranks also vote on whether one of them was asked to stop. All ranks read the result of a vote at
    the same later tick, which is further away than any two ranks can drift apart: the result has always arrived, and
    reading never blocks.

    world: all ranks, in `stages` × `replicas`. run_log: on rank 0, the log that writes; None elsewhere.
    """

    def __init__(self, world: MPI.Comm, stages: int, replicas: int, run_log: RunLog | None):
        with VOTE:
            self.comm = world.Dup()
        self.run_log = run_log
        self.tops = range(stages - 1, stages * replicas, stages)  # the top is in the last stage of each replica
        self.sends_metrics = self.comm.Get_rank() in self.tops
        self.sent: list[tuple[MPI.Request, numpy.ndarray]] = []
        self.expected = 0  # lines that rank 0 has yet to write
        self.arrived: list[numpy.ndarray] = []  # the metrics of the first replicas, for the next line
        self.receiving: tuple[MPI.Request, numpy.ndarray] | None = None  # those of the replica after them, under way
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
        with VOTE:
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
        """Send the metrics to rank 0, if this rank has a top; on rank 0, receive those that have arrived."""
        if self.sends_metrics:
            values = metrics or {}  # empty if the top has seen no output
            line = numpy.array([kind, clip, tick, *(values.get(name, numpy.nan) for name in METRICS)])
            self.sent = [(request, kept) for request, kept in self.sent if not request.Test()]
            self.sent.append((self.comm.Isend(line, 0, TAG), line))
        if self.run_log:
            self.expected += 1
            while self.expected and self._receive(block=False):
                pass

    def _receive(self, block: bool) -> bool:
        """Receive the next message on rank 0, and write the line when the metrics of all replicas are there.

        Returns False if the message has not arrived yet; with `block`, waits for the message.
        """
        if self.receiving is None:
            line = numpy.empty(3 + len(METRICS))
            self.receiving = self.comm.Irecv(line, self.tops[len(self.arrived)], TAG), line
        request, line = self.receiving
        if block:
            with METRICS_OF_TOP:
                request.Wait()
        elif not request.Test():
            return False
        self.receiving = None
        self.arrived.append(line)
        if len(self.arrived) == len(self.tops):
            self._write()
        return True

    def _write(self) -> None:
        """Write a line with the means over the replicas."""
        assert self.run_log
        kind, clip, tick = (int(number) for number in self.arrived[0][:3])
        columns = zip(METRICS, numpy.transpose([line[3:] for line in self.arrived]), strict=True)
        known = ((name, column[~numpy.isnan(column)]) for name, column in columns)  # NaN: a replica lacks the metric
        metrics = {name: float(numpy.mean(values)) for name, values in known if len(values)}
        self.arrived.clear()
        self.expected -= 1
        write = self.run_log.evaluated if kind else self.run_log.trained
        write(clip, tick, metrics)

    def flush(self) -> int:
        """Receive all metrics under way. Every rank must call this method."""
        while self.run_log and self.expected:
            self._receive(block=True)
        with METRICS_OF_TOP:
            for request, _ in self.sent:
                request.Wait()
        self.sent = []
        return self.run_log.flush() if self.run_log else 0

    def close(self) -> None:
        """Complete every message. Every rank must call this method."""
        self.flush()
        while self.votes:
            self._result_of_vote()
        with VOTE:
            self.comm.Free()
