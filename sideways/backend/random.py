"""Random numbers that every process can repeat: seeds from a stable hash, and dropout's numbers from a counter.

Units draw their initial weights with `generator`, tasks their clips; `Dropout` draws its masks with `uniform`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy

from sideways.backend.arrays import Array, namespace


def stable_hash(*key: Any) -> int:
    """A number of 64 bits that depends on the key alone: one value in all processes and on all machines."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")


def generator(*key: Any) -> numpy.random.Generator:
    """A host random generator seeded by a stable hash of the key."""
    return numpy.random.default_rng(stable_hash(*key))


def uniform(like: Array, key: int) -> Array:
    """Numbers in [0, 1) of the shape and library of `like`, each a pure function of (key, its flat position).

    The finaliser of splitmix64 (Steele, Lea and Flood, 2014) over a counter, computed where the array lives.
    """
    xp = namespace(like)
    bits = xp.arange(1, like.size + 1, dtype=xp.uint64)
    bits *= xp.uint64(0x9E3779B97F4A7C15)
    bits += xp.uint64(key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits ^= bits >> xp.uint64(shift)
        bits *= xp.uint64(factor)
    bits ^= bits >> xp.uint64(31)
    # The upper 24 bits of each number are exact in float32.
    return ((bits >> xp.uint64(40)).astype(like.dtype) * 2.0**-24).reshape(like.shape)
