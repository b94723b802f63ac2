"""How many bytes training needs: counted unit by unit, and measured over a clip.

saved      what forward keeps for backward
messages   activations and gradients between units, this tick's and the last's
scratch    all else: columns, tiles, padded images, arrays that live for a moment
"""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy

from sideways.backend import memory_pool, to_device
from sideways.network import FRAME, Network, Unit
from sideways.rules import BPTT, Rule, Sideways


def peak(work: Callable[[], Any]) -> int:
    """Bytes that some work needs beyond what is there before: tracemalloc's peak, recycling turned off."""
    memory_pool.recycling = False
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        memory_pool.recycling = True


def peak_of_clip(rule: Rule, frames: Iterable[Any], targets: Iterable[Any]) -> int:
    """That of training on a clip: activations, scratch and messages. Runs on a copy of the rule."""
    rule = copy.deepcopy(rule)

    def run() -> None:
        for frame, target in zip(frames, targets, strict=True):
            rule.tick(frame, target)
        rule.end_clip()

    run()  # the optimizer's memory is there from now on
    return peak(run)


def of_clip(rule: Rule, frames: Iterable[Any], targets: Iterable[Any]) -> dict[str, int]:
    """Peak bytes of training on a clip, and what they are: saved, messages, scratch."""
    network, batch = rule.network, len(next(iter(targets)))
    whole = peak_of_clip(rule, frames, targets)
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
    return {"saved": saved, "messages": messages, "scratch": max(whole - saved - messages, 0), "peak": whole}


def of_unit(network: Network, unit: Unit, batch: int) -> dict[str, int]:
    """Bytes of one unit's turn: saved (without its input), scratch, the output, and its messages (twice: two ticks)."""
    shapes = {FRAME: network.input_shape} | {name: other.output_shape for name, other in network.units.items()}
    inputs = {j: _zeros(network, batch, shapes[j]) for j in unit.inputs}
    gradient = _zeros(network, batch, unit.output_shape)
    found = {}

    def turn() -> None:
        activation, saved = unit.forward(inputs)
        inside = {key: nbytes for key, nbytes in buffers(saved) if key not in dict(buffers(inputs))}
        outside = dict(buffers(activation))
        found["saved"] = sum(nbytes for key, nbytes in inside.items() if key not in outside)
        messages, gradients = unit.backward(gradient, saved)
        found["kept"] = found["saved"] + activation.nbytes + size(messages) + size(gradients)
        found["output"] = activation.nbytes
        found["messages"] = 2 * (activation.nbytes + size(messages))

    whole = peak(turn)
    scratch = max(whole - found.pop("kept"), 0)
    return found | {"scratch": scratch}


def table(network: Network, batch: int = 1) -> list[tuple[str, ...]]:
    """Rows of megabytes, a unit each: saved, scratch, messages."""
    return [
        (name, *(f"{count[part] / 1e6:.2f}" for part in ("saved", "scratch", "messages")))
        for name, unit in network.units.items()
        for count in (of_unit(network, unit, batch),)
    ]


def size(held: Any) -> int:
    """Bytes of all arrays in nested tuples, lists and dicts, each once."""
    return sum(dict(buffers(held)).values())


def buffers(held: Any) -> Iterator[tuple[int, int]]:
    """(what tells a buffer from another, its bytes) of all arrays in nested tuples, lists and dicts."""
    if isinstance(held, numpy.ndarray):
        base = held
        while isinstance(base.base, numpy.ndarray):
            base = base.base
        yield id(base), base.nbytes
    elif isinstance(held, dict | list | tuple):
        for part in held.values() if isinstance(held, dict) else held:
            yield from buffers(part)


def _zeros(network: Network, batch: int, shape: tuple[int, ...]) -> Any:
    return to_device(numpy.zeros((batch, *shape)), network.dtype)
