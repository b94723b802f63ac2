"""Motion compensation: undo the displacement between a gradient and the Jacobian that it meets.

This shows that the displacement, and nothing else, turns the signs of pseudo-gradients below a merge (see `aligned`).
It is a lesson and no rule to train with: it finds one motion for a whole picture, in whole pixels of a unit's output,
and loses what leaves at the border. A motion of half a pixel over two ticks is not undone.
"""

from __future__ import annotations

from typing import Any

import numpy

from sideways.backend import Array, copied, to_host, zeros
from sideways.network import Unit
from sideways.rules.sideways import Sideways

REACH = 3  # pixels of a unit's output: larger motions over two ticks are not found


class Compensated(Sideways):
    """Sideways, but every unit moves the gradient that it receives along with what moved in its own output.

    A consumer's message is the gradient of what the unit made two ticks ago (a[t-2]). Every hop down adds two more
    ticks, and each unit undoes the two ticks of its own hop: it finds by which step (dy, dx) its output moved from
    a[t-2] to a[t], for each sample, and moves the gradient by the same step. Outputs (N, H, W, C); others stay as they
    are. Arguments: as for `Sideways`.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.newest: dict[str, list[Array]] = {}  # unit → its outputs of up to three ticks, oldest first

    def forward(self, unit: Unit, inputs: dict[str, Array]) -> tuple[Array, Any]:
        """Run the unit as Sideways does, and keep its output for two ticks."""
        activation, saved = super().forward(unit, inputs)
        self.newest[unit.name] = [*self.newest.get(unit.name, [])[-2:], copied(activation)]
        return activation, saved

    def incoming_gradient(self, unit: Unit, s: int) -> Array:
        """The sum of the consumers' gradients, moved to where the unit's output is now."""
        gradient = super().incoming_gradient(unit, s)
        outputs = self.newest[unit.name]
        if gradient.ndim != 4 or len(outputs) < 3:
            return gradient
        return moved(gradient, motion(to_host(outputs[0]), to_host(outputs[-1])))

    def reset(self) -> None:
        """Reset as Sideways does, and forget the outputs."""
        super().reset()
        self.newest = {}


def motion(old: numpy.ndarray, new: numpy.ndarray, reach: int = REACH) -> numpy.ndarray:
    """The step (dy, dx), at most `reach` along each axis, by which each sample moved: (N, H, W, C) twice → (N, 2).

    Block matching with one block: new[y + dy, x + dx] is compared with old[y, x] wherever both lie in the picture, and
    the step with the least mean square of the difference is taken; of equal ones the shortest.
    """
    steps = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    steps = [(dy, dx) for dy, dx in sorted(steps, key=lambda step: step[0] ** 2 + step[1] ** 2)]
    steps = [(dy, dx) for dy, dx in steps if abs(dy) < old.shape[1] and abs(dx) < old.shape[2]]
    errors = [numpy.square(new[to] - old[of]).mean(axis=(1, 2, 3)) for of, to in map(overlap, steps)]
    return numpy.array(steps)[numpy.argmin(errors, axis=0)]


def moved(pictures: Array, steps: numpy.ndarray) -> Array:
    """Each picture (N, H, W, C), moved by its step (N, 2); what comes in at the border is 0."""
    result = zeros(pictures)
    for n, step in enumerate(steps.tolist()):
        of, to = overlap(step)
        result[n : n + 1][to] = pictures[n : n + 1][of]
    return result


def overlap(step: tuple[int, int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The parts of two pictures (N, H, W, C) that show the same if the second has moved by this step."""
    every = slice(None)
    of = (every, *(slice(max(0, -d), -d if d > 0 else None) for d in step))
    to = (every, *(slice(max(0, d), d if d < 0 else None) for d in step))
    return of, to
