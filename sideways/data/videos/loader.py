"""Decoding ahead of the tick, in other processes: `Loader` asks for samples early and hands out clips in order.

    this process                          worker (`worker.py`)
                             ◀── pipe ──  None: the worker is ready
    [(job, order, slot), …]  ── pipe ──▶  decoder.sample(order), into a slot of the shared memory
    clip from slots          ◀── pipe ──  job, skipped files, usable or grey

Until a worker has started, this process reads the samples that lie in the cache. A sample depends on its number alone,
so the number of workers changes nothing. A worker that dies, or takes too long, is replaced, and its samples are asked
for again; a sample that ends two workers becomes grey and is reported.
"""

from __future__ import annotations

import mmap
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import deque
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import IO, Any
from zlib import crc32

import numpy

from sideways.data.task import Clip
from sideways.data.videos.clips import VideoClips
from sideways.data.videos.decoder import GREY, Decoder, Order
from sideways.errors import InputError, printable

SHARED_MEMORY = "/dev/shm"
AHEAD = 2  # clips to decode before they are needed
ORDERS = 6  # in a message, at most: with the longest paths they fit into a pipe that has room
PATIENCE = 120.0  # seconds for one sample
MAX_DEATHS = 3  # deaths of workers without a finished sample in between; after one more, no worker is replaced

Job = tuple[str, int]  # split, number of the sample


class Loader:
    """Clips of a `VideoClips` task, decoded ahead by worker processes, or on demand by this process if `workers` is 0.

    batch, part: as for `Task.clip`.
    limits: split → number of clips that will be asked for; no clip beyond them is decoded ahead.
    `skipped`: the files that could not be used, with reasons. `unusable`: the samples that are grey.
    """

    def __init__(self, task: VideoClips, batch: int, part: slice, workers: int, limits: dict[str, int]):
        self.task, self.batch, self.part, self.limits = task, batch, part, limits
        self.skipped: dict[str, str] = {}
        self.unusable: set[Job] = set()
        slots = len(range(batch)[part]) * (AHEAD + 2)  # training clips still fill slots when an evaluation starts
        self.free = deque(range(slots))
        self.slots: dict[Job, int] = {}  # the slot of each sample that was asked for
        self.done: set[Job] = set()
        self.workers_ended: dict[Job, int] = {}  # how many workers each sample has ended
        self.deaths = 0
        self.workers: list[Worker] = []
        if workers:
            size = slots * int(numpy.prod(task.decoder.shape))
            self.file = shared_file(size)
            self.memory = memory_of(self.file.fileno(), size).reshape(slots, *task.decoder.shape)
            self.workers = [Worker(task.decoder, self.file.fileno(), size) for _ in range(workers)]

    def clip(self, split: str, index: int) -> Clip:
        """Return clip number `index` of a split, equal to the clip of `task.clip`, and ask for the next clips."""
        if self._starting():
            self._receive(0.0)
        jobs = self._jobs(split, index)
        targets = self.task.targets(split, index, self.batch, self.part)
        for following in range(index, max(index + 1, min(index + 1 + AHEAD, self.limits[split]))):
            for job in self._jobs(split, following):
                self._request(job)
        for worker in self.workers:
            worker.feed()
        while self.workers and not self.done.issuperset(job for job in jobs if job in self.slots):
            self._receive()
        return self.task.assemble(numpy.stack([self._take(job) for job in jobs]), targets)

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.end()
        self.workers = []

    def _jobs(self, split: str, index: int) -> list[Job]:
        return [(split, n) for n in self.task.numbers(index, self.batch, self.part)]

    def _starting(self) -> bool:
        """True until a worker is ready."""
        return not any(worker.ready for worker in self.workers)

    def _request(self, job: Job) -> None:
        if not self.workers or job in self.slots or not self.free:
            return
        order = self.task.order(*job)
        if self._starting() and self.task.decoder.is_cached(order):
            return  # `_take` reads it
        self.slots[job] = self.free.popleft()
        self._assign(job, order)

    def _assign(self, job: Job, order: Order) -> None:
        decoder = self.task.decoder
        if decoder.keep and not decoder.cache:  # one worker decodes a video and keeps it, not each of them
            worker = self.workers[crc32(os.fsencode(order.paths[0])) % len(self.workers)]
        else:
            worker = min(self.workers, key=lambda worker: len(worker.jobs))
        worker.assign(job, order, self.slots[job])

    def _take(self, job: Job) -> numpy.ndarray:
        """Return the frames of a sample, copied so that its slot can be used again."""
        if job not in self.done:  # there are no workers, none is ready and the sample is cached, or no slot was free
            sample = self.task.sample(*job)
            self._record(job, sample.skipped, sample.usable)
            return sample.frames
        slot = self.slots.pop(job)
        self.done.remove(job)
        self.free.append(slot)
        return self.memory[slot].copy()

    def _receive(self, seconds: float = 1.0) -> None:
        """Wait so long at most for an answer of a worker, and replace workers that have died or take too long."""
        ready = wait([worker.pipe for worker in self.workers], timeout=seconds)
        for worker in [worker for worker in self.workers if worker.pipe in ready]:
            try:
                answer = worker.pipe.recv()
            except (EOFError, OSError):
                self._replace(worker)
                continue
            if answer is None:
                worker.ready, worker.since = True, time.monotonic()
            else:
                job, skipped, usable = answer
                worker.finish(job)
                self.deaths = 0
                self.done.add(job)
                self._record(job, skipped, usable)
        for worker in list(self.workers):
            if (worker.jobs or not worker.ready) and time.monotonic() - worker.since > PATIENCE:
                self._replace(worker)

    def _record(self, job: Job, skipped: dict[str, str], usable: bool) -> None:
        self.skipped |= skipped
        if not usable:
            self.unusable.add(job)

    def _replace(self, worker: Worker) -> None:
        """Replace a worker that died or hangs. Its samples go to other workers, except one that ended two workers."""
        worker.end()
        self.workers.remove(worker)
        self.deaths += 1
        jobs = list(worker.jobs)
        if jobs:
            self.workers_ended[jobs[0]] = self.workers_ended.get(jobs[0], 0) + 1
            if self.workers_ended[jobs[0]] == 2:
                broken = jobs.pop(0)
                self.memory[self.slots[broken]] = GREY
                self.done.add(broken)
                path = printable(self.task.video(*broken)[0].path)
                self._record(broken, {path: "ends or hangs the process that decodes it"}, False)
        if self.deaths <= MAX_DEATHS:
            self.workers.append(Worker(self.task.decoder, self.file.fileno(), self.memory.size))
        elif not self.workers:
            print("sideways: the decoding processes keep dying; decoding in the main process", file=sys.stderr)
        for job in jobs:
            if self.workers:
                self._assign(job, self.task.order(*job))
            else:
                self.free.append(self.slots.pop(job))
        for other in self.workers:
            other.feed()


