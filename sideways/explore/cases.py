"""Cases for the small network that learns in the explorer's page: the library's numbers, which the page must reproduce.

A case is one JSON value: a network, a stream of frames, and what comes of them under every rule. `tests/browser/` draws
cases at random, lets the page compute them again in JavaScript, and compares all numbers to 1e-10.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy

from sideways.layers import Dense, Layer, ReLU, Square, Tanh
from sideways.losses import SoftmaxCrossEntropy
from sideways.network import FRAME, Network, Unit
from sideways.optimizers import Optimizer
from sideways.rules.backprop import Backprop
from sideways.rules.bptt import bptt
from sideways.rules.delayed import Delayed
from sideways.rules.diagnostics import cosines
from sideways.rules.rule import Rule
from sideways.rules.sideways import Sideways

ACTIVATIONS: dict[str, type[Layer] | None] = {"none": None, "relu": ReLU, "tanh": Tanh, "square": Square}


def small_network(
    random: numpy.random.Generator,
    widths: Sequence[int],
    skips: Sequence[tuple[int, int]],
    activations: Sequence[str],
    merge: str,
) -> Network:
    """Build a chain of dense units in float64 with random weights and biases.

    widths: values of the frame, then of each unit; skips: pairs (source, consumer), 0 being the frame; activations: a
    name of `ACTIVATIONS` for each unit; merge: `"concat"`, or `"add"` if the inputs of each unit are equally wide.
    """
    names = [FRAME, *(f"u{i}" for i in range(1, len(widths)))]
    units = []
    for i in range(1, len(widths)):
        sources = [i - 1, *(source for source, consumer in sorted(skips) if consumer == i)]
        inputs = widths[i - 1] if merge == "add" else sum(widths[j] for j in sources)
        activation = ACTIVATIONS[activations[i - 1]]
        layers = [Dense(inputs, widths[i], init="glorot"), *([activation()] if activation else [])]
        units.append(Unit(names[i], layers, [names[j] for j in sources], merge=merge))
    network = Network(units, (widths[0],), seed=int(random.integers(1000)), dtype="float64")
    for unit in network.units.values():
        unit.parameters["0.bias"][:] = random.normal(scale=0.3, size=unit.parameters["0.bias"].shape)
    return network


def exported_case(
    network: Network, clips: Sequence[tuple[numpy.ndarray, numpy.ndarray]], optimizer: Optimizer, learn_every: int
) -> dict[str, Any]:
    """Run every rule on clips, flushed in between, and write down the network, the clips and all numbers.

    network: of `small_network`; clips: pairs of frames (T, N, P) and labels (T, N), T ≥ 2D-1; learn_every: of Delayed.
    """
    loss, (frames, labels) = SoftmaxCrossEntropy(), clips[0]
    names = {kind: name for name, kind in ACTIVATIONS.items() if kind}
    units = [
        {
            "name": name,
            "inputs": list(unit.inputs),
            "merge": unit.merge,
            "activation": names.get(type(unit.body.layers[-1]), "none"),
            **_parameters(unit.parameters),
        }
        for name, unit in network.units.items()
    ]
    sideways, delayed = Sideways(network, loss), Delayed(network, loss)
    exact = bptt(network, loss, frames, labels)
    return {
        "units": units,
        "clips": [{"frames": f.tolist(), "labels": y.tolist()} for f, y in clips],
        "learn_every": learn_every,
        "bptt": {"loss": float(exact.loss), "gradients": _gradients(exact.gradients)},
        "marked": _gradients(_of_marked_losses(network, frames, labels, learn_every)),
        "cosines": {"sideways": cosines(sideways, frames, labels), "delayed": cosines(delayed, frames, labels)},
        "sideways": _run(Sideways(copy.deepcopy(network), loss, optimizer), clips),
        "delayed": _run(Delayed(copy.deepcopy(network), loss, optimizer, learn_every=learn_every), clips),
        "backprop": _run(Backprop(copy.deepcopy(network), loss, optimizer), clips),
    }


def _of_marked_losses(
    network: Network, frames: numpy.ndarray, labels: numpy.ndarray, learn_every: int
) -> dict[str, dict[str, numpy.ndarray]]:
    """The gradient of the marked losses: that of tick m is what the gradient of a clip gains by its frame m."""
    marks, loss = network.marks(learn_every), SoftmaxCrossEntropy()
    total = {name: {key: 0 * value for key, value in unit.parameters.items()} for name, unit in network.units.items()}
    for m in range(network.latency, len(frames)):
        if not marks.is_marked(m):
            continue
        for sign, length in ((1, m + 1), (-1, m)):
            if length > network.latency:
                for name, gradients in bptt(network, loss, frames[:length], labels[:length]).gradients.items():
                    for key, gradient in gradients.items():
                        total[name][key] = total[name][key] + sign * gradient
    return total


def _run(rule: Rule, clips: Sequence[tuple[numpy.ndarray, numpy.ndarray]]) -> dict[str, Any]:
    """The loss, output and gradients of every tick, and the parameters in the end."""
    ticks = []
    for frames, labels in clips:
        for frame, target in zip(frames, labels, strict=True):
            tick = rule.tick(frame, target)
            ticks.append(
                {
                    "loss": None if tick.loss is None else float(tick.loss),
                    "output": None if tick.output is None else tick.output.tolist(),
                    "gradients": _gradients(tick.gradients),
                }
            )
        rule.end_clip()
    parameters = {name: _parameters(unit.parameters) for name, unit in rule.network.units.items()}
    return {"ticks": ticks, "parameters": parameters}


def _gradients(gradients: dict[str, dict[str, numpy.ndarray]]) -> dict[str, Any]:
    return {name: _parameters(of_unit) for name, of_unit in gradients.items()}


def _parameters(arrays: dict[str, numpy.ndarray]) -> dict[str, Any]:
    """The weight (I, O) and the bias (1, O) of a unit, as lists of rows."""
    return {"weight": arrays["0.weight"].tolist(), "bias": [arrays["0.bias"].tolist()]}
