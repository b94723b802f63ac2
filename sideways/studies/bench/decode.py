"""`sideways bench decode`: do the decoding processes keep up? Decoding beside training, and the waiting of whole runs.

The first table compares frames per second: of the network alone, of 0, 1, 2 … workers alone, and of both at once, where
every clip is decoded from its file. The second shows which share of a run of `sideways train` is spent waiting for
frames, without a cache (`--cache`), with one that is empty, and with the one that this run has filled.
"""

from __future__ import annotations

import math
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy

from sideways.backend import synchronise
from sideways.data import Source, write_video
from sideways.data.motion import DIRECTIONS, velocities
from sideways.data.videos.clips import VideoClips
from sideways.errors import InputError
from sideways.studies.bench.output import print_table, write_json
from sideways.training.build import build_network, build_rule, option
from sideways.training.config import Config
from sideways.training.recipes import load_recipe
from sideways.training.run import session, train

HEAD = ("", "workers", "frames/s", "of what training takes", "processor time per frame, ms")
HEAD_OF_RUNS = ("sideways train", "workers", "waiting for frames", "wall time per frame, ms")
SMALL, LARGE = "videos-small-skip", "ucf101-vgg8-skip"  # the recipes for frames up to, and above, so many pixels:
BORDER = 64
WIDTH, HEIGHT = 320, 240  # pixels of the videos that are written
FILMS, HELD_OUT, SECONDS, RATE = 6, 1, 8.0, 25.0  # of each class: videos, and those of them held out; s, frames/s
OPTIONS = ("length", "size", "short_side")  # of the task, which a recipe may leave out
CACHES = {"": "no cache", "empty": "the cache is empty", "filled": "the cache is filled"}


def decode(
    data: str | None,
    workers: Sequence[int],
    config: Config,
    clips: int,
    seconds: float,
    path: str | None,
) -> None:
    """Measure with each number of workers, and print both tables.

    data: `KIND:PATH`; None: videos that are written for this measurement. config: see `config_of`. clips: of each
    measurement of speed. seconds: a run trains on as many clips as the network alone takes so long for, at most those
    of its recipe, and at least 2. path: a JSON file for the results.
    """
    with tempfile.TemporaryDirectory() as folder, session(config):
        films = data or write_films(Path(folder) / "films")
        config = replace(config, task_options=config.task_options | {"data": films})
        results = _speeds(config, workers, clips)
        alone = results[0]["frames_per_second"]
        rows = [
            (
                *(r["what"], str(r["workers"]), f"{r['frames_per_second']:.1f}"),
                *(f"{r['frames_per_second'] / alone:.0%}", f"{r['processor_milliseconds']:.3f}"),
            )
            for r in results
        ]
        print_table(HEAD, rows)
        options, length = config.task_options, config.task_options["length"]
        size, own = options["size"], f"{4 * FILMS} H.264 videos of {WIDTH}×{HEIGHT} pixels and {SECONDS:g} s"
        print(
            f"\n{config.model}, rule {config.rule}, batches of {config.batch} frames of {size}×{size}: a tick takes "
            f"{1e3 * config.batch / alone:.2f} ms. {data or own}."
            "\nTraining alone is on one clip that was decoded before; decoding alone decodes every clip from its file."
            "\nWith 0 workers this process decodes between its ticks.\n",
            flush=True,
        )
        count = max(2, min(config.clips, math.ceil(seconds * alone / (config.batch * length))))
        runs = [run for n in workers for run in _runs(replace(config, clips=count, workers=n), Path(folder))]
    waits = [
        (CACHES[r["cache"]], str(r["workers"]), f"{r['waiting']:.1%}", f"{r['milliseconds_per_frame']:.3f}")
        for r in runs
    ]
    print_table(HEAD_OF_RUNS, waits)
    print(f"\nEach run: {count} clips of {config.batch} × {length} frames, then an evaluation; start-up included.")
    write_json(path, results, runs=runs)


def config_of(
    recipe: str | None, model: str | None, size: int, batch: int | None, backend: str, precision: str
) -> Config:
    """The settings of a recipe for frames of size × size pixels. Raises `InputError` if it trains on no videos.

    recipe: None: that of small sets up to 64 pixels, that of UCF101 above. model, batch: instead of the recipe's.
    """
    name = recipe or (SMALL if size <= BORDER else LARGE)
    tables = load_recipe(name)
    if tables.get("task") != "videos" or tables.get("horizon"):
        raise InputError(f"recipe {name} does not classify videos: choose one such as {SMALL} or {LARGE}")
    if model:
        tables |= {"model": model, "model_options": {}}
    config = Config.from_tables(tables, f"recipe {name}")
    length, own_size, short_side = (option(VideoClips, config.task_options, key) for key in OPTIONS)
    side = round(short_side * size / own_size)
    return replace(
        config,
        batch=batch or config.batch,
        task_options=config.task_options | {"length": length, "size": size, "short_side": side},
        evaluate_every=0,
        checkpoint_every=0,
        backend=backend,
        precision=precision,
    )


# Speeds --------------------------------------------------------------------------------------------------------------


