"""How wrong are the pseudo-gradients? Their cosine to the exact gradient, unit by unit."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy

from sideways.backend import Array, to_host
from sideways.data.stream import Frames
from sideways.rules import Delayed, Rule, Sideways, bptt


def cosines(rule: Rule, frames: Frames, targets: Frames) -> dict[str, float]:
    """unit → cosine between its mean pseudo-gradient over a clip, parameters frozen, and `bptt`'s exact gradient.

    1: the same direction; 0: no relation; below 0: updates that raise the loss. Of one batch of clips: averaged over
    many batches it may look worse, since what cancels in one batch does not in the mean. Changes nothing in the rule.
    """
    assert isinstance(rule, Sideways)
    network = copy.deepcopy(rule.network)
    kind = Delayed if isinstance(rule, Delayed) else Sideways
    frozen = kind(network, rule.loss, target_delay=rule.target_delay)
    sums: dict[str, dict[str, Array]] = {}
    for frame, target in zip(frames, targets, strict=True):
        for name, gradients in frozen.tick(frame, target).gradients.items():
            total = sums.setdefault(name, {})
            for key, gradient in gradients.items():
                total[key] = total[key] + gradient if key in total else gradient
    exact = bptt(rule.network, rule.loss, frames, targets, rule.target_delay).gradients
    return {name: cosine(sums[name], exact[name]) for name in exact if exact[name]}


def cosine(one: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    """Of two gradients of a unit's parameters, taken as one long vector each; 0 where one of them is 0."""
    a, b = (numpy.concatenate([to_host(g[key]).ravel().astype(float) for key in one]) for g in (one, other))
    length = float(numpy.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length else 0.0