class Worker:
    """One decoding process, and the samples it was asked for, oldest first.

    Orders that its pipe has no room for wait in this process: writing to a full pipe would block until the worker
    reads, and the worker may hang.
    """

    def __init__(self, decoder: Decoder, memory: int, size: int):
        self.jobs: deque[Job] = deque()
        self.waiting: deque[tuple[Job, Order, int]] = deque()  # the orders that are still to be sent
        self.since = time.monotonic()  # seconds: the time at which the worker began to start, or its oldest job
        self.ready = False  # True once it has started
        self.pipe, worker_end = Pipe()
        pipe, module = worker_end.fileno(), "sideways.data.videos.worker"
        command = [sys.executable, "-m", module, str(pipe), str(memory), str(size)]
        self.process = subprocess.Popen(command, pass_fds=(pipe, memory), stdin=subprocess.DEVNULL)
        worker_end.close()
        self._send(decoder)

    def assign(self, job: Job, order: Order, slot: int) -> None:
        """Ask the worker to decode a sample into a slot of the shared memory. `feed` sends the order."""
        if not self.jobs:
            self.since = time.monotonic()
        self.jobs.append(job)
        self.waiting.append((job, order, slot))

    def finish(self, job: Job) -> None:
        """Take note that the worker has finished a sample, and send it waiting orders."""
        self.jobs.remove(job)
        self.since = time.monotonic()
        self.feed()

    def feed(self) -> None:
        """Send waiting orders, several in a message, while the pipe has room."""
        if not self.waiting:
            return
        room = select.poll()
        room.register(self.pipe.fileno(), select.POLLOUT)
        while self.waiting and room.poll(0):
            self._send([self.waiting.popleft() for _ in range(min(ORDERS, len(self.waiting)))])

    def _send(self, message: Any) -> None:
        try:
            self.pipe.send(message)
        except OSError:
            return  # the worker is dead, and the loader will find out when it next reads from the pipe

    def end(self) -> None:
        """Kill the process, and wait for its end."""
        self.pipe.close()
        self.process.kill()
        self.process.wait()


def shared_file(size: int) -> IO[bytes]:
    """Create a file of this many bytes, in memory if they fit there, else in the folder of temporary files.

    All bytes are allocated at once, since writing to a page that cannot be allocated later would end the process
    (SIGBUS). Raises `InputError` if neither folder has room.
    """
    folders = [folder for folder in (SHARED_MEMORY, tempfile.gettempdir()) if os.path.isdir(folder)]
    for folder in folders:
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            file.close()
        else:
            return file
    raise InputError(
        f"decoding ahead needs {size:,} bytes, more than are free in {' and in '.join(folders)}: use a smaller "
        "--batch, fewer or smaller frames, or --workers 0"
    )


def memory_of(file: int, size: int) -> numpy.ndarray:
    """Map a file into memory, as bytes that all processes mapping it share."""
    return numpy.frombuffer(mmap.mmap(file, size), numpy.uint8)
