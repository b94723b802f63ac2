"""What lies in the folders of a data set, and what its lists say, whatever the names, links and encodings."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sideways.errors import InputError, printable

ENDINGS = (".avi", ".mp4", ".webm", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg")


class Files:
    """All video files below a folder, found once; names are compared without regard to case and odd blanks.

    Links to folders are followed, but not into a folder that they lie in. `unreadable`: folders that could not be
    looked into, and why.
    """

    def __init__(self, root: Path):
        self.root = root
        self.unreadable: dict[str, str] = {}
        self.paths: list[Path] = []
        above: dict[str, frozenset[tuple[int, int]]] = {}  # folder → itself and those on the way to it
        for folder, folders, names in os.walk(root, onerror=self._note, followlinks=True):
            about, way = os.stat(folder), above.get(os.path.dirname(folder), frozenset())
            if (about.st_dev, about.st_ino) in way:  # a link that leads back
                folders.clear()
                continue
            above[folder] = way | {(about.st_dev, about.st_ino)}
            folders.sort()
            self.paths += [Path(folder, name) for name in sorted(names) if is_video(Path(name))]
        self.by_name = {self._plain(str(path.relative_to(root))): path for path in self.paths}

    def _note(self, error: OSError) -> None:
        self.unreadable[printable(error.filename)] = f"cannot be read ({error.strerror})"

    @staticmethod
    def _plain(name: str) -> str:
        return "/".join(part.strip() for part in name.replace(os.sep, "/").casefold().split("/"))

    def find(self, name: str) -> Path | None:
        """The file of this name; if there is none, that of another ending."""
        plain = self._plain(name)
        stem = plain.rpartition(".")[0]
        return next((self.by_name[n] for n in (plain, *(stem + end for end in ENDINGS)) if n in self.by_name), None)

    def besides(self, listed: Iterable[Path | None]) -> int:
        """How many files are none of these."""
        return len(self.paths) - len({path for path in listed if path})


def first(root: Path, folders: Iterable[str], pattern: str | None, what: str) -> Path:
    """The first of these folders that is there, and holds a file of this pattern."""
    tried = [root / folder for folder in folders]
    for path in tried:
        if path.is_dir() and (pattern is None or any(path.glob(pattern))):
            return path
    wanted = f"{pattern} in " if pattern else ""
    raise InputError(f"{root}: {what} are not there; looked for {wanted}{', '.join(map(str, tried))}")


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a list that say something, numbered from 1: any line ends, no blanks around, no byte-order mark."""
    return ((number, line.strip()) for number, line in enumerate(text_of(path).splitlines(), 1) if line.strip())


def text_of(path: Path) -> str:
    """A list's text: UTF-8, or UTF-16 that says so; bytes that are neither are kept, as in the names of files."""
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "surrogateescape")


def is_video(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in ENDINGS


def inside(folder: Path, wanted: Callable[[Path], bool], unreadable: dict[str, str]) -> list[Path]:
    """What is wanted of what lies in a folder, in order; a folder that cannot be read is noted."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and wanted(path))
    except OSError as error:
        unreadable[printable(folder)] = f"cannot be read ({error.strerror})"
        return []
