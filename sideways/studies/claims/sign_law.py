"""The sign law: below a merge, the displacement alone predicts the sign of a pseudo-gradient's cosine.

A unit that is d ticks below the merge pulls its gradient through an input that is 2d frames newer than the input that
the gradient belongs to. Suppose that one branch of the merge brings a moment Δ frames newer than the other branch. Then
the exact gradient compares moments Δ apart, the pseudo-gradient moments Δ + 2d apart. Direction is an odd function of
the displacement: for waves of speed v and wavelengths λ, opponent motion energy is proportional to

    R(x) = E_λ[J₁(2πx/λ)]        x = vΔ pixels

Down this branch the cosine should therefore have the sign of R(v(Δ + 2d)) / R(vΔ). Nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy

from sideways.data.synthetic import Waves
from sideways.network import FRAME, Network

CLEAR = 0.2  # a smaller |ratio of R| predicts nothing


@dataclass(frozen=True)
class Prediction:
    """The prediction of a unit's cosine: the ratio of R for each path from the unit to the merge."""

    ratios: tuple[float, ...]

    @property
    def sign(self) -> int | None:
        """The sign: +1 or -1 if all paths clearly agree, 0 if no path predicts a sign, None if the paths disagree."""
        signs = {0 if abs(ratio) < CLEAR else int(numpy.sign(ratio)) for ratio in self.ratios}
        return signs.pop() if len(signs) == 1 else None


def predictions(network: Network, merge: str, speed: float | None) -> dict[str, Prediction]:
    """The prediction for every unit below the merging one. speed: of waves, in pixels per frame; None: no waves."""
    lags = {FRAME: -1}  # ticks from a frame's arrival to the activation that shows it
    for name, unit in network.units.items():
        lags[name] = 1 + lags[unit.inputs[0]]
        if name == merge:
            break
    branches = network.units[merge].inputs
    ratios: dict[str, list[float]] = {}
    for branch in branches:
        (other,) = (name for name in branches if name != branch)
        newer = lags[other] - lags[branch]
        for below, distance in _below(network, branch, 1):
            of_unit = ratios.setdefault(below, [])
            if speed is not None:
                of_unit.append(opponent(speed * (newer + 2 * distance)) / opponent(speed * newer))
    return {name: Prediction(tuple(ratios[name])) for name in network.units if name in ratios}


def _below(network: Network, unit: str, distance: int) -> Iterator[tuple[str, int]]:
    """Yield a unit and all units below it, each with its distance to the merge in ticks."""
    if unit == FRAME:
        return
    yield unit, distance
    for j in network.units[unit].inputs:
        yield from _below(network, j, distance + 1)


def opponent(pixels: float) -> float:
    """R(x) = E_λ[J₁(2πx/λ)]: J₁(z) is the mean of cos a · sin(z cos a) over angles a; `Waves` draws λ."""
    shortest, longest = Waves.wavelengths
    wavelengths = numpy.linspace(shortest, longest, 200)[:, None]
    cosines = numpy.cos(numpy.linspace(0, 2 * numpy.pi, 400, endpoint=False))
    return float((cosines * numpy.sin(2 * numpy.pi * pixels / wavelengths * cosines)).mean())
