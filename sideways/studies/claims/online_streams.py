"""The two streams of the claim `online`, a film that plays over and over and a game, each with samples held out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy

from sideways.data.doom.process import GameProcess, check_installed
from sideways.data.doom.scene import HELD_OUT, Settings
from sideways.data.live import GAME, LiveStream
from sideways.data.videos.clips import Normalised
from sideways.data.videos.ffmpeg import probe, shipped_clips

SIZE, HORIZON = 16, 2  # pixels on a side, grey; ticks from a frame to the frame that is predicted
FILM, OTHER_FILMS = "bikes", ("bigbuckbunny", "carphone")  # learnt from; held out
LATER = 37  # frames of the film by which each seed begins later
SAMPLE = 20, 60  # predicted frames of a held-out sample: of a film, of a map of Doom


@dataclass(frozen=True)
class Stream:
    """A stretch of an endless stream, and samples of another stream, of which nothing is ever learnt."""

    frames: numpy.ndarray  # (T, 1, H, W, 1) float32
    held_out: dict[str, numpy.ndarray]  # film, or group of maps → samples (T', S, H, W, 1) float32
    span: tuple[float, float]  # the numbers that stand for black and white


def film(seed: int, count: int, lead: int) -> Stream:
    """Play `FILM` over and over, from a place that depends on the seed.

    count: frames of the stream. lead: frames of each held-out sample before the first prediction. The samples are
    stretches of the other films, one after the other; their predicted frames do not overlap.
    """
    held_out, length = {}, SAMPLE[0]
    for title in OTHER_FILMS:
        frames = _played(title, 0, probe(shipped_clips()[title]).frames)
        starts = range(0, len(frames) - lead - length - HORIZON + 1, length)
        samples = [frames[start : start + lead + length + HORIZON, 0] for start in starts]
        held_out[title] = numpy.stack(samples, axis=1)
    return Stream(_played(FILM, LATER * seed, count), held_out, _live(FILM).span)


def doom(seed: int, count: int, lead: int) -> Stream:
    """Follow a player who wanders through the maps of Doom that are learnt from. Raises `InputError` without ViZDoom.

    count, lead: as for `film`. Each held-out map gives one sample, the same for all seeds.
    """
    check_installed()
    task = LiveStream(seed, GAME, horizon=HORIZON, size=SIZE, grey=True, live=False)
    with contextlib.closing(task):
        frames = _taken(task, count)
    samples = [_normalised(sample, task) for sample in _held_out_walks(lead + SAMPLE[1] + HORIZON)]
    held_out = numpy.stack(samples, axis=1)
    return Stream(frames, {"held-out maps": held_out}, task.span)


FILM_STREAM = "film"
STREAMS: dict[str, Callable[[int, int, int], Stream]] = {FILM_STREAM: film, "Doom": doom}


def _live(title: str) -> LiveStream:
    return LiveStream(0, f"stream:{shipped_clips()[title]}", horizon=HORIZON, size=SIZE, grey=True, live=False)


def _played(title: str, first: int, count: int) -> numpy.ndarray:
    """The frames of a shipped film that is played over and over, from frame `first` on: (count, 1, H, W, 1)."""
    with contextlib.closing(_live(title)) as task:
        return _taken(task, first + count)[first:]


def _taken(task: LiveStream, count: int) -> numpy.ndarray:
    """The next frames of a stream: (count, 1, H, W, 1) float32."""
    return _normalised(numpy.stack([task.next_frame() for _ in range(count)]), task)


def _normalised(frames: numpy.ndarray, task: LiveStream) -> numpy.ndarray:
    return numpy.stack(list(Normalised(frames, task.mean, task.deviation)))


@cache
def _held_out_walks(length: int) -> list[numpy.ndarray]:
    """A walk in each of the held-out maps of Doom, (length, H, W, 1) uint8."""
    walks = []
    for name in HELD_OUT:
        game = GameProcess(Settings(size=SIZE, grey=True))
        try:
            walks.append(numpy.stack(list(islice(game.wander(0, [name], (SIZE, SIZE, 1)), length))))
        finally:
            game.end()
    return walks
