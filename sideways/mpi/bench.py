"""One measurement over ranks, printed by rank 0 as JSON. `sideways bench pipeline` and `bench latency` start it."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from functools import partial
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported

import numpy
from mpi4py import MPI
from threadpoolctl import threadpool_limits

from sideways.backend import BACKENDS, PRECISIONS, synchronise, use_backend
from sideways.balance import speed_up
from sideways.losses import SoftmaxCrossEntropy
from sideways.machine import TRANSPORTS
from sideways.models import build_model
from sideways.mpi.blocked import Blocked
from sideways.mpi.emulated import emulate
from sideways.mpi.gather import on_all_ranks
from sideways.mpi.mailbox import wait
from sideways.mpi.node import Node
from sideways.mpi.ranks import Ranks
from sideways.mpi.transport import make_mailbox, transport_of
from sideways.mpi.world import RANK, WORLD
from sideways.network import FRAME, Network
from sideways.optimizers import SGD
from sideways.rules import Delayed, Sideways
from sideways.rules.trace import trace


def main() -> None:
    """Run the measurement that the command line names."""
    parser = argparse.ArgumentParser(prog="mpirun -n K python -m sideways.mpi.bench")
    parser.add_argument("measurement", choices=("pipeline", "latency"))
    parser.add_argument("method", choices=("sideways", "delayed", "backprop"))
    parser.add_argument(
        "--learn-every", type=int, default=1, help="delayed: learn from the loss of one tick in so many"
    )
    parser.add_argument("--model", default="vgg8")
    parser.add_argument("--units", type=int, default=0, help="an mlp of this many equal units, instead of the model")
    parser.add_argument("--size", type=int, default=112, help="height and width of a frame")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--ticks", type=int, default=10, help="ticks to measure, at least; backprop: frames")
    parser.add_argument("--placement", default="measure")
    parser.add_argument("--backend", choices=BACKENDS, default="numpy")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--transport", choices=("auto", *TRANSPORTS), default="auto")
    parser.add_argument("--emulate-ms", type=float, default=0.0)
    parser.add_argument("--period-ms", type=float, default=20.0, help="latency: time from one frame to the next")
    options = parser.parse_args()
    with threadpool_limits(1, user_api="blas"):
        learner = Learner(options)
        measure = pipeline if options.measurement == "pipeline" else latency
        result = measure(learner, options)
        learner.close()
    if RANK == 0:
        json.dump(result, sys.stdout)
        print(flush=True)
    MPI.Finalize()


class Learner:
    """A network that learns by Sideways, Delayed or blocked backpropagation, with equal units, ranks and optimizer."""

    def __init__(self, options: argparse.Namespace):
        use_backend(options.backend, options.precision)
        node = Node.of(WORLD)
        (self.device, shared), self.crowded = node.take_device(), node.crowded
        shape = (options.size, options.size, 3)
        network = (
            build_model("mlp", shape, 10, hidden=[32] * (options.units - 1))
            if options.units
            else build_model(options.model, shape, 101)
        )
        self.network, self.method = network, options.method
        self.ranks = Ranks.split(WORLD, len(network.units), 1)
        if options.emulate_ms:
            emulate(network, options.emulate_ms)
        self.marks = network.marks(options.learn_every) if options.method == "delayed" else None
        groups, costs = self.ranks.assign_units(network, options.batch, options.placement, self.marks)
        self.possible_speed_up = speed_up(costs, groups)
        owner = {name: stage for stage, group in enumerate(groups) for name in group}
        self.owned = groups[self.ranks.stage]
        self.optimizer = SGD(1e-4, momentum=0.9)
        self.labels = numpy.arange(options.batch) % 10
        self.frames = numpy.random.default_rng(0).random((4, options.batch, *shape), numpy.float32)
        self.reads_frame = any(FRAME in network.units[name].inputs for name in self.owned)
        self.mailbox = None
        if options.method == "backprop":
            self.blocked = Blocked(network, owner, options.batch, self.optimizer, self.crowded)
            return
        timetable = partial(network.timetable, marks=self.marks)
        transport = on_all_ranks(lambda: transport_of(options.transport, shared))
        self.mailbox = make_mailbox(network, timetable, owner, options.batch, self.ranks, transport, self.crowded)
        self.rule = self._rule(mailbox=self.mailbox, units=self.owned)

    def _rule(self, **options: Any) -> Sideways:
        """The rule for this rank's units, or, without options, for all of them in this process."""
        kind = partial(Delayed, learn_every=self.period) if self.marks else Sideways
        return kind(self.network, SoftmaxCrossEntropy(), self.optimizer, boundary="stream", **options)

    def step(self, t: int) -> None:
        """Run one tick of a rule that ticks, or take one frame up and down by backpropagation."""
        frame = self.frames[t % len(self.frames)]
        if self.mailbox is None:
            self.blocked.step(frame, self.labels)
        else:
            owns_top = self.network.top.name in self.owned
            self.rule.tick(frame if self.reads_frame else None, self.labels if owns_top else None)

    def now(self) -> float:
        """The time in seconds, once the device has computed all that is queued."""
        synchronise()
        return time.perf_counter()

    def warm_up(self) -> int:
        """Run until every unit has run backward in turn. Returns the number of ticks that took."""
        ticks = 2 * self.network.depth + 2 * self.period if self.mailbox else 2
        for t in range(ticks):
            self.step(t)
        wait(WORLD.Ibarrier(), self.crowded)
        return ticks

    def slow_down(self, ticks: int) -> float:
        """The time of a tick of all units in one process while every rank runs one, over that while rank 0 runs alone.

        This is what ranks lose because they share one machine's memory and caches, without any message.
        """
        if self.mailbox is None or self.ranks.stages == 1:
            return 1.0
        rule, seconds = self._rule(), numpy.empty((3, 2))
        for repeat in seconds:
            for together in (0, 1):
                wait(WORLD.Ibarrier(), nap=True)
                start = self.now()
                for t in range(ticks if together or RANK == 0 else 0):
                    rule.tick(self.frames[t % len(self.frames)], self.labels)
                repeat[together] = self.now() - start
        mean = WORLD.allreduce(float(numpy.median(seconds[:, 1])), MPI.SUM) / WORLD.Get_size()
        alone = WORLD.bcast(float(numpy.median(seconds[:, 0])))
        return mean / alone

    @property
    def period(self) -> int:
        """The ticks after which the work repeats: those from one marked loss to the next."""
        return self.marks.every if self.marks else 1

    @property
    def facts(self) -> dict[str, object]:
        """The entries about the learner that every result has."""
        return {
            "method": self.method,
            "device": self.device,
            "ranks": self.ranks.stages,
            "units": len(self.network.units),
            "depth": self.network.depth,
            "learn_every": self.period,
        }

    def close(self) -> None:
        """Free the persistent messages."""
        if self.mailbox:
            self.mailbox.clear()
            self.mailbox.free()


