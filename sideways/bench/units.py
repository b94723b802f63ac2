"""How long each unit takes, one at a time, on made-up activations: for the benchmarks, and to place units on ranks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy

from sideways.backend import Array, synchronise, to_device
from sideways.network import FRAME, Network, Unit
from sideways.optimizers import Optimizer


@dataclass
class Times:
    """Seconds of every repetition."""

    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    update: list[float] = field(default_factory=list)


class Runs:
    """One unit with inputs and a gradient for it, to be run again and again."""

    def __init__(self, network: Network, unit: Unit, batch: int, optimizer: Optimizer | None = None):
        random = numpy.random.default_rng(0)
        shapes = {FRAME: network.input_shape} | {name: other.output_shape for name, other in network.units.items()}

        def made(shape: tuple[int, ...]) -> Array:
            return to_device(random.normal(size=(batch, *shape)), network.dtype)

        self.unit, self.optimizer = unit, optimizer.for_unit(unit.name) if optimizer else None
        self.inputs, self.gradient = {j: made(shapes[j]) for j in unit.inputs}, made(unit.output_shape)
        self.gradient *= 1e-3  # so that many updates change little
        self.times = Times()

    def run(self) -> None:
        """Forward, backward and update once, each timed."""
        unit, times = self.unit, self.times
        marks = [_now()]
        _, saved = unit.forward(self.inputs)
        marks.append(_now())
        _, gradients = unit.backward(self.gradient, saved)
        marks.append(_now())
        if self.optimizer:
            self.optimizer.update(unit.parameters, gradients, 0)
        marks.append(_now())
        for part, start, end in zip((times.forward, times.backward, times.update), marks, marks[1:], strict=False):
            part.append(end - start)


def _now() -> float:
    synchronise()
    return time.perf_counter()
