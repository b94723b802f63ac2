"""Delayed: Sideways that remembers. Each gradient is pulled through the Jacobian at the input it belongs to.

It is exact for an older frame and never waits. It pays with one forward more per tick of each unit below the top, and
in memory: a unit that is ℓ ticks from the top keeps its last 2ℓ + 1 inputs.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from sideways.backend import Array, copied
from sideways.network import Network, Unit
from sideways.rules.inference import inputs_of
from sideways.rules.mailbox import Mailbox
from sideways.rules.sideways import Sideways
from sideways.rules.trace import Trace, delayed_trace


class Delayed(Sideways):
    """Sideways with the right Jacobians: the gradient of the ticking network, late.

    Let ℓᵢ be the ticks of the longest path from unit i to the top. At tick t unit i takes the backward step that
    belongs to its forward of tick

        s = t - 2ℓᵢ        ℓᵢ ticks up from aᵢ[s] to the last loss it reaches, ℓᵢ ticks down

    by running Hᵢ again on the inputs of tick s, which it kept, with today's parameters. On a chain the gradient of
    aᵢ[s] arrives at tick s + 2ℓᵢ. On a skip graph it comes in parts: consumer c takes its own step for tick s + 1 at
    tick s + 1 + 2ℓ_c, so its message waits in the mailbox for 2(ℓᵢ - ℓ_c - 1) ticks, until the message of the slowest
    consumer is there. Then all that belongs to aᵢ[s] is added up, and pulled once:

        consumer c with a short way:     message … waits … ┐
        consumer d with the longest way:           message ┴─ add, pull through the Jacobian at uᵢ[s], send down

    So every edge carries one message per tick, each about one activation, and with frozen parameters what unit i makes
    at tick t is what `bptt` adds for its forward of tick t - 2ℓᵢ, to the last bit, for chains and skip graphs: summed
    over a stream, `bptt`'s gradient over the losses whose gradients have arrived. While parameters change, the gradient
    was formed with those of ticks t - 2ℓᵢ … t. The cost: one more forward per tick for each unit below the top, the
    inputs, and the messages that wait. Options as for `Sideways`; all units live in this process.
    """

    def __init__(self, network: Network, *arguments: Any, **options: Any):
        self.longest = {name: longest for name, (_, longest) in network.to_top.items()}  # ℓ
        self.inputs: dict[str, deque[dict[str, Array]]] = {  # unit → its inputs of the last 2ℓ + 1 ticks, oldest first
            name: deque(maxlen=2 * ticks + 1) for name, ticks in self.longest.items() if ticks
        }
        delays = {(i, j): 2 * (self.longest[j] - self.longest[i] - 1) for j, i in network.edges}  # of gradients
        options["mailbox"] = Mailbox(network.first_message | dict.fromkeys(delays, 0), delays)
        super().__init__(network, *arguments, **options)

    def forward(self, unit: Unit, frame: Array | None) -> tuple[Array, Any]:
        """As for Sideways, but the backward pass will use the Jacobian at the input of tick s."""
        delay = 2 * self.longest[unit.name]
        if not delay:  # the top
            return super().forward(unit, frame)
        self.inputs[unit.name].append(inputs_of(unit, frame, self.mailbox))
        activation, saved = super().forward(unit, frame)
        if self.clock >= self.network.first_backward[unit.name]:
            unit.set_position(self.ticks - delay, self.first_sample)  # with the masks that Dropout had then
            _, saved = unit.forward(self.inputs[unit.name][-1 - delay], train=True)
        return activation, saved

    def take(self, frame: Any, target: Any) -> Array | None:
        """As for Sideways, with a copy of the frame: it is kept, and the caller may reuse its own array."""
        return copied(super().take(frame, target))

    def reset(self) -> None:
        """As for Sideways, and forget the inputs."""
        super().reset()
        for kept in self.inputs.values():
            kept.clear()

    def trace(self) -> dict[str, Trace]:
        """What met in each unit at the last tick: its activation is of that tick, its gradient of 2ℓ ticks before."""
        return delayed_trace(self.network, self.clock - 1)
