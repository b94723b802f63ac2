"""Batch normalisation, with running statistics for evaluation."""

from __future__ import annotations

from typing import Any

import numpy

from sideways.backend import (
    Array,
    Shape,
    add_to_rows,
    column_sums,
    fused,
    kernels,
    maximum,
    multiply,
    multiply_rows,
    sqrt,
    subtract,
)
from sideways.errors import InputError
from sideways.layers.base import Layer, ParameterGradients


class BatchNorm(Layer):
    """Each channel with mean 0 and variance 1 over the batch and all pixels, then scaled and shifted.

    x (…, C) as M rows; μ, σ² the mean and the (biased) variance of each channel over the rows. Source: Ioffe and
    Szegedy, 2015.

    forward     x̂ = (x - μ) / √(σ² + ε),   y = γ x̂ + β
    backward    dβ = Σ dy,   dγ = Σ dy x̂
                dx = γ / √(σ² + ε) · (dy - dβ / M - x̂ dγ / M)

    Outside training μ and σ² are running statistics r, so that dx = γ / √(σ² + ε) · dy. The n-th training tick updates
    each r from the mean or the unbiased variance of its batch:

    r ← r + max(momentum, 1 / n) (batch - r)

    Thus r is the mean over all ticks at first, and over about the last 1 / momentum ticks later. Neighbouring frames
    are alike, so these ticks must span many clips: the default momentum is smaller than for independent batches.

    channels: C. momentum: in (0, 1]. epsilon: ε > 0. Raises `InputError` for other values.
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
        ones, zeros = numpy.ones(self.channels), numpy.zeros(self.channels)
        self.set_arrays(dtype, scale=ones, shift=zeros, mean=zeros.copy(), variance=ones.copy(), ticks=numpy.zeros(1))

    def output_shape(self, shape: Shape) -> Shape:
        if shape[-1] != self.channels:
            raise InputError(
                f"expects {self.channels} channels, its input {shape} has {shape[-1]}; BatchNorm({shape[-1]}) would fit"
            )
        return shape

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        m = x.size // self.channels
        mean = column_sums(x) / m if train else self.mean
        centred = subtract(x, mean)
        if train:
            variance, deviation = spread(column_sums(multiply(centred, centred)), m, self.epsilon)
        else:
            variance, deviation = spread(self.variance, 1, self.epsilon)
        y = scaled(centred, deviation, self.scale, self.shift)
        return y, (centred, deviation, mean, variance, train)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        centred, deviation, _, _, train = saved
        m = dy.size // self.channels
        gradients = {"scale": column_sums(multiply(dy, centred)) / deviation, "shift": column_sums(dy)}
        if not train:
            return multiply(dy, self.scale / deviation), gradients
        return norm_gradient(dy, centred, gradients["scale"], gradients["shift"], self.scale, deviation, m), gradients

    def update_statistics(self, saved: Any) -> None:
        centred, _, mean, variance, _ = saved
        m = centred.size // self.channels
        self.ticks += 1
        update_running(mean, variance, self.mean, self.variance, self.ticks, self.momentum, m)

    def __repr__(self) -> str:
        return f"BatchNorm({self.channels})"


@fused(kernels.spread)
def spread(squares: Array, m: int, epsilon: float) -> tuple[Array, Array]:
    """Return σ² and √(σ² + ε). squares: Σ (x - μ)² over m rows."""
    variance = squares / m
    return variance, sqrt(variance + epsilon)


@fused(kernels.scaled)
def scaled(centred: Array, deviation: Array, scale: Array, shift: Array) -> Array:
    """Return y = γ / √(σ² + ε) · (x - μ) + β. centred: x - μ. deviation: √(σ² + ε)."""
    y = multiply(centred, scale / deviation)
    add_to_rows(y, shift)
    return y


@fused(kernels.norm_gradient)
def norm_gradient(
    dy: Array, centred: Array, dscale: Array, dshift: Array, scale: Array, deviation: Array, m: int
) -> Array:
    """Return dx = γ / √(σ² + ε) · (dy - dβ / M - x̂ dγ / M). centred, deviation: as for `scaled`."""
    dx = multiply(centred, dscale / deviation / -m)
    dx += dy
    add_to_rows(dx, dshift / -m)
    multiply_rows(dx, scale / deviation)
    return dx


@fused(kernels.update_running)
def update_running(
    batch_mean: Array, batch_variance: Array, mean: Array, variance: Array, ticks: Array, momentum: float, m: int
) -> None:
    """Update r ← r + max(momentum, 1 / n) (batch - r), with the unbiased variance of the batch. ticks: n."""
    part = maximum(1 / ticks, momentum)
    mean += part * (batch_mean - mean)
    variance += part * (batch_variance * (m / max(m - 1, 1)) - variance)
