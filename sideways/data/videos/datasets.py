"""Data sets as their authors' archives extract: which videos their official lists name, and where each file lies.

`open_set("ucf101:/path", split=1)` reads the lists and looks at the folders once; no video is opened.
"""

from __future__ import annotations

import csv
import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sideways.data.videos.files import Files, first, inside, is_video, lines_of, text_of
from sideways.errors import InputError, printable


@dataclass(frozen=True)
class Video:
    """An entry of a list."""

    name: str  # as the list names it, printable
    label: int  # index into the classes
    path: Path | None  # None: there is no such file


@dataclass(frozen=True)
class VideoSet:
    """A data set, one of its official splits. `train` and `test` hold all that the lists name, missing files too.

    Kinetics-600 is tested on its validation list; `spare` is its test list beside that, label -1 where it tells none.
    """

    kind: str
    root: Path
    split: int
    classes: tuple[str, ...]
    train: tuple[Video, ...]
    test: tuple[Video, ...]
    unlisted: int  # video files in the folders that no list of this split names
    unreadable: dict[str, str] = field(default_factory=dict)  # folders that could not be looked into, and why
    spare: tuple[Video, ...] = ()

    @property
    def missing(self) -> dict[str, str]:
        """Listed videos without a file, and folders that could not be looked into, each with why."""
        listed = {video.name: "no such file" for video in (*self.train, *self.test) if video.path is None}
        return self.unreadable | listed

    @property
    def fingerprint(self) -> int:
        """A checksum of what the lists name, in which class, and whether it is there."""
        parts = (("train", self.train), ("test", self.test))
        told = (f"{part}\0{v.name}\0{v.label}\0{v.path is not None}\n" for part, videos in parts for v in videos)
        return zlib.crc32("".join(told).encode())

    def require(self, part: str, verb: str) -> None:
        """`InputError` unless a video of this part, `"train"` or `"test"`, is there."""
        videos = self.train if part == "train" else self.test
        if not any(video.path for video in videos):
            example = f", such as {videos[0].name}" if videos else ""
            raise InputError(
                f"data {self.kind}:{printable(self.root)}: nothing usable to {verb} on: none of {len(videos)} listed "
                f"videos is there{example}"
            )


def open_set(place: str, split: int = 1) -> VideoSet:
    """The data set at `"KIND:FOLDER"`. Raises `InputError` where lists or files are not as expected.

    That one of the videos is there is for those who use them to ask: `VideoSet.require`.
    """
    kind, colon, folder = place.partition(":")
    if not colon or kind not in SETS:
        raise InputError(f"data {place!r}: write KIND:FOLDER, with one of {', '.join(SETS)} as the kind")
    root, splits = Path(folder).expanduser(), splits_of(place)
    if not root.is_dir():
        raise InputError(f"data {place!r}: there is no folder {root}")
    if split not in splits:
        raise InputError(f"data {place!r}: there is no split {split}; choose 1 … {len(splits)}")
    try:
        return SETS[kind][0](root, split)
    except OSError as error:
        raise InputError(f"{printable(error.filename or root)}: cannot be read ({error.strerror})") from None


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
    lists = first(root, ("ucfTrainTestlist", "."), "classInd.txt", "the lists of UCF101")
    classes: dict[str, int] = {}
    for line, text in lines_of(lists / "classInd.txt"):
        number, _, name = text.partition(" ")
        if not number.isdigit() or not name.strip() or int(number) != len(classes) + 1:
            raise InputError(
                f"{lists / 'classInd.txt'}, line {line}: expected '{len(classes) + 1} ClassName', not {text!r}"
            )
        classes[name.strip().casefold()] = len(classes)
    names = [printable(text.partition(" ")[2].strip()) for _, text in lines_of(lists / "classInd.txt")]
    files = Files(first(root, ("UCF-101", "UCF101", "."), None, "the videos of UCF101"))

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
    unlisted = files.besides(v.path for v in (*train, *test))
    return VideoSet("ucf101", root, split, tuple(names), train, test, unlisted, files.unreadable)


# HMDB51 ---------------------------------------------------------------------------------------------------------------


