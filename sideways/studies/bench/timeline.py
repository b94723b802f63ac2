"""The time line of ranks: when each unit runs at each tick, computed from the static schedule, costs and link speeds.

`plan.py` calls this module. Nothing here is measured, and no array is computed. The clock of a rank advances by the
costs of its units; before a unit reads a message of another rank, the clock advances to the arrival of this message:

    rank 1        ├─ F ─┬── B ──┤             ├─ F ─┬── B ──┤          F, B: forward and backward of a unit at a tick
                        │       └─── gradient ───────────→
                        └── activation ──→
    rank 2        ├─── F ───┬──── B ────┤├─── F ───┬──── B ────┤       the slower rank: it sets the length of the ticks

A message of one tick is read at the next, so it has about a tick to travel. It delays a rank only if it takes longer.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from sideways.balance import Groups
from sideways.network import FRAME
from sideways.network.marks import Marks
from sideways.network.schedule import first_forward, path_lengths

TICKS = 60  # the fewest ticks that are averaged, after as many that are not


@dataclass(frozen=True)
class Unit:
    """A unit by its costs, for the part of the batch that one replica has.

    inputs: names of units, or `"frame"`. forward, backward: seconds of one pass; backward includes the update.
    message: bytes of the activation, and of each gradient for this activation. gradients: bytes of the parameters'.
    """

    inputs: tuple[str, ...]
    forward: float
    backward: float
    message: float = 0.0
    gradients: float = 0.0


@dataclass(frozen=True)
class Link:
    """The link of each rank to all others, which carries one message in and one message out at a time.

    speed: bytes per second in each direction. latency: seconds that each message takes beside its bytes.
    overlaps: True if messages travel while a rank computes; False if a rank spends the time of each message that it
        sends or receives, because MPI moves the bytes only while the rank is inside a call.
    """

    speed: float = math.inf
    latency: float = 0.0
    overlaps: bool = True


@dataclass(frozen=True)
class Pipeline:
    """A network by the costs of its units, in topological order, under Sideways (learn_every 0) or Delayed."""

    units: Mapping[str, Unit]
    learn_every: int = 0

    @cached_property
    def consumers(self) -> dict[str, list[str]]:
        """The units that read each unit."""
        return {name: [c for c, unit in self.units.items() if name in unit.inputs] for name in self.units}

    @cached_property
    def latency(self) -> int:
        """The ticks that a frame needs along the longest path to the top: the depth less one."""
        return max(first_forward({name: unit.inputs for name, unit in self.units.items()}).values())

    @cached_property
    def marks(self) -> Marks | None:
        """The marked ticks of Delayed; None for Sideways."""
        return Marks(path_lengths(self.consumers), self.latency, self.learn_every) if self.learn_every else None

    @property
    def top(self) -> str:
        """The name of the last unit."""
        return list(self.units)[-1]

    def pull(self, name: str, tick: int) -> int | None:
        """The tick whose gradient the unit pulls through its Jacobian, once the pipeline is full; None without any."""
        return self.marks.pull(name, tick) if self.marks else tick

    def second_forward(self, name: str) -> float:
        """The seconds of the forward pass before a pull: under Delayed all units but the top run forward once more."""
        return self.units[name].forward if self.marks and name != self.top else 0.0

    def cost(self, name: str) -> float:
        """The mean seconds of a unit per tick, as `sideways.balance.cost_per_tick` has it."""
        pulls = len(self.marks.lengths[name]) / self.marks.every if self.marks else 1.0
        return self.units[name].forward + pulls * (self.second_forward(name) + self.units[name].backward)

    def split(self, name: str) -> Pipeline:
        """The pipeline with one unit cut into two units of half its costs, one after the other.

        The message between the two halves is as large as the larger of the unit's output and its largest input.
        """
        unit, first, second = self.units[name], f"{name}.1", f"{name}.2"
        half = replace(unit, forward=unit.forward / 2, backward=unit.backward / 2, gradients=unit.gradients / 2)
        inside = max(unit.message, *(self.units[j].message for j in unit.inputs if j != FRAME), 0.0)
        units: dict[str, Unit] = {}
        for other, its in self.units.items():
            if other == name:
                units |= {first: replace(half, message=inside), second: replace(half, inputs=(first,))}
            else:
                units[other] = replace(its, inputs=tuple(second if j == name else j for j in its.inputs))
        return replace(self, units=units)


@dataclass(frozen=True)
class Forecast:
    """The steady state of a pipeline. All times are in seconds.

    tick: the mean length of a tick.
    answer: from the moment at which a rank takes a frame to the end of the top's forward pass on it, along the longest
        path. first_update, last_update: to the end of the first update that the loss of this frame causes, which is
        the top's, and of the last, which is that of a unit at the far end of the longest path.
    compute, sent, received: of each rank, the mean seconds per tick in its units, and in its link in each direction.
    """

    tick: float
    answer: float
    first_update: float
    last_update: float
    compute: list[float]
    sent: list[float]
    received: list[float]


def forecast(pipeline: Pipeline, groups: Groups, link: Link, replicas: int = 1) -> Forecast:
    """Compute the steady state of a pipeline whose stages have these groups of units, in so many replicas."""
    period = math.lcm(
        12, pipeline.learn_every or 1
    )  # whole rhythms of 2, 3, 4, 6 and 12 ticks, and of the marked ticks
    ticks = period * math.ceil(max(TICKS, 4 * pipeline.latency) / period)
    timeline = Timeline(pipeline, groups, link, replicas)
    start = 3 * pipeline.latency + 1  # the pipeline is full
    for t in range(start, start + ticks):
        timeline.tick(t)
    before = max(timeline.clocks)
    for t in range(start + ticks, start + 2 * ticks):
        timeline.tick(t)
    tick = (max(timeline.clocks) - before) / ticks
    compute, sent, received = ([total / (2 * ticks) for total in totals] for totals in timeline.totals)
    if link.overlaps:  # the time line lets each message out in turn, but does not make those that come in wait
        tick = max(tick, *received)
    answer, first_update, last_update = timeline.ages(range(start + ticks, start + 2 * ticks))
    return Forecast(tick, answer, first_update, last_update, compute, sent, received)


class Timeline:
    """Plays the ticks of all ranks of one replica, one after the other, from a time at which the pipeline is full.

    clocks: the time at which each rank has ended its last tick.
    """

    def __init__(self, pipeline: Pipeline, groups: Groups, link: Link, replicas: int):
        self.pipeline, self.groups, self.link, self.replicas = pipeline, groups, link, replicas
        self.owner = {name: rank for rank, group in enumerate(groups) for name in group}
        self.clocks = [0.0] * len(groups)
        self.free = [0.0] * len(groups)  # the time from which on the rank's link can take the next message out
        self.arrivals: dict[tuple[str, str, int], float] = {}  # (sender, receiver, s) → time
        self.left: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])  # the last two of each edge
        compute, sent, received = ([0.0] * len(groups) for _ in range(3))
        self.totals = compute, sent, received
        self.began: dict[int, float] = {}  # tick → the time at which its frame was taken
        self.forward_ended: dict[tuple[str, int], float] = {}
        self.backward_ended: dict[tuple[str, int], float] = {}

    def tick(self, t: int) -> None:
        """Run tick t on every rank. The messages that its units read were sent before, so that the order is free."""
        self.begun = list(self.clocks)
        readers = [self.owner[name] for name, unit in self.pipeline.units.items() if FRAME in unit.inputs]
        self.began[t] = min(self.begun[rank] for rank in readers)
        for rank, group in enumerate(self.groups):
            self.now = self.summed = self.begun[rank]
            for name in group:
                self._forward(rank, name, t)
                self._backward(rank, name, t)
            self.clocks[rank] = max(self.now, self.summed)  # the updates wait for the sums over the replicas

    def _forward(self, rank: int, name: str, t: int) -> None:
        unit = self.pipeline.units[name]
        for j in unit.inputs:
            if j != FRAME:
                self._receive(rank, j, name, t - 1, self.pipeline.units[j].message)
        self._compute(rank, unit.forward)
        self.forward_ended[name, t] = self.now
        for c in self.pipeline.consumers[name]:
            self._send(rank, name, c, t, unit.message)

    def _backward(self, rank: int, name: str, t: int) -> None:
        pipeline, unit = self.pipeline, self.pipeline.units[name]
        s = pipeline.pull(name, t)
        if s is None:
            return
        self._compute(rank, pipeline.second_forward(name))  # before the messages are waited for
        for c in pipeline.consumers[name]:
            self._receive(rank, c, name, s + 1 if pipeline.marks else s - 1, unit.message)
        self._compute(rank, unit.backward)
        self.backward_ended[name, t] = self.now
        for j in unit.inputs:
            if j != FRAME:
                self._send(rank, name, j, s, pipeline.units[j].message)
        if self.replicas > 1:
            self._sum(rank, unit.gradients)

    def _compute(self, rank: int, seconds: float) -> None:
        self.now += seconds
        self.totals[0][rank] += seconds

    def _receive(self, rank: int, sender: str, receiver: str, s: int, size: float) -> None:
        """Wait for a message of another rank, if there is one. The rank's units read each other's without waiting."""
        arrival = self.arrivals.pop((sender, receiver, s), None)
        if arrival is not None:
            self.now = max(self.now, arrival) + (0.0 if self.link.overlaps else size / self.link.speed)

    def _send(self, rank: int, sender: str, receiver: str, s: int, size: float) -> None:
        """Send a message to another rank, which takes it once it has begun this tick. Each edge has two buffers."""
        other, seconds, left = self.owner[receiver], size / self.link.speed, self.left[sender, receiver]
        if other == rank:
            return
        self.now = max(self.now, left.pop(0))  # the last message but one has left its buffer
        end = max(self.now, self.free[rank], self.begun[other]) + seconds
        self._occupy(rank, other, end, seconds)
        left.append(end)
        self.arrivals[sender, receiver, s] = end + self.link.latency

    def _sum(self, rank: int, size: float) -> None:
        """Start the sum of a unit's gradients over R replicas: 2(R-1)/R of its bytes each way, in 2⌈log₂ R⌉ steps."""
        seconds = 2 * (self.replicas - 1) / self.replicas * size / self.link.speed
        end = max(self.now, self.free[rank]) + seconds
        self._occupy(rank, rank, end, seconds)
        self.summed = max(self.summed, end + 2 * math.ceil(math.log2(self.replicas)) * self.link.latency)

    def _occupy(self, rank: int, other: int, end: float, seconds: float) -> None:
        """Use the link out of one rank and into another."""
        self.free[rank] = end
        self.totals[1][rank] += seconds
        self.totals[2][other] += seconds
        if not self.link.overlaps:
            self.now += seconds

    def ages(self, ticks: Sequence[int]) -> tuple[float, float, float]:
        """The mean ages of frames at their answer, at the first and at the last update that their losses cause.

        ticks: the frames that count are those whose last update comes at one of these ticks.
        """
        pipeline, lowest = self.pipeline, self._farthest()
        totals, count = [0.0, 0.0, 0.0], 0
        for t in ticks:
            frame, answered = t - 2 * pipeline.latency, t - pipeline.latency
            if pipeline.marks and not pipeline.marks.is_marked(answered):
                continue
            moments = (
                self.forward_ended[pipeline.top, answered],
                self.backward_ended[pipeline.top, answered],
                self.backward_ended[lowest, t],
            )
            totals = [total + moment - self.began[frame] for total, moment in zip(totals, moments, strict=True)]
            count += 1
        answer, first_update, last_update = (total / count for total in totals)
        return answer, first_update, last_update

    def _farthest(self) -> str:
        """The lowest unit from which the longest path leads to the top."""
        lengths = path_lengths(self.pipeline.consumers)
        return next(name for name in self.pipeline.units if lengths[name][-1] == self.pipeline.latency)
