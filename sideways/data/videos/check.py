"""`sideways data check`: open every listed video, and report it as usable, missing, unreadable or too short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sideways.data.videos.datasets import Video, VideoSet, open_set
from sideways.data.videos.ffmpeg import probe, read_frames
from sideways.data.videos.processes import ffmpeg
from sideways.errors import InputError, printable
from sideways.tables import aligned

STATES = ("usable", "missing", "unreadable", "too short")
State = tuple[str, str]  # one of STATES, and the reason for it
UNLABELLED = "(no label)"
MAX_NAMED = 20  # files of each state that the table names


def check(data: str, splits: Sequence[int], length: int, fps: float, processes: int) -> dict[str, Any]:
    """Open every listed video of these splits, each file once. Returns a report for `table` to print, or for JSON.

    length, fps: videos shorter than this many frames at this rate are called too short: training loops them, or
        holds their last frame.
    processes: the number of files to open at a time, each by an ffmpeg process of its own.
    Raises `InputError` if there is no ffmpeg.
    """
    ffmpeg()  # where it is missing, the videos are not to blame
    video_sets = [open_set(data, split) for split in splits]
    paths = sorted({video.path for videos in video_sets for _, part in _parts(videos) for video in part if video.path})
    with ThreadPoolExecutor(max(min(processes, len(paths)), 1)) as executor:
        results = executor.map(lambda path: _state(path, length, fps), paths)
        bar = tqdm(results, total=len(paths), unit="video", desc=data, dynamic_ncols=True, disable=None)
        states = dict(zip(paths, bar, strict=True))
    report: dict[str, Any] = {"data": data, "length": length, "fps": fps, "splits": []}
    for videos in video_sets:
        entry = {"split": videos.split, "unlisted": videos.unlisted, "unreadable folders": videos.unreadable}
        parts = {name: _part_report(part, videos.classes, states) for name, part in _parts(videos)}
        report["splits"].append(entry | parts)
    return report


def _parts(videos: VideoSet) -> list[tuple[str, tuple[Video, ...]]]:
    """The lists of a data set by name. Kinetics-600 is tested on its validation list, so test.csv is a third list."""
    return [("train", videos.train), ("test", videos.test), *([("test.csv", videos.spare)] if videos.spare else [])]


def _part_report(part: Sequence[Video], classes: Sequence[str], states: Mapping[Path, State]) -> dict[str, Any]:
    """Count the states of the videos of one list, class by class, and name every video that is not usable."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in classes}
    if any(video.label < 0 for video in part):
        counts[UNLABELLED] = Counter()
    bad = []
    for video in part:
        state, reason = states[video.path] if video.path else ("missing", "no such file")
        counts[classes[video.label] if video.label >= 0 else UNLABELLED][state] += 1
        if state != "usable":
            bad.append({"video": video.name, "state": state, "why": reason})
    by_class = {name: {state: count[state] for state in STATES} for name, count in counts.items()}
    return {"listed": len(part), "classes": by_class, "bad": bad}


def _state(path: Path, length: int, fps: float) -> State:
    """The state of a file, and the reason for it."""
    try:
        info = probe(path)
        next(frames := read_frames(path, count=1))
        frames.close()
    except (InputError, OSError, RuntimeError, ValueError) as error:
        return "unreadable", printable(str(error).removeprefix(f"{path}: "))
    if info.duration * fps < length - 0.5:
        return "too short", f"{info.duration:.2f} s, {length} frames at {fps:g} per second take {length / fps:.2f} s"
    return "usable", ""


def table(report: dict[str, Any]) -> str:
    """Format a report of `check` as text."""
    lines = []
    for split in report["splits"]:
        for part in ("train", "test", "test.csv"):
            if part not in split:
                continue
            listed, by_class = split[part]["listed"], split[part]["classes"]
            rows = [(name, *(str(counts[s]) for s in STATES)) for name, counts in by_class.items()]
            total = {s: sum(counts[s] for counts in by_class.values()) for s in STATES}
            head = (f"split {split['split']}, {part}", *STATES)
            lines += [aligned(head, [*rows, ("all", *(str(total[s]) for s in STATES))])]
            lines += [f"{listed - total['missing']} of {listed} listed videos are there\n"]
            for state in STATES[1:]:
                bad = [entry for entry in split[part]["bad"] if entry["state"] == state]
                lines += [f"{state}: {entry['video']} ({entry['why']})" for entry in bad[:MAX_NAMED]]
                lines += [f"{state}: and {len(bad) - MAX_NAMED} more"] if len(bad) > MAX_NAMED else []
                lines += [""] if bad else []
        lines += [f"folder {folder}: {reason}" for folder, reason in split["unreadable folders"].items()]
        lines.append(f"{split['unlisted']} video files that split {split['split']} does not list\n")
    return "\n".join(lines)
