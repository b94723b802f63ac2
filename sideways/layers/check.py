"""The gradient check, for the layers of this package and for layers of your own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from sideways.backend import Array, Shape, generator, namespace, to_device, to_host
from sideways.layers import form
from sideways.layers.base import Layer


@dataclass(frozen=True)
class LayerReport:
    """The result of `check_layer`: the largest error of each gradient, and the rules that the layer breaks."""

    layer: str
    errors: dict[str, float]  # input or parameter → largest |analytic - numeric| / max(1, |numeric|)
    broken: tuple[str, ...]  # the broken rules, a sentence each
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
    """Compare a layer's gradients with central finite differences, in float64, at a random point.

    For a random r, `backward(r)` is compared with the derivatives of Σ r · y by each number of the input and of every
    parameter. The check also covers the rules of a layer: the output has the promised shape, nothing is written into x
    or dy, results are C-contiguous, and forward, forward, backward, backward in reverse order gives equal gradients.

    layer: any `Layer`. The check initialises a copy and leaves the layer itself alone.
    input_shape: the shape of one sample, such as (H, W, C).
    Returns a `LayerReport`, to be printed or asked for `.passed`. The report of a layer that lacks a part, or returns
    something of another form, names this part, and has no errors of gradients.
    """
    try:
        return _checked(copy.deepcopy(layer), tuple(input_shape), batch, train, seed, step, tolerance)
    except form.MalformedError as malformed:
        return LayerReport(form.name_of(layer), {}, (str(malformed),), tolerance)


def _checked(
    layer: Layer, input_shape: Shape, batch: int, train: bool, seed: int, step: float, tolerance: float
) -> LayerReport:
    form.check_parts(layer)
    promised = layer.output_shape(input_shape)
    random = generator("check_layer", seed)
    layer.initialise(random, "float64")
    form.check_arrays(layer)
    for parameter in layer.parameters.values():  # moves biases away from 0, where an error could hide
        parameter += to_device(random.normal(0, 0.1, parameter.shape))
    x = to_device(random.normal(size=(batch, *input_shape)))
    y, saved = form.check_forward(layer.forward(x, train))
    broken = []
    if y.shape != (batch, *promised):
        broken.append(f"output_shape promises {promised}, forward gives {y.shape[1:]}")
    r = to_device(random.normal(size=y.shape))
    x_before, r_before = to_host(x).copy(), to_host(r).copy()
    dx, gradients = form.check_backward(layer.backward(r, saved))
    broken += form.wrong_shapes(layer, x, dx, gradients)
    broken += _broken_rules(layer, x, y, r, dx, gradients, train)
    if (to_host(x) != x_before).any():
        broken.append("forward or backward writes into x")
    if (to_host(r) != r_before).any():
        broken.append("backward writes into dy")

    def objective() -> float:
        return float((layer.forward(x, train)[0] * r).sum())

    errors = {"the input": _error(objective, x, dx, step)}
    for name, parameter in layer.parameters.items():
        if name in gradients:
            errors[name] = _error(objective, parameter, gradients[name], step)
    return LayerReport(repr(layer), errors, tuple(broken), tolerance)


def _error(objective: Callable[[], float], array: Array, analytic: Array, step: float) -> float:
    """The largest error of a gradient by this array: relative for derivatives above 1, absolute below."""
    if analytic.shape != array.shape:
        return float("inf")
    flat, worst = array.reshape(-1), 0.0
    claimed = to_host(analytic).reshape(-1)
    for i in range(flat.size):
        value = float(flat[i])
        flat[i] = value + step
        above = objective()
        flat[i] = value - step
        below = objective()
        flat[i] = value
        numeric = (above - below) / (2 * step)
        error = abs(numeric - float(claimed[i])) / max(1.0, abs(numeric))
        worst = max(worst, error if error == error else float("inf"))  # a NaN counts as wrong
    return worst


def _broken_rules(
    layer: Layer, x: Array, y: Array, r: Array, dx: Array, gradients: dict[str, Array], train: bool
) -> list[str]:
    """Check the layout of results, and two forwards with their backwards in reverse order, as `bptt` runs them."""
    broken = [f"{name} is not C-contiguous" for name, array in (("y", y), ("dx", dx)) if not array.flags.c_contiguous]
    other_x = 2 * x
    first = layer.forward(x, train)[1]
    second = layer.forward(other_x, train)[1]
    layer.backward(r, second)
    second_dx, second_gradients = layer.backward(r, first)
    xp = namespace(x)
    same = bool(xp.array_equal(second_dx, dx)) and all(
        bool(xp.array_equal(second_gradients[name], gradient)) for name, gradient in gradients.items()
    )
    if not same:
        broken.append("another forward in between changes what backward gives: keep all it needs in `saved`")
    return broken
