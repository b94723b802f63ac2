"""The gradient check, for the layers here and for anyone's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from sideways.backend import Array, Shape, generator, namespace, to_device, to_host
from sideways.layers.base import Layer


@dataclass(frozen=True)
class LayerReport:
    """What `check_layer` found: per array the largest error of its gradient, and the rules that the layer breaks."""

    layer: str
    errors: dict[str, float]  # largest |analytic - numeric| / max(1, |numeric|) of the input and of every parameter
    broken: tuple[str, ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        return not self.broken and all(error <= self.tolerance for error in self.errors.values())

    def __str__(self) -> str:
        lines = [f"{self.layer}: {'passed' if self.passed else 'FAILED'}"]
        for name, error in self.errors.items():
            verdict = "ok" if error <= self.tolerance else f"wrong (more than {self.tolerance:.0e})"
            lines.append(f"  gradient of {name:<12} largest error {error:.1e}   {verdict}")
        lines += [f"  {sentence}" for sentence in self.broken]
        return "\n".join(lines)


def check_layer(
    layer: Layer,
    input_shape: Shape,
    batch: int = 2,
    train: bool = True,
    seed: int = 0,
    step: float = 1e-6,
    tolerance: float = 1e-6,
) -> LayerReport:
    """Hold a layer's gradients against central finite differences, in float64, at a random point.

    For a random r, the derivative of Σ r · y by each number of the input and of every parameter is compared with what
    `backward(r)` says. Also checked: the output's shape is the promised one, nothing is written into x or dy, results
    are C-contiguous, and forward, forward, backward, backward in reverse order gives the same gradients.

    layer: any `Layer`; a copy of it is initialised, the layer itself is left alone.
    input_shape: the shape of one sample, such as (H, W, C).
    Returns a `LayerReport`: print it, or ask `.passed`.
    """
    layer = copy.deepcopy(layer)
    promised = layer.output_shape(input_shape)
    random = generator("check_layer", seed)
    layer.initialise(random, "float64")
    for parameter in layer.parameters.values():  # also biases, which begin at 0, where an error could hide
        parameter += to_device(random.normal(0, 0.1, parameter.shape))
    x = to_device(random.normal(size=(batch, *input_shape)))
    y, saved = layer.forward(x, train)
    broken = []
    if y.shape != (batch, *promised):
        broken.append(f"output_shape promises {promised}, forward gives {y.shape[1:]}")
    r = to_device(random.normal(size=y.shape))
    x_before, r_before = to_host(x).copy(), to_host(r).copy()
    dx, gradients = layer.backward(r, saved)
    broken += _broken_rules(layer, x, y, r, dx, gradients, train)
    if (to_host(x) != x_before).any():
        broken.append("forward or backward writes into x")
    if (to_host(r) != r_before).any():
        broken.append("backward writes into dy")
    if set(gradients) != set(layer.parameters):
        broken.append(f"backward gives gradients of {sorted(gradients)}, parameters are {sorted(layer.parameters)}")

    def objective() -> float:
        return float((layer.forward(x, train)[0] * r).sum())

    errors = {"the input": _error(objective, x, dx, step)}
    for name, parameter in layer.parameters.items():
        if name in gradients:
            errors[name] = _error(objective, parameter, gradients[name], step)
    return LayerReport(repr(layer), errors, tuple(broken), tolerance)


def _error(objective: Callable[[], float], at: Array, analytic: Array, step: float) -> float:
    """The largest error of `analytic`, relative where the numeric derivative is above 1, absolute below."""
    if analytic.shape != at.shape:
        return float("inf")
    flat, worst = at.reshape(-1), 0.0
    claimed = to_host(analytic).reshape(-1)
    for i in range(flat.size):
        here = float(flat[i])
        flat[i] = here + step
        above = objective()
        flat[i] = here - step
        below = objective()
        flat[i] = here
        numeric = (above - below) / (2 * step)
        error = abs(numeric - float(claimed[i])) / max(1.0, abs(numeric))
        worst = max(worst, error if error == error else float("inf"))  # a NaN is no gradient
    return worst


def _broken_rules(
    layer: Layer, x: Array, y: Array, r: Array, dx: Array, gradients: dict[str, Array], train: bool
) -> list[str]:
    """Layout, and re-entrance: two forwards, then their backwards in reverse order, as `bptt` runs them."""
    broken = [f"{name} is not C-contiguous" for name, array in (("y", y), ("dx", dx)) if not array.flags.c_contiguous]
    other_x = 2 * x
    first = layer.forward(x, train)[1]
    second = layer.forward(other_x, train)[1]
    layer.backward(r, second)
    again, gradients_again = layer.backward(r, first)
    xp = namespace(x)
    same = bool(xp.array_equal(again, dx)) and all(
        bool(xp.array_equal(gradients_again[name], gradient)) for name, gradient in gradients.items()
    )
    if not same:
        broken.append("another forward in between changes what backward gives: keep all it needs in `saved`")
    return broken