def pipeline(learner: Learner, options: argparse.Namespace) -> dict[str, object]:
    """Measure the seconds per tick (backpropagation: per frame): the median and the spread of five repeats.

    No barrier parts the repeats, because ranks may be ticks apart: a repeat takes as long as on the slowest rank.
    """
    learner.warm_up()
    ticks = learner.period * math.ceil(options.ticks / learner.period)  # whole periods
    moments = [learner.now()]
    for _ in range(5):
        for t in range(ticks):
            learner.step(t)
        moments.append(learner.now())
    seconds = numpy.diff(moments) / ticks
    WORLD.Allreduce(MPI.IN_PLACE, seconds, MPI.MAX)
    network = learner.network
    edges = [j for unit in network.units.values() for j in unit.inputs if j != FRAME]
    biggest = max((math.prod(network.units[j].output_shape) for j in edges), default=1)
    return {
        **learner.facts,
        "batch": options.batch,
        "seconds_per_tick": float(numpy.median(seconds)),
        "spread": float(numpy.ptp(seconds)),
        "allowed": learner.possible_speed_up,
        "slow_down": None if options.emulate_ms else learner.slow_down(ticks),  # emulated devices share nothing
        "biggest_message_bytes": 4 * options.batch * biggest,
        "ping_pong_seconds": seconds_of_ping_pong(4 * options.batch * biggest),
    }


