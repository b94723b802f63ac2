"""Frames and targets on their way to the device, one tick ahead: uploads from pinned memory while it computes.

    tick t     the work of the tick is queued on the device; meanwhile x[t+1] is made, checked and uploaded
    tick t+1   the device waits for x[t+1]

With NumPy, frames pass through unchanged. The training loop uses this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy

from sideways.backend import Array, Shape, buffer, on_device
from sideways.backend.streams import Staging, Uploads, hold_until, mark
from sideways.data.task import Frames
from sideways.rules import Rule
from sideways.rules.inputs import check_frame


class Prefetch:
    """Uploads the frames and targets of a rule's clips.

    ahead: ask for the next frame before the present tick is over. False for a live stream: the tick would have to wait.
    """

    def __init__(self, rule: Rule, ahead: bool = True):
        self.rule, self.ahead = rule, ahead
        self.uploads = Uploads()
        self.frames, self.targets = Ring(2), Ring(rule.network.latency + 2)  # a target is kept for the latency
        self.last_tick: Any = None  # an event: the device is done with the tick before this one
        self.ready: tuple[Any, Any, Any] | None = None  # frame and target of the next tick, and the event of both

    def pairs(self, frames: Frames, targets: Frames, first: int = 0) -> Iterator[tuple[int, Any, Any]]:
        """Yield (t, frame, target) for each tick of a clip from `first` on. Call `fetch` during each tick."""
        self.clip, self.t = (frames, targets), first
        for t in range(first, len(frames)):
            self.t = t
            frame, target, event = self.ready or self._take(t)
            self.ready = None
            hold_until(event)
            yield t, frame, target

    def fetch(self) -> None:
        """Upload the next frame and target. Call it when the work of the present tick is queued on the device."""
        if on_device() and self.ahead and self.t + 1 < len(self.clip[0]):
            self.ready = self._take(self.t + 1)
        self.last_tick = mark()

    def _take(self, t: int) -> tuple[Any, Any, Any]:
        frame, target = self.clip[0][t], self.clip[1][t]
        if not on_device():
            return frame, target, None
        event = None
        if frame is not None:
            check_frame(self.rule.network, frame, self.rule.batch)
            frame, event = self._upload(self.frames, frame, self.rule.network.dtype)
        if target is not None:
            target = self.rule.loss.check(target, (len(target), *self.rule.network.output_shape))
            target, event = self._upload(self.targets, target, target.dtype)
        return frame, target, event

    def _upload(self, ring: Ring, values: numpy.ndarray, dtype: Any) -> tuple[Array, Any]:
        """Start an upload. Returns (the device array, the event that happens when the upload is complete)."""
        array, is_new = ring.next_buffer(values.shape, dtype)
        staged = ring.staging.free(values.shape, dtype)
        staged[...] = values
        # After the last reader of the buffer; or, if it is new, after all work with what lay in its memory before.
        event = self.uploads.start(staged, array, mark() if is_new else self.last_tick)
        ring.staging.busy.append((event, staged))
        return array, event


class Ring:
    """Device arrays that are written in turn, and pinned memory for them.

    There is at most one array in pinned memory per tick of a clip, since the host waits for the losses at the end of a
    clip.
    """

    def __init__(self, size: int):
        self.size, self.turn = size, 0
        self.buffers: dict[tuple[int, Shape, str], Array] = {}
        self.staging = Staging()

    def next_buffer(self, shape: Shape, dtype: Any) -> tuple[Array, bool]:
        """The next array, and whether it is new."""
        self.turn = (self.turn + 1) % self.size
        key = (self.turn, shape, str(dtype))
        is_new = key not in self.buffers
        if is_new:
            self.buffers[key] = buffer(shape, dtype)
        return self.buffers[key], is_new
