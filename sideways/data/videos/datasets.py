"""Data sets in the layouts of their authors' archives: the videos of the official lists, and their files.

`open_set("ucf101:/path", split=1)` reads the lists and the folders once; no video is opened.
"""

from __future__ import annotations

import csv
import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sideways.data.places import in_words, located
from sideways.data.videos.files import Files, entries, first_folder, is_video, lines_of, text_of
from sideways.errors import InputError, printable


@dataclass(frozen=True)
class Video:
    """A video that a list names."""

    name: str  # as in the list, made printable
    label: int  # index into the classes
    path: Path | None  # None if there is no such file


@dataclass(frozen=True)
class VideoSet:
    """One official split of a data set. `train` and `test` hold all videos that the lists name, even missing ones.

    Kinetics-600 is tested on its validation list; `spare` is then its test list, with label -1 for unlabelled videos.
    """

    kind: str
    root: Path
    split: int
    classes: tuple[str, ...]
    train: tuple[Video, ...]
    test: tuple[Video, ...]
    unlisted: int  # video files in the folders that no list of this split names
    unreadable: dict[str, str] = field(default_factory=dict)  # folders that cannot be read, with reasons
    spare: tuple[Video, ...] = ()

    @property
    def missing(self) -> dict[str, str]:
        """The listed videos without a file, and the folders that cannot be read, with reasons."""
        listed = {video.name: "no such file" for video in (*self.train, *self.test) if video.path is None}
        return self.unreadable | listed

    @property
    def fingerprint(self) -> int:
        """A checksum of the listed names, their classes, and whether each file is there."""
        parts = (("train", self.train), ("test", self.test))
        lines = (f"{part}\0{v.name}\0{v.label}\0{v.path is not None}\n" for part, videos in parts for v in videos)
        return zlib.crc32("".join(lines).encode())

    def require(self, part: str, verb: str) -> None:
        """Raise `InputError` unless at least one video of this part, `"train"` or `"test"`, is there."""
        videos = self.train if part == "train" else self.test
        if not any(video.path for video in videos):
            example = f", such as {videos[0].name}" if videos else ""
            raise InputError(
                f"data {self.kind}:{printable(self.root)}: nothing usable to {verb} on: none of {len(videos)} listed "
                f"videos is there{example}"
            )


def open_set(data: str, split: int = 1) -> VideoSet:
    """Read the lists of the data set at `"KIND:FOLDER"`. Raises `InputError` where lists or files are not as expected.

    All videos may be missing: code that needs one calls `VideoSet.require`.
    """
    kind, colon, folder = data.partition(":")
    if not colon or kind not in DATA_SETS:
        raise InputError(f"data {data!r}: write KIND:FOLDER, with one of {', '.join(DATA_SETS)} as the kind")
    root, splits = located(folder), splits_of(data)
    if not root.is_dir():
        raise InputError(f"data {data!r}: there is no folder {in_words(folder)}")
    if split not in splits:
        raise InputError(f"data {data!r}: there is no split {split}; choose 1 … {len(splits)}")
    try:
        return DATA_SETS[kind][0](root, split)
    except OSError as error:
        raise InputError(f"{printable(error.filename or root)}: cannot be read ({error.strerror})") from None


def splits_of(data: str) -> range:
    """The numbers of the official splits of the data set at `"KIND:FOLDER"`, from 1."""
    kind = data.partition(":")[0]
    if kind not in DATA_SETS:
        raise InputError(f"data {data!r}: write KIND:FOLDER, with one of {', '.join(DATA_SETS)} as the kind")
    return range(1, DATA_SETS[kind][1] + 1)


# UCF101 ---------------------------------------------------------------------------------------------------------------