def _hmdb51(root: Path, split: int) -> VideoSet:
    """<class>/<name>.avi and <class>_test_split1.txt: `name.avi 1` to train on, 2 to test on, 0 for neither."""
    folders = ("testTrainMulti_7030_splits", "test_train_splits", "splits", ".")
    ending = f"_test_split{split}.txt"
    lists = first(root, folders, f"*{ending}", "the split files of HMDB51")
    files = Files(first(root, ("hmdb51_org", "hmdb51", "videos", "."), None, "the videos of HMDB51"))
    paths = sorted(path for path in lists.glob(f"*{ending}") if not path.name.startswith("."))
    classes = tuple(path.name.removesuffix(ending) for path in paths)
    parts: dict[str, list[Video]] = {"0": [], "1": [], "2": []}
    for label, (name, path) in enumerate(zip(classes, paths, strict=True)):
        for line, text in lines_of(path):
            match = re.fullmatch(r"(.+?)\s+([012])", text)
            if not match:
                raise InputError(f"{path}, line {line}: expected 'name.avi' and 0, 1 or 2, not {text!r}")
            place = f"{name}/{match[1]}"
            parts[match[2]].append(Video(printable(place), label, files.find(place)))
    train, test = tuple(parts["1"]), tuple(parts["2"])
    unlisted = files.besides(v.path for v in (*train, *test, *parts["0"]))
    return VideoSet("hmdb51", root, split, tuple(map(printable, classes)), train, test, unlisted, files.unreadable)


# Kinetics-600 ---------------------------------------------------------------------------------------------------------


def _kinetics600(root: Path, split: int) -> VideoSet:
    """train.csv, val.csv (label, youtube_id, time_start, time_end) beside <split>/<label>/<id>_000010_000020.mp4.

    Files may also lie flat, or in folders of labels alone, with spaces or underscores: an id and its times name a clip.
    """
    files = Files(root)
    by_clip = {path.stem: path for path in files.paths}  # ids differ by the case of letters alone
    rows = {part: list(_csv(root, part)) for part in ("train", "val", "test")}
    tested = "val" if any(label for label, _ in rows["val"]) else "test"  # the test list may tell no labels
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
    unlisted = files.besides(v.path for v in (*train, *test, *spare))
    return VideoSet("kinetics600", root, split, classes, train, test, unlisted, files.unreadable, spare)


def _csv(root: Path, part: str) -> Iterator[tuple[str, str]]:
    """(label, `<id>_<start>_<end>`) of each row; an empty label where there is none."""
    names = [f"{before}{name}.csv" for name in ALSO[part] for before in KINETICS]
    places = [folder / name for folder in (root, root / "annotations") for name in names]
    path = next((place for place in places if place.exists()), None)
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
        raise InputError(f"{path}: not a table of commas ({error})") from None


KINETICS = ("", "kinetics_600_", "kinetics600_", "kinetics-600_", "kinetics-600-", "kinetics_")
ALSO = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}


# Any folder -----------------------------------------------------------------------------------------------------------


def _folder(root: Path, split: int) -> VideoSet:
    """train/<class>/ and test/<class>/ with videos, or one of the two alone."""
    parts = [part for part in ("train", "test") if (root / part).is_dir()]
    if not parts:
        raise InputError(f"{root}: looked for train/<class>/ and test/<class>/ with videos; there is neither")
    unreadable: dict[str, str] = {}
    folders = {part: inside(root / part, Path.is_dir, unreadable) for part in parts}
    classes = [path.name for path in folders[parts[0]]]
    if not classes:
        raise InputError(f"{root / parts[0]}: looked for a folder of videos for each class; there is none")
    if unknown := {path.name for path in folders[parts[-1]]} - set(classes):
        raise InputError(f"{root / 'test'}: class {min(unknown)!r} is not in train/")
    found: dict[str, tuple[Video, ...]] = {
        part: tuple(
            Video(printable(f"{part}/{folder.name}/{path.name}"), classes.index(folder.name), path)
            for folder in folders[part]
            for path in inside(folder, is_video, unreadable)
        )
        for part in parts
    }
    train, test = found.get("train", ()), found.get("test", ())
    return VideoSet("folder", root, split, tuple(map(printable, classes)), train, test, 0, unreadable)


SETS: dict[str, tuple[Callable[[Path, int], VideoSet], int]] = {  # kind → how it is read, number of splits
    "ucf101": (_ucf101, 3),
    "hmdb51": (_hmdb51, 3),
    "kinetics600": (_kinetics600, 1),
    "folder": (_folder, 1),
}
