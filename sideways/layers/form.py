"""The form of a layer: the parts that it must have, and the types of its results. `check_layer` looks at them first."""

from __future__ import annotations

from typing import Any

import numpy

from sideways.backend import Array, is_on_device
from sideways.layers.base import Layer

FUNCTIONS = ("forward", "backward", "initialise", "output_shape")
SET_ARRAYS = "set it in `initialise`, with self.set_arrays(dtype, {name}=…)"


class MalformedError(Exception):
    """A layer lacks a part, or returns a result of another form: the message is a sentence that names it."""


def name_of(layer: Any) -> str:
    """The layer as reports name it, even if its own `__repr__` does not work."""
    try:
        return repr(layer)
    except Exception:
        return type(layer).__name__


def check_parts(layer: Any) -> None:
    """Raise `MalformedError` unless the layer has all functions of a layer, and names its parameters in tuples."""
    if isinstance(layer, type):
        raise MalformedError(f"{layer.__name__} is a class: check one of its layers, such as {layer.__name__}()")
    for name in FUNCTIONS:
        if not callable(getattr(layer, name, None)):
            raise MalformedError(f"the layer has no function `{name}`: derive its class from sideways.Layer")
    for name in ("forward", "backward"):
        if getattr(type(layer), name, None) is getattr(Layer, name):
            arguments = {"forward": "x, train", "backward": "dy, saved"}[name]
            raise MalformedError(f"the layer has no function `{name}` of its own: write {name}(self, {arguments})")
    if not isinstance(layer, Layer):
        raise MalformedError("the layer has no `parameters` and `state`: derive its class from sideways.Layer")
    for name in ("parameter_names", "state_names"):
        names = getattr(layer, name)
        if not isinstance(names, tuple | list) or not all(isinstance(entry, str) for entry in names):
            raise MalformedError(f'`{name}` must be a tuple of names, such as ("weight",), not {names!r}')


def check_arrays(layer: Layer) -> None:
    """Raise `MalformedError` unless each parameter and each running statistic is a float64 array after `initialise`."""
    for kind in ("parameter_names", "state_names"):
        for name in getattr(layer, kind):
            remedy = SET_ARRAYS.format(name=name)
            if not hasattr(layer, name):
                raise MalformedError(f"`{kind}` lists {name!r}, but the layer has no attribute {name}: {remedy}")
            array = getattr(layer, name)
            if not _is_array(array):
                raise MalformedError(f"the attribute {name} is a {type(array).__name__}, not an array: {remedy}")
            if str(array.dtype) != "float64":
                raise MalformedError(f'{name} is {array.dtype} after `initialise` with dtype "float64": {remedy}')


def check_forward(result: Any) -> tuple[Array, Any]:
    """Return (y, saved), or raise `MalformedError` if `forward` returned anything else."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise MalformedError(f"forward must return the pair (y, saved), not {_kind(result)}")
    if not _is_array(result[0]):
        raise MalformedError(f"forward must return an array as y, not {_kind(result[0])}")
    return result


def check_backward(result: Any) -> tuple[Array, dict[str, Array]]:
    """Return (dx, gradients), or raise `MalformedError` if `backward` returned anything else."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise MalformedError(f"backward must return the pair (dx, gradients), not {_kind(result)}")
    dx, gradients = result
    if not _is_array(dx):
        raise MalformedError(f"backward must return an array as dx, not {_kind(dx)}")
    if not isinstance(gradients, dict):
        raise MalformedError(f"backward must return gradients as a dict, name → array, not {_kind(gradients)}")
    for name, gradient in gradients.items():
        if not _is_array(gradient):
            raise MalformedError(f"backward must return an array as the gradient of {name}, not {_kind(gradient)}")
    return dx, gradients


def wrong_shapes(layer: Layer, x: Array, dx: Array, gradients: dict[str, Array]) -> list[str]:
    """A sentence for each gradient that is missing, has no parameter, or is of another shape than its parameter."""
    parameters = layer.parameters
    broken = []
    if set(gradients) != set(parameters):
        broken.append(f"backward gives gradients of {sorted(gradients)}, parameters are {sorted(parameters)}")
    triples = [("dx", dx, "x", x)]
    triples += [(f"the gradient of {n}", gradients[n], n, array) for n, array in parameters.items() if n in gradients]
    for name, gradient, owner, array in triples:
        if gradient.shape != array.shape:
            broken.append(f"{name} has shape {gradient.shape}, {owner} has {array.shape}")
    return broken


def _is_array(value: Any) -> bool:
    return isinstance(value, numpy.ndarray) or is_on_device(value)


def _kind(value: Any) -> str:
    """A value as messages name it: None, an array, or a tuple of so many entries."""
    if value is None:
        return "None"
    if _is_array(value):
        return "an array alone" if value.ndim else "a number"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"a {type(value).__name__}"
