"""Learning-rate schedules: the factor on an optimizer's rate at a tick."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sideways.errors import InputError


@dataclass(frozen=True)
class Constant:
    """The factor 1 at every tick."""

    def __call__(self, tick: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Step:
    """A fall by `factor` once every so many ticks: factor ^ ⌊tick / every⌋."""

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        if self.every < 1 or self.factor < 0:
            raise InputError(f"a step schedule needs every ≥ 1 and factor ≥ 0, not {self.every} and {self.factor}")

    def __call__(self, tick: int) -> float:
        return self.factor ** (tick // self.every)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine, from 1 down to `final` over `ticks` ticks; `final` afterwards."""

    ticks: int
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.ticks < 1 or self.final < 0:
            raise InputError(f"a cosine schedule needs ticks ≥ 1 and final ≥ 0, not {self.ticks} and {self.final}")

    def __call__(self, tick: int) -> float:
        progress = min(tick / self.ticks, 1.0)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class WarmUp:
    """A straight line from 0 over `ticks` ticks, times the schedule `then`."""

    ticks: int
    then: Constant | Step | Cosine = Constant()

    def __post_init__(self) -> None:
        if self.ticks < 1:
            raise InputError(f"a warm-up lasts at least one tick, not {self.ticks}")

    def __call__(self, tick: int) -> float:
        return min((tick + 1) / self.ticks, 1.0) * self.then(tick)
