"""The task `doom`: how does the player move? First-person clips, in which only motion tells the class."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import numpy

from sideways.data.doom.blocks import Block, Cache, Maker, Request
from sideways.data.doom.process import check_installed, check_maps, version
from sideways.data.doom.scene import CLASSES, HELD_OUT, LEARNT_FROM, LINES, Settings
from sideways.data.motion import FAINT, standardised
from sideways.data.store import GIGABYTES
from sideways.data.task import SPLITS, Clip, Task
from sideways.errors import InputError

PLACES = 4  # in a block; the last block of a map may have fewer
GROUP = 4  # blocks that are mixed in the first epoch, so that the first clips wait for no others
MIRRORED = numpy.array([0, 1, 3, 2, 5, 4, 6])  # class → the class of the same clip in a mirror
BACKWARDS = numpy.array([1, 0, 3, 2, 5, 4, 6])  # class → the class of the same clip played backwards
TURNED_ROUND = 1  # the part of the seed that decides which samples are mirrored and played backwards


class DoomClips(Task):
    """Clips of a player who walks forward, back, to the left or right, turns to the left or right, or stands still.

    length: frames T of a clip, `tics` tics of the game (1/35 s) apart. size: height and width of a frame in pixels, at
        most 120; it shows the square in the middle of the screen. grey: whether to make frames of one channel.
    places, held_out_places: the places of each map at which clips are made. Each place is shown in all seven classes.
    maps, held_out_maps: the maps to learn from, and those of the test split; none may be in both.
    cache: a folder in which clips are kept for other runs, about size² × length bytes for each clip in grey. cache_gb:
        the gigabytes that the folder may take; clips that were not used for longest are removed first.
    augment: whether to show each training clip as it is, in a mirror, backwards, or both, with the class that it then
        has, each equally likely.

    Seven clips at the same place make every set exactly balanced, so that its accuracy is its balanced accuracy too.
    Each frame is standardised by itself, as in `Pan`. `scene.py` says why no single frame tells the class.

    Training goes through all clips in a new random order in each epoch; only the first epoch begins with the blocks
    that are made first. Evaluations go through all held-out clips in one random order. Sample n of a run depends on
    (seed, n) alone. Clips are made in `workers` processes, ahead of the training.
    """

    waits = True

    def __init__(
        self,
        seed: int = 0,
        length: int = 12,
        size: int = 32,
        grey: bool = True,
        tics: int = 2,
        places: int = 20,
        held_out_places: int = 10,
        maps: Sequence[str] = LEARNT_FROM,
        held_out_maps: Sequence[str] = HELD_OUT,
        cache: str = "",
        cache_gb: float = GIGABYTES,
        augment: bool = True,
    ):
        super().__init__(seed, length)
        if not 1 <= size <= LINES or not 1 <= tics <= 35:
            raise InputError(f"doom: size must be from 1 to {LINES}, and tics from 1 to 35, not {size} and {tics}")
        if not 1 <= places <= 10_000 or not 1 <= held_out_places <= 10_000:
            raise InputError(
                f"doom: places and held_out_places must be from 1 to 10000, not {places} and {held_out_places}"
            )
        self.maps = {"train": list(maps), "test": list(held_out_maps)}
        for name in (names := [*maps, *held_out_maps]):
            if names.count(name) > 1:
                raise InputError(f"doom: {name} is named twice: a map is learnt from or held out, once")
        if not maps or not held_out_maps:
            raise InputError("doom: maps and held_out_maps need at least one map each")
        self.settings = Settings(length, size, grey, tics)
        self.frame_shape, self.classes = (size, size, self.settings.channels), CLASSES
        self.cache, self.cache_gb, self.augment = cache, cache_gb, augment
        self.fingerprint = crc32(version().encode())  # another version may make other clips
        self.requests = {
            split: _requests(seed, self.maps[split], count)
            for split, count in (("train", places), ("test", held_out_places))
        }
        self.first_items = {  # split → the number of the first clip of each block
            split: numpy.cumsum([0, *(request.places * len(CLASSES) for request in requests)])
            for split, requests in self.requests.items()
        }
        self.blocks: dict[Request, Block] = {}  # those that were asked for
        self.maker: Maker | None = None
        self._epoch, self._permutation = -1, numpy.empty(0, int)  # the last epoch asked for, and its order

    # From the start of a run to its end

    def open(self, splits: Sequence[str] = SPLITS) -> None:
        """Begin to make the clips of these splits, in this order, and wait for the first block.

        Raises `InputError` if ViZDoom is not installed or does not run, or if the first map has too little room.
        """
        if self.maker is None:
            check_installed()
            check_maps([*self.maps["train"], *self.maps["test"]])
            cache = Cache(self.cache, self.settings, self.cache_gb) if self.cache else None
            self.maker = Maker(self.settings, self.workers, cache)
        for split in splits:
            self.maker.expect(self.requests[split])
        for split in splits[:1]:
            self._block(self.requests[split][0])

    def close(self) -> None:
        if self.maker is not None:
            self.maker.close()

    def _block(self, request: Request) -> Block:
        if request not in self.blocks:
            assert self.maker is not None
            self.blocks[request] = self.maker.block(request)
        return self.blocks[request]

    # Clips by their numbers

    def count(self, split: str) -> int:
        return int(self.first_items[split][-1])

    def item(self, split: str, n: int) -> int:
        """The number of the clip that sample n shows. Clip i of a set shows class i mod 7."""
        count = self.count(split)
        if split == "test":
            return int(_order(0, 0, count)[n % count])
        epoch, position = divmod(n, count)
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = _order(self.seed, epoch, count) if epoch else self._first_epoch()
        return int(self._permutation[position])

    def _first_epoch(self) -> numpy.ndarray:
        """The order of the first epoch: a few blocks after the other, mixed."""
        borders = [*self.first_items["train"][:-1:GROUP], self.count("train")]
        groups = pairwise(borders)
        return numpy.concatenate([start + _order(self.seed, start, end - start) for start, end in groups])

    def frames_and_poses(self, split: str, item: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Clip number `item`: frames (T, H, W, C) uint8, and the measured poses (T, 4)."""
        b = int(numpy.searchsorted(self.first_items[split], item, side="right")) - 1
        block = self._block(self.requests[split][b])
        place, label = divmod(item - int(self.first_items[split][b]), len(CLASSES))
        return block.frames[place, label], block.poses[place, label]

    # Batches

    def _drawn(self, split: str, index: int, batch: int, part: slice) -> list[tuple[int, bool, bool]]:
        """For each sample of a batch: the number of its clip, and whether it is mirrored, and played backwards."""
        self._generators(split, index, batch, slice(0))  # refuses wrong numbers
        numbers = range(index * batch, (index + 1) * batch)[part]
        return [(self.item(split, n), *self.turned_round(split, n)) for n in numbers]

    def turned_round(self, split: str, n: int) -> tuple[bool, bool]:
        """Say whether sample n is mirrored, and whether it is played backwards."""
        if split == "test" or not self.augment:
            return False, False
        mirrored, backwards = numpy.random.default_rng([self.seed, n, TURNED_ROUND]).integers(2, size=2)
        return bool(mirrored), bool(backwards)

    def items(self, split: str, index: int, batch: int, part: slice = slice(None)) -> numpy.ndarray:
        numbers = numpy.arange(index * batch, (index + 1) * batch)[part]
        return numpy.where(numbers < self.count(split), numbers, -1)

    def targets(self, split: str, index: int, batch: int, part: slice = slice(None)) -> numpy.ndarray:
        return self._targets(self._labels(self._drawn(split, index, batch, part)))

    @staticmethod
    def _labels(samples: list[tuple[int, bool, bool]]) -> numpy.ndarray:
        labels = []
        for item, mirrored, backwards in samples:
            label = item % len(CLASSES)
            label = MIRRORED[label] if mirrored else label
            labels.append(BACKWARDS[label] if backwards else label)
        return numpy.array(labels, int)

    def clip(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Clip:
        if self.maker is None:
            self.open((split,))
        samples = self._drawn(split, index, batch, part)
        shown = []
        for item, mirrored, backwards in samples:
            frames, _ = self.frames_and_poses(split, item)
            shown.append(frames[:: -1 if backwards else 1, :, :: -1 if mirrored else 1])
        frames = standardised(numpy.stack(shown, axis=1).astype(numpy.float32), FAINT)
        return Clip(frames, self._targets(self._labels(samples)))


def _requests(seed: int, maps: Sequence[str], places: int) -> list[Request]:
    """The blocks of a set, in the order in which they are made: one of each map, then the next of each map."""
    sizes = [min(PLACES, places - first) for first in range(0, places, PLACES)]
    return [Request(seed, name, number, size) for number, size in enumerate(sizes) for name in maps]


def _order(seed: int, number: int, count: int) -> numpy.ndarray:
    return numpy.random.default_rng([seed, number]).permutation(count)
