"""Checks of incoming frames and targets: bad input is refused here, once; good input is put on the device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sideways.backend import Array, finite, to_device
from sideways.errors import InputError
from sideways.losses import Loss
from sideways.network import Network


def check_frame(network: Network, frame: Any, batch: int | None) -> None:
    """Raise `InputError` for a frame that does not fit. batch: how many samples it must have, where that is known."""
    shape = getattr(frame, "shape", None)
    if shape is None or len(shape) != len(network.input_shape) + 1 or shape[1:] != network.input_shape:
        expected = ", ".join(map(str, ("N", *network.input_shape)))
        raise InputError(f"a frame must be an array of shape ({expected}), got {shape or type(frame).__name__}")
    if frame.dtype.kind not in "fiub":
        raise InputError(f"a frame must hold real numbers, not {frame.dtype}")
    if shape[0] == 0 or (batch is not None and shape[0] != batch):
        raise InputError(f"the frame has {shape[0]} samples, not {batch or 'at least 1'}; a clip keeps one batch size")
    if not finite(frame):
        raise InputError("the frame holds numbers that are not finite (NaN or infinity)")


def frame_on_device(network: Network, frame: Any, batch: int | None) -> Array:
    """The frame on the device, of the network's dtype, once `check_frame` has passed it."""
    check_frame(network, frame, batch)
    return to_device(frame, network.dtype)


def target_on_device(network: Network, loss: Loss, target: Any, batch: int | None, tick: int) -> Array:
    """The target on the device, or `InputError`. batch: how many samples it must have, where that is known."""
    if target is None:
        raise InputError(f"tick {tick} needs a target: give one with every frame")
    if batch is None:
        batch = len(target)
    return to_device(loss.check(target, (batch, *network.output_shape)))


def check_delay(target_delay: int | None, network: Network) -> int:
    """The ticks from a frame to the loss that uses its target; by default the latency."""
    delay = network.latency if target_delay is None else target_delay
    if not isinstance(delay, int) or not 0 <= delay <= network.latency:
        raise InputError(f"target_delay must be 0 … {network.latency} (the network's latency), not {target_delay}")
    return delay


def pairs(frames: Any, targets: Any) -> Iterable[tuple[Any, Any]]:
    """Pair the frame and the target of each tick of a clip. Without targets, pair every frame with None."""
    if targets is None:
        return ((frame, None) for frame in frames)
    if len(frames) != len(targets):
        raise InputError(f"a clip needs one target per frame: {len(frames)} frames, {len(targets)} targets")
    return zip(frames, targets, strict=True)
