"""What `sideways bench pipeline` and `bench latency` run under mpirun: one measurement, printed by rank 0 as JSON."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time

from mpi.blocked import Blocked

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported

import numpy
from mpi4py import MPI
from threadpoolctl import threadpool_limits

from mpi.emulated import emulate
from mpi.mailbox import MPIMailbox, wait
from mpi.placement import assign_units
from mpi.ranks import Ranks
from mpi.world import WORLD
from sideways.balance import speed_up
from sideways.losses import SoftmaxCrossEntropy
from sideways.models import build_model
from sideways.network import FRAME
from sideways.optimizers import SGD
from sideways.rules import Sideways
from sideways.rules.trace import trace


def main() -> None:
    parser = argparse.ArgumentParser(prog="mpirun -n K python -m mpi.bench")
    parser.add_argument("what", choices=("pipeline", "latency"))
    parser.add_argument("method", choices=("sideways", "backprop"))
    parser.add_argument("--model", default="vgg8")
    parser.add_argument("--units", type=int, default=0, help="a mlp of this many equal units instead of the model")
    parser.add_argument("--size", type=int, default=112, help="height and width of a frame")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--ticks", type=int, default=10, help="ticks (pipeline) or frames that arrive (latency)")
    parser.add_argument("--placement", default="measure")
    parser.add_argument("--emulate-ms", type=float, default=0.0)
    parser.add_argument("--period-ms", type=float, default=20.0, help="latency: a frame arrives this often")
    options = parser.parse_args()
    with threadpool_limits(1, user_api="blas"):
        learner = Learner(options)
        result = pipeline(learner, options) if options.what == "pipeline" else latency(learner, options)
        learner.close()
    if WORLD.Get_rank() == 0:
        json.dump(result, sys.stdout)
        print(flush=True)
    MPI.Finalize()


class Learner:
    """The same network, placement and optimizer under both methods; `step(frame)` is one tick, or one frame in turn."""

    def __init__(self, options: argparse.Namespace):
        shape = (options.size, options.size, 3)
        network = (
            build_model("mlp", shape, 10, hidden=[32] * (options.units - 1))
            if options.units
            else build_model(options.model, shape, 101)
        )
        self.network = network
        self.ranks = Ranks.split(WORLD, len(network.units), 1)
        if options.emulate_ms:
            emulate(network, options.emulate_ms)
        groups, self.costs = assign_units(network, self.ranks, options.batch, options.placement)
        self.allowed = speed_up(self.costs, groups)
        owner = {name: stage for stage, group in enumerate(groups) for name in group}
        self.mine = groups[self.ranks.stage]
        self.labels = numpy.arange(options.batch) % 10
        self.frames = numpy.random.default_rng(0).random((4, options.batch, *shape), numpy.float32)
        self.reads = any(FRAME in network.units[name].inputs for name in self.mine)
        optimizer = SGD(1e-4, momentum=0.9)
        self.mailbox = None
        if options.method == "backprop":
            self.blocked = Blocked(network, owner, options.batch, optimizer, self.ranks.crowded)
            return
        self.mailbox = MPIMailbox(network, owner, options.batch, WORLD.Dup(), None, nap=self.ranks.crowded)
        self.rule = Sideways(
            network, SoftmaxCrossEntropy(), optimizer, boundary="stream", mailbox=self.mailbox, units=self.mine
        )

    def step(self, t: int) -> None:
        frame = self.frames[t % len(self.frames)]
        if self.mailbox is None:
            self.blocked.step(frame, self.labels)
        else:
            top = self.network.top.name in self.mine
            self.rule.tick(frame if self.reads else None, self.labels if top else None)

    def warm_up(self) -> int:
        """Ticks after which every unit runs forward and backward at every tick; returns how many."""
        ticks = 2 * self.network.depth + 2 if self.mailbox else 2
        for t in range(ticks):
            self.step(t)
        wait(WORLD.Ibarrier(), self.ranks.crowded)
        return ticks

    def close(self) -> None:
        if self.mailbox:
            self.mailbox.clear()
            self.mailbox.free()


def pipeline(learner: Learner, options: argparse.Namespace) -> dict[str, object]:
    """Seconds per tick (or per frame in turn): the median and the spread of five repeats."""
    learner.warm_up()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        for t in range(options.ticks):
            learner.step(t)
        wait(WORLD.Ibarrier(), learner.ranks.crowded)
        seconds.append((time.perf_counter() - start) / options.ticks)
    network = learner.network
    edges = [j for unit in network.units.values() for j in unit.inputs if j != FRAME]
    biggest = max((math.prod(network.units[j].output_shape) for j in edges), default=1)
    return {
        "method": options.method,
        "ranks": learner.ranks.stages,
        "units": len(network.units),
        "batch": options.batch,
        "seconds_per_tick": statistics.median(seconds),
        "spread": max(seconds) - min(seconds),
        "allowed": learner.allowed,
        "biggest_message_bytes": 4 * options.batch * biggest,
        "ping_pong_seconds": seconds_of_ping_pong(4 * options.batch * biggest),
    }


def latency(learner: Learner, options: argparse.Namespace) -> dict[str, object]:
    """Frames arrive every period, whether or not the learner is ready; it takes the newest and drops those it missed.

    Ages are from a frame's arrival to the end of the step that used it: in the top's output, and (of the newest frame
    whose activation an update used) in the parameters of each unit. All ranks share one machine's clock.
    """
    network, period, steps = learner.network, options.period_ms / 1e3, options.ticks
    first = learner.warm_up()
    start = numpy.array([time.perf_counter() + 0.05])
    WORLD.Bcast(start)
    frames = numpy.zeros(steps)  # the number of the frame that each step took: the newest that had come
    ended = numpy.zeros(steps)
    for step in range(steps):
        if WORLD.Get_rank() == 0:
            following = frames[step - 1] + 1 if step else 0
            time.sleep(max(0.0, start[0] + following * period - time.perf_counter()))
            frames[step] = max(following, (time.perf_counter() - start[0]) // period)
        learner.step(step)
        ended[step] = time.perf_counter() - start[0]
    ends = numpy.empty((WORLD.Get_size(), steps))
    WORLD.Gather(ended, ends)
    owners = WORLD.gather(learner.mine)
    if owners is None:
        return {}
    rank_of = {name: rank for rank, names in enumerate(owners) for name in names}
    lags = dict.fromkeys(network.units, 0)  # steps between a unit's step and the newest frame in its activation
    if options.method == "sideways":
        now = first + 3 * network.depth
        lags = {name: now - max(frame for frame, _ in met.activation) for name, met in trace(network, now).items()}
    ages = {
        name: float(numpy.mean(ends[rank_of[name], lag:] - period * frames[: steps - lag]))
        for name, lag in lags.items()
    }
    came = int(frames[-1]) + 1
    return {
        "method": options.method,
        "ranks": learner.ranks.stages,
        "units": len(network.units),
        "period_ms": options.period_ms,
        "frames": came,
        "updates_per_frame": steps / came,
        "dropped": came - steps,
        "age_in_output": ages[network.top.name],
        "age_in_parameters": ages,
    }


def seconds_of_ping_pong(size: int, repeats: int = 20) -> float:
    """One way, between ranks 0 and 1, for a bare message of this many bytes (0 on a single rank)."""
    if WORLD.Get_size() == 1:
        return 0.0
    message, me = numpy.zeros(size, numpy.uint8), WORLD.Get_rank()
    WORLD.Barrier()
    start = time.perf_counter()
    for _ in range(repeats if me < 2 else 0):
        for sender in (0, 1):
            if me == sender:
                WORLD.Send(message, 1 - me)
            else:
                WORLD.Recv(message, 1 - me)
    seconds = (time.perf_counter() - start) / (2 * repeats)
    WORLD.Barrier()
    return seconds


if __name__ == "__main__":
    main()
