"""`sideways data make`: write a small data set of video files in exactly the layout of a large one.

The classes are of three kinds. Classes of appearance are patterns, which a single frame shows: stripes, checks, discs
or rings. Classes of motion are directions, which no single frame shows: a random texture glides to the right, down,
left or up. Classes of actions are what people do at a shelf (see `people`): as in a small set of one's own, there
are few persons, few videos, more of some classes than of others, and poses that classes share.
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
from sideways.data.videos.people import ACTIONS, VIDEOS_OF_EACH, Person, frames_of_action, shop_of
from sideways.errors import InputError

PATTERNS = ("stripes", "checks", "discs", "rings")
NAMES = {"appearance": PATTERNS, "motion": DIRECTIONS, "actions": ACTIONS}
LINES, COLUMNS = 60, 80  # pixels computed; ffmpeg scales them up to 240 × 320
SCALE = 4
MARKER = "made.txt"  # a file in the folder of every set written by `make`
SECONDS = 2.0


def make(
    kind: str,
    out: Path,
    what: str = "appearance",
    seed: int = 0,
    groups: int = 25,
    each: int | None = None,
    processes: int = 2,
) -> None:
    """Write a data set. Raises `InputError` if `out` exists and is not empty.

    kind: `"ucf101"`, `"hmdb51"` or `"kinetics600"`, the layout. what: what tells the classes, `"appearance"`,
    `"motion"` or `"actions"`. groups: a third of them is in the test list of each split. For actions, a group is a
    person.
    each: videos of each of 4 classes in a group, of 2 s (2 if not given); for actions, how often a person makes
    `VIDEOS_OF_EACH` of the 5 classes (once if not given), in videos of 1 to 4 s.
    """
    if kind not in LAYOUTS:
        raise InputError(f"cannot make {kind!r}: choose one of {', '.join(LAYOUTS)}")
    if what not in NAMES:
        raise InputError(f"cannot make {what!r}: choose one of {', '.join(NAMES)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already and is not empty")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text(
        f"Made by `sideways data make {kind} --what {what}`: "
        f"{'drawn people' if what == 'actions' else f'{what} of moving pictures, no actions'}.\n"
    )
    draw = {"appearance": appearance, "motion": motion, "actions": actions}[what]
    if each is None:
        each = 1 if what == "actions" else 2
    counts = [each * count for count in (VIDEOS_OF_EACH if what == "actions" else [1] * len(NAMES[what]))]
    videos = [
        GeneratedVideo(label, group, number)
        for label, count in enumerate(counts)
        for group in range(groups)
        for number in range(count)
    ]
    rate, paths = LAYOUTS[kind](out, what, videos)

    def write(video: GeneratedVideo) -> None:
        path = paths[video]
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = draw(video, seed, rate)
        codec = {"codec": "mpeg4", "quality": None, "bitrate": None} if path.suffix == ".avi" else {"codec": "libx264"}
        quality = ["-q:v", "2"] if path.suffix == ".avi" else ["-crf", "16"]
        size = f"scale={COLUMNS * SCALE}:{LINES * SCALE}:flags=bicubic"
        write_video(path, frames, rate, output_params=[*quality, "-vf", size, "-threads", "1"], **codec)

    with ThreadPoolExecutor(processes) as executor:
        list(tqdm(executor.map(write, videos), total=len(videos), unit="video", desc=str(out), disable=None))


@dataclass(frozen=True)
class GeneratedVideo:
    """A video to be written: its class, its group, and its number in the group."""

    label: int
    group: int
    number: int

    def generator(self, seed: int) -> numpy.random.Generator:
        """Make the generator of all that is random in this video."""
        return numpy.random.default_rng([seed, self.label, self.group, self.number])

    def part(self, split: int) -> str:
        """The list that names this video in split 1, 2 or 3: every group is in the test list of one split."""
        return "test" if self.group % 3 == split - 1 else "train"


# The pictures --------------------------------------------------------------------------------------------------------


def appearance(video: GeneratedVideo, seed: int, rate: float) -> Iterator[numpy.ndarray]:
    """Yield frames of a pattern of random size, position, angle and colours that drifts in a random direction."""
    generator = video.generator(seed)
    rows, columns = numpy.mgrid[:LINES, :COLUMNS] - numpy.array([LINES, COLUMNS])[:, None, None] / 2
    turn, drift = generator.uniform(0, 2 * numpy.pi, 2)
    period, speed = generator.uniform(14, 22), generator.uniform(2, 10)  # pixels, pixels per second
    start = generator.uniform(0, period, 2)
    colours = generator.uniform([[0], [180]], [[70], [255]], (2, 3))  # dark ground, bright pattern
    for t in range(round(SECONDS * rate)):
        x = columns - start[0] - speed * t / rate * numpy.cos(drift)
        y = rows - start[1] - speed * t / rate * numpy.sin(drift)
        u, v = x * numpy.cos(turn) + y * numpy.sin(turn), y * numpy.cos(turn) - x * numpy.sin(turn)
        waves = numpy.sin(2 * numpy.pi * u / period), numpy.sin(2 * numpy.pi * v / period)
        in_cell = (numpy.mod(w, period) - period / 2 for w in (u, v))
        radius = numpy.hypot(*in_cell) / period
        amount = (waves[0], waves[0] * waves[1] * 2, (0.3 - radius) * 12, (0.08 - abs(radius - 0.3)) * 25)[video.label]
        mix = numpy.clip(0.5 + amount, 0, 1)[..., None]
        yield (colours[0] * (1 - mix) + colours[1] * mix).astype(numpy.uint8)


def motion(video: GeneratedVideo, seed: int, rate: float) -> Iterator[numpy.ndarray]:
    """Yield grey frames of sixteen random waves that glide together, √(2/16) Σ cos(k·p - k·v t + φ).

    Wavelengths are 12 to 24 pixels. Scaled to 32 lines, they are 6 to 13 pixels, and the speed is about one pixel per
    1/25 s.
    """
    generator = video.generator(seed)
    rows, columns = numpy.mgrid[:LINES, :COLUMNS]
    angles, phases = generator.uniform(0, 2 * numpy.pi, (2, 16))
    wavenumbers = 2 * numpy.pi / generator.uniform(12, 24, 16)
    k_x, k_y = wavenumbers * numpy.cos(angles), wavenumbers * numpy.sin(angles)
    velocity = velocities(numpy.array(video.label), len(DIRECTIONS), 25 * LINES / 32 / rate)  # pixels per frame
    phases_at_start = k_x[:, None, None] * columns + k_y[:, None, None] * rows + phases[:, None, None]
    for t in range(round(SECONDS * rate)):
        shift = t * (k_x * velocity[0] + k_y * velocity[1])
        texture = numpy.sqrt(2 / 16) * numpy.cos(phases_at_start - shift[:, None, None]).sum(axis=0)
        grey = numpy.clip(128 + 40 * texture, 0, 255).astype(numpy.uint8)
        yield numpy.repeat(grey[..., None], 3, axis=-1)


def actions(video: GeneratedVideo, seed: int, rate: float) -> Iterator[numpy.ndarray]:
    """Yield frames of what the person of a group does at the shelf that all persons of the set share."""
    for_shop, for_person = (numpy.random.default_rng([seed, n, 0, 0, 1]) for n in (0, 1 + video.group))
    shop = shop_of(for_shop, LINES, COLUMNS)
    person = Person.drawn(for_person, LINES, COLUMNS)
    return frames_of_action(video.label, video.generator(seed), person, shop, rate)


# The layouts ----------------------------------------------------------------------------------------------------------

Layout = tuple[float, dict[GeneratedVideo, Path]]  # frames per second, and the file of each video


def ucf101(out: Path, what: str, videos: list[GeneratedVideo]) -> Layout:
    """Write the lists of three splits, with the line ends of the authors' files.

    Videos: UCF-101/<Class>/v_<Class>_g01_c01.avi.
    """
    names = [name.capitalize() for name in _names(what)]
    names[0] = "HandstandPushups" if what == "appearance" else names[0]  # its file names spell HandStand, as in UCF101
    lists = out / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    _write(lists / "classInd.txt", [f"{i + 1} {name}" for i, name in enumerate(names)])
    stems = {
        video: f"v_{names[video.label].replace('stand', 'Stand')}_g{video.group + 1:02d}_c{video.number + 1:02d}.avi"
        for video in videos
    }
    for split in (1, 2, 3):
        listed: dict[str, list[str]] = {"train": [], "test": []}
        for video, stem in stems.items():
            part, name = video.part(split), f"{names[video.label]}/{stem}"
            listed[part].append(f"{name} {video.label + 1}" if part == "train" else name)
        for part, lines in listed.items():
            _write(lists / f"{part}list{split:02d}.txt", lines)
    return 25.0, {video: out / "UCF-101" / names[video.label] / stem for video, stem in stems.items()}


def hmdb51(out: Path, what: str, videos: list[GeneratedVideo]) -> Layout:
    """Write the lists <class>_test_split1.txt, …2.txt and …3.txt.

    Videos: <class>/<name>.avi, with the odd characters of the authors' names.
    """
    names = _names(what)
    lists = out / "testTrainMulti_7030_splits"
    lists.mkdir(parents=True)
    odd_prefixes = ("#1_", "It's_(a)_", "50_FIRST_DATES!_", "Me&You;_", "")
    stems = {
        video: f"{odd_prefixes[video.group % len(odd_prefixes)]}{names[video.label]}_f_cm_np1_ba_bad_"
        f"{video.group}_{video.number}.avi"
        for video in videos
    }
    for split in (1, 2, 3):
        for label, name in enumerate(names):
            of_class = [(video, stem) for video, stem in stems.items() if video.label == label]
            lines = [f"{stem} {2 if video.part(split) == 'test' else 1} " for video, stem in of_class]
            _write(lists / f"{name}_test_split{split}.txt", lines)
    return 30.0, {video: out / names[video.label] / stem for video, stem in stems.items()}


def kinetics600(out: Path, what: str, videos: list[GeneratedVideo]) -> Layout:
    """Write train.csv, val.csv and test.csv, with labels as odd as the real ones.

    Videos: <split>/<label>/<id>_<start>_<end>.mp4.
    """
    names = [f"looking at {name}" for name in _names(what)]
    names[0], names[1] = f'{names[0]}, "slowly"', f"{names[1]} (not others')"
    rows: dict[str, list[list[str]]] = {"train": [], "val": [], "test": []}
    paths = {}
    for video in videos:
        part = "val" if video.part(1) == "test" else "train"
        name = f"{'-' if video.group % 4 == 0 else 'v'}id{video.label}{video.group:02d}{video.number:02d}xYz"
        rows[part].append([names[video.label], name, str(video.group), str(video.group + 10), part])
        paths[video] = out / part / names[video.label] / f"{name}_{video.group:06d}_{video.group + 10:06d}.mp4"
    out.mkdir(parents=True, exist_ok=True)
    for part, lines in rows.items():
        with (out / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["label", "youtube_id", "time_start", "time_end", "split"], *lines])
    return 25.0, paths


def is_made(folder: Path) -> bool:
    """Tell whether this data set was written by `make`."""
    return (folder / MARKER).exists()


LAYOUTS: dict[str, Callable[[Path, str, list[GeneratedVideo]], Layout]] = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "kinetics600": kinetics600,
}


def _names(what: str) -> list[str]:
    return list(NAMES[what])


def _write(path: Path, lines: list[str]) -> None:
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())