def _ucf101(root: Path, split: int) -> VideoSet:
    """Read UCF-101/<Class>/v_<Class>_g08_c01.avi and ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt.

    The files of class HandstandPushups are spelt v_HandStandPushups_…, so names are compared regardless of case.
    """
    lists = first_folder(root, ("ucfTrainTestlist", "."), "classInd.txt", "the lists of UCF101")
    classes: dict[str, int] = {}
    for line, text in lines_of(lists / "classInd.txt"):
        number, _, name = text.partition(" ")
        if not number.isdigit() or not name.strip() or int(number) != len(classes) + 1:
            raise InputError(
                f"{lists / 'classInd.txt'}, line {line}: expected '{len(classes) + 1} ClassName', not {text!r}"
            )
        classes[name.strip().casefold()] = len(classes)
    names = [printable(text.partition(" ")[2].strip()) for _, text in lines_of(lists / "classInd.txt")]
    files = Files(first_folder(root, ("UCF-101", "UCF101", "."), None, "the videos of UCF101"))

    def read(path: Path) -> Iterator[Video]:
        for line, text in lines_of(path):
            match = re.fullmatch(r"(.+\.\w+)(?:\s+(\d+))?", text)
            folder = match[1].partition("/")[0].casefold() if match else ""
            if not match or folder not in classes or (match[2] and int(match[2]) != classes[folder] + 1):
                raise InputError(
                    f"{path}, line {line}: expected 'Class/video.avi' and the number of Class, not {text!r}"
                )
            yield Video(printable(match[1]), classes[folder], files.find(match[1]))

    train, test = (tuple(read(lists / f"{part}list{split:02d}.txt")) for part in ("train", "test"))
    unlisted = files.unlisted(v.path for v in (*train, *test))
    return VideoSet("ucf101", root, split, tuple(names), train, test, unlisted, files.unreadable)


# HMDB51 ---------------------------------------------------------------------------------------------------------------


def _hmdb51(root: Path, split: int) -> VideoSet:
    """Read <class>/<name>.avi and <class>_test_split1.txt: `name.avi 1` to train on, 2 to test on, 0 for neither."""
    folders = ("testTrainMulti_7030_splits", "test_train_splits", "splits", ".")
    ending = f"_test_split{split}.txt"
    lists = first_folder(root, folders, f"*{ending}", "the split files of HMDB51")
    files = Files(first_folder(root, ("hmdb51_org", "hmdb51", "videos", "."), None, "the videos of HMDB51"))
    paths = sorted(path for path in lists.glob(f"*{ending}") if not path.name.startswith("."))
    classes = tuple(path.name.removesuffix(ending) for path in paths)
    parts: dict[str, list[Video]] = {"0": [], "1": [], "2": []}
    for label, (name, path) in enumerate(zip(classes, paths, strict=True)):
        for line, text in lines_of(path):
            match = re.fullmatch(r"(.+?)\s+([012])", text)
            if not match:
                raise InputError(f"{path}, line {line}: expected 'name.avi' and 0, 1 or 2, not {text!r}")
            video = f"{name}/{match[1]}"
            parts[match[2]].append(Video(printable(video), label, files.find(video)))
    train, test = tuple(parts["1"]), tuple(parts["2"])
    unlisted = files.unlisted(v.path for v in (*train, *test, *parts["0"]))
    return VideoSet("hmdb51", root, split, tuple(map(printable, classes)), train, test, unlisted, files.unreadable)


# Kinetics-600 ---------------------------------------------------------------------------------------------------------