def latency(learner: Learner, options: argparse.Namespace) -> dict[str, object]:
    """Let a frame arrive every period, whether or not the learner is ready, which takes the newest and drops the rest.

    An age is the time from a frame's arrival to the end of the step that used the frame. `age_in_output` is that of the
    frame in the top's output; `age_in_parameters` that of the newest frame whose activation a unit's update used. All
    ranks must share one machine's clock.
    """
    network, period = learner.network, options.period_ms / 1e3
    steps = max(options.ticks, 2 * network.depth + learner.period)  # each unit learns from a frame that comes here
    first = learner.warm_up()
    start = numpy.array([time.perf_counter() + 0.05])
    WORLD.Bcast(start)
    frames = numpy.zeros(steps)  # the number of the frame that each step took: the newest that had arrived
    ended = numpy.zeros(steps)
    for step in range(steps):
        if RANK == 0:
            following = frames[step - 1] + 1 if step else 0
            time.sleep(max(0.0, start[0] + following * period - time.perf_counter()))
            frames[step] = max(following, (time.perf_counter() - start[0]) // period)
        learner.step(step)
        ended[step] = learner.now() - start[0]
    ends = numpy.empty((WORLD.Get_size(), steps))
    WORLD.Gather(ended, ends)
    owned_by_rank = WORLD.gather(learner.owned)
    if owned_by_rank is None:  # this is not rank 0
        return {}
    ends_of = {name: ends[rank] for rank, names in enumerate(owned_by_rank) for name in names}

    def age(name: str, uses: list[tuple[int, int]]) -> float:
        """The mean age in a unit. uses: pairs (step, the step that took the frame which the former step used)."""
        return float(numpy.mean([ends_of[name][k] - period * frames[taken] for k, taken in uses if taken >= 0]))

    updates = {name: used_in_updates(learner, name, first, steps) for name in network.units}
    lag = newest_frame_lags(network)[network.top.name] if learner.mailbox else 0
    arrived = int(frames[-1]) + 1
    return {
        **learner.facts,
        "period_ms": options.period_ms,
        "frames": arrived,
        "updates_per_frame": sum(map(len, updates.values())) / len(updates) / arrived,
        "dropped": arrived - steps,
        "age_in_output": age(network.top.name, [(k, k - lag) for k in range(steps)]),
        "age_in_parameters": {name: age(name, updates[name]) for name in network.units},
    }


def used_in_updates(learner: Learner, name: str, first: int, steps: int) -> list[tuple[int, int]]:
    """The steps at which a unit updates its parameters, each with the step that took the newest frame it learns from.

    first: the tick of step 0.
    """
    if learner.mailbox is None:
        return [(k, k) for k in range(steps)]
    lag, marks = newest_frame_lags(learner.network)[name], learner.marks
    if marks is None:
        return [(k, k - lag) for k in range(steps)]
    used = []
    for k in range(steps):
        if marks.learns(name, first + k):
            since_last = range(first + k - marks.every + 1, first + k + 1)
            pulled = [s for tick in since_last if (s := marks.pull(name, tick)) is not None]
            used.append((k, max(pulled) - lag - first))
    return used


def newest_frame_lags(network: Network) -> dict[str, int]:
    """The ticks from a frame's arrival to the first activation of each unit that holds this frame."""
    now = 3 * network.depth
    return {name: now - max(frame for frame, _ in unit.activation) for name, unit in trace(network, now).items()}


def seconds_of_ping_pong(size: int, repeats: int = 20) -> float:
    """Measure how long a bare message of `size` bytes takes from rank 0 to rank 1. A single rank gives 0."""
    if WORLD.Get_size() == 1:
        return 0.0
    message = numpy.zeros(size, numpy.uint8)
    WORLD.Barrier()
    start = time.perf_counter()
    for _ in range(repeats if RANK < 2 else 0):
        for sender in (0, 1):
            if sender == RANK:
                WORLD.Send(message, 1 - RANK)
            else:
                WORLD.Recv(message, 1 - RANK, 0)
    seconds = (time.perf_counter() - start) / (2 * repeats)
    WORLD.Barrier()
    return seconds


if __name__ == "__main__":
    main()
