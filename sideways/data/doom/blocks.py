"""Blocks of clips: made ahead by worker processes, and kept in a folder if one is given.

A block holds a few places of one map, each shown in every class. It is a pure function of its request and the settings,
so the number of workers changes nothing, and a block in the folder is as good as a new one.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy

from sideways.data.doom.process import GameEndedError, GameProcess, check_installed
from sideways.data.doom.scene import Settings
from sideways.data.store import GIGABYTES, Store
from sideways.errors import InputError, printable

ATTEMPTS = 2  # processes that may end or hang over a block
SOURCES = ("scene.py", "plan.py")  # the files of this folder that decide what a block holds


@dataclass(frozen=True)
class Request:
    """The name of a block: the seed of all blocks, a map, the number of the block in the map, its number of places."""

    seed: int
    map: str
    number: int
    places: int


@dataclass(frozen=True)
class Block:
    """Clips of a few places, each in every class. A pose is the player's x, y, z (units) and heading (degrees)."""

    frames: numpy.ndarray  # (places, classes, T, H, W, C) uint8
    poses: numpy.ndarray  # (places, classes, T, 4) float64, as measured


class Cache:
    """Blocks in a `Store`: one byte for each value of a frame, and a little more.

    Each block is one file: a SHA-256, then an .npz file. The name of its folder stands for the settings, the version of
    ViZDoom and the code that makes a block. A file that does not match its checksum counts as missing.
    """

    def __init__(self, folder: str | Path, settings: Settings, gigabytes: float = GIGABYTES):
        code = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in SOURCES]
        key = json.dumps([asdict(settings), check_installed(), code])
        self.store = Store(folder, gigabytes)
        self.folder = self.store.path(f"doom-{hashlib.sha256(key.encode()).hexdigest()[:16]}")

    def name(self, request: Request) -> str:
        """The file of a block, below the folder of the store."""
        block = f"{request.map}-{request.number}-seed{request.seed}-places{request.places}.block"
        return f"{self.folder.name}/{block}"

    def read(self, request: Request) -> bytes | None:
        """The content of a block; None if there is no such file, or if it is damaged, in which case it is removed."""
        name = self.name(request)
        try:
            content = self.store.path(name).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            self.store.drop(name)
            return None
        self.store.use(name)
        return content[32:]

    def write(self, request: Request, content: bytes) -> None:
        """Keep a block, if there is room. Raises `InputError` if the file cannot be written."""
        try:
            self.store.keep(self.name(request), [hashlib.sha256(content).digest(), content])
        except OSError as error:
            raise InputError(f"cache {printable(self.folder)}: a block cannot be written: {error.strerror}") from None


class Maker:
    """Makes blocks, in the order in which they are expected, with `workers` processes; with 0, only when asked for."""

    def __init__(self, settings: Settings, workers: int, cache: Cache | None):
        self.settings, self.workers, self.cache = settings, workers, cache
        self.waiting: deque[Request] = deque()
        self.known: set[Request] = set()  # the requests that were ever in the queue
        self.made: dict[Request, bytes | Exception] = {}
        self.changed = threading.Condition()
        self.closed = False
        self.processes: list[GameProcess | None] = [None] * max(workers, 1)
        self.threads: list[threading.Thread] = []

    def expect(self, requests: Sequence[Request]) -> None:
        """Make these blocks ahead, after those that are expected already."""
        if not self.workers:
            return
        with self.changed:
            self.waiting.extend(request for request in requests if request not in self.known)
            self.known.update(requests)
            self.changed.notify_all()
        for i in range(len(self.threads), self.workers):
            self.threads.append(threading.Thread(target=self._work, args=(i,), daemon=True))
            self.threads[-1].start()

    def block(self, request: Request) -> Block:
        """Return a block, as soon as it is made. Raises `InputError` if it cannot be made."""
        if not self.workers:
            return _unpacked(self._make(request, 0))
        self.expect([request])
        with self.changed:
            if request in self.waiting:  # its turn would come later
                self.waiting.remove(request)
                self.waiting.appendleft(request)
            self.changed.wait_for(lambda: request in self.made)
            content = self.made[request]
            if isinstance(content, Exception):
                raise content
            self.made[request] = b""  # whoever asks keeps the block
        return _unpacked(content)

    def close(self) -> None:
        """End all processes."""
        with self.changed:
            self.closed = True
            self.waiting.clear()
            self.changed.notify_all()
        for process in self.processes:
            if process is not None:
                process.end()

    def _work(self, i: int) -> None:
        """Make one block after the other, in a thread."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.closed)
                if self.closed:
                    return
                request = self.waiting.popleft()
            content: bytes | Exception
            try:
                content = self._make(request, i)
            except Exception as error:  # handed to the thread that waits for the block
                content = error
            with self.changed:
                self.made[request] = content
                self.changed.notify_all()

    def _make(self, request: Request, i: int) -> bytes:
        """Take a block from the cache, or have process i make it. Raises `InputError` if that fails twice."""
        if self.cache is not None and (kept := self.cache.read(request)) is not None:
            return kept
        reason = ""
        for _ in range(ATTEMPTS):
            process = self.processes[i]
            if process is None:
                process = self.processes[i] = GameProcess(self.settings)
            try:
                content = process.block([request.seed, request.map, request.number, request.places])
            except GameEndedError as error:
                reason = str(error)
                self.processes[i] = None
                process.end()
                if self.closed:
                    break
            else:
                if self.cache is not None:
                    self.cache.write(request, content)
                return content
        raise InputError(f"ViZDoom made no clips of {request.map}: {reason}")


def _unpacked(content: bytes) -> Block:
    with numpy.load(io.BytesIO(content)) as arrays:
        return Block(arrays["frames"], arrays["poses"])
