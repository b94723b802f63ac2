"""Sideways: one tick of the clock. Every unit runs on what has reached it, and nothing waits.

The same code runs with any mailbox, so that the units may as well live in several processes. Read `mailbox.py` first.
Sources: Malinowski et al., CVPR 2020 (chains) and CVPR 2021 (skip edges).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sideways.backend import Array
from sideways.network import Unit
from sideways.rules.inference import forward
from sideways.rules.rule import Tick, add_up, do_nothing
from sideways.rules.ticking import TickingRule


class Sideways(TickingRule):
    """Depth-parallel training: gradients are pulled through the Jacobians of the newest activations.

    `TickingRule` lists the options; it holds the mailbox and the targets, and ends clips.
    """

    #  tick     0     1     2       3         4            A chain of three units. In each cell: the frame in the unit's
    #  unit 3   ·     ·     0 | 0   1 | 1     2 | 2        activation | the frames whose activations its pseudo-gradient
    #  unit 2   ·     0 |   1 |     2 | 0 2   3 | 1 3      was pulled through, from the loss down to the unit itself.
    #  unit 1   0 |   1 |   2 |     3 |       4 | 0 2 4    (This is `rule.trace()`.)

    def tick(self, frame: Any, target: Any, meanwhile: Callable[[], None] = do_nothing) -> Tick:
        """Run every unit forward once and backward once, on the messages that were sent at the last tick.

        frame (N, H, W, C); target: what the loss wants for this frame, one for every frame. A process without a unit
        that reads the frame may pass None for it, one without the top None for the target.
        """
        network, t = self.network, self.clock
        frame = self.take(frame, target)
        loss, output, pseudo_gradients = None, None, {}
        self.mailbox.begin(t)

        for unit in self.units:
            # 1. Forward: aᵢ[t] = Hᵢ(uᵢ[t]; θᵢ), where uᵢ[t] merges the aⱼ[t-1]. It overwrites what the unit held.
            if t < network.first_forward[unit.name]:
                continue  # no frame has reached this unit yet
            activation, saved = self.forward(unit, frame)

            # 2. Backward: pull gᵢ = Σ g_{c→i}[t-1] through the Jacobian of Hᵢ at uᵢ[t], the newest input.
            if t < network.first_backward[unit.name]:
                continue  # no gradient has come down to this unit yet
            if unit is network.top:
                output = activation
                loss, gradient = self.loss(activation, self.targets[0])
            else:
                gradient = self.incoming_gradient(unit)
            messages, pseudo_gradients[unit.name] = unit.backward(gradient, saved)
            for j, message in messages.items():
                self.mailbox.send(unit.name, j, message)

            # 3. Update: θᵢ from its own pseudo-gradient. This tick's forward and backward both used the old value.
            self.apply_gradients(unit, pseudo_gradients[unit.name])

        meanwhile()
        self.mailbox.deliver()
        self.finish_updates()
        self.clock += 1
        self.ticks += 1
        return Tick(loss, output, pseudo_gradients)

    def forward(self, unit: Unit, frame: Array | None) -> tuple[Array, Any]:
        """Step 1 for one unit: send its activation up. Returns (activation, what its backward pass needs)."""
        self.running = unit.name
        unit.set_position(self.ticks, self.first_sample)
        activation, saved = forward(self.network, unit, frame, self.mailbox, train=True)
        unit.update_statistics(saved)
        return activation, saved

    def incoming_gradient(self, unit: Unit) -> Array:
        """The sum of the gradients that the consumers sent and that are due, first consumer to last."""
        messages = [self.mailbox.receive(consumer, unit.name) for consumer in self.network.consumers[unit.name]]
        return add_up([message for message in messages if message is not None])
