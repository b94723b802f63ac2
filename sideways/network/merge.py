"""The merge of a unit's inputs, and the split of the gradient of the merged input.

"add"       forward     u = Σⱼ xⱼ                       backward    dxⱼ = du
"concat"    forward     u = [x₁, x₂, …] (channels)      backward    dxⱼ = the channels of du that came from xⱼ
"""

from __future__ import annotations

from collections.abc import Sequence

from sideways.backend import Array, contiguous, copied, empty


def merged(parts: Sequence[Array], merge: str) -> Array:
    """Merge the inputs (N, …) into u, in the order in which the unit lists them."""
    if len(parts) == 1:
        return parts[0]
    if merge == "add":
        total = copied(parts[0])
        for part in parts[1:]:
            total += part
        return total
    widths = [part.shape[-1] for part in parts]
    together = empty(parts[0], (*parts[0].shape[:-1], sum(widths)))
    for part, channels in zip(parts, _channels(widths), strict=True):
        together[..., channels] = part
    return together


def split(gradient: Array, merge: str, widths: Sequence[int]) -> list[Array]:
    """Split du into the gradient of each input. widths: the channels of each input."""
    if merge == "add" or len(widths) == 1:
        return [gradient] * len(widths)
    return [contiguous(gradient[..., channels]) for channels in _channels(widths)]


def _channels(widths: Sequence[int]) -> list[slice]:
    ends = [sum(widths[: i + 1]) for i in range(len(widths))]
    return [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
