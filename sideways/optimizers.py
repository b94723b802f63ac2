"""Optimizers: they turn one unit's gradients into new values of its parameters, in place.

An optimizer is a template: a rule gives each unit a copy, which keeps the unit's momenta and counts its updates.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sideways.backend import Array, divide, dot, fused, kernels, multiply, namespace, sqrt, subtract, zeros
from sideways.errors import InputError
from sideways.learning_rates import Constant

SMALLEST = 1e-30  # squared norm: a running mean of zeros takes nothing from a gradient


class Optimizer:
    """Base of SGD, Adam and RMSProp: the learning rate, weight decay, and changes of the gradient.

    learning_rate: η > 0; `schedule(tick)` multiplies it, and so does `rates[unit]` (0 freezes that unit).
    weight_decay: adds weight_decay · θ to the gradient.
    clip_norm: a longer gradient of a unit, all its parameters together, is shortened to this Euclidean norm.
    orthogonal: β in [0, 1) keeps only what is new in a gradient, for streams whose gradients hardly change
        (Han et al., CVPR 2025): g ← g - (g·c / c·c) c for each parameter, c ← β c + (1-β) g with the g of before.

    Raises `InputError` for values out of range.
    """

    remembered: tuple[str, ...] = ()  # names of the arrays that are kept for each parameter

    def __init__(
        self,
        learning_rate: float,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        schedule: Callable[[int], float] | None = None,
        rates: Mapping[str, float] | None = None,
        orthogonal: float | None = None,
    ):
        rates = dict(rates or {})
        if not 0 < learning_rate < float("inf"):
            raise InputError(f"the learning rate must be positive and finite, not {learning_rate}")
        if not weight_decay >= 0:
            raise InputError(f"weight_decay must not be negative: {weight_decay}")
        if clip_norm is not None and not 0 < clip_norm < float("inf"):
            raise InputError(f"clip_norm must be positive and finite, or left out; not {clip_norm}")
        if orthogonal is not None and not 0 <= orthogonal < 1:
            raise InputError(f"orthogonal lies in [0, 1), or is left out; not {orthogonal}")
        for unit, factor in rates.items():
            if not factor >= 0:
                raise InputError(f"the learning-rate factor of unit {unit!r} must not be negative: {factor}")
        self.learning_rate, self.weight_decay, self.clip_norm = learning_rate, weight_decay, clip_norm
        self.schedule, self.rates, self.orthogonal = schedule or Constant(), rates, orthogonal
        if orthogonal is not None:
            self.remembered = (*self.remembered, "common")
        self.factor = 1.0
        self.updates = 0
        self.numbers_on_device: Array | None = None  # while a CUDA graph is recorded: where those of each tick lie
        self.memory: dict[str, dict[str, Array]] = {}  # parameter → name in `remembered` → array

    def for_unit(self, name: str) -> Optimizer:
        """A copy for the unit of this name."""
        optimizer = copy.deepcopy(self)
        optimizer.factor = self.rates.get(name, 1.0)
        return optimizer

    def update(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array], tick: int) -> None:
        """Take one step: write into the parameters, and leave the gradients as they are. tick: for the schedule."""
        if self.factor == 0 or not gradients:
            return
        numbers: Sequence[Any] = self.next_numbers(tick)
        self.updates += 1
        if self.numbers_on_device is not None:
            numbers = [self.numbers_on_device[k] for k in range(len(numbers))]
        for key in gradients:
            if key not in self.memory:
                self.memory[key] = {name: zeros(parameters[key]) for name in self.remembered}
        if self.orthogonal is not None:
            beta = self.orthogonal
            gradients = {key: _new_part(g, self.memory[key]["common"], beta) for key, g in gradients.items()}
        if self.clip_norm is not None:
            gradients = _shortened(gradients, self.clip_norm)
        for key, gradient in gradients.items():
            parameter = parameters[key]
            if self.weight_decay:
                decayed = multiply(parameter, self.weight_decay)
                decayed += gradient
                gradient = decayed
            self.step(parameter, gradient, *numbers, **self.memory[key])

    def next_numbers(self, tick: int) -> tuple[float, ...]:
        """The numbers of the next update, for `step`; they change from update to update."""
        return self.numbers(self.learning_rate * self.factor * self.schedule(tick), self.updates + 1)

    def numbers(self, rate: float, update: int) -> tuple[float, ...]:
        """Return what `step` needs in an update: the rate, unless a subclass adds to it. update: its number, from 1."""
        return (rate,)

    def step(self, parameter: Array, gradient: Array, rate: float, **memory: Array) -> None:
        """Update one parameter in place. memory: the arrays named in `remembered`, of the parameter's shape."""
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent with momentum μ (Polyak, 1964; Nesterov as in Sutskever et al., 2013).

    v ← μ v + g,    θ ← θ - η v          or, with nesterov, θ ← θ - η (g + μ v)
    """

    def __init__(self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False, **options):
        super().__init__(learning_rate, **options)
        if not 0 <= momentum < 1:
            raise InputError(f"momentum lies in [0, 1), not {momentum}")
        if nesterov and not momentum:
            raise InputError("nesterov needs a momentum above 0")
        self.momentum, self.nesterov = momentum, nesterov
        if momentum:
            self.remembered = ("velocity", *self.remembered)

    def step(self, parameter: Array, gradient: Array, rate: float, **memory: Array) -> None:
        sgd_step(parameter, gradient, rate, memory.get("velocity"), self.momentum, self.nesterov)


@fused(kernels.sgd_step)
def sgd_step(
    parameter: Array, gradient: Array, rate: float, velocity: Array | None, momentum: float, nesterov: bool
) -> None:
    """Take one step of `SGD`, in place."""
    direction = gradient
    if velocity is not None:
        velocity *= momentum
        velocity += gradient
        direction = velocity
        if nesterov:
            direction = multiply(velocity, momentum)
            direction += gradient
    parameter -= multiply(direction, rate)


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015). The bias correction counts the unit's own updates n.

    m ← β₁ m + (1-β₁) g,    v ← β₂ v + (1-β₂) g²
    θ ← θ - η · m̂ / (√(v/(1-β₂ⁿ)) + ε)        m̂ = m/(1-β₁ⁿ)

    With nesterov, m̂ looks one update ahead (NAdam: Dozat, 2016):  m̂ = β₁ m/(1-β₁ⁿ⁺¹) + (1-β₁) g/(1-β₁ⁿ).
    """

    remembered = ("first", "second")

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        nesterov: bool = False,
        **options,
    ):
        super().__init__(learning_rate, **options)
        if not (0 <= beta1 < 1 and 0 <= beta2 < 1 and epsilon > 0):
            raise InputError(f"Adam needs beta1 and beta2 in [0, 1) and epsilon > 0, not {beta1}, {beta2}, {epsilon}")
        self.beta1, self.beta2, self.epsilon, self.nesterov = beta1, beta2, epsilon, nesterov
        self.fixed = beta1, beta2, epsilon

    def numbers(self, rate: float, update: int) -> tuple[float, ...]:
        """The rate, and the factors of v, m and g (see `adam_step`)."""
        bias, correction = 1 - self.beta1**update, 1 / (1 - self.beta2**update)
        if self.nesterov:
            mean = self.beta1 / (1 - self.beta1 ** (update + 1)), (1 - self.beta1) / bias
            return rate, correction, *mean
        return rate / bias, correction, 1.0, 0.0

    def step(self, parameter: Array, gradient: Array, *numbers: Any, **memory: Array) -> None:
        adam_step(parameter, gradient, memory["first"], memory["second"], self.fixed, *numbers)