def _speeds(config: Config, workers: Sequence[int], clips: int) -> list[dict[str, Any]]:
    """Frames per second, and milliseconds of processor time per frame, of training and decoding."""
    options = {key: value for key, value in config.task_options.items() if key not in ("keep", "cache")}
    task = VideoClips(config.seed, **options)
    task.open(("train",))
    limits = {"train": clips + 1, "test": 0}
    results = [{"what": "training alone", "workers": 0, **_trained(config, task, clips, None)}]
    for count in workers:
        with Source(task, config.batch, workers=count, limits=limits) as source:
            source.clip("train", 0)  # The first clip waits for the workers to start; it is not timed.
            clock = Clock(source)
            for index in range(1, clips + 1):
                source.clip("train", index)
            speed = clock.per_frame(clips * config.batch * task.length)
        results.append({"what": "decoding alone", "workers": count, **speed})
    for count in workers:
        with Source(task, config.batch, workers=count, limits=limits) as source:
            speed = _trained(config, task, clips, source)
        results.append({"what": "training while decoding", "workers": count, **speed})
    return results


def _trained(config: Config, task: VideoClips, clips: int, source: Source | None) -> dict[str, float]:
    """The speed of training on clips that arrive from the source, or on one clip if there is no source."""
    network = build_network(config, task.frame_shape, len(task.classes))
    rule = build_rule(config, task, network)
    frames, targets = (source or Source(task, config.batch)).clip("train", 0)
    for t in range(min(2 * network.depth, task.length)):
        rule.tick(frames[t], targets[t])
    rule.end_clip()
    clock = Clock(source)
    for index in range(1, clips + 1):
        if source:
            frames, targets = source.clip("train", index)
        for frame, target in zip(frames, targets, strict=True):
            rule.tick(frame, target)
        rule.end_clip()
    synchronise()
    return clock.per_frame(clips * config.batch * task.length)


class Clock:
    """Wall time and processor time since this object was made: of this process, of workers, and of their programs."""

    def __init__(self, source: Source | None):
        loader = source.loader if source else None
        self.workers = [worker.process.pid for worker in loader.workers] if loader else []
        self.wall, self.processor = time.perf_counter(), self._processor()

    def per_frame(self, frames: int) -> dict[str, float]:
        """Frames per second, and milliseconds of processor time per frame, if so many frames have passed."""
        return {
            "frames_per_second": frames / (time.perf_counter() - self.wall),
            "processor_milliseconds": 1e3 * (self._processor() - self.processor) / frames,
        }

    def _processor(self) -> float:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)  # such as ffmpeg, where this process decodes
        return time.process_time() + ended.ru_utime + ended.ru_stime + sum(map(_processor_of, self.workers))


def _processor_of(pid: int) -> float:
    """The seconds of processor time of another process and of its ended children; NaN where Linux does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.nan
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


# Runs ----------------------------------------------------------------------------------------------------------------


def _runs(config: Config, folder: Path) -> list[dict[str, Any]]:
    """Train without a cache, with an empty one, and with a filled one: the share of the time spent waiting."""
    runs = []
    for cache in CACHES:
        place = str(folder / f"cache-{config.workers}") if cache else ""
        options = config.task_options | {"cache": place}
        result = train(replace(config, task_options=options), folder / f"run-{config.workers}-{cache}")
        times = {"waiting": result.waiting, "milliseconds_per_frame": result.milliseconds_per_frame}
        runs.append({"cache": cache, "workers": config.workers, **times})
    return runs


def write_films(folder: Path) -> str:
    """Write videos of 320×240 pixels, H.264 with a little noise, which have to be decoded in full. Returns KIND:PATH.

    A window moves over a picture of random waves, by half a pixel per frame; the direction is the class.
    """
    rows, columns = numpy.mgrid[: 2 * HEIGHT, : 2 * WIDTH]
    for label, name in enumerate(DIRECTIONS):
        step = velocities(numpy.array(label), len(DIRECTIONS), 1.0)
        for number in range(FILMS):
            generator = numpy.random.default_rng([label, number])
            waves = generator.uniform(
                [-0.2, -0.2, 0], [0.2, 0.2, 7], (8, 3)
            )  # radians per pixel, across and down; phase
            picture = 128 + 14 * sum(numpy.sin(k_x * columns + k_y * rows + phase) for k_x, k_y, phase in waves)
            picture = numpy.repeat(picture.astype(numpy.uint8)[..., None], 3, axis=-1)
            path = folder / ("test" if number < HELD_OUT else "train") / name / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            options = ["-crf", "23", "-preset", "veryfast", "-vf", "noise=alls=8:allf=t", "-threads", "1"]
            write_video(path, _windows(picture, step), RATE, codec="libx264", quality=None, output_params=options)
    return f"folder:{folder}"


def _windows(picture: numpy.ndarray, step: numpy.ndarray) -> Iterator[numpy.ndarray]:
    """Yield the frames of a video: windows of 320×240 pixels of a picture twice as large, which start in its middle."""
    for t in range(round(SECONDS * RATE)):
        left, top = WIDTH // 2 + round(t * step[0] / 2), HEIGHT // 2 + round(t * step[1] / 2)
        yield picture[top : top + HEIGHT, left : left + WIDTH]
