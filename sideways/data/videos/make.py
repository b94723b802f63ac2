"""`sideways data make`: a small set of real video files, in exactly the layout of a large one, that can be learnt.

Two kinds of classes. Appearance: stripes, checks, discs, or rings, which one frame can tell. Motion: a random texture
that glides to the right, down, left or up; no single frame tells the direction.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy
from tqdm import tqdm

from sideways.data.motion import DIRECTIONS, velocities
from sideways.data.videos.ffmpeg import write_video
from sideways.errors import InputError

PATTERNS = ("stripes", "checks", "discs", "rings")
LINES, COLUMNS = 60, 80  # pixels that are computed; ffmpeg scales them up to 240 × 320
SCALE = 4
MARK = "made.txt"  # in the folder of a set that was made
SECONDS = 2.0


def make(
    kind: str, out: Path, what: str = "appearance", seed: int = 0, groups: int = 25, each: int = 2, processes: int = 2
) -> None:
    """Write it: 4 classes of `groups` × `each` videos of 2 s. Raises `InputError` if `out` is there and not empty.

    what: `"appearance"` or `"motion"`. About every third group is for testing.
    """
    if kind not in LAYOUTS:
        raise InputError(f"cannot make {kind!r}: choose one of {', '.join(LAYOUTS)}")
    if what not in ("appearance", "motion"):
        raise InputError(f"cannot make {what!r}: choose 'appearance' or 'motion'")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already, and not empty")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).write_text(
        f"Made by `sideways data make {kind} --what {what}`: {what} of moving pictures, no actions.\n"
    )
    clips = [
        GeneratedVideo(label, group, number) for label in range(4) for group in range(groups) for number in range(each)
    ]
    rate, paths = LAYOUTS[kind](out, what, clips, groups)

    def write(clip: GeneratedVideo) -> None:
        path = paths[clip]
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = numpy.random.default_rng([seed, clip.label, clip.group, clip.number])
        frames = (
            appearance(clip.label, generator, rate) if what == "appearance" else motion(clip.label, generator, rate)
        )
        codec = {"codec": "mpeg4", "quality": None, "bitrate": None} if path.suffix == ".avi" else {"codec": "libx264"}
        sharp = ["-q:v", "2"] if path.suffix == ".avi" else ["-crf", "16"]
        size = f"scale={COLUMNS * SCALE}:{LINES * SCALE}:flags=bicubic"
        write_video(path, frames, rate, output_params=[*sharp, "-vf", size, "-threads", "1"], **codec)

    with ThreadPoolExecutor(processes) as executor:
        list(tqdm(executor.map(write, clips), total=len(clips), unit="video", desc=str(out), disable=None))


@dataclass(frozen=True)
class GeneratedVideo:
    """A video to be written: its class, and which one of it."""

    label: int
    group: int
    number: int

    def part(self, split: int) -> str:
        """Which list of split 1, 2 or 3 names it: groups take turns in being tested on."""
        return "test" if self.group % 3 == split - 1 else "train"


# What is seen ---------------------------------------------------------------------------------------------------------


def appearance(label: int, generator: numpy.random.Generator, rate: float) -> Iterator[numpy.ndarray]:
    """A pattern of random size, place, turn and colours that drifts in a random direction."""
    rows, columns = numpy.mgrid[:LINES, :COLUMNS] - numpy.array([LINES, COLUMNS])[:, None, None] / 2
    turn, drift = generator.uniform(0, 2 * numpy.pi, 2)
    period, speed = generator.uniform(14, 22), generator.uniform(2, 10)  # pixels, pixels per second
    place = generator.uniform(0, period, 2)
    colours = generator.uniform([[0], [180]], [[70], [255]], (2, 3))  # dark ground, bright pattern
    for t in range(round(SECONDS * rate)):
        x = columns - place[0] - speed * t / rate * numpy.cos(drift)
        y = rows - place[1] - speed * t / rate * numpy.sin(drift)
        u, v = x * numpy.cos(turn) + y * numpy.sin(turn), y * numpy.cos(turn) - x * numpy.sin(turn)
        waves = numpy.sin(2 * numpy.pi * u / period), numpy.sin(2 * numpy.pi * v / period)
        in_cell = (numpy.mod(w, period) - period / 2 for w in (u, v))
        away = numpy.hypot(*in_cell) / period
        amount = (waves[0], waves[0] * waves[1] * 2, (0.3 - away) * 12, (0.08 - abs(away - 0.3)) * 25)[label]
        mix = numpy.clip(0.5 + amount, 0, 1)[..., None]
        yield (colours[0] * (1 - mix) + colours[1] * mix).astype(numpy.uint8)


def motion(label: int, generator: numpy.random.Generator, rate: float) -> Iterator[numpy.ndarray]:
    """Sixteen random waves that glide together: √(2/16) Σ cos(k·p - k·v t + φ), grey, wavelengths of 12 to 24 pixels.

    Scaled to 32 lines that is 6 to 13 pixels, and the speed about one pixel per 1/25 s.
    """
    rows, columns = numpy.mgrid[:LINES, :COLUMNS]
    angles, phases = generator.uniform(0, 2 * numpy.pi, (2, 16))
    numbers = 2 * numpy.pi / generator.uniform(12, 24, 16)
    across, down = numbers * numpy.cos(angles), numbers * numpy.sin(angles)
    velocity = velocities(numpy.array(label), len(DIRECTIONS), 25 * LINES / 32 / rate)  # pixels per frame
    still = across[:, None, None] * columns + down[:, None, None] * rows + phases[:, None, None]
    for t in range(round(SECONDS * rate)):
        gone = t * (across * velocity[0] + down * velocity[1])
        texture = numpy.sqrt(2 / 16) * numpy.cos(still - gone[:, None, None]).sum(axis=0)
        grey = numpy.clip(128 + 40 * texture, 0, 255).astype(numpy.uint8)
        yield numpy.repeat(grey[..., None], 3, axis=-1)


# Where it lies --------------------------------------------------------------------------------------------------------


def ucf101(out: Path, what: str, clips: list[GeneratedVideo], groups: int) -> tuple[float, dict[GeneratedVideo, Path]]:
    """UCF-101/<Class>/v_<Class>_g01_c01.avi and the lists of three splits, with the line ends of the authors' files."""
    names = [name.capitalize() for name in _names(what)]
    names[0] = "HandstandPushups" if what == "appearance" else names[0]  # spelt otherwise in the names of its files
    lists = out / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    _write(lists / "classInd.txt", [f"{i + 1} {name}" for i, name in enumerate(names)])
    stems = {
        clip: f"v_{names[clip.label].replace('stand', 'Stand')}_g{clip.group + 1:02d}_c{clip.number + 1:02d}.avi"
        for clip in clips
    }
    for split in (1, 2, 3):
        listed: dict[str, list[str]] = {"train": [], "test": []}
        for clip, stem in stems.items():
            part, place = clip.part(split), f"{names[clip.label]}/{stem}"
            listed[part].append(f"{place} {clip.label + 1}" if part == "train" else place)
        for part, lines in listed.items():
            _write(lists / f"{part}list{split:02d}.txt", lines)
    return 25.0, {clip: out / "UCF-101" / names[clip.label] / stem for clip, stem in stems.items()}


