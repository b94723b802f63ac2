"""Decoding ahead of the tick, in other processes: `Loader` asks for samples early and hands out clips in order.

    this process                       worker (`worker.py`)
    job, order, slot  ── pipe ──▶      decoder.sample(order), into slot of the shared memory
    the clip's frames ◀── pipe ──      job, files skipped, whether there was one to show

What a sample is depends on its number alone, so the number of workers changes nothing. A worker that dies, or takes too
long, is replaced, and its samples are asked for again; a sample that ends two workers is shown grey and reported.
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

import numpy

from sideways.data.task import Clip
from sideways.data.videos.clips import VideoClips
from sideways.data.videos.decoder import GREY, Decoder, Order
from sideways.errors import InputError, printable

SHARED_MEMORY = "/dev/shm"
AHEAD = 2  # clips that are decoded before they are needed
PATIENCE = 120.0  # seconds for one sample
DEATHS = 3  # of workers without a sample in between: then this process decodes for itself

Job = tuple[str, int]  # split, number of the sample


class Loader:
    """Clips of a `VideoClips` task, decoded by worker processes (none: by this one, when asked).

    batch, part: as for `Task.clip`. limits: split → clips that will be asked for; nothing is decoded beyond them.
    `skipped` tells which files could not be used, and why; `unusable` the samples that are grey.
    """

    def __init__(self, task: VideoClips, batch: int, part: slice, workers: int, limits: dict[str, int]):
        self.task, self.batch, self.part, self.limits = task, batch, part, limits
        self.skipped: dict[str, str] = {}
        self.unusable: set[Job] = set()
        slots = len(range(batch)[part]) * (AHEAD + 2)  # while one split is evaluated, clips of the other wait
        self.free = deque(range(slots))
        self.slots: dict[Job, int] = {}  # where each sample that was asked for goes
        self.done: set[Job] = set()
        self.ended: dict[Job, int] = {}  # workers that died on a sample
        self.deaths = 0
        self.workers: list[Worker] = []
        if workers:
            size = slots * int(numpy.prod(task.decoder.shape))
            self.file = shared_file(size)
            self.memory = memory_of(self.file.fileno(), size).reshape(slots, *task.decoder.shape)
            self.workers = [Worker(task.decoder, self.file.fileno(), size) for _ in range(workers)]

    def clip(self, split: str, index: int) -> Clip:
        """Clip number `index` of a split, as `task.clip` gives it; the next ones are decoded meanwhile."""
        jobs = self._jobs(split, index)
        targets = self.task.targets(split, index, self.batch, self.part)
        for following in range(index, max(index + 1, min(index + 1 + AHEAD, self.limits[split]))):
            for job in self._jobs(split, following):
                self._ask(job)
        while self.workers and not self.done.issuperset(job for job in jobs if job in self.slots):
            self._listen()
        return self.task.assemble(numpy.stack([self._take(job) for job in jobs]), targets)

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.end()
        self.workers = []

    def _jobs(self, split: str, index: int) -> list[Job]:
        return [(split, n) for n in self.task.numbers(index, self.batch, self.part)]

    def _ask(self, job: Job) -> None:
        if self.workers and job not in self.slots and self.free:
            self.slots[job] = self.free.popleft()
            self._give(job)

    def _give(self, job: Job) -> None:
        worker = min(self.workers, key=lambda worker: len(worker.jobs))
        worker.give(job, self.task.order(*job), self.slots[job])

    def _take(self, job: Job) -> numpy.ndarray:
        """The frames of a sample: a copy, so that its slot is free again."""
        if job not in self.done:  # no workers, or no slot was free
            sample = self.task.sample(*job)
            self._note(job, sample.skipped, sample.usable)
            return sample.frames
        slot = self.slots.pop(job)
        self.done.remove(job)
        self.free.append(slot)
        return self.memory[slot].copy()

    def _listen(self) -> None:
        """Wait for news of any worker: samples that are done, a death, or nothing for too long."""
        by_pipe = {worker.pipe: worker for worker in self.workers}
        for pipe in wait(by_pipe, timeout=1.0):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                job, skipped, usable = worker.pipe.recv()
            except (EOFError, OSError):
                self._replace(worker)
            else:
                worker.ended(job)
                self.deaths = 0
                self.done.add(job)
                self._note(job, skipped, usable)
        for worker in self.workers:
            if worker.jobs and time.monotonic() - worker.since > PATIENCE:
                self._replace(worker)

    def _note(self, job: Job, skipped: dict[str, str], usable: bool) -> None:
        self.skipped |= skipped
        if not usable:
            self.unusable.add(job)

    def _replace(self, worker: Worker) -> None:
        """A worker died or hangs: another takes over its samples, but for one that has ended two."""
        worker.end()
        self.workers.remove(worker)
        self.deaths += 1
        jobs = list(worker.jobs)
        if jobs:
            self.ended[jobs[0]] = self.ended.get(jobs[0], 0) + 1
            if self.ended[jobs[0]] == 2:
                broken = jobs.pop(0)
                self.memory[self.slots[broken]] = GREY
                self.done.add(broken)
                path = printable(self.task.video(*broken)[0].path)
                self._note(broken, {path: "ends or hangs the process that decodes it"}, False)
        if self.deaths <= DEATHS:
            self.workers.append(Worker(self.task.decoder, self.file.fileno(), self.memory.size))
        elif not self.workers:
            print("sideways: the decoding processes keep dying; decoding in this one", file=sys.stderr)
        for job in jobs:
            if self.workers:
                self._give(job)
            else:
                self.free.append(self.slots.pop(job))


class Worker:
    """One decoding process, and the samples it was asked for, oldest first.

    Its pipe takes only so many orders. What it has no room for waits here: to write to a pipe that is full would be to
    wait for a process that may hang.
    """

    def __init__(self, decoder: Decoder, memory: int, size: int):
        self.jobs: deque[Job] = deque()
        self.waiting: deque[tuple[Job, Order, int]] = deque()  # those of them that are still to be sent
        self.since = time.monotonic()  # when it began with the oldest
        self.pipe, theirs = Pipe()
        command = [sys.executable, "-m", "sideways.data.videos.worker", str(theirs.fileno()), str(memory), str(size)]
        self.process = subprocess.Popen(command, pass_fds=(theirs.fileno(), memory), stdin=subprocess.DEVNULL)
        theirs.close()
        self._send(decoder)

    def give(self, job: Job, order: Order, slot: int) -> None:
        if not self.jobs:
            self.since = time.monotonic()
        self.jobs.append(job)
        self.waiting.append((job, order, slot))
        self._feed()

    def ended(self, job: Job) -> None:
        """The sample is done."""
        self.jobs.remove(job)
        self.since = time.monotonic()
        self._feed()

    def _feed(self) -> None:
        room = select.poll()
        room.register(self.pipe.fileno(), select.POLLOUT)
        while self.waiting and room.poll(0):
            self._send(self.waiting.popleft())

    def _send(self, what: Any) -> None:
        try:
            self.pipe.send(what)
        except OSError:
            return  # it is dead: the next look at its pipe tells

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.wait()


def shared_file(size: int) -> IO[bytes]:
    """A file of this many bytes, in memory if they fit, else in the folder of temporary files; `InputError` if nowhere.

    All its bytes are taken at once: one that is found missing when it is written ends the process (SIGBUS).
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
        f"decoding ahead needs {size:,} bytes, which neither of {', '.join(folders)} has free: use a smaller --batch, "
        "fewer or smaller frames, or --workers 0"
    )


def memory_of(file: int, size: int) -> numpy.ndarray:
    """The bytes of a file, shared by all processes that ask for them."""
    return numpy.frombuffer(mmap.mmap(file, size), numpy.uint8)
