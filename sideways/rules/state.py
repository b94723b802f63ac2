"""The state that a rule holds for one unit between two ticks, as named arrays: a checkpoint saves and restores it.

parameters.<key>  state.<key>      of the unit
sum.<key>  count                   the sum and the number of the gradients since the unit's last update
optimizer.<memory>.<key>  updates  of the unit's optimizer: its memory, and the number of its updates
message.<s>.<sender>               the messages that wait for the unit, each with its tick s (see `Mailbox`)
target.<place>                     for the top: the targets that the loss has not used yet, oldest first
input.<s>.<name>                   for `Delayed`: the inputs of tick s that the unit keeps
part.<key>                         for `Delayed`: the sum of the unit's gradients since it last learnt
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sideways.backend import Array, to_device
from sideways.rules.delayed import Delayed
from sideways.rules.rule import Rule
from sideways.rules.ticking_rule import TickingRule


def unit_state(rule: Rule, name: str) -> dict[str, Array | int]:
    """The state of the unit of this name."""
    unit = rule.network.units[name]
    entries: dict[str, Array | int] = {f"parameters.{key}": value for key, value in unit.parameters.items()}
    entries |= {f"state.{key}": value for key, value in unit.state.items()}
    entries |= {f"sum.{key}": value for key, value in rule.sums.get(name, {}).items()}
    entries["count"] = rule.counts.get(name, 0)
    if name in rule.optimizers:
        optimizer = rule.optimizers[name]
        entries["updates"] = optimizer.updates
        for key, memory in optimizer.memory.items():
            entries |= {f"optimizer.{kind}.{key}": value for kind, value in memory.items()}
    if isinstance(rule, TickingRule):
        entries |= {f"message.{s}.{sender}": value for (sender, s), value in rule.mailbox.waiting(name).items()}
        if name == rule.network.top.name:
            entries |= {f"target.{place}": target for place, target in enumerate(rule.targets)}
    if isinstance(rule, Delayed):
        for s, inputs in rule.kept[name].items():
            entries |= {f"input.{s}.{j}": array for j, array in inputs.items()}
        entries |= {f"part.{key}": value for key, value in rule.parts.get(name, {}).items()}
    return entries


def restore_unit(rule: Rule, name: str, entries: Mapping[str, Any]) -> None:
    """Restore entries of `unit_state`, host arrays. The rule's counters (`clock`, `ticks`) must be set before."""
    unit = rule.network.units[name]
    for kind, arrays in (("parameters", unit.parameters), ("state", unit.state)):
        for key, array in arrays.items():
            array[...] = to_device(entries[f"{kind}.{key}"])
    if sums := entries_with_prefix("sum", entries):
        rule.sums[name] = {key: to_device(value) for key, value in sums.items()}
    if count := int(entries["count"]):
        rule.counts[name] = count
    if name in rule.optimizers:
        optimizer = rule.optimizers[name]
        optimizer.updates = int(entries["updates"])
        for kind_and_key, value in entries_with_prefix("optimizer", entries).items():
            kind, key = kind_and_key.split(".", 1)
            optimizer.memory.setdefault(key, {})[kind] = to_device(value)
    if isinstance(rule, TickingRule):
        messages = _by_tick(entries_with_prefix("message", entries))
        waiting = {(sender, s): message for s, of_tick in messages.items() for sender, message in of_tick.items()}
        rule.mailbox.restore(name, waiting)
        if name == rule.network.top.name:
            targets = entries_with_prefix("target", entries)
            rule.targets.extend(to_device(targets[str(place)]) for place in range(len(targets)))
    if isinstance(rule, Delayed):
        rule.kept[name] = _by_tick(entries_with_prefix("input", entries))
        if parts := entries_with_prefix("part", entries):
            rule.parts[name] = {key: to_device(value) for key, value in parts.items()}


def entries_with_prefix(kind: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries `"<kind>.<rest>"`, as rest → value."""
    return {key.removeprefix(f"{kind}."): value for key, value in entries.items() if key.startswith(f"{kind}.")}


def _by_tick(entries: Mapping[str, Any]) -> dict[int, dict[str, Array]]:
    """`"<tick>.<name>"` → array, as tick → name → array on the device."""
    by_tick: dict[int, dict[str, Array]] = {}
    for key, value in entries.items():
        tick, name = key.split(".", 1)
        by_tick.setdefault(int(tick), {})[name] = to_device(value)
    return by_tick