def _kinetics600(root: Path, split: int) -> VideoSet:
    """Read train.csv, val.csv (label, youtube_id, time_start, time_end) beside <split>/<label>/<id>_000010_000020.mp4.

    Only file names count, each made of an id and two times, so that files may lie in any folder below the root.
    """
    files = Files(root)
    by_clip = {path.stem: path for path in files.paths}  # some ids differ only in upper and lower case
    rows = {part: list(_csv(root, part)) for part in ("train", "val", "test")}
    tested = "val" if any(label for label, _ in rows["val"]) else "test"  # the test list may have no labels
    if not any(label for part in ("train", tested) for label, _ in rows[part]):
        raise InputError(
            f"{root}: no train.csv or val.csv with labels (looked for train.csv, kinetics_600_train.csv, …)"
        )
    classes = tuple(sorted({label for part in ("train", tested) for label, _ in rows[part] if label}))
    number = {label: index for index, label in enumerate(classes)}

    def videos(part: str) -> Iterator[Video]:
        for label, clip in rows[part]:
            yield Video(printable(f"{label or part}/{clip}"), number.get(label, -1), by_clip.get(clip))

    train, test = (tuple(video for video in videos(part) if video.label >= 0) for part in ("train", tested))
    spare = tuple(videos("test")) if tested == "val" else ()
    unlisted = files.unlisted(v.path for v in (*train, *test, *spare))
    return VideoSet("kinetics600", root, split, classes, train, test, unlisted, files.unreadable, spare)


def _csv(root: Path, part: str) -> Iterator[tuple[str, str]]:
    """Yield (label, `<id>_<start>_<end>`) for each row of a list, with an empty label if the row has none."""
    names = [f"{prefix}{name}.csv" for name in CSV_NAMES[part] for prefix in CSV_PREFIXES]
    candidates = [folder / name for folder in (root, root / "annotations") for name in names]
    path = next((candidate for candidate in candidates if candidate.exists()), None)
    if path is None:
        return
    try:
        rows = csv.DictReader(io.StringIO(text_of(path), newline=""), skipinitialspace=True)
        columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
        if not {"youtube_id", "time_start", "time_end"} <= set(columns):
            raise InputError(f"{path}: its first line must name label, youtube_id, time_start and time_end")
        for row in rows:
            label = printable((row.get(columns.get("label", ""), "") or "").strip())
            try:
                start, end = (int(float(row[columns[name]])) for name in ("time_start", "time_end"))
                yield label, f"{row[columns['youtube_id']].strip()}_{start:06d}_{end:06d}"
            except (TypeError, ValueError, AttributeError, OverflowError):
                raise InputError(f"{path}, line {rows.line_num}: id or times are not readable") from None
    except csv.Error as error:
        raise InputError(f"{path}: not a comma-separated table ({error})") from None


CSV_PREFIXES = ("", "kinetics_600_", "kinetics600_", "kinetics-600_", "kinetics-600-", "kinetics_")
CSV_NAMES = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}


# Any folder -----------------------------------------------------------------------------------------------------------


def _folder(root: Path, split: int) -> VideoSet:
    """Read train/<class>/ and test/<class>/ with videos, or one of the two alone."""
    parts = [part for part in ("train", "test") if (root / part).is_dir()]
    if not parts:
        raise InputError(f"{root}: looked for train/<class>/ and test/<class>/ with videos; there is neither")
    unreadable: dict[str, str] = {}
    folders = {part: entries(root / part, Path.is_dir, unreadable) for part in parts}
    classes = [path.name for path in folders[parts[0]]]
    if not classes:
        raise InputError(f"{root / parts[0]}: looked for a folder of videos for each class; there is none")
    if unknown := {path.name for path in folders[parts[-1]]} - set(classes):
        raise InputError(f"{root / 'test'}: class {min(unknown)!r} is not in train/")
    videos: dict[str, tuple[Video, ...]] = {
        part: tuple(
            Video(printable(f"{part}/{folder.name}/{path.name}"), classes.index(folder.name), path)
            for folder in folders[part]
            for path in entries(folder, is_video, unreadable)
        )
        for part in parts
    }
    train, test = videos.get("train", ()), videos.get("test", ())
    return VideoSet("folder", root, split, tuple(map(printable, classes)), train, test, 0, unreadable)


DATA_SETS: dict[str, tuple[Callable[[Path, int], VideoSet], int]] = {  # kind → (its reader, number of splits)
    "ucf101": (_ucf101, 3),
    "hmdb51": (_hmdb51, 3),
    "kinetics600": (_kinetics600, 1),
    "folder": (_folder, 1),
}
