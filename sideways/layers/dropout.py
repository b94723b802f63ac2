"""Dropout, with a mask that does not depend on where or in which order things run."""

from __future__ import annotations

from typing import Any

import numpy

from sideways.backend import Array, empty, namespace, stable_hash, uniform
from sideways.errors import InputError
from sideways.layers.base import Gradients, Layer


class Dropout(Layer):
    """Drops each number with probability p when training, and nothing when not (Srivastava et al., 2014).

    forward     y  = x · m / (1 - p),   m = [r ≥ p],   r uniform on [0, 1)
    backward    dx = dy · m / (1 - p)

    r is a pure function of (seed, unit, layer, tick, index of the sample in the whole batch).
    """

    def __init__(self, rate: float):
        if not 0 <= rate < 1:
            raise InputError(f"Dropout drops a part of [0, 1) of its input, not {rate}")
        self.rate = rate
        self.key = 0
        self.moment = (0, 0)  # tick, index of the batch's first sample

    def initialise(self, rng: numpy.random.Generator, dtype: str) -> None:
        self.key = int(rng.integers(2**62))  # rng is seeded by (seed, unit) and asked in the order of the layers

    def set_position(self, tick: int, first_sample: int) -> None:
        self.moment = (tick, first_sample)

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        if not train or self.rate == 0:
            return x, None
        xp, (tick, first) = namespace(x), self.moment
        mask = empty(x)
        for n in range(x.shape[0]):
            kept = uniform(x[n], stable_hash(self.key, tick, first + n)) >= self.rate
            mask[n] = kept
        mask *= 1 / (1 - self.rate)
        return xp.multiply(x, mask, out=empty(x)), mask

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        return (dy if saved is None else namespace(dy).multiply(dy, saved, out=empty(dy))), {}

    def __repr__(self) -> str:
        return f"Dropout({self.rate})"
