"""A worker process seen from outside: requests go in, blocks or frames come out, and nothing waits for ever."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy

from sideways.data.doom.plan import map_names
from sideways.data.doom.scene import Settings
from sideways.data.videos.processes import TimedPipe
from sideways.errors import InputError

PATIENCE = 120.0  # seconds without a byte, after which a worker counts as hanging
CLOSING_TIME = 5.0  # seconds that a worker has to end with its game
SHARED = "shared.txt"  # in the folder of a worker: the names of the shared memory of its game


class GameEndedError(RuntimeError):
    """The worker has ended, or hangs; the message says what it printed last."""


class GameProcess:
    """A process that plays Doom. It has a folder and a process group of its own, and one BLAS thread."""

    def __init__(self, settings: Settings):
        self.folder = tempfile.TemporaryDirectory(prefix="sideways-doom-", ignore_cleanup_errors=True)
        self.errors = (Path(self.folder.name) / "errors.txt").open("w+b")
        command = [sys.executable, "-m", "sideways.data.doom.worker", json.dumps(asdict(settings)), self.folder.name]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            process_group=0,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        self.output = TimedPipe(self.process.stdout, PATIENCE, "ViZDoom")

    def block(self, request: list[Any]) -> bytes:
        """Have a block made. Raises `InputError` if the map has no room for it, and `GameEndedError`."""
        self._ask({"block": request})
        line = b""
        while not line.endswith(b"\n"):
            line += self._read(1)
        answer = json.loads(line)
        if answer["problem"]:
            raise InputError(f"doom: {answer['problem']}")
        return bytes(self._read(answer["bytes"]))

    def wander(self, seed: int, maps: list[str], shape: tuple[int, ...]) -> Iterator[numpy.ndarray]:
        """Yield the frames of a wandering player, of this shape, without end. Raises `GameEndedError`."""
        self._ask({"wander": [seed, maps]})
        while True:
            yield numpy.frombuffer(self._read(int(numpy.prod(shape))), numpy.uint8).reshape(shape)

    def _ask(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise GameEndedError(self._last_words()) from None

    def _read(self, count: int) -> bytearray:
        try:
            content = self.output.read(count)
        except TimeoutError as error:
            raise GameEndedError(str(error)) from None
        if len(content) < count:
            raise GameEndedError(self._last_words())
        return content

    def _last_words(self) -> str:
        """The last line that the worker printed, which names the cause."""
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "the process that plays Doom ended without a word"

    def shared_memory(self) -> list[Path]:
        """The shared memory of the game, as far as the worker has named it."""
        named = Path(self.folder.name) / SHARED
        return [Path(line) for line in named.read_text().splitlines()] if named.exists() else []

    def end(self) -> None:
        """End the process with its game, and remove its folder."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    pipe.close()
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.process.wait(CLOSING_TIME)
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for part in self.shared_memory():
            part.unlink(missing_ok=True)
        self.errors.close()
        self.folder.cleanup()


def version() -> str:
    """The version of ViZDoom; an empty text if it is not installed. Nothing is imported."""
    try:
        return metadata.version("vizdoom")
    except metadata.PackageNotFoundError:
        return ""


def check_installed() -> str:
    """Return the version of ViZDoom. Raises `InputError` if it is not installed. Nothing is imported."""
    if importlib.util.find_spec("vizdoom") is None:
        raise InputError("task 'doom' and stream:doom need ViZDoom, which is not installed: pip install vizdoom")
    return version()


def check_maps(names: list[str]) -> None:
    """Raise `InputError` for names of maps that Freedoom, which comes with ViZDoom, does not have."""
    spec = importlib.util.find_spec("vizdoom")
    assert spec is not None and spec.origin is not None
    known = map_names(Path(spec.origin).with_name("freedoom2.wad"))
    for name in names:
        if name not in known:
            raise InputError(f"there is no map {name!r}: maps are {known[0]} to {known[-1]}")
