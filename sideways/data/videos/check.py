"""`sideways data check`: every video that the lists name, opened: usable, missing, unreadable or too short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sideways.data.videos.datasets import Video, VideoSet, open_set
from sideways.data.videos.ffmpeg import probe, read_frames
from sideways.errors import InputError, printable
from sideways.tables import aligned

STATES = ("usable", "missing", "unreadable", "too short")
UNLABELLED = "(no label)"
MOST = 20  # files of a state that the table names


def check(place: str, splits: Sequence[int], length: int, fps: float, processes: int) -> dict[str, Any]:
    """Augmentation at every listed video of these splits, each file once.

    length, fps: videos shorter than this many frames at this rate are called too short (training loops them).
    processes: files that are opened at a time, each by an ffmpeg of its own. Returns what `table` prints, for JSON.
    """
    sets = [open_set(place, split) for split in splits]
    paths = sorted({video.path for found in sets for _, videos in _parts(found) for video in videos if video.path})
    with ThreadPoolExecutor(max(processes, 1)) as executor:
        looks = executor.map(lambda path: _look(path, length, fps), paths)
        bar = tqdm(looks, total=len(paths), unit="video", desc=place, dynamic_ncols=True, disable=None)
        states = dict(zip(paths, bar, strict=True))
    report: dict[str, Any] = {"data": place, "length": length, "fps": fps, "splits": []}
    for found in sets:
        about: dict[str, Any] = {"split": found.split, "unlisted": found.unlisted}
        about["unreadable folders"] = found.unreadable
        for part, videos in _parts(found):
            counts: dict[str, Counter[str]] = {name: Counter() for name in found.classes}
            if any(video.label < 0 for video in videos):
                counts[UNLABELLED] = Counter()
            bad = []
            for video in videos:
                state, why = states[video.path] if video.path else ("missing", "no such file")
                counts[found.classes[video.label] if video.label >= 0 else UNLABELLED][state] += 1
                if state != "usable":
                    bad.append({"video": video.name, "state": state, "why": why})
            about[part] = {
                "listed": len(videos),
                "classes": {name: {state: count[state] for state in STATES} for name, count in counts.items()},
                "bad": bad,
            }
        report["splits"].append(about)
    return report


def _parts(found: VideoSet) -> list[tuple[str, tuple[Video, ...]]]:
    """The lists of a set: what is trained on, what is tested on, and the test list of Kinetics-600 beside that."""
    return [("train", found.train), ("test", found.test), *([("test.csv", found.spare)] if found.spare else [])]


def _look(path: Path, length: int, fps: float) -> tuple[str, str]:
    """The state of a file, and why."""
    try:
        about = probe(path)
        next(frames := read_frames(path, count=1))
        frames.close()  # type: ignore[attr-defined]
    except (InputError, OSError, RuntimeError, ValueError) as error:
        return "unreadable", printable(str(error).removeprefix(f"{path}: "))
    if about.duration * fps < length - 0.5:
        return "too short", f"{about.duration:.2f} s, {length} frames at {fps:g} per second take {length / fps:.2f} s"
    return "usable", ""


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = []
    for about in report["splits"]:
        for part, found in about.items():
            if part not in ("train", "test", "test.csv"):
                continue
            rows = [(name, *(str(counts[s]) for s in STATES)) for name, counts in found["classes"].items()]
            total = {s: sum(counts[s] for counts in found["classes"].values()) for s in STATES}
            head = (f"split {about['split']}, {part}", *STATES)
            lines += [aligned(head, [*rows, ("all", *(str(total[s]) for s in STATES))])]
            lines += [f"{found['listed'] - total['missing']} of {found['listed']} listed videos are there\n"]
            for state in STATES[1:]:
                bad = [entry for entry in found["bad"] if entry["state"] == state]
                lines += [f"{state}: {entry['video']} ({entry['why']})" for entry in bad[:MOST]]
                lines += [f"{state}: and {len(bad) - MOST} more"] if len(bad) > MOST else []
                lines += [""] if bad else []
        lines += [f"folder {folder}: {why}" for folder, why in about["unreadable folders"].items()]
        lines.append(f"{about['unlisted']} video files that split {about['split']} does not list\n")
    return "\n".join(lines)
