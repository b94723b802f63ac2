"""The memory that training needs, in bytes: counted unit by unit, and measured over a clip.

saved      what a forward pass keeps for the backward pass
messages   activations and gradients between units, of this tick and of the last
scratch    everything else: im2col columns, tiles, padded images, arrays that live for a moment
"""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy

from sideways.backend import memory_pool, to_device
from sideways.network import Network, Unit
from sideways.rules import BPTT, Rule, Sideways


def peak(work: Callable[[], Any]) -> int:
    """The bytes that some work needs beyond what is allocated before: tracemalloc's peak, without recycling."""
    memory_pool.recycling = False
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        memory_pool.recycling = True


def peak_of_clip(rule: Rule, frames: Iterable[Any], targets: Iterable[Any]) -> int:
    """The peak bytes of training on a clip: activations, scratch and messages. Runs on a copy of the rule."""
    rule = copy.deepcopy(rule)

    def run() -> None:
        for frame, target in zip(frames, targets, strict=True):
            rule.tick(frame, target)
        rule.end_clip()

    run()  # from now on the optimizer's memory is allocated
    return peak(run)


def of_clip(rule: Rule, frames: Iterable[Any], targets: Iterable[Any]) -> dict[str, int]:
    """The peak bytes of training on a clip, by kind: saved, messages, scratch."""
    network, batch = rule.network, len(next(iter(targets)))
    total = peak_of_clip(rule, frames, targets)
    units = {name: of_unit(network, unit, batch) for name, unit in network.units.items()}
    messages = 0
    if isinstance(rule, BPTT):  # activations are inputs of what is stored
        probe = BPTT(copy.deepcopy(network), rule.loss, target_delay=rule.target_delay)
        for frame, target in zip(frames, targets, strict=True):
            probe.unroll(frame, target)
        saved = size(probe._saved)
        messages = 2 * max(unit["messages"] // 2 for unit in units.values())
    elif isinstance(rule, Sideways):  # one unit at a time
        saved = max(unit["saved"] for unit in units.values())
        messages = sum(unit["messages"] for unit in units.values())
    else:
        saved = sum(unit["saved"] + unit["output"] for unit in units.values())
    return {"saved": saved, "messages": messages, "scratch": max(total - saved - messages, 0), "peak": total}


def of_unit(network: Network, unit: Unit, batch: int) -> dict[str, int]:
    """The bytes of one unit's turn: saved (without its input), scratch, the output, and its messages of two ticks."""
    inputs = {j: _zeros(network, batch, network.shapes[j]) for j in unit.inputs}
    gradient = _zeros(network, batch, unit.output_shape)
    sizes = {}

    def turn() -> None:
        activation, saved = unit.forward(inputs)
        inside = {key: nbytes for key, nbytes in buffers(saved) if key not in dict(buffers(inputs))}
        outside = dict(buffers(activation))
        sizes["saved"] = sum(nbytes for key, nbytes in inside.items() if key not in outside)
        messages, gradients = unit.backward(gradient, saved)
        sizes["kept"] = sizes["saved"] + activation.nbytes + size(messages) + size(gradients)
        sizes["output"] = activation.nbytes
        sizes["messages"] = 2 * (activation.nbytes + size(messages))

    scratch = max(peak(turn) - sizes.pop("kept"), 0)
    return sizes | {"scratch": scratch}


def table(network: Network, batch: int = 1) -> list[tuple[str, ...]]:
    """The rows of a table, one for each unit: its name, and megabytes saved, of scratch, and of messages."""
    return [
        (name, *(f"{count[part] / 1e6:.2f}" for part in ("saved", "scratch", "messages")))
        for name, unit in network.units.items()
        for count in (of_unit(network, unit, batch),)
    ]


def size(nested: Any) -> int:
    """The bytes of all arrays in nested tuples, lists and dicts, each buffer once."""
    return sum(dict(buffers(nested)).values())


def buffers(nested: Any) -> Iterator[tuple[int, int]]:
    """The buffers of all arrays in nested tuples, lists and dicts: (an identity, bytes)."""
    if isinstance(nested, numpy.ndarray):
        base = nested
        while isinstance(base.base, numpy.ndarray):
            base = base.base
        yield id(base), base.nbytes
    elif isinstance(nested, dict | list | tuple):
        for part in nested.values() if isinstance(nested, dict) else nested:
            yield from buffers(part)


def _zeros(network: Network, batch: int, shape: tuple[int, ...]) -> Any:
    return to_device(numpy.zeros((batch, *shape)), network.dtype)
