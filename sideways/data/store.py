"""A folder that keeps decoded videos and blocks of Doom for other runs, bounded in size: the option `--cache DIR`.

    DIR/videos/*.frames             decoded videos, see `videos/kept.py`
    DIR/doom-*/*.block           blocks of Doom, see `doom/blocks.py`
    DIR/.lock                    locked by the process that writes; holds the bytes that the folder takes, or a few more
    DIR/.draft                   the file that is being written; it gets its name when it is whole

Any number of processes may use a folder at once, also over a network file system that has locks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any

from sideways.errors import InputError, printable

GIGABYTES = 20.0  # the bound, if none is given; 10⁹ bytes each
PATTERNS = ("videos/*.frames", "doom-*/*.block")  # the files that a `Store` may remove
ROOM = 0.9  # the part of the bound to which the folder is emptied, so that not every file finds it full


class Store:
    """A folder of files that can be made again, of at most `gigabytes` together. Nothing else in it is ever touched.

    A file that finds no room takes the place of those whose last use is longest ago, but only of those last used
    before this process opened the folder: a run that goes through more files than fit would else remove each of them
    before its next use. A file that finds no room even so is not kept.

    Raises `InputError` if the folder cannot be made, or if the bound is not positive.
    """

    def __init__(self, folder: str | Path, gigabytes: float = GIGABYTES):
        if not 0 < gigabytes < inf:
            raise InputError(f"cache_gb is a size in gigabytes, above 0, not {gigabytes}")
        self.folder = Path(folder).expanduser()
        self.draft = self.folder / ".draft"
        self.most = int(gigabytes * 1e9)
        self.refused = inf  # bytes: a file as large as this found no room
        self.counted = False  # True once this process has counted the bytes of the folder
        self.opened = 0.0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cache {printable(folder)}: the folder cannot be made: {error.strerror}") from None
        with contextlib.suppress(OSError), self._lock() as lock:  # a folder that is only read needs no clock
            os.utime(lock)
            self.opened = os.stat(lock).st_mtime  # by the clock of the disk, which may be another host's

    def path(self, name: str) -> Path:
        """The file of this name, whether it is there or not."""
        return self.folder / name

    def use(self, name: str) -> None:
        """Note that a file is in use, so that others are removed before it."""
        with contextlib.suppress(OSError):
            os.utime(self.path(name))

    def drop(self, name: str) -> None:
        """Remove a file that is damaged, if it is there."""
        with contextlib.suppress(OSError):
            self.path(name).unlink()

    def keep(self, name: str, content: Sequence[Any]) -> bool:
        """Publish a file with this content, a sequence of buffers of bytes, in one step: it is whole, or not there.

        Returns False if there is no room for the file. Raises `OSError` if it cannot be written.
        """
        size = sum(memoryview(part).nbytes for part in content)
        if size >= self.refused:
            return False
        with self._lock() as lock:
            if self.path(name).exists():  # another process was faster
                return True
            if not self._make_room(lock, size):
                self.refused = size
                return False
            try:
                with self.draft.open("wb") as file:
                    for part in content:
                        file.write(part)
                self.path(name).parent.mkdir(exist_ok=True)
                self.draft.replace(self.path(name))
            except OSError:
                self.draft.unlink(missing_ok=True)
                raise
        return True

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int]:
        """Hold the lock of the folder. Its end, also that of a process that is killed, sets the lock free."""
        import fcntl  # not at the top: a browser has no such module, and no cache

        lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    def _make_room(self, lock: int, size: int) -> bool:
        """Remove files until `size` more bytes fit, and count these bytes. Returns False if they cannot fit.

        The number of bytes in the lock file is never too small: a process adds those of a file before it writes the
        file. It may be too large, and is therefore counted anew before a file is removed.
        """
        noted = os.pread(lock, 32, 0)
        if self.counted and noted.isdigit() and int(noted) + size <= self.most:
            return _note(lock, int(noted) + size)
        self.draft.unlink(missing_ok=True)  # of a process that was killed
        files = sorted(self._files())
        total = sum(nbytes for _, nbytes, _ in files)
        if total + size > self.most:
            for last_use, nbytes, path in files:
                if total + size <= ROOM * self.most or last_use >= self.opened:
                    break
                path.unlink(missing_ok=True)
                total -= nbytes
        self.counted = True
        fits = total + size <= self.most
        _note(lock, total + size if fits else total)
        return fits

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """The time of last use, the bytes and the path of each file that was published."""
        for pattern in PATTERNS:
            for path in self.folder.glob(pattern):
                with contextlib.suppress(FileNotFoundError):  # removed since by a process that found it damaged
                    status = path.stat()
                    yield status.st_mtime, status.st_size, path


def _note(lock: int, total: int) -> bool:
    """Write the number of bytes into the lock file."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(total).encode(), 0)
    return True
