"""Plans for many ranks: stages, ticks, memory and what bounds them, for `sideways bench plan`.

The costs of units come from their multiply-adds at a given speed, from measurements here, or from the command line. The
ticks follow from the static schedule (`timeline.py`), the memory from the shapes (`footprint.py`).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy

from sideways.balance import Groups, UnitTimer, balanced
from sideways.errors import InputError
from sideways.models import PREDICTORS, build_model
from sideways.network import FRAME, Network
from sideways.optimizers import SGD
from sideways.studies.bench.footprint import of_rank
from sideways.studies.bench.timeline import Forecast, Link, Pipeline, Unit, forecast
from sideways.training.memory import of_unit
from sideways.training.options import assign

CLASSES = 101
GAIN = 0.02  # a change that gains less is not worth a sentence
MOST_CUTS = 4


@dataclass(frozen=True)
class Plan:
    """The plan for one number of ranks. groups: the units of each stage; memory: bytes by part, of each stage."""

    ranks: int
    replicas: int
    pipeline: Pipeline
    groups: Groups
    link: Link
    steady: Forecast
    at_worst: Forecast
    memory: list[dict[str, float]]


class Planner:
    """Plans one network, batch and rule for any number of ranks.

    options: those of the command, see `sideways bench plan --help`.
    """

    def __init__(self, options: argparse.Namespace):
        self.options, self.network = options, network_of(options)
        self.learn_every = options.learn_every or 1 if options.rule == "delayed" else 0
        self.link = Link(options.link_gbs * 1e9, options.link_us / 1e6)
        self.sizes = {name: of_unit(self.network, unit, 1) for name, unit in self.network.units.items()}
        self.pipelines: dict[int, Pipeline] = {}  # by the samples of a replica

    def pipeline(self, replicas: int) -> Pipeline:
        """The costs of the units for one replica's part of the batch."""
        batch = self.options.batch // replicas
        if batch not in self.pipelines:
            costs = costs_of_units(self.network, batch, self.options)
            self.pipelines[batch] = pipeline_of(self.network, batch, costs, self.learn_every)
        return self.pipelines[batch]

    def plan(self, ranks: int, replicas: int) -> Plan:
        """Plan for so many ranks, of all replicas together. Raises `InputError` if they cannot share the units."""
        units, batch = len(self.network.units), self.options.batch
        if ranks % replicas or ranks // replicas > units:
            raise InputError(f"{ranks} ranks cannot share {units} units in {replicas} replica(s)")
        if batch % replicas:
            raise InputError(f"--batch {batch} cannot be split over {replicas} replicas: choose a multiple")
        pipeline = self.pipeline(replicas)
        groups = stages_of(pipeline, ranks // replicas)
        steady, at_worst = (
            forecast(pipeline, groups, replace(self.link, overlaps=overlaps), replicas) for overlaps in (True, False)
        )
        memory = [
            of_rank(self.network, group, batch // replicas, replicas, self.learn_every, self.sizes) for group in groups
        ]
        return Plan(ranks, replicas, pipeline, groups, self.link, steady, at_worst, memory)

    def plans(self, ranks: Sequence[int], replicas: Sequence[int] | None) -> tuple[list[Plan], list[str]]:
        """Plan for every pair of numbers that fits; without `replicas`, for each number of ranks take the fastest.

        Returns the plans, and a line for each pair that does not fit. Raises `InputError` if none fits.
        """
        plans: list[Plan] = []
        refusals: list[str] = []
        for k in ranks:
            if replicas is None:
                fitting = [self.plan(k, r) for r in self._numbers_of_replicas(k)]
                plans += sorted(fitting, key=lambda plan: plan.steady.tick)[:1]
                refusals += [] if fitting else [self._refusal(k)]
                continue
            for r in replicas:
                try:
                    plans.append(self.plan(k, r))
                except InputError as error:
                    refusals.append(str(error))
        if not plans:
            raise InputError(refusals[0])
        return plans, refusals

    def _numbers_of_replicas(self, ranks: int) -> list[int]:
        """The numbers of replicas that split these ranks and the batch, with no more stages than units."""
        units, batch = len(self.network.units), self.options.batch
        numbers = range(max(1, -(-ranks // units)), min(ranks, batch) + 1)
        return [r for r in numbers if ranks % r == 0 and batch % r == 0]

    def _refusal(self, ranks: int) -> str:
        units, batch = len(self.network.units), self.options.batch
        return (
            f"{ranks} ranks cannot share {units} units: no number of replicas divides both the ranks and a batch of "
            f"{batch}, and leaves at most {units} ranks to a replica"
        )

    def advice(self, plan: Plan) -> str:
        """Say what bounds a plan, and what a split unit, more replicas or faster links would gain."""
        sentences = [f"{plan.ranks} ranks: bounded by {bound(plan)}."]

        def gains(change: str, tick: float) -> bool:
            """Add a sentence if the change gains more than `GAIN`."""
            ratio = plan.steady.tick / tick
            if ratio > 1 + GAIN:
                sentences.append(f"{change} would give {self.options.batch / tick:.1f} frames/s ({ratio - 1:+.0%}).")
            return ratio > 1 + GAIN

        stages = len(plan.groups)
        cut, tick = cut_units(plan, more_ranks=False)
        worthwhile = gains(cut, tick)
        if stages == len(plan.pipeline.units):  # more ranks for each replica need more units
            cut, tick_of_more = cut_units(plan, more_ranks=True)
            worthwhile |= tick > (1 + GAIN) * tick_of_more and gains(cut, tick_of_more)
        if not worthwhile:
            sentences.append(f"Cutting up to {MOST_CUTS} units would gain nothing.")
        more = next((r for r in range(plan.replicas + 1, self.options.batch + 1) if self.options.batch % r == 0), None)
        if more and not gains(
            f"{more} replicas, on {more * stages} ranks,", self.plan(more * stages, more).steady.tick
        ):
            sentences.append(f"{more} replicas would gain nothing.")
        faster = replace(self.link, speed=2 * self.link.speed, latency=self.link.latency / 2)
        gains("Links twice as fast", forecast(plan.pipeline, plan.groups, faster, plan.replicas).tick)
        return " ".join(sentences)


# Costs ---------------------------------------------------------------------------------------------------------------


def network_of(options: argparse.Namespace) -> Network:
    """Build the network: a model by name, or an mlp of `options.units` units as in `sideways bench pipeline`."""
    shape, tables = (options.size, options.size, 3), dict[str, Any](dtype=options.dtype)
    if options.units:
        return build_model("mlp", shape, 10, hidden=[32] * (options.units - 1), **tables)
    for assignment in options.set:
        assign(tables, assignment)
    if refused := sorted({"input_shape", "classes", "seed"} & set(tables)):
        raise InputError(f"--set {refused[0]}: that is not an option of a model")
    classes = None if options.model.partition("-")[0] in PREDICTORS else CLASSES
    return build_model(options.model, shape, classes, **tables)


def costs_of_units(network: Network, batch: int, options: argparse.Namespace) -> list[tuple[float, float]]:
    """Seconds of each unit's forward and backward pass on `batch` samples.

    options.unit_ms: each unit takes this long for the whole batch, and a replica its part. options.device_gflops: the
    multiply-adds at this speed. options.costs "measure": measured here; with a speed, only the shares are measured.
    """
    units = network.units.values()
    if options.unit_ms:
        seconds = options.unit_ms / 1e3 * batch / options.batch
        return [(seconds / 3, seconds / 1.5) for _ in units]
    if options.costs == "measure" or not options.device_gflops:
        costs = [measured_passes(network, name, batch) for name in network.units]
        scale = 1.0
        if options.device_gflops:
            scale = sum(map(sum, _at_speed(network, batch, options.device_gflops))) / sum(map(sum, costs))
        return [(scale * forward, scale * backward) for forward, backward in costs]
    return _at_speed(network, batch, options.device_gflops)


def measured_passes(network: Network, name: str, batch: int, repeats: int = 3) -> tuple[float, float]:
    """The least seconds of a unit's forward pass, and of its backward pass with the update, on this machine."""
    timer = UnitTimer(network, network.units[name], batch, SGD(1e-4, momentum=0.9))
    for _ in range(repeats):
        timer.run()
    times = timer.times
    return min(times.forward), min(map(sum, zip(times.backward, times.update, strict=True)))


def _at_speed(network: Network, batch: int, gflops: float) -> list[tuple[float, float]]:
    """The seconds that each unit's multiply-adds take, as `sideways.balance.estimated_costs` counts them.

    One multiply-add is two operations.
    """
    costs = []
    for unit in network.units.values():
        forward = 2 * batch * max(unit.multiply_adds, 1) / (gflops * 1e9)
        costs.append((forward, forward * (1 if unit.inputs == (FRAME,) else 2)))
    return costs


def pipeline_of(network: Network, batch: int, costs: Sequence[tuple[float, float]], learn_every: int) -> Pipeline:
    """The pipeline of a network, given the seconds of each unit's passes. learn_every: of Delayed; 0: Sideways."""
    item = numpy.dtype(network.dtype).itemsize
    units = {}
    for (name, unit), (forward, backward) in zip(network.units.items(), costs, strict=True):
        gradients = sum(array.nbytes for array in unit.parameters.values())
        message = item * batch * math.prod(unit.output_shape)
        units[name] = Unit(unit.inputs, forward, backward, message, gradients)
    return Pipeline(units, learn_every)


# Stages and bounds ---------------------------------------------------------------------------------------------------


def stages_of(pipeline: Pipeline, stages: int) -> Groups:
    """Cut the units into stages as the launcher does."""
    return balanced(list(pipeline.units), [pipeline.cost(name) for name in pipeline.units], stages)


def cut_units(plan: Plan, more_ranks: bool) -> tuple[str, float]:
    """Halve the costliest unit, and go on until the tick is shorter by more than `GAIN`, or after `MOST_CUTS` cuts.

    more_ranks: add one rank to each replica for each cut. Returns the change in words, and the tick.
    """
    pipeline, tick, stages = plan.pipeline, plan.steady.tick, len(plan.groups)
    parts: dict[str, int] = {}
    while sum(parts.values()) - len(parts) < MOST_CUTS and plan.steady.tick <= (1 + GAIN) * tick:
        name = max(pipeline.units, key=pipeline.cost)
        pipeline = pipeline.split(name)
        whole = name.partition(".")[0]
        parts[whole] = parts.get(whole, 1) + 1
        stages += more_ranks
        tick = forecast(pipeline, stages_of(pipeline, stages), plan.link, plan.replicas).tick
    cuts = " and ".join(f"{name} cut in {count}" for name, count in parts.items())
    return f"{cuts}, on {stages * plan.replicas} ranks,", tick


def bound(plan: Plan) -> str:
    """Name what sets the length of the tick: a unit, a link, sums, uneven ticks, or the way between two ranks."""
    steady, pipeline = plan.steady, plan.pipeline
    ranks = range(len(plan.groups))
    totals = {"compute": steady.compute, "out of": steady.sent, "into": steady.received}
    kind, rank = max(((kind, r) for kind in totals for r in ranks), key=lambda pair: totals[pair[0]][pair[1]])
    if totals[kind][rank] > (1 - GAIN) * steady.tick:
        if kind != "compute":
            return f"the link {kind} rank {rank}"
        name = max(plan.groups[rank], key=pipeline.cost)
        return f"{name} on rank {rank} ({pipeline.cost(name) / steady.tick:.0%} of the tick)"
    if plan.replicas > 1 and forecast(pipeline, plan.groups, plan.link).tick < (1 - GAIN) * steady.tick:
        return "the sums over the replicas"
    if pipeline.learn_every > 1 and forecast(pipeline, plan.groups, Link()).tick > (1 - GAIN) * steady.tick:
        return "ranks that pull at different ticks, and so wait for each other"
    owner = {name: r for r, group in enumerate(plan.groups) for name in group}
    between = [(j, i) for i, unit in pipeline.units.items() for j in unit.inputs if j != FRAME and owner[j] != owner[i]]
    j, i = max(
        between, key=lambda e: steady.compute[owner[e[0]]] + steady.compute[owner[e[1]]] + pipeline.units[e[0]].message
    )
    return f"the way from {j} to {i} and back, ranks {owner[j]} and {owner[i]}"
