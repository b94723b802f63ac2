"""Emulated devices: a unit's forward and backward pass together take a set time, most of it idle, as with a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sideways.network import Network


def emulate(network: Network, milliseconds: float) -> None:
    """Make every unit's forward pass take a third of this time and its backward pass two thirds. Results stay equal."""
    for unit in network.units.values():
        unit.forward = _lasting(unit.forward, milliseconds / 3e3)  # type: ignore[method-assign]
        unit.backward = _lasting(unit.backward, milliseconds / 1.5e3)  # type: ignore[method-assign]


def _lasting(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """Make a function take so many seconds: it sleeps after its arithmetic until they have passed."""

    def slowed(*arguments: Any, **options: Any) -> Any:
        end = time.perf_counter() + seconds
        result = function(*arguments, **options)
        time.sleep(max(0.0, end - time.perf_counter()))
        return result

    return slowed
