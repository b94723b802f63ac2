"""Data sets as their authors' archives extract: which videos their official lists name, and where each file lies.

`open_set("ucf101:/path", split=1)` reads the lists and looks at the folders once; no video is opened.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sideways.errors import InputError

ENDINGS = (".avi", ".mp4", ".webm", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg")


@dataclass(frozen=True)
class Video:
    """An entry of a list."""

    name: str  # as the list names it
    label: int  # index into the classes
    path: Path | None  # None: there is no such file


@dataclass(frozen=True)
class VideoSet:
    """A data set, one of its official splits. `train` and `test` hold all that the lists name, missing files too."""

    kind: str
    root: Path
    split: int
    classes: tuple[str, ...]
    train: tuple[Video, ...]
    test: tuple[Video, ...]
    unlisted: int  # video files in the folders that no list of this split names

    @property
    def missing(self) -> dict[str, str]:
        """Listed videos without a file, each with why."""
        return {video.name: "no such file" for video in (*self.train, *self.test) if video.path is None}


def open_set(place: str, split: int = 1) -> VideoSet:
    """The data set at `"KIND:FOLDER"`. Raises `InputError` where lists or files are not as expected."""
    kind, colon, folder = place.partition(":")
    if not colon or kind not in SETS:
        raise InputError(f"data {place!r}: write KIND:FOLDER, with one of {', '.join(SETS)} as the kind")
    root, splits = Path(folder).expanduser(), splits_of(place)
    if not root.is_dir():
        raise InputError(f"data {place!r}: there is no folder {root}")
    if split not in splits:
        raise InputError(f"data {place!r}: there is no split {split}; choose 1 … {len(splits)}")
    found = SETS[kind][0](root, split)
    for name, videos in (("train", found.train), ("test", found.test)):
        if not any(video.path for video in videos):
            example = f", such as {videos[0].name}" if videos else ""
            raise InputError(
                f"data {place!r}: nothing usable to {name} on: none of {len(videos)} listed videos is there{example}"
            )
    return found


def splits_of(place: str) -> range:
    """The numbers of the official splits of a data set."""
    kind = place.partition(":")[0]
    if kind not in SETS:
        raise InputError(f"data {place!r}: write KIND:FOLDER, with one of {', '.join(SETS)} as the kind")
    return range(1, SETS[kind][1] + 1)


# UCF101 ---------------------------------------------------------------------------------------------------------------


def _ucf101(root: Path, split: int) -> VideoSet:
    """UCF-101/<Class>/v_<Class>_g08_c01.avi and ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt.

    The files of class HandstandPushups are spelt v_HandStandPushups_…, so names are compared without regard to case.
    """
    lists = _first(root, ("ucfTrainTestlist", "."), "classInd.txt", "the lists of UCF101")
    classes: dict[str, int] = {}
    for line, text in _lines(lists / "classInd.txt"):
        number, _, name = text.partition(" ")
        if not number.isdigit() or not name.strip() or int(number) != len(classes) + 1:
            raise InputError(
                f"{lists / 'classInd.txt'}, line {line}: expected '{len(classes) + 1} ClassName', not {text!r}"
            )
        classes[name.strip().casefold()] = len(classes)
    names = [text.partition(" ")[2].strip() for _, text in _lines(lists / "classInd.txt")]
    files = Files(_first(root, ("UCF-101", "UCF101", "."), None, "the videos of UCF101"))

    def read(path: Path) -> Iterator[Video]:
        for line, text in _lines(path):
            match = re.fullmatch(r"(.+\.\w+)(?:\s+(\d+))?", text)
            folder = match[1].partition("/")[0].casefold() if match else ""
            if not match or folder not in classes or (match[2] and int(match[2]) != classes[folder] + 1):
                raise InputError(
                    f"{path}, line {line}: expected 'Class/video.avi' and the number of Class, not {text!r}"
                )
            yield Video(match[1], classes[folder], files.find(match[1]))

    train, test = (tuple(read(lists / f"{part}list{split:02d}.txt")) for part in ("train", "test"))
    return VideoSet("ucf101", root, split, tuple(names), train, test, files.besides((*train, *test)))


# HMDB51 ---------------------------------------------------------------------------------------------------------------


def _hmdb51(root: Path, split: int) -> VideoSet:
    """<class>/<name>.avi and <class>_test_split1.txt: `name.avi 1` to train on, 2 to test on, 0 for neither."""
    folders = ("testTrainMulti_7030_splits", "test_train_splits", "splits", ".")
    ending = f"_test_split{split}.txt"
    lists = _first(root, folders, f"*{ending}", "the split files of HMDB51")
    files = Files(_first(root, ("hmdb51_org", "hmdb51", "videos", "."), None, "the videos of HMDB51"))
    paths = sorted(lists.glob(f"*{ending}"))
    classes = tuple(path.name.removesuffix(ending) for path in paths)
    parts: dict[str, list[Video]] = {"0": [], "1": [], "2": []}
    for label, (name, path) in enumerate(zip(classes, paths, strict=True)):
        for line, text in _lines(path):
            match = re.fullmatch(r"(.+?)\s+([012])", text)
            if not match:
                raise InputError(f"{path}, line {line}: expected 'name.avi' and 0, 1 or 2, not {text!r}")
            parts[match[2]].append(Video(f"{name}/{match[1]}", label, files.find(f"{name}/{match[1]}")))
    train, test = tuple(parts["1"]), tuple(parts["2"])
    return VideoSet("hmdb51", root, split, classes, train, test, files.besides((*train, *test, *parts["0"])))


# Kinetics-600 ---------------------------------------------------------------------------------------------------------


def _kinetics600(root: Path, split: int) -> VideoSet:
    """train.csv, val.csv (label, youtube_id, time_start, time_end) beside <split>/<label>/<id>_000010_000020.mp4.

    Files may also lie flat, or in folders of labels alone, with spaces or underscores: an id and its times name a clip.
    """
    files = Files(root)
    by_clip = {path.stem: path for path in files.paths}  # ids differ by the case of letters alone
    rows = {part: list(_csv(root, part)) for part in ("train", "val")}
    part = "val"
    if not rows["val"]:
        part, rows["test"] = "test", list(_csv(root, "test"))
    if not rows["train"] or not rows[part]:
        raise InputError(
            f"{root}: no train.csv and val.csv with labels (looked for train.csv, kinetics_600_train.csv, …)"
        )
    classes = tuple(sorted({label for label, _ in (*rows["train"], *rows[part])}))
    number = {label: index for index, label in enumerate(classes)}
    train, test = (
        tuple(Video(f"{label}/{clip}", number[label], by_clip.get(clip)) for label, clip in rows[name])
        for name in ("train", part)
    )
    return VideoSet("kinetics600", root, split, classes, train, test, files.besides((*train, *test)))


def _csv(root: Path, part: str) -> Iterator[tuple[str, str]]:
    """(label, `<id>_<start>_<end>`) of each row with a label."""
    names = [f"{before}{name}.csv" for name in ALSO[part] for before in KINETICS]
    places = [folder / name for folder in (root, root / "annotations") for name in names]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
        if not {"youtube_id", "time_start", "time_end"} <= set(columns):
            raise InputError(f"{path}: its first line must name label, youtube_id, time_start and time_end")
        for row in rows:
            label = (row.get(columns.get("label", ""), "") or "").strip()
            try:
                start, end = (int(float(row[columns[name]])) for name in ("time_start", "time_end"))
                clip = f"{row[columns['youtube_id']].strip()}_{start:06d}_{end:06d}"
            except (TypeError, ValueError, AttributeError):
                raise InputError(f"{path}, line {rows.line_num}: id or times are not readable") from None
            if label:
                yield label, clip


KINETICS = ("", "kinetics_600_", "kinetics600_", "kinetics-600_", "kinetics-600-", "kinetics_")
ALSO = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}


# Any folder -----------------------------------------------------------------------------------------------------------


def _folder(root: Path, split: int) -> VideoSet:
    """train/<class>/ and test/<class>/ with videos."""
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise InputError(f"{root}: looked for train/<class>/ and test/<class>/ with videos; there is no {part}/")
    classes = tuple(sorted(path.name for path in (root / "train").iterdir() if _shown(path) and path.is_dir()))
    more = sorted(path.name for path in (root / "test").iterdir() if _shown(path) and path.is_dir())
    if unknown := set(more) - set(classes):
        raise InputError(f"{root / 'test'}: class {min(unknown)!r} is not in train/")
    train, test = (
        tuple(
            Video(f"{part}/{name}/{path.name}", label, path)
            for label, name in enumerate(classes)
            if (root / part / name).is_dir()
            for path in sorted((root / part / name).iterdir())
            if _is_video(path)
        )
        for part in ("train", "test")
    )
    return VideoSet("folder", root, split, classes, train, test, 0)


SETS: dict[str, tuple[Callable[[Path, int], VideoSet], int]] = {  # kind → how it is read, number of splits
    "ucf101": (_ucf101, 3),
    "hmdb51": (_hmdb51, 3),
    "kinetics600": (_kinetics600, 1),
    "folder": (_folder, 1),
}


# Files and lists ------------------------------------------------------------------------------------------------------


class Files:
    """All video files below a folder, found once; names are compared without regard to case and odd blanks."""

    def __init__(self, root: Path):
        self.root = root
        self.paths = [
            Path(folder, name)
            for folder, _, names in os.walk(root)
            for name in names
            if not name.startswith(".") and name.lower().endswith(ENDINGS)
        ]
        self.by_name = {self._plain(str(path.relative_to(root))): path for path in self.paths}

    @staticmethod
    def _plain(name: str) -> str:
        return "/".join(part.strip() for part in name.replace(os.sep, "/").casefold().split("/"))

    def find(self, name: str) -> Path | None:
        """The file of this name; if there is none, that of another ending."""
        plain = self._plain(name)
        stem = plain.rpartition(".")[0]
        return next((self.by_name[n] for n in (plain, *(stem + end for end in ENDINGS)) if n in self.by_name), None)

    def besides(self, listed: Iterable[Video]) -> int:
        """How many files none of these videos is."""
        return len(self.paths) - len({video.path for video in listed if video.path})


def _first(root: Path, folders: Iterable[str], pattern: str | None, what: str) -> Path:
    """The first of these folders that is there, and holds a file of this pattern."""
    tried = [root / folder for folder in folders]
    for path in tried:
        if path.is_dir() and (pattern is None or any(path.glob(pattern))):
            return path
    wanted = f"{pattern} in " if pattern else ""
    raise InputError(f"{root}: {what} are not there; looked for {wanted}{', '.join(map(str, tried))}")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a list that say something, numbered from 1: any line ends, no blanks around, no byte-order mark."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip())


def _shown(path: Path) -> bool:
    return not path.name.startswith(".")


def _is_video(path: Path) -> bool:
    return _shown(path) and path.suffix.lower() in ENDINGS
