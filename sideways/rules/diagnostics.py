"""How wrong are the pseudo-gradients? Their cosine to the exact gradient, unit by unit."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy

from sideways.backend import Array, to_host
from sideways.rules.bptt import bptt
from sideways.rules.delayed import Delayed
from sideways.rules.rule import Rule
from sideways.rules.sideways import Sideways

Frames = Sequence[Any] | numpy.ndarray  # one per tick
UnitGradients = dict[str, dict[str, Array]]


def cosines(rule: Rule, frames: Frames, targets: Frames) -> dict[str, float]:
    """unit → cosine between its mean pseudo-gradient over a clip, parameters frozen, and `bptt`'s exact gradient.

    1: the same direction; 0: no relation; below 0: updates that raise the loss. Of one batch of clips: averaged over
    many batches it may look worse, since what cancels in one batch does not in the mean. Changes nothing in the rule.
    """
    pseudo, exact = pseudo_and_exact(rule, frames, targets)
    return {name: cosine(pseudo[name], exact[name]) for name in exact if exact[name]}


def pseudo_and_exact(rule: Rule, frames: Frames, targets: Frames) -> tuple[UnitGradients, UnitGradients]:
    """unit → key → mean pseudo-gradient over a clip, parameters frozen; and `bptt`'s gradient. Changes nothing."""
    assert isinstance(rule, Sideways)
    kind = Delayed if isinstance(rule, Delayed) else Sideways
    frozen = kind(copy.deepcopy(rule.network), rule.loss, target_delay=rule.target_delay)
    pseudo = mean_gradients(frozen, list(zip(frames, targets, strict=True)))
    return pseudo, bptt(rule.network, rule.loss, frames, targets, rule.target_delay).gradients


def mean_cosines(rule: Rule, clips: Iterable[tuple[Frames, Frames]]) -> tuple[dict[str, float], dict[str, float]]:
    """unit → cosine of the gradients' means over many batches; and the mean of each batch's own cosine.

    The two may have different signs: what a batch has by chance is in both its gradients, and cancels in the mean.
    """
    single: dict[str, list[float]] = {}
    sums: tuple[UnitGradients, UnitGradients] = ({}, {})
    for frames, targets in clips:
        found = pseudo_and_exact(rule, frames, targets)
        for name in (name for name in found[1] if found[1][name]):
            single.setdefault(name, []).append(cosine(found[0][name], found[1][name]))
            for total, gradients in zip(sums, found, strict=True):
                mine = total.setdefault(name, {})
                for key, gradient in gradients[name].items():
                    mine[key] = mine[key] + gradient if key in mine else gradient
    names = [name for name in rule.network.units if name in single]
    means = {name: cosine(sums[0][name], sums[1][name]) for name in names}
    return means, {name: float(numpy.mean(single[name])) for name in names}


def cosine(one: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    """Of two gradients of a unit's parameters, taken as one long vector each; 0 where one of them is 0."""
    a, b = (numpy.concatenate([to_host(g[key]).ravel().astype(float) for key in one]) for g in (one, other))
    length = float(numpy.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length else 0.0


def mean_gradients(frozen: Sideways, clip: list[tuple[Array, Any]]) -> dict[str, dict[str, Array]]:
    """unit → key → the mean of the gradients that a rule without an optimizer makes of a clip."""
    sums: dict[str, dict[str, Array]] = {}
    counts: dict[str, int] = {}
    for frame, target in clip:
        for name, gradients in frozen.tick(frame, target).gradients.items():
            counts[name] = counts.get(name, 0) + 1
            total = sums.setdefault(name, {})
            for key, gradient in gradients.items():
                total[key] = total[key] + gradient if key in total else gradient
    return {name: {key: total * (1 / counts[name]) for key, total in totals.items()} for name, totals in sums.items()}
