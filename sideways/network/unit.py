"""A unit: a few layers that act as one. Each unit runs once per tick, and belongs to one rank (process) as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sideways.backend import Array, Shape, fresh, generator
from sideways.layers.base import Layer
from sideways.network.checks import Arrays, check_unit, layers_of
from sideways.network.merge import merged, split

FRAME = "frame"
Inputs = Sequence[str] | Mapping[str, Sequence[Layer]]  # names; or name → adapter layers


class Unit:
    """A few layers that act as one: one node of the network's graph.

    name: letters, digits, `_` and `-`.
    layers: run in order on the merged input.
    inputs: names of units, or `"frame"`; or a mapping from these names to adapter layers, which an input passes before
        it is merged. Adapters belong to this unit and are trained with it.
    merge: `"add"`, or `"concat"` (channels, in the order of the inputs).

    Once a `Network` is built, `parameters` and `state` map `"<layer index>.<name>"` and
    `"adapter.<input>.<layer index>.<name>"` to arrays. Write into these arrays, do not replace them.
    """

    widths: list[int]  # channels of each merged input; a network sets these four when it is built
    merged_shape: Shape
    output_shape: Shape
    multiply_adds: int  # multiplications of the forward pass for one sample

    def __init__(self, name: str, layers: Iterable[Layer], inputs: Inputs = (FRAME,), merge: str = "add"):
        check_unit(name, inputs, merge)
        adapters = inputs if isinstance(inputs, Mapping) else {}
        self.name, self.inputs, self.merge = name, tuple(inputs), merge
        self.body = layers_of(name, layers)
        self.adapters = {j: layers_of(name, adapters[j]) for j in self.inputs if adapters.get(j)}
        self._with_position = [chain for chain in (self.body, *self.adapters.values()) if chain.with_position]
        self.parameters: dict[str, Array] = Arrays()
        self.state: dict[str, Array] = Arrays()

    def forward(self, inputs: Mapping[str, Array], train: bool = True) -> tuple[Array, Any]:
        """Compute a = H(u; θ), where u merges the inputs, name → (N, …). Returns (a, values for the backward pass)."""
        parts, saved_adapters = [], {}
        for j in self.inputs:
            part = inputs[j]
            if j in self.adapters:
                part, saved_adapters[j] = self.adapters[j].forward(part, train)
            parts.append(part)
        activation, saved = self.body.forward(merged(parts, self.merge), train)
        # If H returns its input itself, a is a copy: a message must not share memory with an input.
        return fresh(activation, inputs.values()), (saved, saved_adapters)

    def backward(self, gradient: Array, saved: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """Pull dL/da, the gradient, through the Jacobian of H. Returns (a message for each input unit, dθ)."""
        saved_body, saved_adapters = saved
        dx, gradients = self.body.backward(gradient, saved_body)
        messages = {}
        for j, part in zip(self.inputs, split(dx, self.merge, self.widths), strict=True):
            if j in self.adapters:
                part, of_adapter = self.adapters[j].backward(part, saved_adapters[j])
                gradients.update({f"adapter.{j}.{name}": value for name, value in of_adapter.items()})
            if j != FRAME:
                messages[j] = fresh(part, [gradient])
        return messages, gradients

    def update_statistics(self, saved: Any) -> None:
        """Update running statistics from what a training tick's forward pass saved."""
        saved_body, saved_adapters = saved
        self.body.update_statistics(saved_body)
        for j, adapter in self.adapters.items():
            adapter.update_statistics(saved_adapters[j])

    def set_position(self, tick: int, first_sample: int) -> None:
        """Tell Dropout the tick, and the index of this process's first sample in the whole batch."""
        for chain in self._with_position:
            chain.set_position(tick, first_sample)

    def initialise(self, seed: int, dtype: str) -> None:
        """Draw the parameters: a function of (seed, name) alone, so that any process builds the same unit."""
        random = generator("initial weights", seed, self.name)
        for prefix, layers in {"": self.body, **{f"adapter.{j}.": self.adapters[j] for j in self.adapters}}.items():
            layers.initialise(random, dtype)
            self.parameters |= {prefix + name: array for name, array in layers.parameters.items()}
            self.state |= {prefix + name: array for name, array in layers.state.items()}
        if FRAME in self.adapters:
            self.adapters[FRAME].skip_input_gradient()
        if self.inputs == (FRAME,) and not self.adapters:
            self.body.skip_input_gradient()

    def __repr__(self) -> str:
        return f"Unit({self.name!r}, {self.body.layers!r}, inputs={list(self.inputs)}, merge={self.merge!r})"