@fused(kernels.adam_step)
def adam_step(
    parameter: Array,
    gradient: Array,
    first: Array,
    second: Array,
    fixed: tuple[float, float, float],
    rate: float,
    correction: float,
    of_first: float,
    of_gradient: float,
) -> None:
    """Take one step of `Adam`, in place: θ ← θ - rate · (of_first m + of_gradient g) / (√(correction v) + ε).

    fixed: β₁, β₂ and ε.
    """
    beta1, beta2, epsilon = fixed
    first *= beta1
    first += multiply(gradient, 1 - beta1)
    second *= beta2
    squares = multiply(gradient, gradient)
    squares *= 1 - beta2
    second += squares
    deviation = sqrt(multiply(second, correction))
    deviation += epsilon
    direction = first
    if of_gradient:
        direction = multiply(first, of_first)
        direction += multiply(gradient, of_gradient)
    change = divide(direction, deviation)
    change *= rate
    parameter -= change


class RMSProp(Optimizer):
    """RMSProp without momentum (Hinton, 2012), which Carreira et al. (CVPR 2024) advise for single streams.

    v ← ρ v + (1-ρ) g²,    θ ← θ - η g / (√v + ε)
    """

    remembered = ("second",)

    def __init__(self, learning_rate: float = 1e-3, decay: float = 0.99, epsilon: float = 1e-8, **options):
        super().__init__(learning_rate, **options)
        if not (0 <= decay < 1 and epsilon > 0):
            raise InputError(f"RMSProp needs decay in [0, 1) and epsilon > 0, not {decay}, {epsilon}")
        self.decay, self.epsilon = decay, epsilon

    def step(self, parameter: Array, gradient: Array, rate: float, **memory: Array) -> None:
        second = memory["second"]
        second *= self.decay
        squares = multiply(gradient, gradient)
        squares *= 1 - self.decay
        second += squares
        deviation = sqrt(second)
        deviation += self.epsilon
        change = divide(gradient, deviation)
        change *= rate
        parameter -= change


def _new_part(gradient: Array, common: Array, beta: float) -> Array:
    """The part of a gradient that is orthogonal to the running mean `common`; then the mean takes in the gradient."""
    share = dot(gradient, common) / (dot(common, common) + SMALLEST)
    new = subtract(gradient, multiply(common, share))
    common *= beta
    common += multiply(gradient, 1 - beta)
    return new


def _shortened(gradients: Mapping[str, Array], longest: float) -> dict[str, Array]:
    """The gradients, scaled down if their common Euclidean norm is above `longest`. The scale stays on the device."""
    squares = sum(dot(gradient, gradient) for gradient in gradients.values())
    xp = namespace(next(iter(gradients.values())))
    scale = longest / xp.maximum(xp.sqrt(squares), longest)
    return {key: gradient * scale for key, gradient in gradients.items()}
