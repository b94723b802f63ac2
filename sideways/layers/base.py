"""What every layer is: two functions, `forward` and `backward`, and the parameters that they share.

`Sequential` runs layers one after the other; units, adapters and shortcuts are made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from sideways.backend import Array, Shape, to_device
from sideways.errors import InputError

Gradients = dict[str, Array]


class Layer:
    """A differentiable map with parameters and no memory: subclass it, write `forward` and `backward`.

    `forward(x, train)` returns `(y, saved)`; `backward(dy, saved)` returns `(dx, gradients)` with one gradient per
    parameter, of its shape. `saved` is all that the backward pass needs. Neither writes into its arguments, and
    forward, forward, backward, backward in reverse order gives the right gradients (`sideways.check_layer` checks it).
    Arrays are (N, …) with the batch first; the shapes that layers speak of leave N out.
    """

    parameter_names: tuple[str, ...] = ()  # attributes that are trained
    state_names: tuple[str, ...] = ()  # attributes that training ticks update without a gradient
    input_gradient = True  # False where nobody reads dx (below it is only the frame): backward may return None for it

    def initialise(self, rng: numpy.random.Generator, dtype: str) -> None:
        """Draw the parameters on the host (float64) and put them where the network lives, with `self.place`."""

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of y for inputs of this shape, both without N. Raises `InputError` if the input cannot fit."""
        return shape

    def multiply_adds(self, shape: Shape) -> int:
        """Multiplications of the forward pass for one sample of this shape."""
        return 0

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        """y (N, …) of x (N, …), and what `backward` needs. train: as in a tick that learns, not as in an evaluation."""
        raise NotImplementedError

    def backward(self, dy: Array, saved: Any) -> tuple[Array, Gradients]:
        """dx = Jᵀ dy, of x's shape, and the gradient of each parameter, from dy, of y's shape."""
        raise NotImplementedError

    def update_statistics(self, saved: Any) -> None:
        """Update the state (running statistics) from what a training tick's forward saved."""

    def set_position(self, tick: int, first_sample: int) -> None:
        """Told before a forward: the tick, and the place of the batch's first sample in the whole batch."""

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
        """The first layer whose backward somebody reads: all of them, unless nobody reads dx."""
        trained = (index for index, layer in enumerate(self.layers) if layer.parameters)
        return 0 if self.input_gradient else next(trained, len(self.layers))

    def skip_input_gradient(self) -> None:
        """Nobody reads this chain's dx: stop at its lowest layer with parameters, and tell that layer so."""
        self.input_gradient = False
        for layer in self.layers[self.lowest : self.lowest + 1]:
            if isinstance(layer, Sequential):
                layer.skip_input_gradient()
            else:
                layer.input_gradient = False

    def forward(self, x: Array, train: bool = True) -> tuple[Array, list[Any]]:
        saved = []
        for layer in self.layers:
            x, kept = layer.forward(x, train)
            saved.append(kept)
        return x, saved

    def backward(self, dy: Array, saved: list[Any]) -> tuple[Array, Gradients]:
        gradients = {}
        for index in range(len(self.layers) - 1, self.lowest - 1, -1):
            dy, own = self.layers[index].backward(dy, saved[index])
            for name, gradient in own.items():
                gradients[f"{index}.{name}"] = gradient
        return (dy if self.input_gradient else None), gradients

    def update_statistics(self, saved: list[Any]) -> None:
        for layer, kept in zip(self.layers, saved, strict=True):
            layer.update_statistics(kept)

    def set_position(self, tick: int, first_sample: int) -> None:
        for layer in self.layers:
            layer.set_position(tick, first_sample)

    @property
    def parameters(self) -> dict[str, Array]:
        return {f"{i}.{name}": value for i, layer in enumerate(self.layers) for name, value in layer.parameters.items()}

    @property
    def state(self) -> dict[str, Array]:
        return {f"{i}.{name}": value for i, layer in enumerate(self.layers) for name, value in layer.state.items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.layers!r})"


def initial_weight(rng: numpy.random.Generator, shape: Shape, fan_in: int, fan_out: int, scheme: str) -> numpy.ndarray:
    """Random weights that keep the variance of activations from layer to layer.

    `"he"`: normal, variance 2 / fan_in (He et al., 2015, for ReLU). `"glorot"`: uniform on ±√(6 / (fan_in + fan_out))
    (Glorot and Bengio, 2010, for Tanh, Sigmoid and outputs).
    """
    if scheme == "he":
        return rng.normal(0.0, (2.0 / fan_in) ** 0.5, shape)
    limit = (6.0 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-limit, limit, shape)


def check_scheme(scheme: str) -> str:
    if scheme not in ("he", "glorot"):
        raise InputError(f"unknown initialisation {scheme!r}: choose 'he' or 'glorot'")
    return scheme


def check_image(shape: Shape) -> tuple[int, int, int]:
    """The (H, W, C) of a layer that works on images."""
    if len(shape) != 3:
        raise InputError(f"needs an image (H, W, C), not {shape}")
    return shape


def pair(value: int | tuple[int, int], what: str) -> tuple[int, int]:
    """A size given once for both axes, or as (rows, columns); at least 1."""
    both = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, Sequence) else ()
    if len(both) != 2 or any(not isinstance(size, int) or size < 1 for size in both):
        raise InputError(f"{what} must be a whole number of at least 1, or two for rows and columns; not {value!r}")
    return both
