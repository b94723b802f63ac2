"""Delayed: Sideways with memory. Each gradient is pulled through the Jacobian at the input that it belongs to.

The gradients are exact for an older frame, and no unit waits. The price is memory for inputs, and one more forward pass
for each gradient. With the loss of every n-th tick only, both become small: see `learn_every`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sideways.backend import Array, copied
from sideways.errors import InputError
from sideways.losses import Loss
from sideways.network import Network, Unit
from sideways.rules.mailbox import Mailbox
from sideways.rules.rule import accumulate, add_up
from sideways.rules.sideways import Sideways
from sideways.rules.trace import Trace, delayed_trace


class Delayed(Sideways):
    """Sideways with the right Jacobians: the gradient of the ticking network, late.

    learn_every: the loss of one tick in n = learn_every is learnt from: those of the ticks D-1, D-1+n, … (the marked
        ticks), where D is the depth. Every frame is still seen, and answered at once.
    network, loss and the other options: as for `Sideways`; `update_every` counts the gradients that a unit learns from,
        one for each marked loss.

    What unit i makes at tick s reaches the loss of tick s + l along a path of length l. Let l be the length of the
    longest path that leads aᵢ[s] to a marked loss. If none does, nothing is kept.

        tick s           keep the inputs of Hᵢ
        tick s + l       the last marked loss that depends on aᵢ[s]
        tick s + 2l      the gradient has come: run Hᵢ on the kept inputs again, with today's parameters, pull the
                         gradient through the Jacobian at uᵢ[s], send the parts for the inputs down, forget the inputs
        tick m + lᵢ      for each marked loss m, lᵢ the longest path: update θᵢ from the sum of the pulls since the last
                         update

    On a skip graph the gradient of aᵢ[s] comes in parts. Consumer c takes its own step for tick s + 1, and sends its
    part for aᵢ[s] when its gradient is complete. The part of the slowest consumer arrives in the very tick s + 2l; the
    others wait in the mailbox:

        consumer c with a short way:     message … waits … ┐
        consumer d with the longest way:           message ┴─ add, pull through the Jacobian at uᵢ[s], send down

    With n = 1 every loss is learnt from, and a unit keeps 2lᵢ + 1 inputs. With n ≥ 2D-1 it keeps one input for each
    length of a path (one on a chain, whatever the depth), the tick costs less than that of Sideways, and no parameter
    changes while a gradient is under way: the rule is gradient descent on the exact gradient of the marked losses. With
    smaller n and parameters that change, those of the ticks s … s + 2l all take part in one gradient. With frozen
    parameters every pull equals, to the last bit, the term that `bptt` of the marked losses adds for the forward of
    unit i at tick s. Tests hold this, on any graph.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        *arguments: Any,
        learn_every: int = 1,
        mailbox: Mailbox | None = None,
        **options: Any,
    ):
        if not isinstance(learn_every, int) or isinstance(learn_every, bool) or learn_every < 1:
            raise InputError(f"learn_every must be a positive number of ticks, not {learn_every!r}")
        self.learn_every, self.marks = learn_every, network.marks(learn_every)
        self.kept: dict[str, dict[int, dict[str, Array]]] = {name: {} for name in network.units}  # unit → s → inputs
        self.parts: dict[str, dict[str, Array]] = {}  # unit → sum of the pulls since it last learnt
        options["mailbox"] = Mailbox(partial(network.timetable, marks=self.marks)) if mailbox is None else mailbox
        super().__init__(network, loss, *arguments, **options)

    def forward(self, unit: Unit, inputs: dict[str, Array]) -> tuple[Array, Any]:
        """Run the unit as Sideways does; keep the inputs if a marked loss depends on them.

        Only the top needs what its forward pass saved: the others run on the kept inputs again before they pull.
        """
        if unit is self.network.top:
            return super().forward(unit, inputs)
        if self.marks.has_loss(unit.name, self.clock):
            self.kept[unit.name][self.clock] = self.mailbox.lasting(unit.name, inputs)
        activation, _ = super().forward(unit, inputs)
        return activation, None  # frees what the forward pass saved

    def pull(self, unit: Unit, saved: Any) -> tuple[int, Any] | None:
        """The tick s whose gradient is complete, and what a forward pass on the inputs of tick s saves; or None."""
        s = self.marks.pull(unit.name, self.clock)
        if s is None:
            return None
        if unit is not self.network.top:
            unit.set_position(self.ticks - (self.clock - s), self.first_sample)  # Dropout repeats the masks of tick s
            _, saved = unit.forward(self.kept[unit.name].pop(s), train=True)
        return s, saved

    def incoming_gradient(self, unit: Unit, s: int) -> Array:
        """The gradient of aᵢ[s]: the sum over the consumers that reach a marked loss with it, first to last."""
        messages = [self.mailbox.receive(c, unit.name, s + 1) for c in self.network.consumers[unit.name]]
        return add_up([message for message in messages if message is not None])

    def apply_gradients(self, unit: Unit, gradients: dict[str, Array]) -> None:
        """Add the pulls of this tick to those since the last update, and learn once a loss has sent its last part."""
        if not self.marks.learns(unit.name, self.clock):
            if self.optimizers:  # the gradients belong to the caller of `tick`, so copies are kept
                accumulate(self.parts, unit.name, {key: copied(gradient) for key, gradient in gradients.items()})
            return
        if unit.name in self.parts:
            accumulate(self.parts, unit.name, gradients)
            gradients = self.parts.pop(unit.name)
        super().apply_gradients(unit, gradients)

    def take(self, frame: Any, target: Any) -> Array | None:
        """Check as Sideways does, and copy the frame: the copy may be kept, and the caller may reuse its own array."""
        frame = super().take(frame, target)
        return copied(frame) if self.reads_frame else frame

    def reset(self) -> None:
        """Reset as Sideways does, and forget the inputs and the gradients that are not complete."""
        self.parts.clear()
        for kept in self.kept.values():
            kept.clear()
        super().reset()

    def trace(self) -> dict[str, Trace]:
        """The frames that met in each unit at the last tick: in its activation, and in the gradient that it made."""
        return delayed_trace(self.network, self.marks, self.clock - 1)
