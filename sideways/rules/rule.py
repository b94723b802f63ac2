"""The base class of every rule: frames and targets go in, updated parameters come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sideways.backend import Array, add, copied
from sideways.errors import InputError
from sideways.losses import Loss
from sideways.network import Network, Unit
from sideways.network.checks import check_arrays
from sideways.optimizers import Optimizer


@dataclass(frozen=True)
class Tick:
    """The outcome of one tick. Its arrays belong to the caller."""

    loss: Array | None  # the mean loss of the batch; None while the network fills, or if the top is elsewhere
    output: Array | None  # the top's activation (N, …), or None in the same cases
    # unit → key → array, of the units whose backward ran
    gradients: dict[str, dict[str, Array]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The outputs of a clip, one per tick from `first_tick` on, and their losses (empty without targets)."""

    outputs: list[Array]
    losses: list[Array]
    first_tick: int


def do_nothing() -> None:
    """Do nothing: the default for `meanwhile`."""


class Rule:
    """A learning rule: frames and targets in, updated parameters out.

    network, loss: the network to train, and the loss to train it on.
    optimizer: a template, copied for each unit; None keeps the parameters frozen.
    update_every: average the gradients of this many ticks before each update, counted per unit and across clips;
        `"clip"`: one update at the end of each clip, with the mean of the gradients since the last update.
    """

    whole_clips = False  # True for a rule whose state can be saved between clips only
    target_delay = 0  # ticks from a frame to the loss that uses its target

    def __init__(self, network: Network, loss: Loss, optimizer: Optimizer | None = None, update_every: int | str = 1):
        if not isinstance(network, Network) or not isinstance(loss, Loss):
            raise InputError(f"a rule needs a Network and a loss such as SoftmaxCrossEntropy(), not {network}, {loss}")
        if not isinstance(optimizer, Optimizer | None):
            raise InputError(f"the optimizer must be None or an optimizer such as SGD(0.01), not {optimizer!r}")
        if update_every != "clip" and (not isinstance(update_every, int) or update_every < 1):
            raise InputError(f"update_every must be a positive number of ticks or 'clip', not {update_every!r}")
        for name in optimizer.rates if optimizer else ():
            if name not in network.units:
                raise InputError(
                    f"a learning-rate factor names unit {name!r}; the units are {', '.join(network.units)}"
                )
        for unit in network.units.values():
            check_arrays(unit)
        self.network, self.loss, self.update_every = network, loss, update_every
        self.optimizers = {name: optimizer.for_unit(name) for name in network.units} if optimizer else {}
        self.ticks = 0  # all ticks so far: what learning-rate schedules and dropout count
        self.clock = 0  # ticks since the stream or clip began: the t of the static schedule
        self.batch: int | None = None  # samples per frame in this clip
        self.running = ""  # the unit that runs or ran last: for the report of an error
        self.is_whole = True  # False while a tick or the end of a clip changes the state; after an interruption too
        self.sums: dict[str, dict[str, Array]] = {}  # unit → sum of the gradients since its last update
        self.counts: dict[str, int] = {}  # unit → the number of gradients in its sum

    # Every rule implements these two methods.

    def tick(self, frame: Any, target: Any, meanwhile: Callable[[], None] = do_nothing) -> Tick:
        """Take one step of the clock: a batch of frames (N, H, W, C), with the targets that belong to it.

        meanwhile: called once all of this tick's work is queued on the device, before the host waits for any of it.
        Raises `InputError` for a wrong shape, numbers that are not finite and targets that do not fit.
        """
        raise NotImplementedError

    def evaluate(self, frames: Any, targets: Any = None) -> Evaluation:
        """Run a clip forward: frames (T, N, H, W, C), targets one per frame. Touches no training state."""
        raise NotImplementedError

    @property
    def owned(self) -> list[str]:
        """The units that live in this process."""
        return list(self.network.units)

    # Interruptions: Ctrl-C in a notebook, or an error, may end a tick halfway. Some units have then run and others not.

    def check_whole(self) -> None:
        """Raise `InputError` if the last tick, or the last end of a clip, was interrupted: only `reset` goes on."""
        if not self.is_whole:
            raise InputError(
                f"the tick after {self.ticks} ticks was interrupted halfway, and messages are missing: call reset() to "
                "begin a new clip (units that ran before the interruption may have been updated)"
            )

    def end_tick(self) -> None:
        """Count the tick: its state is whole again."""
        self.clock += 1
        self.ticks += 1
        self.is_whole = True

    # Clips

    def end_clip(self) -> None:
        """End the clip: make the updates that wait for its end, and reset."""
        self.check_whole()
        self.update_for_clip()
        self.reset()

    def update_for_clip(self) -> None:
        """With `update_every="clip"`: update each unit that made gradients since its last update."""
        if self.update_every == "clip":
            self.is_whole = False
            for name in self.counts:
                self._update(self.network.units[name])
            self.is_whole = True

    def reset(self) -> None:
        """Flush: drop all messages and targets, and restart the clock at 0. Parameters, optimizers and sums stay.

        After an interrupted tick the sums of gradients may be incomplete: they are dropped too. A subclass calls this
        method at the end of its own `reset`.
        """
        if not self.is_whole:
            self.sums.clear()
            self.counts.clear()
        self.clock = 0
        self.batch = None
        self.is_whole = True

    # Updates

    def apply_gradients(self, unit: Unit, gradients: dict[str, Array]) -> None:
        """Update the unit's parameters from its own gradients, at once or when enough of them are averaged."""
        if not self.optimizers:
            return
        if self.update_every == 1:
            if gradients:
                self.optimizers[unit.name].update(unit.parameters, gradients, self.ticks)
            return
        self.counts[unit.name] = self.counts.get(unit.name, 0) + 1
        sums = self.sums.setdefault(unit.name, {})
        for key, gradient in gradients.items():
            if key in sums:
                sums[key] += gradient
            else:
                sums[key] = copied(gradient)
        if self.counts[unit.name] == self.update_every:
            self._update(unit)

    def finish_updates(self) -> None:
        """Finish the updates that wait for other replicas, at the end of a tick. Alone, none wait."""

    def average_statistics(self) -> None:
        """Average the running statistics over replicas, before an evaluation or a checkpoint. Alone, do nothing."""

    def _update(self, unit: Unit) -> None:
        count, sums = self.counts[unit.name], self.sums[unit.name]
        if not count:
            return
        for total in sums.values():
            total *= 1 / count
        self.optimizers[unit.name].update(unit.parameters, sums, self.ticks)
        for total in sums.values():
            total.fill(0)
        self.counts[unit.name] = 0


def accumulate(sums: dict[str, dict[str, Array]], name: str, gradients: dict[str, Array]) -> None:
    """Add a unit's gradients to its sum, in place. The first gradients become the sum themselves."""
    if name not in sums:
        sums[name] = gradients
        return
    for key, gradient in gradients.items():
        sums[name][key] += gradient


def add_up(messages: Sequence[Array]) -> Array:
    """The sum of a unit's incoming gradients, added first to last: the order decides the last bits."""
    if len(messages) == 1:
        return messages[0]
    total = add(messages[0], messages[1])
    for message in messages[2:]:
        total += message
    return total
