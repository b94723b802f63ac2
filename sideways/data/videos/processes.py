"""The ffmpeg program, and limits for its processes: none outlives its parent, and none may be silent for ever.

`ffmpeg.py` starts those that decode, by `start`, and gives `end_with_parent` to imageio-ffmpeg, which reads headers.
"""

from __future__ import annotations

import ctypes
import functools
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

from sideways.errors import InputError

SILENCE = 60.0  # seconds without a byte, after which a decoding process is ended
PR_SET_PDEATHSIG = 1  # Linux: the signal that a process gets when its parent ends
_LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None


def ffmpeg() -> str:
    """The path of the ffmpeg program. Raises `InputError` if there is none, or if it does not answer."""
    if sys.platform == "emscripten":
        raise InputError("videos need the program ffmpeg, and a browser can start no program: use Sideways outside it")
    import imageio_ffmpeg  # imported here, so that programs without videos do not load it

    chosen = os.environ.get("IMAGEIO_FFMPEG_EXE")
    try:
        program = shutil.which(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:  # imageio-ffmpeg has no program of its own here, and finds none
        program = None
    if program is None:
        place = f"IMAGEIO_FFMPEG_EXE names {chosen}, which is no program" if chosen else "there is none"
        raise InputError(f"videos need the program ffmpeg, and {place}: pip install imageio-ffmpeg, or install ffmpeg")
    _version(program)
    return program


def version() -> str:
    """The words by which the ffmpeg program states its version and its build. Raises the errors of `ffmpeg`."""
    return _version(ffmpeg())


@functools.cache
def _version(program: str) -> str:
    """The version of an ffmpeg program. Raises `InputError` unless the program states it within a while."""
    command = [program, "-version"]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SILENCE, check=True, errors="replace"
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(f"the program {program} does not work as ffmpeg: {error}") from None
    return answer.stdout


def end_with_parent() -> None:
    """Called in a new process before ffmpeg runs in it: leave Ctrl-C to the parent, and end when the parent ends."""
    os.setpgid(0, 0)
    if _LIBRARY is not None:
        _LIBRARY.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(command: list[str], **options: Any) -> subprocess.Popen:
    """Start a process that ends with its parent. options: as for `subprocess.Popen`.

    The program setpriv asks for that end where there is one: a function that runs before the new program makes Python
    copy the tables of its whole memory first, which takes longer than to decode some frames.
    """
    if setpriv := _setpriv():
        return subprocess.Popen([setpriv, "--pdeathsig", "KILL", *command], process_group=0, **options)
    return subprocess.Popen(command, preexec_fn=end_with_parent, **options)


@functools.cache
def _setpriv() -> str | None:
    return shutil.which("setpriv")


class TimedPipe:
    """The output of a process, to be read as a file. Raises `TimeoutError` if no byte comes for `silence` seconds.

    program: the name of the program in the error.
    """

    def __init__(self, pipe: Any, silence: float, program: str = "ffmpeg"):
        self.pipe, self.silence, self.program = pipe, silence, program

    def read(self, count: int) -> bytearray:
        """Read so many bytes, or fewer if the process has ended its output."""
        buffer = bytearray(count)
        position = 0
        while position < count:
            self._wait()
            read = os.readv(self.pipe.fileno(), [memoryview(buffer)[position:]])
            if not read:
                return buffer[:position]
            position += read
        return buffer

    def _wait(self) -> None:
        end = time.monotonic() + self.silence
        poll = select.poll()
        poll.register(self.pipe.fileno(), select.POLLIN | select.POLLHUP)
        while not poll.poll(1000 * min(self.silence, 1.0)):
            if time.monotonic() > end:
                raise silent(self.silence, self.program)


def silent(seconds: float, program: str = "ffmpeg") -> TimeoutError:
    """The error of a process that has been silent for too long."""
    return TimeoutError(f"{program} has sent nothing for {seconds:g} s, and was ended")
