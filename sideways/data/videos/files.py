"""The folders and lists of a data set, read in spite of odd names, links and encodings."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sideways.errors import InputError, printable

ENDINGS = (".avi", ".mp4", ".webm", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg")


class Files:
    """All video files below a folder, listed once. Names are compared regardless of case and of blanks at their ends.

    Links to folders are followed, except those that lead back into a folder above them.
    `unreadable`: folders that cannot be read, with reasons.
    """

    def __init__(self, root: Path):
        self.root = root
        self.unreadable: dict[str, str] = {}
        self.paths: list[Path] = []
        ancestors: dict[str, frozenset[tuple[int, int]]] = {}  # folder → identities of this folder and of all above it
        for folder, subfolders, names in os.walk(root, onerror=self._note_unreadable, followlinks=True):
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            above = ancestors.get(os.path.dirname(folder), frozenset())
            if identity in above:  # a link leads back into a folder above
                subfolders.clear()
                continue
            ancestors[folder] = above | {identity}
            subfolders.sort()
            for name in sorted(names):
                if is_video(Path(name)):
                    self.paths.append(Path(folder, name))
        self.by_name = {self._plain(str(path.relative_to(root))): path for path in self.paths}

    def _note_unreadable(self, error: OSError) -> None:
        self.unreadable[printable(error.filename)] = f"cannot be read ({error.strerror})"

    @staticmethod
    def _plain(name: str) -> str:
        """The form in which names are compared."""
        return "/".join(part.strip() for part in name.replace(os.sep, "/").casefold().split("/"))

    def find(self, name: str) -> Path | None:
        """Find the file of this name or, if there is none, one that differs only in its ending."""
        plain = self._plain(name)
        stem = plain.rpartition(".")[0]
        for candidate in (plain, *(stem + ending for ending in ENDINGS)):
            if candidate in self.by_name:
                return self.by_name[candidate]
        return None

    def unlisted(self, listed: Iterable[Path | None]) -> int:
        """Count the files that are not listed."""
        return len(self.paths) - len({path for path in listed if path})


def first_folder(root: Path, folders: Iterable[str], pattern: str | None, contents: str) -> Path:
    """Return the first of these folders that exists and holds a file of this pattern.

    contents: describes the folder in the `InputError` that is raised if there is no such folder.
    """
    tried = [root / folder for folder in folders]
    for path in tried:
        if path.is_dir() and (pattern is None or any(path.glob(pattern))):
            return path
    wanted = f"{pattern} in " if pattern else ""
    raise InputError(f"{root}: {contents} are not there; looked for {wanted}{', '.join(map(str, tried))}")


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line) for the lines of a list that are not empty, without blanks at their ends.

    Lines are numbered from 1, and may end as on Unix, Windows or old Macs.
    """
    return ((number, line.strip()) for number, line in enumerate(text_of(path).splitlines(), 1) if line.strip())


def text_of(path: Path) -> str:
    """Read a list as UTF-8, or as UTF-16 if it starts with the byte-order mark of UTF-16.

    Bytes that are not UTF-8 are kept, as Python keeps them in file names, so that names still match.
    """
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "surrogateescape")


def is_video(path: Path) -> bool:
    """Tell by its name whether a file is a video, and not a hidden file."""
    return not path.name.startswith(".") and path.suffix.lower() in ENDINGS


def entries(folder: Path, wanted: Callable[[Path], bool], unreadable: dict[str, str]) -> list[Path]:
    """The entries of a folder that satisfy `wanted`, sorted. An unreadable folder is recorded in `unreadable`."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and wanted(path))
    except OSError as error:
        unreadable[printable(folder)] = f"cannot be read ({error.strerror})"
        return []
