"""Dropout, with a mask that does not depend on the process or the order in which units run."""

from __future__ import annotations

from typing import Any

import numpy

from sideways.backend import Array, empty, fused, kernels, multiply, stable_hash, uniform
from sideways.errors import InputError
from sideways.layers.base import Layer, ParameterGradients


class Dropout(Layer):
    """Drop each number with probability p in training, and none otherwise (Srivastava et al., 2014).

    forward     y  = x · m / (1 - p),   m = [r ≥ p],   r uniform on [0, 1)
    backward    dx = dy · m / (1 - p)

    r is a pure function of (seed, unit, layer, tick, index of the sample in the whole batch).

    rate: p. Raises `InputError` for a p outside [0, 1).
    """

    def __init__(self, rate: float):
        if not 0 <= rate < 1:
            raise InputError(f"Dropout drops a part of [0, 1) of its input, not {rate}")
        self.rate = rate
        self.key = 0
        self.position = (0, 0)  # tick, index of the batch's first sample
        self.keys_on_device: Array | None = None  # while a CUDA graph is recorded: where the keys of each tick lie

    def initialise(self, rng: numpy.random.Generator, dtype: str) -> None:
        self.key = int(rng.integers(2**62))  # layers draw in their order from an rng seeded by (seed, unit)

    def set_position(self, tick: int, first_sample: int) -> None:
        self.position = (tick, first_sample)

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        if not train or self.rate == 0:
            return x, None
        keys = self.keys(len(x)) if self.keys_on_device is None else self.keys_on_device
        mask = dropout_mask(x, keys, self.rate)
        return multiply(x, mask), mask

    def keys(self, samples: int) -> numpy.ndarray:
        """The keys of the random numbers of each sample of a batch: (N,), of uint64."""
        tick, first = self.position
        return numpy.array([stable_hash(self.key, tick, first + n) for n in range(samples)], numpy.uint64)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        mask = saved
        return (dy if mask is None else multiply(dy, mask)), {}

    def __repr__(self) -> str:
        return f"Dropout({self.rate})"


@fused(kernels.dropout_mask)
def dropout_mask(x: Array, keys: Array, rate: float) -> Array:
    """Return m / (1 - p), of x's shape. keys: of the random numbers of each sample (N,)."""
    mask = empty(x)
    for sample, drawn, key in zip(x, mask, keys, strict=True):
        drawn[...] = uniform(sample, key) >= rate
    mask *= 1 / (1 - rate)
    return mask
