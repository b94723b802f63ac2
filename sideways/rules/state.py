"""The state that a rule holds for one unit between two ticks, as named arrays: a checkpoint saves and restores it.

parameters.<key>  state.<key>      of the unit
sum.<key>  count                   the sum and the number of the gradients since the unit's last update
optimizer.<memory>.<key>  updates  of the unit's optimizer: its memory, and the number of its updates
message.<sender>                   the newest message that waits for the unit
late.<place>.<sender>              the earlier messages that wait: late.0 is the oldest, then late.1, …
target.<place>                     for the top: the targets that the loss has not used yet, oldest first
input.<age>.<name>                 for `Delayed`: the inputs that the unit keeps; age 0 is the newest
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
        for sender, (*earlier, newest) in rule.mailbox.waiting(name).items():
            entries[f"message.{sender}"] = newest
            entries |= {f"late.{place}.{sender}": message for place, message in enumerate(earlier)}
        if name == rule.network.top.name:
            entries |= {f"target.{place}": target for place, target in enumerate(rule.targets)}
    if isinstance(rule, Delayed):
        for age, inputs in enumerate(reversed(rule.inputs.get(name, ()))):
            entries |= {f"input.{age}.{j}": array for j, array in inputs.items()}
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
        late = _by_place(entries_with_prefix("late", entries))
        for sender, newest in entries_with_prefix("message", entries).items():
            earlier = [late[place][sender] for place in sorted(late) if sender in late[place]]
            rule.mailbox.restore(rule.clock, sender, name, [*earlier, to_device(newest)])
        if name == rule.network.top.name:
            targets = entries_with_prefix("target", entries)
            rule.targets.extend(to_device(targets[str(place)]) for place in range(len(targets)))
    if isinstance(rule, Delayed):
        kept = _by_place(entries_with_prefix("input", entries))
        for age in sorted(kept, reverse=True):
            rule.inputs[name].append(kept[age])


def entries_with_prefix(kind: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries `"<kind>.<rest>"`, as rest → value."""
    return {key.removeprefix(f"{kind}."): value for key, value in entries.items() if key.startswith(f"{kind}.")}


def _by_place(entries: Mapping[str, Any]) -> dict[int, dict[str, Array]]:
    """`"<place>.<name>"` → array, as place → name → array on the device."""
    by_place: dict[int, dict[str, Array]] = {}
    for key, value in entries.items():
        place, name = key.split(".", 1)
        by_place.setdefault(int(place), {})[name] = to_device(value)
    return by_place
