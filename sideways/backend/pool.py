"""sideways.backend.pool."""

from __future__ import annotations

import sys
from typing import Any

import numpy


class Pool:
    """Recycles the memory of host arrays, as CuPy's pool does on the device.

    Fresh pages cost more than the arithmetic of a small layer, so memory is handed out again as soon as nobody holds an
    array in it: a block is free when the pool's own list is all that refers to it. An array from the pool is therefore
    an ordinary array; whoever keeps it, keeps it intact. One thread only.
    """

    smallest = 4096  # bytes; below, NumPy's own allocator is as fast
    alignment = 64  # bytes: a cache line, and every block alike
    idle_limit = 1 << 28  # bytes that may lie idle before sizes out of use are let go
    patience = 10_000  # requests: a size that nobody asked for in so many is out of use

    def __init__(self) -> None:
        self.blocks: dict[int, list[numpy.ndarray]] = {}
        self.asked: dict[int, int] = {}  # size → number of the last request for it
        self.requests = 0
        self.misses = 0  # how often new memory was needed: constant once training is in its steady state
        self.recycling = True  # False: plain allocations, so that a memory profiler sees each one come and go

    def empty(self, shape: tuple[int, ...], dtype: Any) -> numpy.ndarray:
        dtype = numpy.dtype(dtype)
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        if size < self.smallest or not self.recycling:
            return numpy.empty(shape, dtype)
        self.requests += 1
        self.asked[size] = self.requests
        blocks = self.blocks.setdefault(size, [])
        for index in range(len(blocks)):
            if references(blocks, index) == IDLE:
                block = blocks[index]
                break
        else:
            self.misses += 1
            self._let_go()
            block = numpy.empty(size + self.alignment, numpy.uint8)
            blocks.append(block)
        offset = -block.ctypes.data % self.alignment
        return numpy.ndarray(shape, dtype, block, offset)

    def _let_go(self) -> None:
        """Where too much lies idle: drop what is out of use. (What a step uses now and then must stay.)"""
        idle = {
            size: [i for i in range(len(blocks)) if references(blocks, i) == IDLE]
            for size, blocks in self.blocks.items()
        }
        if sum(size * len(places) for size, places in idle.items()) <= self.idle_limit:
            return
        for size, places in idle.items():
            if self.requests - self.asked[size] > self.patience:
                self.blocks[size] = [block for i, block in enumerate(self.blocks[size]) if i not in places]


def references(blocks: list[numpy.ndarray], index: int) -> int:
    """How many refer to a block, as this Python counts."""
    return sys.getrefcount(blocks[index])


IDLE = references([numpy.empty(0)], 0)  # of a block that only its list holds


memory_pool = Pool()
