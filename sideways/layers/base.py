"""The base of every layer: two functions, `forward` and `backward`, and the parameters that they share.

`Sequential` runs layers one after the other; units, adapters and shortcuts are chains of this kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from sideways.backend import Array, Shape, to_device
from sideways.errors import InputError

ParameterGradients = dict[str, Array]  # name of a parameter → gradient


class Layer:
    """A differentiable map with parameters and no memory. A subclass writes `forward` and `backward`.

    `forward(x, train)` returns `(y, saved)`; `backward(dy, saved)` returns `(dx, gradients)` with one gradient per
    parameter, of its shape. `saved` is all that the backward pass needs. Neither function writes into its arguments,
    and forward, forward, backward, backward in reverse order gives the right gradients (`sideways.check_layer` checks
    both promises). Arrays are (N, …) with the batch first; the shapes that layers speak of leave N out.
    """

    parameter_names: tuple[str, ...] = ()  # attributes that are trained
    state_names: tuple[str, ...] = ()  # attributes that training ticks update without a gradient
    input_gradient = True  # False: only the frame lies below the layer, so `backward` may return None for dx

    def initialise(self, rng: numpy.random.Generator, dtype: str) -> None:
        """Draw the parameters on the host (float64) and put them on the current backend, with `self.set_arrays`."""

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of y for inputs of this shape, both without N. Raises `InputError` if the input cannot fit."""
        return shape

    def multiply_adds(self, shape: Shape) -> int:
        """Multiplications of the forward pass for one sample of this shape."""
        return 0

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        """Return y (N, …) of x (N, …), and what `backward` needs. train: False in an evaluation."""
        raise NotImplementedError

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        """Return dx = Jᵀ dy, of x's shape, and the gradient of each parameter. dy has y's shape."""
        raise NotImplementedError

    def update_statistics(self, saved: Any) -> None:
        """Update the state (running statistics) from what the forward pass of a training tick saved."""

    def set_position(self, tick: int, first_sample: int) -> None:
        """Set the tick of the next forward pass, and the index of its first sample in the whole batch."""

    def set_arrays(self, dtype: str, **values: Any) -> None:
        """Set attributes to contiguous arrays of this dtype on the current backend."""
        for name, value in values.items():
            setattr(self, name, to_device(value, dtype))

    @property
    def parameters(self) -> dict[str, Array]:
        return {name: getattr(self, name) for name in self.parameter_names}

    @property
    def state(self) -> dict[str, Array]:
        return {name: getattr(self, name) for name in self.state_names}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Sequential(Layer):
    """Layers one after the other; the parameters of layer `i` are called `"i.<name>"`.

    forward     y = Lₙ(… L₁(x))
    backward    dx = J₁ᵀ … Jₙᵀ dy, from the last layer to the first
    """

    def __init__(self, layers: Iterable[Layer]):
        if isinstance(layers, Layer):
            raise InputError(f"layers are given as a list: [{layers!r}]")
        self.layers = list(layers)
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise InputError(f"layer {index} is {layer!r}: expected a sideways.Layer, such as sideways.ReLU()")
        # The other layers have no statistics and no position: a tick does not call them in vain.
        self._with_statistics = _overriding("update_statistics", self.layers)
        self.with_position = _overriding("set_position", self.layers)

    def initialise(self, rng: numpy.random.Generator, dtype: str) -> None:
        for layer in self.layers:
            layer.initialise(rng, dtype)

    def output_shape(self, shape: Shape) -> Shape:
        for index, layer in enumerate(self.layers):
            try:
                shape = layer.output_shape(shape)
            except InputError as error:
                raise InputError(f"layer {index}, {layer!r}: {error}") from None
        return shape

    def multiply_adds(self, shape: Shape) -> int:
        total = 0
        for layer in self.layers:
            total += layer.multiply_adds(shape)
            shape = layer.output_shape(shape)
        return total

    @property
    def lowest(self) -> int:
        """The index of the lowest layer that runs backward: 0 if dx is needed, else the first with parameters."""
        if self.input_gradient:
            return 0
        return next((index for index, layer in enumerate(self.layers) if layer.parameters), len(self.layers))

    def skip_input_gradient(self) -> None:
        """Compute no dx: the backward pass ends at the lowest layer with parameters, which computes none either."""
        self.input_gradient = False
        for layer in self.layers[self.lowest : self.lowest + 1]:
            if isinstance(layer, Sequential):
                layer.skip_input_gradient()
            else:
                layer.input_gradient = False

    def forward(self, x: Array, train: bool = True) -> tuple[Array, list[Any]]:
        saved = []
        for layer in self.layers:
            x, saved_by_layer = layer.forward(x, train)
            saved.append(saved_by_layer)
        return x, saved

    def backward(self, dy: Array, saved: list[Any]) -> tuple[Array, ParameterGradients]:
        gradients: ParameterGradients = {}
        for index in range(len(self.layers) - 1, self.lowest - 1, -1):
            dy, of_layer = self.layers[index].backward(dy, saved[index])
            for name, gradient in of_layer.items():
                gradients[f"{index}.{name}"] = gradient
        return (dy if self.input_gradient else None), gradients

    def update_statistics(self, saved: list[Any]) -> None:
        for index in self._with_statistics:
            self.layers[index].update_statistics(saved[index])

    def set_position(self, tick: int, first_sample: int) -> None:
        for index in self.with_position:
            self.layers[index].set_position(tick, first_sample)

    @property
    def parameters(self) -> dict[str, Array]:
        return {f"{i}.{name}": value for i, layer in enumerate(self.layers) for name, value in layer.parameters.items()}

    @property
    def state(self) -> dict[str, Array]:
        return {f"{i}.{name}": value for i, layer in enumerate(self.layers) for name, value in layer.state.items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.layers!r})"


