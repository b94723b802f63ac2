"""Delayed: Sideways that remembers. Each gradient is pulled through the Jacobian at the input it belongs to.

It is exact for an older frame and never waits. It pays with one forward more per tick of each unit below the top, and
in memory: a unit that is ℓ ticks from the top keeps its last 2ℓ + 1 inputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from sideways.backend import Array, copied, to_device
from sideways.network import Unit
from sideways.rules.rule import under
from sideways.rules.sideways import Sideways, inputs_of
from sideways.rules.trace import Trace, delayed_trace


class Delayed(Sideways):
    """Sideways with the right Jacobians: the gradient of the ticking network, late.

    Let ℓᵢ be the ticks of the longest path from unit i to the top. At tick t unit i takes the backward step that
    belongs to its forward of tick

        s = t - 2ℓᵢ        ℓᵢ ticks up from aᵢ[s] to the last loss it reaches, ℓᵢ ticks down

    by running Hᵢ again on the inputs of tick s, which it kept, with today's parameters. On a chain the gradient of
    aᵢ[s] arrives at tick s + 2ℓᵢ. On a skip graph it comes in parts: consumer c takes its own step for tick s + 1 at
    tick s + 1 + 2ℓ_c, so its message lies here for 2(ℓᵢ - ℓ_c - 1) ticks, until the message of the slowest consumer is
    there. Then all that belongs to aᵢ[s] is added up, and pulled once:

        consumer c with a short way:     message … waits … ┐
        consumer d with the longest way:           message ┴─ add, pull through the Jacobian at uᵢ[s], send down

    So every edge carries one message per tick, each about one activation, and with frozen parameters what unit i makes
    at tick t is what `bptt` adds for its forward of tick t - 2ℓᵢ, to the last bit, for chains and skip graphs: summed
    over a stream, `bptt`'s gradient over the losses whose gradients have arrived. While parameters change, the gradient
    was formed with those of ticks t - 2ℓᵢ … t. The cost: one more forward per tick for each unit below the top, the
    inputs, and the messages that lie waiting. Options as for `Sideways`; all units live in this process.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.to_top = {name: longest for name, (_, longest) in self.network.to_top.items()}
        self._forget()

    def _forget(self) -> None:
        # unit → its inputs, of the last 2ℓ + 1 ticks; (consumer, unit) → the messages that wait, oldest first
        self._inputs: dict[str, deque[dict[str, Array]]] = {
            name: deque(maxlen=2 * longest + 1) for name, longest in self.to_top.items() if longest
        }
        self._waiting: dict[tuple[str, str], deque[Array]] = {
            (consumer, name): deque() for name in self.network.units for consumer in self.network.consumers[name]
        }

    def keep(self, frame: Array | None) -> None:
        """What arrives is kept until its turn comes; the frame as a copy: the caller may reuse its own."""
        frame = copied(frame)
        for unit in self.units:
            if unit.name in self._inputs and self.clock >= self.network.first_forward[unit.name]:
                self._inputs[unit.name].append(inputs_of(unit, frame, self.mailbox))
        for (consumer, name), messages in self._waiting.items():
            if self.clock > self.network.first_backward[consumer]:
                messages.append(self.mailbox.receive(consumer, name))

    def gradients_for(self, unit: Unit) -> list[Array]:
        """All that belongs to aᵢ[s]. What a consumer made of the first of them may reach no loss: it sends nothing."""
        s = self.clock - 2 * self.to_top[unit.name]
        return [
            self._waiting[consumer, unit.name].popleft()
            for consumer in self.network.consumers[unit.name]
            if s + 1 >= self.network.latency - self.to_top[consumer]  # the tick whose output reaches the first loss
        ]

    def held_for(self, unit: Unit, saved: Any) -> Any:
        """What a forward on the inputs of tick s saves; with the masks that dropout had then."""
        delay = 2 * self.to_top[unit.name]
        if not delay:
            return saved
        unit.at(self.ticks - delay, self.first_sample)
        _, saved = unit.forward(self._inputs[unit.name][-1 - delay], train=True)
        return saved

    def is_read(self, name: str) -> bool:
        return True  # it is kept from the first on

    def reset(self) -> None:
        super().reset()
        self._forget()

    def trace(self) -> dict[str, Trace]:
        """What met in each unit at the last tick: its activation is of that tick, its gradient of 2ℓ ticks before."""
        return delayed_trace(self.network, self.clock - 1)

    def unit_state(self, name: str) -> dict[str, Array | int]:
        held = super().unit_state(name)
        for age, inputs in enumerate(reversed(self._inputs.get(name, ()))):
            held |= {f"input.{age}.{j}": array for j, array in inputs.items()}
        for consumer in self.network.consumers[name]:
            for place, message in enumerate(self._waiting[consumer, name]):
                held[f"late.{place}.{consumer}"] = message
        return held

    def restore_unit(self, name: str, held: Mapping[str, Any]) -> None:
        super().restore_unit(name, held)
        kept = by_place(under("input", held))
        for age in sorted(kept, reverse=True):
            self._inputs[name].append(kept[age])
        late = by_place(under("late", held))
        for place in sorted(late):
            for consumer, message in late[place].items():
                self._waiting[consumer, name].append(message)


def by_place(held: Mapping[str, Any]) -> dict[int, dict[str, Array]]:
    """`"<place>.<name>"` → array, as place → name → array on the device."""
    found: dict[int, dict[str, Array]] = {}
    for key, value in held.items():
        place, name = key.split(".", 1)
        found.setdefault(int(place), {})[name] = to_device(value)
    return found
