"""Diagnostics: the cosine of each unit's pseudo-gradient to the exact gradient, over one clip or many."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy

from sideways.backend import Array, to_host
from sideways.rules.bptt import bptt
from sideways.rules.rule import Rule
from sideways.rules.sideways import Sideways

Frames = Sequence[Any] | numpy.ndarray  # one per tick
UnitGradients = dict[str, dict[str, Array]]  # unit → key → array


def cosines(rule: Rule, frames: Frames, targets: Frames) -> dict[str, float]:
    """The cosine between each unit's mean pseudo-gradient over a clip and `bptt`'s exact gradient, by unit.

    1: the same direction; 0: no relation; below 0: updates that raise the loss. The parameters are frozen, and nothing
    in the rule changes. One batch of clips flatters: its chance features are in both gradients (see `mean_cosines`).
    """
    pseudo, exact = pseudo_and_exact(rule, frames, targets)
    return {name: cosine(pseudo[name], exact[name]) for name in exact if exact[name]}


def mean_cosines(rule: Rule, clips: Iterable[tuple[Frames, Frames]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return two values for each unit: the cosine of the gradients' means over many batches, and the mean of the
    cosines of the single batches.

    The two values may differ in sign: the chance features of a batch are in both its gradients, and cancel in the mean.
    """
    return mean_cosines_of([rule], clips)[0]


def mean_cosines_of(
    rules: Sequence[Rule], clips: Iterable[tuple[Frames, Frames]]
) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Return for each rule what `mean_cosines` returns, with the exact gradient of each batch computed only once.

    The rules must share their network, loss and target_delay.
    """
    own_cosines: list[dict[str, list[float]]] = [{} for _ in rules]
    pseudo_sums: list[UnitGradients] = [{} for _ in rules]
    exact_sums: UnitGradients = {}
    for frames, targets in clips:
        exact = exact_gradients(rules[0], frames, targets)
        names = [name for name in exact if exact[name]]
        for name in names:
            _add(exact_sums.setdefault(name, {}), exact[name])
        for rule, own, sums in zip(rules, own_cosines, pseudo_sums, strict=True):
            pseudo = pseudo_gradients(rule, frames, targets)
            for name in names:
                own.setdefault(name, []).append(cosine(pseudo[name], exact[name]))
                _add(sums.setdefault(name, {}), pseudo[name])
    units = [name for name in rules[0].network.units if name in exact_sums]
    return [
        (
            {name: cosine(sums[name], exact_sums[name]) for name in units},
            {name: float(numpy.mean(own[name])) for name in units},
        )
        for own, sums in zip(own_cosines, pseudo_sums, strict=True)
    ]


def pseudo_and_exact(rule: Rule, frames: Frames, targets: Frames) -> tuple[UnitGradients, UnitGradients]:
    """Return what `pseudo_gradients` and `exact_gradients` return."""
    return pseudo_gradients(rule, frames, targets), exact_gradients(rule, frames, targets)


def pseudo_gradients(rule: Rule, frames: Frames, targets: Frames) -> UnitGradients:
    """The mean pseudo-gradients over a clip with frozen parameters: unit → key → array. The rule stays as it is."""
    assert isinstance(rule, Sideways)
    frozen = type(rule)(copy.deepcopy(rule.network), rule.loss, target_delay=rule.target_delay)
    return mean_gradients(frozen, list(zip(frames, targets, strict=True)))


def exact_gradients(rule: Rule, frames: Frames, targets: Frames) -> UnitGradients:
    """The gradients of `bptt` over a clip, for the network, loss and target_delay of a rule, which stays as it is."""
    return bptt(rule.network, rule.loss, frames, targets, rule.target_delay).gradients


def mean_gradients(frozen: Sideways, clip: list[tuple[Array, Any]]) -> UnitGradients:
    """The mean of the gradients that a rule without an optimizer makes over a clip of (frame, target)."""
    sums: UnitGradients = {}
    counts: dict[str, int] = {}
    for frame, target in clip:
        for name, gradients in frozen.tick(frame, target).gradients.items():
            counts[name] = counts.get(name, 0) + 1
            _add(sums.setdefault(name, {}), gradients)
    return {name: {key: total * (1 / counts[name]) for key, total in totals.items()} for name, totals in sums.items()}


def cosine(one: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    """The cosine of two gradients of a unit, each taken as one long vector; 0 if one of them is 0."""
    a, b = (numpy.concatenate([to_host(g[key]).ravel().astype(float) for key in one]) for g in (one, other))
    length = float(numpy.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length else 0.0


def _add(sums: dict[str, Array], gradients: Mapping[str, Array]) -> None:
    for key, gradient in gradients.items():
        sums[key] = sums[key] + gradient if key in sums else gradient
