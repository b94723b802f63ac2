"""Checkpoints: all state of a run between two ticks, in a folder that is there whole or not at all.

    checkpoints/step-00001200/
        conv1.npz …     per unit: parameters, running statistics, optimizer, sums of gradients, messages waiting for it;
                        for the top also the delayed targets, and what its open clip has measured so far
        meta.json       counters, position in the data, config, and the size of every file

No pickle. Nothing in it depends on how many ranks wrote it: each rank writes, and reads, the files of its own units.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy

from sideways.backend import Array, to_device, to_host
from sideways.config import Config, build_network
from sideways.data import Task
from sideways.errors import InputError
from sideways.network import Network
from sideways.rules.rule import Rule, under

FORMAT = 1
FOLDER = "checkpoints"
PREFIX = "step-"
PER_SAMPLE = ("message.", "target.", "output.")  # arrays with one entry per sample of the batch


@dataclass
class Position:
    """Where a run is, between two ticks."""

    clip: int = 0  # training clips done
    tick: int = 0  # ticks done of the next one
    seconds: float = 0.0  # spent training
    metrics_bytes: int = 0  # of metrics.jsonl
    losses: list[Array] = field(default_factory=list)  # of the open clip, one per tick with an output
    outputs: list[Array] = field(default_factory=list)


COUNTED = ("clip", "tick", "seconds", "metrics_bytes")


class Checkpoints:
    """Writes checkpoints of one run: every so many ticks (0: only when told); the last `keep` of them stay.

    With several processes, each calls `save` at the same tick and writes the units it owns. leads: whether this one
    publishes; meet(): waits for all; whole(key, array): the array for all replicas, or None where another writes it.
    """

    def __init__(
        self,
        directory: Path,
        config: Config,
        task: Task,
        leads: bool = True,
        meet: Callable[[], None] = lambda: None,
        whole: Callable[[str, numpy.ndarray], numpy.ndarray | None] = lambda key, array: array,
    ):
        self.folder, self.config, self.task = directory / FOLDER, config, task
        self.leads, self.meet, self.whole = leads, meet, whole
        self.saved_at = 0  # ticks

    def due(self, rule: Rule, clip_over: bool) -> bool:
        """Whether one is to be written now, after a tick or after a clip."""
        every = self.config.checkpoint_every
        return bool(every) and rule.ticks // every > self.saved_at // every and (clip_over or not rule.whole_clips)

    def save(self, rule: Rule, position: Position) -> Path:
        """Write all state into a draft beside the others, then give it its name in one step."""
        final = self.folder / f"{PREFIX}{rule.ticks:08d}"
        draft = self.folder / f".{final.name}"
        if self.leads:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
        self.meet()
        for name in rule.owned:
            held: dict[str, Any] = dict(rule.unit_state(name))
            if name == rule.network.top.name:
                held |= {f"loss.{i}": loss for i, loss in enumerate(position.losses)}
                held |= {f"output.{i}": output for i, output in enumerate(position.outputs)}
            arrays: dict[str, Any] = {key: self.whole(key, to_host(value)) for key, value in held.items()}
            if all(array is not None for array in arrays.values()):
                _write(draft / f"{name}.npz", partial(numpy.savez, **arrays))
        self.meet()
        if self.leads:
            about: dict[str, Any] = {"format": FORMAT, "ticks": rule.ticks, "clock": rule.clock}
            about |= {key: getattr(position, key) for key in COUNTED}
            about["files"] = {path.name: path.stat().st_size for path in sorted(draft.glob("*.npz"))}
            about |= {"frame_shape": self.task.frame_shape, "classes": self.task.classes, "span": self.task.span}
            about["config"] = self.config.to_tables()
            _write(draft / "meta.json", lambda file: file.write(json.dumps(about, indent=2).encode()))
            shutil.rmtree(final, ignore_errors=True)  # of a run that was resumed here and stopped again
            draft.rename(final)
            _flush(self.folder)
            for old in listed(self.folder.parent)[: -self.config.keep_checkpoints]:
                shutil.rmtree(old, ignore_errors=True)
        self.saved_at = rule.ticks
        self.meet()
        return final

    def load(self, path: Path, rule: Rule, part: slice = slice(None)) -> Position:
        """Bring a fresh rule to where the checkpoint was taken. part: of the batch, for a replica."""
        about = read_meta(path)
        position = Position(**{key: about[key] for key in COUNTED})
        rule.ticks, rule.clock = about["ticks"], about["clock"]
        self.saved_at = rule.ticks
        for name in rule.owned:
            held = read_unit(path, name)
            try:
                rule.restore_unit(name, {k: v[part] if k.startswith(PER_SAMPLE) else v for k, v in held.items()})
            except (KeyError, ValueError) as error:
                raise InputError(f"{path}: unit {name!r} is not of this network ({error})") from None
            if name == rule.network.top.name:
                position.losses = list(_numbered("loss", held))
                position.outputs = [output[part] for output in _numbered("output", held)]
        return position


def listed(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(path for path in (run / FOLDER).glob(f"{PREFIX}*") if path.is_dir())


def find(place: str | Path) -> Path:
    """A usable checkpoint: the folder itself, or the newest of a run. `InputError` says what is wrong with it."""
    path = Path(place)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; a run (runs/NAME) or a checkpoint (…/{FOLDER}/{PREFIX}…) is wanted")
    if listed(path):
        path = listed(path)[-1]
    elif not path.name.startswith(PREFIX):
        raise InputError(f"{path}: no checkpoint in it (looked for {FOLDER}/{PREFIX}…)")
    check(path)
    return path


def check(path: Path) -> None:
    """`InputError` if a checkpoint is not whole, with the one before it, if that is."""
    try:
        read_meta(path)
        for name in json.loads((path / "meta.json").read_text())["files"]:
            read_unit(path, name.removesuffix(".npz"))
    except InputError as error:
        for earlier in reversed([other for other in listed(path.parent.parent) if other.name < path.name]):
            try:
                check(earlier)
            except InputError:
                continue
            raise InputError(f"{error}; the one before it is whole: {earlier}") from None
        raise


def read_meta(path: Path) -> dict[str, Any]:
    """meta.json, after a look at the sizes of the files it names."""
    try:
        about = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        files, known = about["files"], about["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: not a checkpoint of this project (no usable meta.json)") from None
    if not known:
        raise InputError(f"{path}: a checkpoint of format {about['format']}, this version reads format {FORMAT}")
    for name, size in files.items():
        there = (path / name).stat().st_size if (path / name).is_file() else None
        if there != size:
            found = "is missing" if there is None else f"has {there} bytes instead of {size}"
            raise InputError(f"{path}: not a whole checkpoint: {name} {found}")
    return about


def read_unit(path: Path, name: str) -> dict[str, numpy.ndarray]:
    """The arrays of one unit."""
    try:
        with numpy.load(path / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not a whole checkpoint: {name}.npz cannot be read ({error})") from None


@dataclass(frozen=True)
class Trained:
    """What a checkpoint holds for those who use the network: its parameters and running statistics are in place."""

    config: Config
    network: Network
    classes: tuple[str, ...]
    span: tuple[float, float]  # the numbers that stand for black and white


def trained(path: Path) -> Trained:
    """The network of a checkpoint."""
    about = read_meta(path)
    config = replace(Config.from_tables(about["config"], str(path)), init="")
    network = build_network(config, tuple(about["frame_shape"]), len(about["classes"]))
    for name, unit in network.units.items():
        held = read_unit(path, name)
        for kind, arrays in (("parameters", unit.parameters), ("state", unit.state)):
            for key, array in arrays.items():
                array[...] = to_device(held[f"{kind}.{key}"])
    return Trained(config, network, tuple(about["classes"]), tuple(about["span"]))


def _numbered(kind: str, held: dict[str, numpy.ndarray]) -> Iterator[numpy.ndarray]:
    entries = under(kind, held)
    return (entries[str(i)] for i in range(len(entries)))


def _write(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """A file that is on the disk when this returns."""
    with path.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """The names in a folder, likewise."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
