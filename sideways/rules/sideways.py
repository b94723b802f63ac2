"""Sideways: the tick. Every unit runs on what reached it, and nothing waits.

The maths of one tick is in `Sideways.tick`, step by step; the same code runs with any mailbox, so the units may as well
live in several processes. Sources: Malinowski et al., CVPR 2020 (chains) and CVPR 2021 (skip edges).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sideways.backend import Array, copied, to_device
from sideways.errors import InputError
from sideways.losses import Loss
from sideways.network import FRAME, Network, Unit
from sideways.optimizers import Optimizer
from sideways.rules.mailbox import Mailbox
from sideways.rules.rule import Evaluation, Rule, Tick, add_up, check_delay, nothing, pairs, under
from sideways.rules.trace import Trace, trace


class Sideways(Rule):
    """Depth-parallel training: gradients are pulled through the Jacobians of the newest activations.

    network, loss, optimizer, update_every: as for every `Rule`.
    target_delay: the loss at tick t uses the target that came at t - target_delay, 0 … latency; by default the latency,
        so the top is asked about the oldest frame it sees.
    boundary: `"flush"`: a clip ends with its frames; `"stream"`: the next clip follows with no gap.
    units: the names of the units that live in this process (all, by default); the others are reached by `mailbox`.
    first_sample: the place of this batch's first sample in the whole batch, where replicas share it.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer | None = None,
        update_every: int | str = 1,
        target_delay: int | None = None,
        boundary: str = "flush",
        mailbox: Mailbox | None = None,
        units: Iterable[str] | None = None,
        first_sample: int = 0,
    ):
        super().__init__(network, loss, optimizer, update_every)
        if boundary not in ("flush", "stream"):
            raise InputError(f"unknown clip boundary {boundary!r}: choose 'flush' or 'stream'")
        self.target_delay = check_delay(target_delay, network)
        self.boundary = boundary
        self.mailbox = Mailbox() if mailbox is None else mailbox
        self.units = [network.units[name] for name in (network.units if units is None else units)]
        self.reads_frame = any(FRAME in unit.inputs for unit in self.units)
        self.asks_target = network.top in self.units
        self.first_sample = first_sample
        self.targets: deque[Array] = deque(maxlen=self.target_delay + 1)  # the oldest is the one that the loss uses

    def tick(self, frame: Any, target: Any, meanwhile: Callable[[], None] = nothing) -> Tick:
        """One step of the clock: each unit runs forward once and backward once, on messages of the tick before.

        frame (N, H, W, C); target: what the loss wants for this frame, one for every frame. A process without a unit
        that reads the frame may pass None for it, one without the top None for the target.
        """
        network, t = self.network, self.clock
        batch = self.batch
        if self.reads_frame:
            frame = self.check_frame(frame, batch)
            batch = len(frame)
        if self.asks_target:
            self.targets.append(copied(self.check_target(target, batch)))  # the caller may reuse its own
        self.batch = batch
        loss = output = None
        pseudo_gradients = {}
        self.mailbox.begin(t)
        self.keep(frame)

        for unit in self.units:
            self.running = unit.name
            # 1. Forward: aᵢ[t] = Hᵢ(uᵢ[t]; θᵢ), with uᵢ[t] merged from the aⱼ[t-1]; it overwrites what the unit held.
            unit.at(self.ticks, self.first_sample)
            activation, saved = forward(network, unit, t, frame, self.mailbox, train=True)
            if activation is None:
                continue
            unit.observe(saved)
            if unit is network.top:
                output = activation

            # 2. Backward: the gradients sent at t-1, pulled through the Jacobian of Hᵢ at uᵢ[t], the newest input.
            if t < network.first_backward[unit.name]:
                continue
            if unit is network.top:
                loss, gradient = self.loss(activation, self.targets[0])
            else:
                gradient = add_up(self.gradients_for(unit))
            messages, pseudo_gradients[unit.name] = unit.backward(gradient, self.held_for(unit, saved))
            for j, message in messages.items():
                if self.is_read(j):
                    self.mailbox.send(unit.name, j, message)

            # 3. Update: θᵢ from its own pseudo-gradient; this tick's forward and backward both used the old value.
            self.learn(unit, pseudo_gradients[unit.name])

        meanwhile()
        self.mailbox.deliver()
        self.settle()
        self.clock += 1
        self.ticks += 1
        return Tick(loss, output, pseudo_gradients)

    def keep(self, frame: Array | None) -> None:
        """At the beginning of a tick: what is remembered of what has come. Nothing."""

    def gradients_for(self, unit: Unit) -> list[Array]:
        """The messages that step 2 adds up, first consumer to last: those sent at the last tick."""
        return [self.mailbox.receive(consumer, unit.name) for consumer in self.network.consumers[unit.name]]

    def held_for(self, unit: Unit, saved: Any) -> Any:
        """What step 2 takes the Jacobian from: that of this tick's forward."""
        return saved

    def is_read(self, name: str) -> bool:
        """Whether the unit of this name reads, at the next tick, the gradient sent to it now; else it is not sent."""
        return self.clock >= self.network.first_backward[name] - 1

    def end_clip(self) -> None:
        """The clip is over: make the update that waits for it; under `"flush"`, drop the frames under way.

        Raises `InputError` for a flushed clip that was too short to train every unit.
        """
        shortest = 2 * self.network.depth - 1
        if self.boundary == "flush" and self.clock < shortest:
            raise InputError(
                f"a clip of {self.clock} frames trains no bottom unit of a network of depth {self.network.depth}: "
                f"at least {shortest} are needed, or boundary='stream'"
            )
        self.update_for_clip()
        if self.boundary == "flush":
            self.reset()

    def reset(self) -> None:
        """Flush: empty the mailboxes, drop the delayed targets, start the schedule at t = 0 again."""
        super().reset()
        self.mailbox.clear()
        self.targets.clear()

    @property
    def owned(self) -> list[str]:
        return [unit.name for unit in self.units]

    def unit_state(self, name: str) -> dict[str, Array | int]:
        held = super().unit_state(name)
        held |= {f"message.{sender}": message for sender, message in self.mailbox.waiting(name).items()}
        if name == self.network.top.name:
            held |= {f"target.{age}": target for age, target in enumerate(self.targets)}
        return held

    def restore_unit(self, name: str, held: Mapping[str, Any]) -> None:
        super().restore_unit(name, held)
        for sender, message in under("message", held).items():
            self.mailbox.restore(self.clock, sender, name, to_device(message))
        if name == self.network.top.name:
            targets = under("target", held)
            self.targets.extend(to_device(targets[str(age)]) for age in range(len(targets)))

    def evaluate(self, frames: Any, targets: Any = None) -> Evaluation:
        """Run a clip through the ticking network, forward only, with a mailbox of its own.

        frames (T, N, H, W, C), targets one per frame. There is one output per tick from the latency on; its loss uses
        the target given target_delay ticks before. Touches no training state.
        """
        return evaluate_ticking(self, self.units, frames, targets, self.target_delay, self.mailbox.for_evaluation())

    def trace(self) -> dict[str, Trace]:
        """What met in each unit at the last tick: see `Trace`."""
        return trace(self.network, self.clock - 1)


