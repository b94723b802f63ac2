"""Backpropagation with noise as large as Sideways' error, to ask whether noise alone regularises."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from sideways.backend import Array, copied, generator, to_device
from sideways.errors import InputError
from sideways.losses import Loss
from sideways.network import Network
from sideways.optimizers import Optimizer
from sideways.rules.backprop import Backprop
from sideways.rules.diagnostics import mean_gradients
from sideways.rules.rule import Tick, do_nothing
from sideways.rules.sideways import Sideways


class NoisyBackprop(Backprop):
    """Ordinary training with one update per clip, where each unit's mean gradient is disturbed:

        gᵢ + |pᵢ - gᵢ| n/|n|        n ~ N(0, 1)

    with gᵢ its mean exact gradient over the clip and pᵢ the mean pseudo-gradient that Sideways makes of the same clip
    with the same, frozen parameters: noise of the same size as Sideways' error, without its direction. The noise is a
    function of (seed, unit, tick). Meant for chains: on a skip graph the two rules see different frames.
    """

    whole_clips = True

    def __init__(
        self, network: Network, loss: Loss, optimizer: Optimizer | None = None, update_every: int | str = "clip"
    ):
        if update_every != "clip":
            raise InputError(f"the noise disturbs a clip's mean gradient: update_every='clip', not {update_every!r}")
        super().__init__(network, loss, optimizer, update_every)
        self._clip: list[tuple[Array, Any]] = []

    def reset(self) -> None:
        self._clip = []
        super().reset()

    def tick(self, frame: Any, target: Any, meanwhile: Callable[[], None] = do_nothing) -> Tick:
        self._newest = frame, target
        return super().tick(frame, target, meanwhile)

    def end_tick(self) -> None:
        frame, target = self._newest
        self._clip.append((copied(to_device(frame)), copied(to_device(target))))
        super().end_tick()

    def end_clip(self) -> None:
        self.check_whole()
        if self.optimizers:
            self.is_whole = False
            self._disturb()
            self.is_whole = True
        super().end_clip()

    def _disturb(self) -> None:
        """Add noise to the gradient sums of all units that have parameters."""
        frozen = Sideways(copy.deepcopy(self.network), self.loss)
        for name, pseudo in mean_gradients(frozen, self._clip).items():
            sums, count = self.sums[name], self.counts[name]
            if not sums or not count:  # no parameters; or updated already, and interrupted before the reset
                continue
            random = generator("noise", self.network.seed, name, self.ticks)
            noise = {key: to_device(random.standard_normal(total.shape), total.dtype) for key, total in sums.items()}
            error = {key: pseudo[key] - total * (1 / count) for key, total in sums.items()}
            size = (squared(error) / squared(noise)) ** 0.5
            for key, total in sums.items():
                total += noise[key] * (size * count)


def squared(tree: dict[str, Array]) -> float:
    """The sum of the squares of all numbers."""
    return sum(float(array.reshape(-1) @ array.reshape(-1)) for array in tree.values())
