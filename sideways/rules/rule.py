"""What the rules share: the door where frames and targets come in, the updates, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sideways.backend import Array, copied, empty, finite, namespace, to_device
from sideways.errors import InputError
from sideways.losses import Loss
from sideways.network import Network, Unit
from sideways.optimizers import Optimizer


@dataclass(frozen=True)
class Tick:
    """What one tick gave. Its arrays belong to the caller."""

    loss: Array | None  # the mean loss of the batch; None while the network fills, and where the top is elsewhere
    output: Array | None  # the top's activation (N, …), or None likewise
    # unit → key → array, of the units whose backward ran
    gradients: dict[str, dict[str, Array]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The outputs of a clip, one per tick from `first_tick` on, and their losses (empty without targets)."""

    outputs: list[Array]
    losses: list[Array]
    first_tick: int


def nothing() -> None:
    """What is done meanwhile by one who only ticks."""


class Rule:
    """A learning rule: frames and targets in, updated parameters out.

    network, loss: what is trained, and on what.
    optimizer: a template, copied for each unit; None keeps the parameters frozen.
    update_every: average the gradients of this many ticks before each update, counted per unit and across clips;
        `"clip"`: one update at the end of each clip, with the mean of the gradients made since the last.
    """

    def __init__(self, network: Network, loss: Loss, optimizer: Optimizer | None = None, update_every: int | str = 1):
        if not isinstance(network, Network) or not isinstance(loss, Loss):
            raise InputError(f"a rule needs a Network and a loss such as SoftmaxCrossEntropy(), not {network}, {loss}")
        if not isinstance(optimizer, Optimizer | None):
            raise InputError(f"the optimizer is one such as SGD(0.01), or None; not {optimizer!r}")
        if update_every != "clip" and (not isinstance(update_every, int) or update_every < 1):
            raise InputError(f"update_every must be a positive number of ticks or 'clip', not {update_every!r}")
        for name in optimizer.rates if optimizer else ():
            if name not in network.units:
                raise InputError(
                    f"a learning-rate factor names unit {name!r}; the units are {', '.join(network.units)}"
                )
        self.network, self.loss, self.update_every = network, loss, update_every
        self.optimizers = {name: optimizer.for_unit(name) for name in network.units} if optimizer else {}
        self.ticks = 0  # all ticks so far: what learning-rate schedules and dropout count
        self.clock = 0  # ticks since the stream or clip began: the t of the static schedule
        self.batch: int | None = None  # samples per frame in this clip
        self.running = ""  # the unit whose turn it is or was last: for the report of an error
        self._sums: dict[str, dict[str, Array]] = {}  # unit → sum of the gradients since its last update
        self._counts: dict[str, int] = {}  # unit → how many they are

    # To be written by each rule

    def tick(self, frame: Any, target: Any, meanwhile: Callable[[], None] = nothing) -> Tick:
        """One step of the clock: a batch of frames (N, H, W, C) comes in, with the targets that belong to it.

        meanwhile: done when all work of this tick has been given to the device, and before anything is waited for.
        Raises `InputError` for a wrong shape, numbers that are not finite and targets that do not fit.
        """
        raise NotImplementedError

    def evaluate(self, frames: Any, targets: Any = None) -> Evaluation:
        """Run a clip forward: frames (T, N, H, W, C), targets one per frame. Touches no training state."""
        raise NotImplementedError

    # The clip

    def end_clip(self) -> None:
        """The clip is over: make the update that waits for it, and start afresh."""
        self.update_for_clip()
        self.reset()

    def update_for_clip(self) -> None:
        """With `update_every="clip"`: the update of each unit that made gradients since its last."""
        if self.update_every == "clip":
            for name in self._counts:
                self._update(self.network.units[name])

    def reset(self) -> None:
        """Forget what is under way and start the schedule at t = 0 (a flush). Parameters, optimizers, sums stay."""
        self.clock = 0
        self.batch = None

    # What a checkpoint holds

    whole_clips = False  # True for a rule whose state can be saved between clips only

    @property
    def owned(self) -> list[str]:
        """The units that live in this process."""
        return list(self.network.units)

    def unit_state(self, name: str) -> dict[str, Array | int]:
        """All that is held for a unit between two ticks: `"parameters.<key>"`, `"optimizer.<what>.<key>"`, …"""
        unit = self.network.units[name]
        held: dict[str, Array | int] = {f"parameters.{key}": value for key, value in unit.parameters.items()}
        held |= {f"state.{key}": value for key, value in unit.state.items()}
        held |= {f"sum.{key}": value for key, value in self._sums.get(name, {}).items()}
        held["count"] = self._counts.get(name, 0)
        if name in self.optimizers:
            optimizer = self.optimizers[name]
            held["updates"] = optimizer.updates
            for key, memory in optimizer.memory.items():
                held |= {f"optimizer.{what}.{key}": value for what, value in memory.items()}
        return held

    def restore_unit(self, name: str, held: Mapping[str, Any]) -> None:
        """Take back what `unit_state` gave, as host arrays. Counters of the rule (`clock`, …) must be set before."""
        unit = self.network.units[name]
        for kind, arrays in (("parameters", unit.parameters), ("state", unit.state)):
            for key, array in arrays.items():
                array[...] = to_device(held[f"{kind}.{key}"])
        if sums := under("sum", held):
            self._sums[name] = {key: to_device(value) for key, value in sums.items()}
        if count := int(held["count"]):
            self._counts[name] = count
        if name in self.optimizers:
            optimizer = self.optimizers[name]
            optimizer.updates = int(held["updates"])
            for place, value in under("optimizer", held).items():
                what, key = place.split(".", 1)
                optimizer.memory.setdefault(key, {})[what] = to_device(value)

    # The door

    def check_frame(self, frame: Any, batch: int | None) -> Array:
        """The frame on the device, of the network's dtype, or `InputError`. batch: how many samples it must have."""
        self.look_at_frame(frame, batch)
        return to_device(frame, self.network.dtype)

    def look_at_frame(self, frame: Any, batch: int | None) -> None:
        """`InputError` for a frame that does not fit."""
        shape = getattr(frame, "shape", None)
        if shape is None or len(shape) != len(self.network.input_shape) + 1 or shape[1:] != self.network.input_shape:
            expected = ", ".join(map(str, ("N", *self.network.input_shape)))
            raise InputError(f"a frame must be an array of shape ({expected}), got {shape or type(frame).__name__}")
        if frame.dtype.kind not in "fiub":
            raise InputError(f"a frame must hold real numbers, not {frame.dtype}")
        if shape[0] == 0 or (batch is not None and shape[0] != batch):
            raise InputError(
                f"a frame of {shape[0]} samples; {batch or 'at least 1'} expected, the same in a whole clip"
            )
        if not finite(frame):
            raise InputError("the frame holds numbers that are not finite (NaN or infinity)")

    def check_target(self, target: Any, batch: int | None) -> Array:
        """The target on the device, or `InputError`. batch: how many samples it must have, where that is known."""
        if target is None:
            raise InputError(f"tick {self.clock} needs a target: give one with every frame")
        if batch is None:
            batch = len(target)
        return to_device(self.loss.check(target, (batch, *self.network.output_shape)))

    # The update

    def learn(self, unit: Unit, gradients: dict[str, Array]) -> None:
        """Step 3 of the tick: the unit's parameters from its own gradients, at once or when enough are averaged."""
        if not self.optimizers:
            return
        if self.update_every == 1:
            self.optimizers[unit.name].update(unit.parameters, gradients, self.ticks)
            return
        self._counts[unit.name] = self._counts.get(unit.name, 0) + 1
        sums = self._sums.setdefault(unit.name, {})
        for key, gradient in gradients.items():
            if key in sums:
                sums[key] += gradient
            else:
                sums[key] = copied(gradient)
        if self._counts[unit.name] == self.update_every:
            self._update(unit)

    def settle(self) -> None:
        """The end of a tick, before the clock moves on: finish updates that wait for others (replicas). None here."""

    def agree(self) -> None:
        """Before an evaluation or a checkpoint: what replicas hold apart becomes one. Nothing here."""

    def _update(self, unit: Unit) -> None:
        count, sums = self._counts[unit.name], self._sums[unit.name]
        if not count:
            return
        for total in sums.values():
            total *= 1 / count
        self.optimizers[unit.name].update(unit.parameters, sums, self.ticks)
        for total in sums.values():
            total.fill(0)
        self._counts[unit.name] = 0