def forward(
    network: Network, unit: Unit, t: int, frame: Array | None, mailbox: Mailbox, train: bool
) -> tuple[Array | None, Any]:
    """Step 1 of tick t for one unit: (activation, saved), or (None, None) before its first forward."""
    if t < network.first_forward[unit.name]:
        return None, None
    activation, saved = unit.forward(inputs_of(unit, frame, mailbox), train)
    for consumer in network.consumers[unit.name]:
        if t >= network.first_forward[consumer] - 1:  # what is sent earlier nobody would read
            mailbox.send(unit.name, consumer, activation)
    return activation, saved


def inputs_of(unit: Unit, frame: Array | None, mailbox: Mailbox) -> dict[str, Any]:
    """What a unit reads at this tick, by name: messages sent at the last one, and the frame."""
    return {j: frame if j == FRAME else mailbox.receive(j, unit.name) for j in unit.inputs}


def evaluate_ticking(
    rule: Rule, units: Sequence[Unit], frames: Any, targets: Any, target_delay: int, mailbox: Mailbox
) -> Evaluation:
    """`Sideways.evaluate`, which also serves BPTT: both train the ticking network."""
    network, top = rule.network, rule.network.top
    evaluation = Evaluation([], [], network.latency)
    delayed: deque[Array] = deque(maxlen=target_delay + 1)
    for t, (frame, target) in enumerate(pairs(frames, targets)):
        if frame is not None:
            frame = rule.check_frame(frame, len(frames[0]))
        if target is not None:
            delayed.append(rule.check_target(target, len(target)))
        mailbox.begin(t)
        for unit in units:
            rule.running = unit.name
            activation, _ = forward(network, unit, t, frame, mailbox, train=False)
            if unit is top and activation is not None:
                evaluation.outputs.append(activation)
                if target is not None:
                    evaluation.losses.append(rule.loss(activation, delayed[0])[0])
        mailbox.deliver()
    mailbox.clear()
    return evaluation
