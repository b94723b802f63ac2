"""Checks of a unit by itself; `shapes.py` checks that the units of a network fit together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sideways.errors import InputError
from sideways.layers.base import Layer, Sequential


def check_unit(name: Any, inputs: Any, merge: str) -> None:
    """Raise `InputError` for a name, inputs or a merge that no unit can have."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in ("frame", "adapter"):
        raise InputError(
            f"unit name {name!r}: use letters, digits, '_' and '-' only, and neither 'frame' nor 'adapter'"
        )
    if isinstance(inputs, str):
        raise InputError(f"unit {name!r}: inputs is a list of names, such as [{inputs!r}]")
    if not inputs or len(set(inputs)) != len(inputs):
        raise InputError(f"unit {name!r}: inputs must name at least one unit or 'frame', each once; got {inputs}")
    if merge not in ("add", "concat"):
        raise InputError(f"unit {name!r}: unknown merge {merge!r}; choose 'add' or 'concat'")


class Arrays(dict[str, Any]):
    """The arrays of a unit, by name. Its layers hold these very arrays: write into them, do not replace them.

    Raises `InputError` where an array is to be replaced: the layers would not see the other array.
    """

    def __setitem__(self, name: str, array: Any) -> None:
        if name in self and self[name] is not array:  # the very array comes back from `parameters[name] *= 2`
            raise InputError(
                f"{name!r} cannot be replaced, because a layer holds the array too: write into it, [{name!r}][...] = …"
            )
        super().__setitem__(name, array)


def check_arrays(unit: Any) -> None:
    """Raise `InputError` if a layer of the unit holds another array than the unit: the layer's was replaced."""
    for prefix, layers in {"": unit.body, **{f"adapter.{j}.": layers for j, layers in unit.adapters.items()}}.items():
        for name, array in (layers.parameters | layers.state).items():
            if (unit.parameters | unit.state)[prefix + name] is not array:
                raise InputError(
                    f"unit {unit.name!r}: {prefix + name} of its layer was replaced by another array: write into the "
                    "array instead, layer.weight[...] = …"
                )


def layers_of(name: str, layers: Iterable[Layer]) -> Sequential:
    """Chain the layers of a unit. An `InputError` names the unit."""
    try:
        return Sequential(layers)
    except InputError as error:
        raise InputError(f"unit {name!r}: {error}") from None
