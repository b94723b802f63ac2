"""Backpropagation of one frame: edges take no time, and the network is locked from the frame to the update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sideways.backend import Array
from sideways.losses import Loss
from sideways.network import FRAME, Network
from sideways.rules.inputs import frame_on_device, pairs, target_on_device
from sideways.rules.rule import Evaluation, Rule, Tick, add_up, do_nothing


@dataclass(frozen=True)
class Gradients:
    """An exact gradient: the loss, the output(s) of the top, and unit → key → array."""

    loss: Array
    output: Any
    gradients: dict[str, dict[str, Array]]


def backprop(network: Network, loss: Loss, frame: Any, target: Any) -> Gradients:
    """The exact gradient of the loss of one frame, where no edge takes time.

    frame (N, H, W, C), target in the form that the loss takes. A pure function: running statistics do not change.
    """
    frame = frame_on_device(network, frame, None)
    activations, saved = forward_all(network, frame, train=True)
    output = activations[network.top.name]
    value, gradient = loss(output, target_on_device(network, loss, target, len(frame), 0))
    return Gradients(value, output, backward_all(network, gradient, saved))


class Backprop(Rule):
    """Ordinary training, one frame at a time: the network waits until the gradient has come back.

    Edges take no tick, in training and in evaluation: every frame has its output in its own tick. The end of a clip
    changes the network only with `update_every="clip"`, which updates it then.
    """

    def tick(self, frame: Any, target: Any, meanwhile: Callable[[], None] = do_nothing) -> Tick:
        self.check_whole()
        frame = frame_on_device(self.network, frame, self.batch)
        target = target_on_device(self.network, self.loss, target, len(frame), self.clock)
        for unit in self.network.units.values():
            unit.set_position(self.ticks, 0)
        activations, saved = forward_all(self.network, frame, train=True)
        output = activations[self.network.top.name]
        loss, gradient = self.loss(output, target)
        gradients = backward_all(self.network, gradient, saved)
        self.is_whole = False  # until `end_tick`; a tick that is interrupted before has changed nothing
        self.batch = len(frame)
        for name, unit in self.network.units.items():
            unit.update_statistics(saved[name])
            self.apply_gradients(unit, gradients[name])
        meanwhile()
        self.end_tick()
        return Tick(loss, output, gradients)

    def evaluate(self, frames: Any, targets: Any = None) -> Evaluation:
        evaluation = Evaluation([], [], 0)
        for frame, target in pairs(frames, targets):
            frame = frame_on_device(self.network, frame, len(frames[0]))
            activations, _ = forward_all(self.network, frame, train=False)
            evaluation.outputs.append(activations[self.network.top.name])
            if target is not None:
                target = target_on_device(self.network, self.loss, target, len(frame), len(evaluation.losses))
                value, _ = self.loss(evaluation.outputs[-1], target)
                evaluation.losses.append(value)
        return evaluation


def forward_all(network: Network, frame: Array, train: bool) -> tuple[dict[str, Array], dict[str, Any]]:
    """Run each unit once, from the frame to the top. Returns the activations, and the values that each unit saved."""
    activations, saved = {FRAME: frame}, {}
    for name, unit in network.units.items():
        activations[name], saved[name] = unit.forward(activations, train)
    return activations, saved


def backward_all(network: Network, gradient: Array, saved: dict[str, Any]) -> dict[str, dict[str, Array]]:
    """Pull the top's gradient down through each unit once. Returns unit → key → dθ."""
    messages: dict[tuple[str, str], Array] = {}
    gradients = {}
    for name in reversed(network.units):
        if name != network.top.name:
            gradient = add_up([messages.pop((consumer, name)) for consumer in network.consumers[name]])
        sent, gradients[name] = network.units[name].backward(gradient, saved[name])
        for j, message in sent.items():
            messages[name, j] = message
    return {name: gradients[name] for name in network.units}
