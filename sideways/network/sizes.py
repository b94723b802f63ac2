"""The sizes of a network before any of its arrays exist: how many numbers units hold, and whether memory has room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sideways.errors import InputError
from sideways.layers import BatchNorm, Conv2D, Dense, Layer, Sequential, Shortcut
from sideways.machine import in_bytes, memory
from sideways.network.unit import Unit

BYTES = {"float32": 4, "float64": 8}  # of a number
ALWAYS_FREE = 1 << 26  # bytes: so little is allocated without asking, since asking takes milliseconds


def parameter_count(layer: Layer) -> int:
    """Count the parameters that a layer will have, from its settings alone; 0 for a layer of a kind not listed here."""
    if isinstance(layer, Shortcut):
        return sum(map(parameter_count, [*layer.layers, layer.projection]))
    if isinstance(layer, Sequential):
        return sum(map(parameter_count, layer.layers))
    if isinstance(layer, Dense):
        return (layer.inputs + 1) * layer.outputs
    if isinstance(layer, Conv2D):
        return (layer.kernel[0] * layer.kernel[1] * layer.inputs + 1) * layer.outputs
    if isinstance(layer, BatchNorm):
        return 2 * layer.channels
    return 0


def parameter_counts(units: Sequence[Unit]) -> dict[str, int]:
    """Count the parameters that each unit will have, those of its adapters included: name → count."""
    return {unit.name: sum(map(parameter_count, [unit.body, *unit.adapters.values()])) for unit in units}


def check_parameters_fit(units: Sequence[Unit], dtype: str) -> None:
    """Raise `InputError`, naming the largest unit, if the parameters of the units do not fit into the free memory."""
    nbytes = {name: BYTES[dtype] * count for name, count in parameter_counts(units).items()}
    parts = {f"unit {name!r} needs": count for name, count in nbytes.items()}
    check_fits("the parameters of this network", parts, "fewer or narrower layers")


def check_fits(owner: str, parts: Mapping[str, int], remedy: str, on_host: bool = False) -> None:
    """Raise `InputError` if the parts need more than the free memory; the message names the largest part.

    owner: the plural noun whose parts these are. parts: name → bytes. remedy: the choice that would need less memory.
    on_host: whether to look at the host's memory even if arrays live on a GPU.
    """
    needed = sum(parts.values())
    if needed <= ALWAYS_FREE:
        return
    free, source = memory(on_host)
    if needed > free:
        largest = max(parts, key=lambda name: parts[name])
        raise InputError(
            f"{owner} need {in_bytes(needed)}, of which {largest} {in_bytes(parts[largest])}; free are "
            f"{in_bytes(free)} ({source}): choose {remedy}"
        )
