"""The entries that the state of a unit must have at a moment between two ticks: the static schedule knows all of them.

A checkpoint is compared with them before `state.restore_unit` writes it into a rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sideways.errors import InputError
from sideways.losses import SoftmaxCrossEntropy
from sideways.network import FRAME
from sideways.rules.delayed import Delayed
from sideways.rules.rule import Rule
from sideways.rules.ticking_rule import TickingRule

Form = tuple[tuple[int, ...], str]  # the shape of an array, and its type or the letter of its kind: f, i
NUMBER: Form = ((), "i")


def check_state(rule: Rule, name: str, entries: Mapping[str, Any], batch: int, tick: int) -> None:
    """Raise `InputError`, naming the entry, unless the entries are a state of this unit at this moment.

    rule: with `ticks` and `clock` of the moment. entries: host arrays, as `unit_state` names them; those of the top
    hold the losses and outputs of the open clip too. batch: samples in each array. tick: ticks done of the open clip.
    """
    unit, network = rule.network.units[name], rule.network
    of_parameters = {key: (array.shape, str(array.dtype)) for key, array in unit.parameters.items()}
    forms: dict[str, Form] = {f"parameters.{key}": form for key, form in of_parameters.items()}
    forms |= {f"state.{key}": (array.shape, str(array.dtype)) for key, array in unit.state.items()}
    forms["count"] = NUMBER
    groups = [("sum", of_parameters)]  # sums appear with a unit's first gradient: all of a group are there, or none
    if name in rule.optimizers:
        forms["updates"] = NUMBER
        memory = {
            f"{kind}.{key}": of_parameters[key] for kind in rule.optimizers[name].remembered for key in of_parameters
        }
        groups.append(("optimizer", memory))
    if isinstance(rule, TickingRule):
        forms |= _messages(rule, name, batch)
    if isinstance(rule, Delayed):
        forms |= _kept(rule, name, batch)
        groups.append(("part", of_parameters))
    if unit is network.top:
        forms |= _of_top(rule, batch, tick)
    for prefix, group in groups:
        if any(key.startswith(f"{prefix}.") for key in entries):
            forms |= {f"{prefix}.{key}": form for key, form in group.items()}
    _compare(forms, entries)
    _check_numbers(rule, name, entries)


def outputs_of_clip(rule: Rule, tick: int) -> int:
    """The number of the last `tick` ticks at which the top had an output."""
    return min(tick, max(0, rule.clock - rule.network.latency)) if isinstance(rule, TickingRule) else tick


def _messages(rule: TickingRule, name: str, batch: int) -> dict[str, Form]:
    """The messages that wait for a unit before the tick `rule.clock`: activations of the last tick, and gradients."""
    network, clock = rule.network, rule.clock
    forms: dict[str, Form] = {}
    since = max(0, clock - 1)
    for j in network.units[name].inputs:
        if clock and j != FRAME and rule.mailbox.timetable((j, name), clock - 1) is not None:
            forms[f"message.{clock - 1}.{j}"] = ((batch, *network.units[j].output_shape), network.dtype)
    read: set[int] = set()
    if isinstance(rule, Delayed):  # the gradient of tick s + 1 of a consumer is read when this unit pulls that of s
        since = max(0, clock - 2 * network.latency - 1)  # no message waits for longer
        read = {s + 1 for t in range(since, clock) if (s := rule.marks.pull(name, t)) is not None}
    for c in network.consumers[name]:
        for t in range(since, clock):
            s = rule.mailbox.timetable((c, name), t)
            if s is not None and s not in read:
                forms[f"message.{s}.{c}"] = ((batch, *network.units[name].output_shape), network.dtype)
    return forms


def _kept(rule: Delayed, name: str, batch: int) -> dict[str, Form]:
    """The inputs that a unit keeps under `Delayed`: those of ticks whose gradient has not come."""
    network, clock = rule.network, rule.clock
    if name == network.top.name:
        return {}
    since = max(0, clock - 2 * network.latency)
    pulled = {rule.marks.pull(name, t) for t in range(since, clock)}
    shapes = {
        j: network.input_shape if j == FRAME else network.units[j].output_shape for j in network.units[name].inputs
    }
    return {
        f"input.{s}.{j}": ((batch, *shape), network.dtype)
        for s in range(max(since, network.first_forward[name]), clock)
        if rule.marks.has_loss(name, s) and s not in pulled
        for j, shape in shapes.items()
    }


def _of_top(rule: Rule, batch: int, tick: int) -> dict[str, Form]:
    """The targets that the loss has not used, and the losses and outputs of the open clip."""
    network = rule.network
    output: Form = ((batch, *network.output_shape), network.dtype)
    classes = isinstance(rule.loss, SoftmaxCrossEntropy)
    forms: dict[str, Form] = {}
    if isinstance(rule, TickingRule):
        target: Form = ((batch,), "i") if classes else (output[0], "f")
        forms = {f"target.{place}": target for place in range(min(rule.clock, rule.target_delay + 1))}
    for i in range(outputs_of_clip(rule, tick)):
        forms[f"loss.{i}"] = ((), "f")
        if classes:
            forms[f"output.{i}"] = output
    return forms


def _compare(forms: Mapping[str, Form], entries: Mapping[str, Any]) -> None:
    for key, (shape, dtype) in forms.items():
        if key not in entries:
            raise InputError(f"{key} is missing")
        entry = entries[key]
        if entry.shape != shape or dtype not in (str(entry.dtype), entry.dtype.kind):
            wanted = {"f": "floats", "i": "integers"}.get(dtype, dtype)
            raise InputError(f"{key} has shape {entry.shape} of {entry.dtype}, expected is {shape} of {wanted}")
    if unknown := entries.keys() - forms.keys():
        raise InputError(f"{min(unknown)} has no place in it")


def _check_numbers(rule: Rule, name: str, entries: Mapping[str, Any]) -> None:
    count, limit = int(entries["count"]), rule.ticks
    if isinstance(rule.update_every, int):
        limit = min(limit, rule.update_every - 1)
    if not 0 <= count <= limit or (count and rule.network.units[name].parameters and not _has("sum", entries)):
        raise InputError(f"count is {count} after {rule.ticks} ticks")
    if name in rule.optimizers:
        updates, optimizer = int(entries["updates"]), rule.optimizers[name]
        remembers = bool(optimizer.remembered and rule.network.units[name].parameters)
        if not 0 <= updates <= rule.ticks or (bool(updates) != _has("optimizer", entries) and remembers):
            raise InputError(f"updates is {updates} after {rule.ticks} ticks")
    for key, entry in entries.items():
        if key.startswith("target."):
            rule.loss.check(entry, (len(entry), *rule.network.output_shape))


def _has(prefix: str, entries: Mapping[str, Any]) -> bool:
    return any(key.startswith(f"{prefix}.") for key in entries)
