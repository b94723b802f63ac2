"""The base class of the rules that run every unit at every tick: mailbox, targets, ends of clips, evaluation."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from sideways.backend import Array, copied
from sideways.errors import InputError
from sideways.losses import Loss
from sideways.network import FRAME, Network
from sideways.optimizers import Optimizer
from sideways.rules.inference import evaluate_ticking
from sideways.rules.inputs import check_delay, frame_on_device, target_on_device
from sideways.rules.mailbox import Mailbox
from sideways.rules.rule import Evaluation, Rule
from sideways.rules.trace import Trace, trace


class TickingRule(Rule):
    """A rule that trains the ticking network: it has a mailbox, and runs its units at every tick.

    network, loss, optimizer, update_every: as for every `Rule`.
    target_delay: the loss at tick t uses the target that came at tick t - target_delay, 0 … latency. The default is the
        latency: the target is that of the oldest frame in the top's activation.
    boundary: `"flush"`: the end of a clip drops the frames under way; `"stream"`: the next clip follows with no gap.
    mailbox: carries the messages; by default within this process.
    units: the names of the units that live in this process, by default all.
    first_sample: the index of this batch's first sample in the whole batch, where replicas share it.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer | None = None,
        update_every: int | str = 1,
        target_delay: int | None = None,
        boundary: str = "flush",
        mailbox: Mailbox | None = None,
        units: Iterable[str] | None = None,
        first_sample: int = 0,
    ):
        super().__init__(network, loss, optimizer, update_every)
        if boundary not in ("flush", "stream"):
            raise InputError(f"unknown clip boundary {boundary!r}: choose 'flush' or 'stream'")
        self.target_delay, self.boundary, self.first_sample = check_delay(target_delay, network), boundary, first_sample
        self.mailbox = Mailbox(network.timetable) if mailbox is None else mailbox
        self.units = [network.units[name] for name in (network.units if units is None else units)]
        self.reads_frame = any(FRAME in unit.inputs for unit in self.units)
        self.owns_top = network.top in self.units
        self.targets: deque[Array] = deque(maxlen=self.target_delay + 1)  # the oldest is the one that the loss uses

    def take(self, frame: Any, target: Any) -> Array | None:
        """Check the frame and the target of this tick, put both on the device, keep the target, return the frame.

        Raises `InputError` for a frame or target that does not fit, and after an interrupted tick (`check_whole`).
        """
        self.check_whole()
        batch = self.batch
        if self.reads_frame:
            frame = frame_on_device(self.network, frame, batch)
            batch = len(frame)
        if self.owns_top:
            target = copied(target_on_device(self.network, self.loss, target, batch, self.clock))
        self.is_whole = False  # until `end_tick`
        if self.owns_top:
            self.targets.append(target)  # a copy: the caller may reuse its own array
        self.batch = batch
        return frame

    def end_clip(self) -> None:
        """End the clip: make the updates that wait for its end; under `"flush"`, drop the frames under way.

        Raises `InputError` for a flushed clip that was too short to train every unit.
        """
        self.check_whole()
        shortest = 2 * self.network.depth - 1
        if self.boundary == "flush" and self.clock < shortest:
            raise InputError(
                f"a clip of {self.clock} frames trains no bottom unit of a network of depth {self.network.depth}: "
                f"at least {shortest} are needed, or boundary='stream'"
            )
        self.update_for_clip()
        if self.boundary == "flush":
            self.reset()

    def reset(self) -> None:
        """Flush: empty the mailbox, drop the delayed targets, start the schedule at t = 0 again."""
        self.mailbox.clear()
        self.targets.clear()
        super().reset()

    def evaluate(self, frames: Any, targets: Any = None) -> Evaluation:
        """Run a clip through the ticking network, forward only, with a mailbox of its own. Touches no training state.

        frames (T, N, H, W, C), targets one per frame. There is one output per tick from the latency on; the loss of an
        output uses the target that came target_delay ticks before.
        """
        return evaluate_ticking(self, frames, targets, self.mailbox.for_evaluation())

    def trace(self) -> dict[str, Trace]:
        """The frames that met in each unit at the last tick: see `Trace`."""
        return trace(self.network, self.clock - 1)

    @property
    def owned(self) -> list[str]:
        return [unit.name for unit in self.units]
