"""Delayed: Sideways with memory. Each gradient is pulled through the Jacobian at the input that it belongs to.

The gradients are exact for an older frame, and no unit waits. The price is one more forward per tick for each unit
below the top, and memory: a unit that is ℓ ticks from the top keeps its last 2ℓ + 1 inputs.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from sideways.backend import Array, copied
from sideways.network import Network, Unit
from sideways.rules.inference import inputs_of
from sideways.rules.mailbox import Mailbox
from sideways.rules.rule import add_up
from sideways.rules.sideways import Sideways
from sideways.rules.trace import Trace, delayed_trace


class Delayed(Sideways):
    """Sideways with the right Jacobians: the gradient of the ticking network, late.

    Let ℓᵢ be the ticks of the longest path from unit i to the top. At tick t unit i takes the backward step that
    belongs to its forward of tick

        s = t - 2ℓᵢ        ℓᵢ ticks up from aᵢ[s] to the last loss that aᵢ[s] reaches, ℓᵢ ticks down

    by running Hᵢ again on the inputs of tick s, which unit i kept, with today's parameters. On a chain the gradient of
    aᵢ[s] arrives at tick s + 2ℓᵢ. On a skip graph the gradient comes in parts: consumer c takes its own step for tick
    s + 1 at tick s + 1 + 2ℓ_c, so its message waits in the mailbox for 2(ℓᵢ - ℓ_c - 1) ticks, until the message of the
    slowest consumer is there. Then all parts of the gradient of aᵢ[s] are added up, and the sum is pulled once:

        consumer c with a short way:     message … waits … ┐
        consumer d with the longest way:           message ┴─ add, pull through the Jacobian at uᵢ[s], send down

    So every edge carries one message per tick, and each message is the gradient of one activation. With frozen
    parameters, the gradient that unit i makes at tick t equals, to the last bit, the term that `bptt` adds for the
    forward of unit i at tick t - 2ℓᵢ, on chains and on skip graphs. Summed over a stream, these terms are `bptt`'s
    gradient of the losses whose gradients have arrived. While parameters change, the parameters of the ticks
    t - 2ℓᵢ … t all take part in one gradient. The cost: one more forward per tick for each unit below the top, the kept
    inputs, and the messages that wait. Options as for `Sideways`; all units live in this process.
    """

    def __init__(self, network: Network, *arguments: Any, **options: Any):
        self.longest = {name: longest for name, (_, longest) in network.to_top.items()}  # ℓ
        self.inputs: dict[str, deque[dict[str, Array]]] = {  # unit → its inputs of the last 2ℓ + 1 ticks, oldest first
            name: deque(maxlen=2 * ticks + 1) for name, ticks in self.longest.items() if ticks
        }
        delays = {(i, j): 2 * (self.longest[j] - self.longest[i] - 1) for j, i in network.edges}  # of gradients
        first_message = network.first_message | dict.fromkeys(delays, 0)  # no gradient message is dropped
        options["mailbox"] = Mailbox(first_message, delays)
        super().__init__(network, *arguments, **options)

    def forward(self, unit: Unit, frame: Array | None) -> tuple[Array, Any]:
        """Run the unit as Sideways does, but return the saved values for the Jacobian at the input of tick s."""
        delay = 2 * self.longest[unit.name]
        if not delay:  # the top
            return super().forward(unit, frame)
        self.inputs[unit.name].append(inputs_of(unit, frame, self.mailbox))
        activation, saved = super().forward(unit, frame)
        if self.clock >= self.network.first_backward[unit.name]:
            unit.set_position(self.ticks - delay, self.first_sample)  # Dropout repeats the masks of tick s
            _, saved = unit.forward(self.inputs[unit.name][-1 - delay], train=True)
        return activation, saved

    def incoming_gradient(self, unit: Unit) -> Array:
        """The sum of the consumers' gradients that belong to tick s. At first some consumers reach no loss yet."""
        messages = [self.mailbox.receive(consumer, unit.name) for consumer in self.network.consumers[unit.name]]
        return add_up([message for message in messages if message is not None])

    def take(self, frame: Any, target: Any) -> Array | None:
        """Check as Sideways does, and copy the frame: the copy is kept, and the caller may reuse its own array."""
        return copied(super().take(frame, target))

    def reset(self) -> None:
        """Reset as Sideways does, and forget the inputs."""
        super().reset()
        for kept in self.inputs.values():
            kept.clear()

    def trace(self) -> dict[str, Trace]:
        """The frames that met in each unit: the activation is of the last tick, the gradient of 2ℓ ticks before."""
        return delayed_trace(self.network, self.clock - 1)
