"""Backpropagation through time: the exact gradient of the ticking network, by storing everything.

Sideways approximates this gradient. The memory of BPTT grows with the length of the clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from sideways.backend import Array, copied
from sideways.errors import InputError
from sideways.losses import Loss
from sideways.network import Network
from sideways.optimizers import Optimizer
from sideways.rules.backprop import Gradients
from sideways.rules.inference import evaluate_ticking, inputs_of, run_unit
from sideways.rules.inputs import check_delay, frame_on_device, pairs, target_on_device
from sideways.rules.mailbox import Mailbox
from sideways.rules.rule import Evaluation, Rule, Tick, accumulate, add_up, do_nothing


def bptt(network: Network, loss: Loss, frames: Any, targets: Any, target_delay: int | None = None) -> Gradients:
    """The exact gradient of the sum of the losses at the ticks D-1 … T-1 of the ticking network of depth D.

    frames (T, N, H, W, C), targets one per frame, target_delay as for `Sideways`. A pure function; `output` is the list
    of the top's activations at these ticks. Raises `InputError` for a clip shorter than the depth: it has no loss.
    """
    rule = BPTT(network, loss, target_delay=target_delay)
    ticks = []
    for frame, target in pairs(frames, targets):
        ticks.append(rule.unroll(frame, target))
        rule.end_tick()
    gradients = rule.roll_up()
    losses = [tick.loss for tick in ticks if tick.loss is not None]
    return Gradients(sum(losses[1:], losses[0]), [tick.output for tick in ticks if tick.output is not None], gradients)


class BPTT(Rule):
    """The ticking network trained by its exact gradient: one update at the end of each clip.

    The update uses the gradient divided by the number of losses, so that rates mean the same as for `Sideways` with
    `update_every="clip"`. Clips are flushed: frames under way at the end of a clip are dropped.
    """

    whole_clips = True

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer | None = None,
        update_every: int | str = "clip",
        target_delay: int | None = None,
    ):
        if update_every != "clip":
            raise InputError(
                f"BPTT knows the gradient only when a clip is over: update_every='clip', not {update_every!r}"
            )
        super().__init__(network, loss, optimizer, update_every)
        self.target_delay = check_delay(target_delay, network)
        self.reset()

    def reset(self) -> None:
        self.is_whole = False  # until all is reset
        self._mailbox = Mailbox(self.network.timetable)
        self._targets: deque[Array] = deque(maxlen=self.target_delay + 1)
        self._saved: list[dict[str, Any]] = []  # tick → unit → saved
        self._loss_gradients: dict[int, Array] = {}  # tick → dL/d(output)
        super().reset()

    def tick(self, frame: Any, target: Any, meanwhile: Callable[[], None] = do_nothing) -> Tick:
        """Run one tick forward and store all of it; the end of the clip brings the gradients."""
        self.check_whole()
        for unit in self.network.units.values():
            unit.set_position(self.ticks, 0)
        tick = self.unroll(frame, target)
        for name, saved in self._saved[-1].items():
            self.network.units[name].update_statistics(saved)
        meanwhile()
        self.end_tick()
        return tick

    def end_clip(self) -> None:
        self.check_whole()
        if len(self._saved) < self.clock:  # after an interruption between the updates and the reset
            self.reset()
            return
        losses = len(self._loss_gradients)
        for name, gradients in self.roll_up().items():
            for gradient in gradients.values():
                gradient *= 1 / losses
            self.apply_gradients(self.network.units[name], gradients)
        self.update_for_clip()
        self.reset()

    def evaluate(self, frames: Any, targets: Any = None) -> Evaluation:
        return evaluate_ticking(self, frames, targets, Mailbox(self.network.timetable))

    def unroll(self, frame: Any, target: Any) -> Tick:
        """Run the forward half of tick t, and store everything. `end_tick` must follow."""
        network, t = self.network, self.clock
        frame = frame_on_device(network, frame, self.batch)
        target = target_on_device(network, self.loss, target, len(frame), t)
        frame = copied(frame)  # stored until the clip ends, while the caller may reuse its own array
        self.is_whole = False  # until `end_tick`
        self._targets.append(copied(target))
        self.batch = len(frame)
        self._saved.append({})
        self._mailbox.begin(t)
        loss = output = None
        for name, unit in network.units.items():
            if t < network.first_forward[name]:
                continue
            inputs = inputs_of(unit, frame, self._mailbox)
            activation, self._saved[t][name] = run_unit(network, unit, inputs, self._mailbox, train=True)
            if unit is network.top:
                loss, self._loss_gradients[t] = self.loss(activation, self._targets[0])
                output = copied(activation)  # the stored activation may share memory with other arrays
        self._mailbox.end()
        return Tick(loss, output)

    def roll_up(self) -> dict[str, dict[str, Array]]:
        """Run backward through all stored ticks, last to first. Returns unit → key → dθ, summed over ticks."""
        network = self.network
        if not self._loss_gradients:
            raise InputError(f"a clip of {self.clock} frames has no loss: the network's depth is {network.depth}")
        self.is_whole = False  # the stored ticks are used up
        totals: dict[str, dict[str, Array]] = {}
        arriving: dict[tuple[str, str], Array] = {}  # the gradients that tick t+1 sends back to tick t
        for t in range(self.clock - 1, -1, -1):
            leaving = {}
            saved_at_t = self._saved.pop()
            for name, saved in saved_at_t.items():
                gradients = [arriving[c, name] for c in network.consumers[name] if (c, name) in arriving]
                if name == network.top.name:
                    gradients = [self._loss_gradients[t]]
                if not gradients:  # the activation of tick t reaches no loss of this clip
                    continue
                messages, own = network.units[name].backward(add_up(gradients), saved)
                leaving.update({(name, j): message for j, message in messages.items()})
                accumulate(totals, name, own)
            arriving = leaving
        return {name: totals[name] for name in network.units if name in totals}