def under(kind: str, held: Mapping[str, Any]) -> dict[str, Any]:
    """The entries `"<kind>.<rest>"` of a unit's state, as rest → value."""
    return {key.removeprefix(f"{kind}."): value for key, value in held.items() if key.startswith(f"{kind}.")}


def add_up(messages: Sequence[Array]) -> Array:
    """The sum of a unit's incoming gradients, all collected, first to last: the order decides the last bits."""
    first, *others = messages
    if not others:
        return first
    total = namespace(first).add(first, others[0], out=empty(first))
    for message in others[1:]:
        total += message
    return total


def check_delay(target_delay: int | None, network: Network) -> int:
    """The delay from a frame to the tick whose loss uses its target; by default the latency."""
    delay = network.latency if target_delay is None else target_delay
    if not isinstance(delay, int) or not 0 <= delay <= network.latency:
        raise InputError(f"target_delay must be 0 … {network.latency} (the network's latency), not {target_delay}")
    return delay


def pairs(frames: Any, targets: Any) -> Iterable[tuple[Any, Any]]:
    """(frame, target) of each tick of a clip; targets None gives None with every frame."""
    if targets is None:
        return ((frame, None) for frame in frames)
    if len(frames) != len(targets):
        raise InputError(f"a clip needs one target per frame: {len(frames)} frames, {len(targets)} targets")
    return zip(frames, targets, strict=True)
