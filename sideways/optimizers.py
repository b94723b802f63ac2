"""Optimizers: from one unit's gradients to new values of its parameters, written in place.

An optimizer is a template: a rule gives each unit a copy, which keeps that unit's momenta and counts its updates.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from sideways.backend import Array, empty, namespace, zeros
from sideways.errors import InputError
from sideways.learning_rates import Constant


class Optimizer:
    """What SGD and Adam share: the rate, and what happens to a gradient before it is used.

    learning_rate: η > 0; `schedule(tick)` multiplies it, and so does `rates[unit]` (0 freezes that unit).
    weight_decay: adds weight_decay · θ to the gradient.
    clip_norm: the gradient of a unit is shortened to this Euclidean norm where it is longer.
    """

    def __init__(
        self,
        learning_rate: float,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        schedule: Callable[[int], float] | None = None,
        rates: Mapping[str, float] | None = None,
    ):
        rates = dict(rates or {})
        if not 0 < learning_rate < float("inf"):
            raise InputError(f"the learning rate must be positive and finite, not {learning_rate}")
        if not weight_decay >= 0:
            raise InputError(f"weight_decay must not be negative: {weight_decay}")
        if clip_norm is not None and not 0 < clip_norm < float("inf"):
            raise InputError(f"clip_norm must be positive and finite, or left out; not {clip_norm}")
        for unit, factor in rates.items():
            if not factor >= 0:
                raise InputError(f"the learning-rate factor of unit {unit!r} must not be negative: {factor}")
        self.learning_rate, self.weight_decay, self.clip_norm = learning_rate, weight_decay, clip_norm
        self.schedule, self.rates = schedule or Constant(), rates
        self.factor = 1.0
        self.updates = 0
        self.memory: dict[str, dict[str, Array]] = {}  # parameter → what is remembered of it

    def for_unit(self, name: str) -> Optimizer:
        """A fresh copy for the unit of this name."""
        own = copy.deepcopy(self)
        own.factor = self.rates.get(name, 1.0)
        return own

    def update(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array], tick: int) -> None:
        """One step: writes into the parameters, leaves the gradients as they are. `tick` is for the schedule."""
        if self.factor == 0 or not gradients:
            return
        rate = self.learning_rate * self.factor * self.schedule(tick)
        self.updates += 1
        if self.clip_norm is not None:
            gradients = _shortened(gradients, self.clip_norm)
        for key, gradient in gradients.items():
            parameter = parameters[key]
            if self.weight_decay:
                decayed = namespace(parameter).multiply(parameter, self.weight_decay, out=empty(parameter))
                decayed += gradient
                gradient = decayed
            if key not in self.memory:
                self.memory[key] = {name: zeros(parameter) for name in self.remembered}
            self.step(parameter, gradient, rate, **self.memory[key])

    remembered: tuple[str, ...] = ()

    def step(self, parameter: Array, gradient: Array, rate: float, **memory: Array) -> None:
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
        self.remembered = ("velocity",) if momentum else ()

    def step(self, parameter: Array, gradient: Array, rate: float, **memory: Array) -> None:
        xp, change = namespace(parameter), empty(parameter)
        direction = gradient
        if self.momentum:
            velocity = direction = memory["velocity"]
            velocity *= self.momentum
            velocity += gradient
            if self.nesterov:
                direction = xp.multiply(velocity, self.momentum, out=change)
                direction += gradient
        parameter -= xp.multiply(direction, rate, out=change)


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015). The bias correction counts the unit's own updates n.

    m ← β₁ m + (1-β₁) g,    v ← β₂ v + (1-β₂) g²
    θ ← θ - η · m/(1-β₁ⁿ) / (√(v/(1-β₂ⁿ)) + ε)
    """

    remembered = ("first", "second")

    def __init__(
        self, learning_rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8, **options
    ):
        super().__init__(learning_rate, **options)
        if not (0 <= beta1 < 1 and 0 <= beta2 < 1 and epsilon > 0):
            raise InputError(f"Adam needs beta1 and beta2 in [0, 1) and epsilon > 0, not {beta1}, {beta2}, {epsilon}")
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def step(self, parameter: Array, gradient: Array, rate: float, **memory: Array) -> None:
        xp, scratch = namespace(parameter), empty(parameter)
        first, second = memory["first"], memory["second"]
        first *= self.beta1
        first += xp.multiply(gradient, 1 - self.beta1, out=scratch)
        second *= self.beta2
        xp.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - self.beta2
        second += scratch
        xp.multiply(second, 1 / (1 - self.beta2**self.updates), out=scratch)
        xp.sqrt(scratch, out=scratch)
        scratch += self.epsilon
        xp.divide(first, scratch, out=scratch)
        scratch *= rate / (1 - self.beta1**self.updates)
        parameter -= scratch


def _shortened(gradients: Mapping[str, Array], longest: float) -> dict[str, Array]:
    """The gradients, together no longer than `longest`; the scale stays on the device."""
    squares = sum((gradient.reshape(-1) @ gradient.reshape(-1)) for gradient in gradients.values())
    xp = namespace(next(iter(gradients.values())))
    scale = longest / xp.maximum(xp.sqrt(squares), longest)
    return {key: gradient * scale for key, gradient in gradients.items()}
