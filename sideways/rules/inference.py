"""Forward passes of the ticking network: for a training tick, for an evaluation, and for a film of any length."""

from __future__ import annotations

from collections import deque
from typing import Any

from sideways.backend import Array
from sideways.network import FRAME, Network, Unit
from sideways.rules.inputs import frame_on_device, pairs, target_on_device
from sideways.rules.mailbox import Mailbox
from sideways.rules.rule import Evaluation, Rule


def run_unit(
    network: Network, unit: Unit, inputs: dict[str, Array], mailbox: Mailbox, train: bool
) -> tuple[Array, Any]:
    """Run a unit forward, and send its activation up. Returns (activation, values for the backward pass)."""
    activation, saved = unit.forward(inputs, train)
    for consumer in network.consumers[unit.name]:
        mailbox.send(unit.name, consumer, activation, mailbox.tick)
    return activation, saved


def inputs_of(unit: Unit, frame: Array | None, mailbox: Mailbox) -> dict[str, Any]:
    """Take the inputs of a unit at this tick, by name: the frame, and the activations of the last tick."""
    return {j: frame if j == FRAME else mailbox.receive(j, unit.name, mailbox.tick - 1) for j in unit.inputs}


class TickingForward:
    """The units of a rule's process, run forward tick by tick in evaluation mode, with a mailbox of their own."""

    def __init__(self, rule: Rule, mailbox: Mailbox):
        self.rule, self.mailbox, self.t = rule, mailbox, 0

    def tick(self, frame: Array | None) -> Array | None:
        """Take the next frame (N, H, W, C). Returns the top's output, or None while the network fills."""
        network, output = self.rule.network, None
        self.mailbox.begin(self.t)
        for name in self.rule.owned:
            self.rule.running = name
            if self.t >= network.first_forward[name]:
                unit = network.units[name]
                activation, _ = run_unit(network, unit, inputs_of(unit, frame, self.mailbox), self.mailbox, train=False)
                output = activation if name == network.top.name else None
        self.mailbox.end()
        self.t += 1
        return output


def evaluate_ticking(rule: Rule, frames: Any, targets: Any, mailbox: Mailbox) -> Evaluation:
    """Run a clip forward: this is `Rule.evaluate` for the rules that train the ticking network."""
    evaluation = Evaluation([], [], rule.network.latency)
    delayed: deque[Array] = deque(maxlen=rule.target_delay + 1)
    run = TickingForward(rule, mailbox)
    for frame, target in pairs(frames, targets):
        if frame is not None:
            frame = frame_on_device(rule.network, frame, len(frames[0]))
        if target is not None:
            delayed.append(target_on_device(rule.network, rule.loss, target, len(target), run.t))
        output = run.tick(frame)
        if output is not None:
            evaluation.outputs.append(output)
            if target is not None:
                evaluation.losses.append(rule.loss(output, delayed[0])[0])
    mailbox.clear()
    return evaluation
