"""A pool that hands the memory of host arrays out again, as CuPy's own pool does on the device.

`memory_pool` serves `empty` in `arrays.py`, and through `empty` the functions in `arithmetic.py`. Without the pool the
C library returns the memory of freed arrays to the operating system, and the next arrays begin with fresh pages, which
cost more than the arithmetic of a small layer. Milliseconds of processor time of one tick, medians (and quartiles), of
Sideways with momentum SGD in float32, with one BLAS thread and glibc 2.36, on an idle core of an AMD EPYC:

    step                                with the pool          without                ratio
    vgg5-skip, 32 frames of 16×16×1      7.7 (7.5 … 8.1)       12.5 (11.9 … 12.9)     0.62
    vgg8, 8 frames of 112×112×3          298 (291 … 319)        306 (298 … 342)       0.98

The pool saves a third of the time of a small network. A large one gains next to nothing, since glibc keeps memory once
a program has freed arrays of many megabytes.
The program, to be run with OPENBLAS_NUM_THREADS=1, one model per process:

    import time, numpy, sideways as sw
    from sideways.backend import memory_pool
    from sideways.models import build_model

    for model, shape, batch, ticks in (("vgg5-skip", (16, 16, 1), 32, 1200), ("vgg8", (112, 112, 3), 8, 120)):
        optimizer = sw.SGD(1e-6, momentum=0.9)
        rule = sw.Sideways(build_model(model, shape, 4), sw.SoftmaxCrossEntropy(), optimizer, boundary="stream")
        frame, target = numpy.ones((batch, *shape), "float32"), numpy.zeros(batch, int)
        seconds = {True: [], False: []}
        for tick in range(ticks):
            memory_pool.recycling = tick // 4 % 2 == 0  # four ticks with the pool, four without, and so on
            start = time.thread_time()
            rule.tick(frame, target)
            seconds[memory_pool.recycling].append(time.thread_time() - start)
        for recycling, times in seconds.items():
            print(model, recycling, 1e3 * numpy.percentile(times[len(times) // 10 :], [25, 50, 75]))
"""

from __future__ import annotations

import math
from sys import getrefcount
from typing import Any, NamedTuple

import numpy


class Block(NamedTuple):
    """Memory for one array, which begins `offset` bytes after the start of `memory`."""

    memory: numpy.ndarray
    offset: int


class Pool:
    """Recycles the memory of host arrays. For one thread only.

    A block is free as soon as nobody holds an array in it, that is, when the pool alone refers to its memory. An array
    from the pool is therefore an ordinary array: whoever keeps it, keeps it intact.
    """

    smallest = 4096  # bytes; NumPy's own allocator is as fast for smaller arrays
    alignment = 64  # bytes: a cache line
    idle_limit = 1 << 28  # bytes that may lie idle before the pool looks for sizes out of use
    patience = 10_000  # requests; a size that none of so many asked for is out of use

    def __init__(self) -> None:
        self.blocks: dict[int, list[Block]] = {}  # size → all blocks of this size, in use or free
        self.last_request: dict[int, int] = {}  # size → number of the last request for this size
        self.requests = 0
        self.misses = 0  # requests that needed new memory: constant once training is in its steady state
        self.recycling = True  # False: plain allocations, so that a memory profiler sees each one come and go

    def empty(self, shape: tuple[int, ...], dtype: Any) -> numpy.ndarray:
        """An uninitialised, C-contiguous array."""
        if not isinstance(dtype, numpy.dtype):
            dtype = numpy.dtype(dtype)
        size = dtype.itemsize * math.prod(shape)
        if size < self.smallest or not self.recycling:
            return numpy.empty(shape, dtype)
        self.requests += 1
        self.last_request[size] = self.requests
        blocks = self.blocks.get(size)
        if blocks is None:
            blocks = self.blocks[size] = []
        for block in blocks:
            if getrefcount(block.memory) == REFERENCES_OF_A_FREE_BLOCK:  # `is_free`, without the time of a call
                break
        else:
            self.misses += 1
            self._release_unused()
            block = self._new_block(size)
            blocks.append(block)
        return numpy.ndarray(shape, dtype, block.memory, block.offset)

    def _new_block(self, size: int) -> Block:
        memory = numpy.empty(size + self.alignment, numpy.uint8)
        return Block(memory, -memory.ctypes.data % self.alignment)

    def _release_unused(self) -> None:
        """If too much memory lies idle, drop the free blocks of sizes out of use.

        The free blocks of other sizes stay: a step may need them only now and then.
        """
        idle = sum(size * sum(map(is_free, blocks)) for size, blocks in self.blocks.items())
        if idle <= self.idle_limit:
            return
        for size, blocks in self.blocks.items():
            if self.requests - self.last_request[size] > self.patience:
                self.blocks[size] = [block for block in blocks if not is_free(block)]


def is_free(block: Block) -> bool:
    """True if no array lies in the block."""
    return getrefcount(block.memory) == REFERENCES_OF_A_FREE_BLOCK


_free = Block(numpy.empty(0), 0)
REFERENCES_OF_A_FREE_BLOCK = getrefcount(_free.memory)  # as this version of Python counts them

memory_pool = Pool()