def _overriding(name: str, layers: Sequence[Layer]) -> list[int]:
    """The indices of the layers whose class has a function of this name of its own."""
    return [index for index, layer in enumerate(layers) if getattr(type(layer), name) is not getattr(Layer, name)]


def initial_weight(rng: numpy.random.Generator, shape: Shape, fan_in: int, fan_out: int, scheme: str) -> numpy.ndarray:
    """Random weights that keep the variance of activations from layer to layer.

    `"he"`: normal, variance 2 / fan_in (He et al., 2015, for ReLU). `"glorot"`: uniform on ±√(6 / (fan_in + fan_out))
    (Glorot and Bengio, 2010, for Tanh, Sigmoid and outputs). `"zero"`: zeros, for the last layer of a path whose result
    is added to a signal, and shall change nothing at first (Goyal et al., 2017).
    """
    if scheme == "zero":
        return numpy.zeros(shape)
    if scheme == "he":
        return rng.normal(0.0, (2.0 / fan_in) ** 0.5, shape)
    limit = (6.0 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-limit, limit, shape)


def check_scheme(scheme: str) -> str:
    """Return the name of a scheme of `initial_weight`, or raise `InputError`."""
    if scheme not in ("he", "glorot", "zero"):
        raise InputError(f"unknown initialisation {scheme!r}: choose 'he', 'glorot' or 'zero'")
    return scheme


def check_image(shape: Shape) -> tuple[int, int, int]:
    """Return the shape of an image (H, W, C). Raises `InputError` for a shape of other length."""
    if len(shape) != 3:
        raise InputError(f"needs an image (H, W, C), not {shape}")
    return shape


def pair(value: int | tuple[int, int], name: str) -> tuple[int, int]:
    """A size as (rows, columns), from one number for both axes or from two; `InputError` below 1."""
    sizes: tuple[Any, ...] = ()
    if isinstance(value, int):
        sizes = (value, value)
    elif isinstance(value, Sequence):
        sizes = tuple(value)
    if len(sizes) != 2 or any(not isinstance(size, int) or size < 1 for size in sizes):
        raise InputError(f"{name} must be a whole number of at least 1, or two for rows and columns; not {value!r}")
    return sizes