def hmdb51(out: Path, what: str, clips: list[GeneratedVideo], groups: int) -> tuple[float, dict[GeneratedVideo, Path]]:
    """<class>/<name>.avi, with the odd characters of the authors' names, and <class>_test_split1.txt."""
    names = _names(what)
    lists = out / "testTrainMulti_7030_splits"
    lists.mkdir(parents=True)
    odd = ("#1_", "It's_(a)_", "50_FIRST_DATES!_", "Me&You;_", "")
    stems = {
        clip: f"{odd[clip.group % len(odd)]}{names[clip.label]}_f_cm_np1_ba_bad_{clip.group}_{clip.number}.avi"
        for clip in clips
    }
    for split in (1, 2, 3):
        for label, name in enumerate(names):
            mine = [(clip, stem) for clip, stem in stems.items() if clip.label == label]
            lines = [f"{stem} {2 if clip.part(split) == 'test' else 1} " for clip, stem in mine]
            _write(lists / f"{name}_test_split{split}.txt", lines)
    return 30.0, {clip: out / names[clip.label] / stem for clip, stem in stems.items()}


def kinetics600(
    out: Path, what: str, clips: list[GeneratedVideo], groups: int
) -> tuple[float, dict[GeneratedVideo, Path]]:
    """<split>/<label>/<id>_<start>_<end>.mp4 and train.csv, val.csv, test.csv; labels as odd as the real ones."""
    names = [f"looking at {name}" for name in _names(what)]
    names[0], names[1] = f'{names[0]}, "slowly"', f"{names[1]} (not others')"
    rows: dict[str, list[list[str]]] = {"train": [], "val": [], "test": []}
    paths = {}
    for clip in clips:
        part = "val" if clip.part(1) == "test" else "train"
        name = f"{'-' if clip.group % 4 == 0 else 'v'}id{clip.label}{clip.group:02d}{clip.number:02d}xYz"
        rows[part].append([names[clip.label], name, str(clip.group), str(clip.group + 10), part])
        paths[clip] = out / part / names[clip.label] / f"{name}_{clip.group:06d}_{clip.group + 10:06d}.mp4"
    out.mkdir(parents=True, exist_ok=True)
    for part, lines in rows.items():
        with (out / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["label", "youtube_id", "time_start", "time_end", "split"], *lines])
    return 25.0, paths


def is_made(folder: Path) -> bool:
    """Whether this data set was written by `make`."""
    return (folder / MARK).exists()


Layout = Callable[[Path, str, list[GeneratedVideo], int], tuple[float, dict[GeneratedVideo, Path]]]
LAYOUTS: dict[str, Layout] = {"ucf101": ucf101, "hmdb51": hmdb51, "kinetics600": kinetics600}


def _names(what: str) -> list[str]:
    return list(PATTERNS if what == "appearance" else DIRECTIONS)


def _write(path: Path, lines: list[str]) -> None:
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())
