"""Sideways: one tick of the clock. Every unit runs on the newest messages that have reached it, and never waits.

This code runs with any mailbox, so the units may live in one process or in several. Read `mailbox.py` first.
Sources: Malinowski et al., CVPR 2020 (chains) and CVPR 2021 (skip edges).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sideways.backend import Array
from sideways.network import Unit
from sideways.rules.inference import inputs_of, run_unit
from sideways.rules.rule import Tick, add_up, do_nothing
from sideways.rules.ticking_rule import TickingRule


class Sideways(TickingRule):
    """Depth-parallel training: gradients are pulled through the Jacobians of the newest activations.

    The base class `TickingRule` lists the options, holds the mailbox and the targets, and ends clips.
    """

    #  tick     0     1     2       3         4            A chain of three units. In each cell: the frame in the unit's
    #  unit 3   ·     ·     0 | 0   1 | 1     2 | 2        activation | the frames whose activations its pseudo-gradient
    #  unit 2   ·     0 |   1 |     2 | 0 2   3 | 1 3      was pulled through, from the loss down to the unit itself.
    #  unit 1   0 |   1 |   2 |     3 |       4 | 0 2 4    (This is `rule.trace()`.)

    def tick(self, frame: Any, target: Any, meanwhile: Callable[[], None] = do_nothing) -> Tick:
        """Run every unit forward once and backward once, on the messages that were sent at the last tick.

        frame (N, H, W, C); target: of this frame, in the form that the loss takes. A process that has no reader of the
        frame may pass None for the frame; a process without the top, None for the target. meanwhile: see `Rule.tick`.
        """
        network, t = self.network, self.clock
        frame = self.take(frame, target)
        loss, output, loss_gradient, pseudo_gradients = None, None, None, {}
        self.mailbox.begin(t)

        for unit in self.units:
            # 1. Forward: aᵢ[t] = Hᵢ(uᵢ[t]; θᵢ), where uᵢ[t] merges the inputs aⱼ[t-1]. No older activation is kept.
            if t < network.first_forward[unit.name]:
                continue  # not all inputs have reached this unit yet
            activation, saved = self.forward(unit, inputs_of(unit, frame, self.mailbox))
            if unit is network.top:
                output = activation
                loss, loss_gradient = self.loss(activation, self.targets[0])  # the target of target_delay ticks ago

            # 2. Backward: pull gᵢ = Σ g_{c→i}[t-1] (consumers c) through the Jacobian of Hᵢ at uᵢ[t], the newest input.
            pull = self.pull(unit, saved)
            if pull is None:
                continue  # not all consumers have sent a gradient yet
            s, saved = pull  # s = t
            gradient = loss_gradient if unit is network.top else self.incoming_gradient(unit, s)
            messages, pseudo_gradients[unit.name] = unit.backward(gradient, saved)
            for j, message in messages.items():
                self.mailbox.send(unit.name, j, message, s)

            # 3. Update: θᵢ from its own pseudo-gradient. This tick's forward and backward both used the old value.
            self.apply_gradients(unit, pseudo_gradients[unit.name])

        meanwhile()
        self.mailbox.end()
        self.finish_updates()
        self.end_tick()
        return Tick(loss, output, pseudo_gradients)

    def forward(self, unit: Unit, inputs: dict[str, Array]) -> tuple[Array, Any]:
        """Take step 1 for one unit, and send its activation up. Returns (activation, values for the backward pass)."""
        self.running = unit.name
        unit.set_position(self.ticks, self.first_sample)
        activation, saved = run_unit(self.network, unit, inputs, self.mailbox, train=True)
        unit.update_statistics(saved)
        return activation, saved

    def pull(self, unit: Unit, saved: Any) -> tuple[int, Any] | None:
        """The backward pass that is due: (s, what a forward pass on the inputs of tick s saves); None without any."""
        return (self.clock, saved) if self.clock >= self.network.first_backward[unit.name] else None

    def incoming_gradient(self, unit: Unit, s: int) -> Array:
        """The sum of the gradients that the consumers sent at the last tick, first consumer to last."""
        return add_up([self.mailbox.receive(c, unit.name, s - 1) for c in self.network.consumers[unit.name]])
