"""Batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy

from sideways.backend import Array, Shape, column_sums, empty, namespace
from sideways.errors import InputError
from sideways.layers.base import Gradients, Layer


class BatchNorm(Layer):
    """Each channel with mean 0 and variance 1 over the batch and all places, then scaled and shifted.

    x (…, C) as M rows; μ, σ² the mean and the (biased) variance of each channel over the rows. Source: Ioffe and
    Szegedy, 2015.

    forward     x̂ = (x - μ) / √(σ² + ε),   y = γ x̂ + β
    backward    dβ = Σ dy,   dγ = Σ dy x̂
                dx = γ / √(σ² + ε) · (dy - dβ / M - x̂ dγ / M)

    When not training, dx = dy γ / √(σ² + ε), with running statistics for μ and σ², which the n-th training tick updates
    (with the unbiased variance):

    r ← r + max(momentum, 1 / n) (batch - r)

    so that they are the mean of all ticks first, and of about the last 1 / momentum later. Neighbouring frames being
    alike, that must be many clips: momentum is smaller here than it is where every batch is a new one.

    channels: C. momentum: in (0, 1]. epsilon: above 0. Raises `InputError` for others.
    """

    parameter_names = ("scale", "shift")
    state_names = ("mean", "variance", "ticks")
    scale: Array
    shift: Array
    mean: Array
    variance: Array
    ticks: Array

    def __init__(self, channels: int, momentum: float = 0.005, epsilon: float = 1e-5):
        if channels < 1 or not 0 < momentum <= 1 or not epsilon > 0:
            raise InputError(
                "BatchNorm needs at least one channel, momentum above 0 and at most 1, and epsilon above 0, not "
                f"{channels}, {momentum:g} and {epsilon:g}"
            )
        self.channels, self.momentum, self.epsilon = channels, momentum, epsilon

    def initialise(self, rng: numpy.random.Generator, dtype: str) -> None:
        ones, none = numpy.ones(self.channels), numpy.zeros(self.channels)
        self.set_arrays(dtype, scale=ones, shift=none, mean=none.copy(), variance=ones.copy(), ticks=numpy.zeros(1))

    def output_shape(self, shape: Shape) -> Shape:
        if shape[-1] != self.channels:
            raise InputError(
                f"expects {self.channels} channels, its input {shape} has {shape[-1]}; BatchNorm({shape[-1]}) would fit"
            )
        return shape

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        xp, m = namespace(x), x.size // self.channels
        mean = column_sums(x) / m if train else self.mean
        normal = xp.subtract(x, mean, out=empty(x))
        y = xp.multiply(normal, normal, out=empty(x))
        variance = column_sums(y) / m if train else self.variance
        deviation = xp.sqrt(variance + self.epsilon)
        normal /= deviation
        xp.multiply(normal, self.scale, out=y)
        y += self.shift
        return y, (normal, deviation, mean, variance, train)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        normal, deviation, _, _, train = saved
        xp, m = namespace(dy), dy.size // self.channels
        dx = xp.multiply(dy, normal, out=empty(dy))
        gradients = {"scale": column_sums(dx), "shift": column_sums(dy)}
        if train:
            xp.multiply(normal, gradients["scale"] / -m, out=dx)
            dx += dy
            dx -= gradients["shift"] / m
            dx *= self.scale / deviation
        else:
            xp.multiply(dy, self.scale / deviation, out=dx)
        return dx, gradients

    def update_statistics(self, saved: Any) -> None:
        normal, _, mean, variance, _ = saved
        xp, m = namespace(normal), normal.size // self.channels
        self.ticks += 1
        part = xp.maximum(1 / self.ticks, self.momentum)
        self.mean += part * (mean - self.mean)
        self.variance += part * (variance * (m / max(m - 1, 1)) - self.variance)

    def __repr__(self) -> str:
        return f"BatchNorm({self.channels})"
