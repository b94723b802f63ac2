"""Emulated devices: every unit's forward and backward take a set time together, spent idle as when a GPU computes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sideways.network import Network


def emulate(network: Network, milliseconds: float) -> None:
    """From now on a unit's forward takes a third of this time, its backward two thirds; the results are the same."""
    for unit in network.units.values():
        unit.forward = _lasting(unit.forward, milliseconds / 3e3)  # type: ignore[method-assign]
        unit.backward = _lasting(unit.backward, milliseconds / 1.5e3)  # type: ignore[method-assign]


def _lasting(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def slowed(*arguments: Any, **options: Any) -> Any:
        end = time.perf_counter() + seconds
        result = function(*arguments, **options)
        time.sleep(max(0.0, end - time.perf_counter()))
        return result

    return slowed
