"""The memory that training needs, in bytes: counted unit by unit, and measured over a clip.

saved      what a forward pass keeps for the backward pass
messages   activations and gradients between units, of this tick and of the one before
inputs     under `Delayed`: the inputs that units keep for gradients to come
waiting    under `Delayed`: gradients that have come before the rest of their sum, and wait for it
scratch    everything else: im2col columns, tiles, padded images, short-lived arrays

Each array counts once: an input that is kept is no longer a message, and two units may keep the same one.
"""

from __future__ import annotations

import contextlib
import copy
import math
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy

from sideways.backend import device_peak, memory_pool, on_device, to_device
from sideways.network import Network, Unit
from sideways.network.sizes import BYTES, check_fits
from sideways.rules import BPTT, Delayed, Rule
from sideways.rules.ticking_rule import TickingRule


def peak(work: Callable[[], Any]) -> int:
    """The peak of the bytes that `work` allocates.

    On the host as tracemalloc counts them, while the memory pool recycles nothing; on a device as its pool counts them.
    """
    if on_device():
        return device_peak(work)
    tracemalloc.start()
    try:
        with _plain_allocations():
            work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@contextlib.contextmanager
def _plain_allocations() -> Iterator[None]:
    """Switch the memory pool off, so that every array has memory of its own."""
    memory_pool.recycling = False
    try:
        yield
    finally:
        memory_pool.recycling = True


def peak_of_clip(rule: Rule, frames: Iterable[Any], targets: Iterable[Any]) -> int:
    """The peak bytes of training on a clip: activations, scratch and messages. Runs on a copy of the rule."""
    rule = copy.deepcopy(rule)

    def run() -> None:
        for frame, target in zip(frames, targets, strict=True):
            rule.tick(frame, target)
        rule.end_clip()

    run()  # allocates the optimizer's memory, which does not count
    return peak(run)


def of_clip(rule: Rule, frames: Iterable[Any], targets: Iterable[Any]) -> dict[str, int]:
    """The peak bytes of training on a clip, by kind (see above) and together (peak)."""
    network, batch = rule.network, len(next(iter(targets)))
    total = peak_of_clip(rule, frames, targets)
    units = {name: of_unit(network, unit, batch) for name, unit in network.units.items()}
    between_units = {"messages": 0, "inputs": 0, "waiting": 0}
    if isinstance(rule, BPTT):  # the saved arrays contain all activations, as inputs of units
        probe = BPTT(copy.deepcopy(network), rule.loss, target_delay=rule.target_delay)
        for frame, target in zip(frames, targets, strict=True):
            probe.unroll(frame, target)
            probe.end_tick()
        saved = size(probe._saved)
        between_units["messages"] = 2 * max(unit["messages"] // 2 for unit in units.values())
    elif isinstance(rule, TickingRule):  # only one unit at a time saves arrays
        saved = max(unit["saved"] for unit in units.values())
        between_units = max(between_ticks(rule, frames, targets), key=lambda counts: sum(counts.values()))
    else:
        saved = sum(unit["saved"] + unit["output"] for unit in units.values())
    counted = {"saved": saved, **between_units}
    return {**counted, "scratch": max(total - sum(counted.values()), 0), "peak": total}


def between_ticks(rule: TickingRule, frames: Iterable[Any], targets: Iterable[Any]) -> list[dict[str, int]]:
    """The bytes of messages, inputs and waiting after each tick of a clip. Runs on a copy of the rule."""
    rule = copy.deepcopy(rule)
    counts: list[dict[str, int]] = []
    messages: dict[str, dict[tuple[str, int], Any]] = {}  # of this tick: unit → (sender, s) → message
    with _plain_allocations():
        for frame, target in zip(frames, targets, strict=True):
            before = messages
            rule.tick(frame, target)
            messages = {name: rule.mailbox.waiting(name) for name in rule.network.units}
            inputs, waiting = dict[int, int](), dict[int, int]()
            if isinstance(rule, Delayed):
                inputs = dict(buffers(rule.kept))
                waiting = dict(buffers([_not_read_next(rule, name, messages[name]) for name in messages]))
            others = dict(buffers([before, messages])).items() - inputs.items() - waiting.items()
            counts.append(
                {
                    "messages": sum(nbytes for _, nbytes in others),
                    "inputs": sum(inputs.values()),
                    "waiting": sum(waiting.values()),
                }
            )
    return counts


def _not_read_next(rule: Delayed, name: str, messages: dict[tuple[str, int], Any]) -> list[Any]:
    """The gradients among these messages that the unit will not read at the next tick."""
    following = rule.marks.pull(name, rule.clock)
    return [array for (c, s), array in messages.items() if c in rule.network.consumers[name] and s - 1 != following]


def of_unit(network: Network, unit: Unit, batch: int) -> dict[str, int]:
    """The bytes of a unit in one tick: saved (without the input), scratch, the output, and messages of two ticks."""
    inputs = {j: _zeros(network, batch, network.shapes[j]) for j in unit.inputs}
    gradient = _zeros(network, batch, unit.output_shape)
    sizes = {}

    def forward_and_backward() -> None:
        activation, saved = unit.forward(inputs)
        input_and_output = dict(buffers(inputs)) | dict(buffers(activation))
        sizes["saved"] = sum(nbytes for key, nbytes in dict(buffers(saved)).items() if key not in input_and_output)
        messages, gradients = unit.backward(gradient, saved)
        sizes["kept"] = sizes["saved"] + activation.nbytes + size(messages) + size(gradients)
        sizes["output"] = activation.nbytes
        sizes["messages"] = 2 * (activation.nbytes + size(messages))

    scratch = max(peak(forward_and_backward) - sizes.pop("kept"), 0)
    return sizes | {"scratch": scratch}


def table(network: Network, batch: int = 1) -> list[tuple[str, ...]]:
    """The rows of a table, one for each unit: its name, and megabytes saved, of scratch, and of messages.

    Runs every unit once. Raises `InputError`, naming the largest unit, if the activations do not fit into memory.
    """
    itemsize, shapes = BYTES[network.dtype], network.shapes
    numbers = {
        name: 2 * math.prod(unit.output_shape) + sum(math.prod(shapes[j]) for j in unit.inputs)
        for name, unit in network.units.items()
    }
    largest = max(numbers, key=lambda name: numbers[name])  # the units run one after the other
    check_fits("activations", {f"unit {largest!r} needs": batch * itemsize * numbers[largest]}, "smaller frames")
    return [
        (name, *(f"{count[part] / 1e6:.2f}" for part in ("saved", "scratch", "messages")))
        for name, unit in network.units.items()
        for count in (of_unit(network, unit, batch),)
    ]


def size(nested: Any) -> int:
    """The bytes of all arrays in nested tuples, lists and dicts, each buffer once."""
    return sum(dict(buffers(nested)).values())


def buffers(nested: Any) -> Iterator[tuple[int, int]]:
    """The buffers of all arrays in nested tuples, lists and dicts: (the buffer's identity, its bytes)."""
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
