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
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy

from sideways.backend import Array, to_device, to_host
from sideways.data import Source
from sideways.errors import InputError
from sideways.network import Network
from sideways.rules.rule import Rule, do_nothing
from sideways.rules.state import entries_with_prefix, restore_unit, unit_state
from sideways.training.build import build_network
from sideways.training.config import Config
from sideways.training.parameters import read_arrays

MISSING = "the same command again, with --name {}, goes on with what is missing"
FORMAT = 2
FOLDER = "checkpoints"
PREFIX = "step-"
PER_SAMPLE = ("message.", "target.", "output.")  # arrays with one entry per sample of the batch


@dataclass
class Progress:
    """Where a run is, between two ticks."""

    clip: int = 0  # training clips done
    tick: int = 0  # ticks done of the next one
    seconds: float = 0.0  # spent training
    metrics_bytes: int = 0  # of metrics.jsonl
    evaluate: bool = False  # whether an evaluation is due before the next clip: one was interrupted
    given: int = 0  # frames of a stream before the open clip
    losses: list[Array] = field(default_factory=list)  # of the open clip, one per tick with an output
    outputs: list[Array] = field(default_factory=list)


COUNTED = ("clip", "tick", "seconds", "metrics_bytes", "evaluate", "given")


class Checkpoints:
    """Writes checkpoints of one run: every so many ticks (0: only when told); the last `keep` of them stay.

    With several processes, each calls `save` at the same tick and writes the units it owns. leads: whether this one
    publishes; meet(): waits for all; whole(key, array): the array for all replicas, or None where another writes it;
    gather(found): what all have found.
    """

    def __init__(
        self,
        directory: Path,
        config: Config,
        source: Source,
        leads: bool = True,
        meet: Callable[[], None] = do_nothing,
        whole: Callable[[str, numpy.ndarray], numpy.ndarray | None] = lambda key, array: array,
        gather: Callable[[dict[str, str]], dict[str, str]] = lambda found: found,
    ):
        self.folder, self.config, self.source = directory / FOLDER, config, source
        self.leads, self.meet, self.whole, self.gather = leads, meet, whole, gather
        self.alone = meet is do_nothing
        self.saved_at = 0  # ticks
        self.newest: Any = None  # which moment of the run the newest one holds

    def due(self, rule: Rule) -> bool:
        """Whether one is to be written now."""
        every = self.config.checkpoint_every
        return bool(every) and rule.ticks // every > self.saved_at // every

    def save(self, rule: Rule, position: Progress) -> Path:
        """Write all state into a draft beside the others, then give it its name in one step; once for each moment."""
        final = self.folder / f"{PREFIX}{rule.ticks:08d}"
        if self.newest == _moment(rule, position):
            return final
        draft = self.folder / f".{final.name}"
        broken = self.gather(self.source.broken)
        try:
            if self.leads:
                for left in self.folder.glob(f".{PREFIX}*"):  # by runs that were killed
                    shutil.rmtree(left, ignore_errors=True)
                draft.mkdir(parents=True)
            self.meet()
            self._write_units(draft, rule, position)
            self.meet()
            if self.leads:
                self._publish(draft, final, rule, position, broken)
        except OSError as error:
            if self.alone:  # others may still write into it; the next `save` removes it
                shutil.rmtree(draft, ignore_errors=True)
            raise InputError(f"cannot write the checkpoint {final}: {error.strerror or error}") from None
        self.saved_at, self.newest = rule.ticks, _moment(rule, position)
        self.meet()
        return final

    def _write_units(self, draft: Path, rule: Rule, position: Progress) -> None:
        for name in rule.owned:
            held: dict[str, Any] = dict(unit_state(rule, name))
            if name == rule.network.top.name:
                held |= {f"loss.{i}": loss for i, loss in enumerate(position.losses)}
                held |= {f"output.{i}": output for i, output in enumerate(position.outputs)}
            arrays: dict[str, Any] = {key: self.whole(key, to_host(value)) for key, value in held.items()}
            if all(array is not None for array in arrays.values()):
                _write(draft / f"{name}.npz", partial(numpy.savez, **arrays))

    def _publish(self, draft: Path, final: Path, rule: Rule, position: Progress, broken: dict[str, str]) -> None:
        """meta.json, and the name; then those that are no longer wanted go."""
        task = self.source.task
        about: dict[str, Any] = {"format": FORMAT, "ticks": rule.ticks, "clock": rule.clock}
        about |= {key: getattr(position, key) for key in COUNTED}
        about["files"] = {path.name: path.stat().st_size for path in sorted(draft.glob("*.npz"))}
        about |= {"frame_shape": task.frame_shape, "classes": task.classes, "span": task.span}
        about |= {"data": task.fingerprint, "skipped": broken, "counters": self.source.counters()}
        about["config"] = self.config.to_tables()
        _write(draft / "meta.json", lambda file: file.write(json.dumps(about, indent=2).encode()))
        if final.exists():  # the run was resumed from before it
            final.rename(self.folder / f".{PREFIX}replaced")
        draft.rename(final)
        _flush(self.folder)
        shutil.rmtree(self.folder / f".{PREFIX}replaced", ignore_errors=True)
        until_here = [path for path in listed(self.folder.parent) if ticks_of(path) <= rule.ticks]
        for old in until_here[: -self.config.keep_checkpoints]:
            shutil.rmtree(old, ignore_errors=True)

    def load(self, path: Path, rule: Rule, part: slice = slice(None)) -> Progress:
        """Bring a fresh rule and its source to where the checkpoint was taken. part: of the batch, for a replica."""
        about = read_meta(path)
        self._check_data(path, about)
        position = Progress(**{key: about[key] for key in COUNTED if key in about})
        rule.ticks, rule.clock = about["ticks"], about["clock"]
        self.saved_at = rule.ticks
        for name in rule.owned:
            held = read_unit(path, name)
            try:
                restore_unit(rule, name, {k: v[part] if k.startswith(PER_SAMPLE) else v for k, v in held.items()})
            except (KeyError, ValueError) as error:
                raise InputError(f"{path}: unit {name!r} is not of this network ({error})") from None
            if name == rule.network.top.name:
                position.losses = list(_numbered("loss", held))
                position.outputs = [output[part] for output in _numbered("output", held)]
        self.source.go_on(about.get("skipped", {}), position.given, position.tick, about.get("counters", {}))
        if path.resolve() == (self.folder / path.name).resolve():
            self.newest = _moment(rule, position)
        return position

    def _check_data(self, path: Path, about: dict[str, Any]) -> None:
        """`InputError` for data of other classes; a warning where the same lists name or find other files."""
        task = self.source.task
        if tuple(about["classes"]) != tuple(task.classes):
            raise InputError(
                f"{path}: this run tells {len(about['classes'])} classes ({_some(about['classes'])}); the data now has "
                f"{len(task.classes)} ({_some(task.classes)})"
            )
        if self.leads and about.get("data", task.fingerprint) != task.fingerprint:
            print(
                f"sideways: warning: {path}: the videos that are listed or there have changed since; the run goes on "
                "with those of now, and will not end with the bits of an uninterrupted one",
                file=sys.stderr,
            )


def _moment(rule: Rule, position: Progress) -> tuple[int, int, int, bool]:
    return (rule.ticks, position.clip, position.tick, position.evaluate)


def _some(classes: Sequence[str]) -> str:
    return ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")


def listed(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((path for path in (run / FOLDER).glob(f"{PREFIX}*") if path.is_dir()), key=ticks_of)


def ticks_of(path: Path) -> int:
    """The tick after which a checkpoint was taken, from its name; -1 for any other name."""
    number = path.name.removeprefix(PREFIX)
    return int(number) if number.isdigit() else -1


def is_run(directory: Path) -> bool:
    """Whether a folder is that of a run."""
    return (directory / "config.json").is_file()


def run_of(path: Path) -> Path:
    """The run that a checkpoint belongs to, or `InputError` for one that lies elsewhere."""
    run = path.parent.parent
    if path.parent.name != FOLDER or not is_run(run):
        raise InputError(
            f"{path}: to go on, a checkpoint must lie in its run, RUN/{FOLDER}/{path.name} beside RUN/config.json"
        )
    return run


def find(place: str | Path) -> Path:
    """A usable checkpoint: the folder itself, or the newest of a run. `InputError` says what is wrong with it."""
    path = Path(place)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; a run (runs/NAME) or a checkpoint (…/{FOLDER}/{PREFIX}…) is wanted")
    if listed(path):
        path = listed(path)[-1]
    elif any(path.glob("*/config.json")):
        raise InputError(
            f"{path}: a folder of several runs: name one of them (to train on: {MISSING.format(path.name)})"
        )
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
        for earlier in reversed([one for one in listed(path.parent.parent) if ticks_of(one) < ticks_of(path)]):
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
    return read_arrays(path / f"{name}.npz", f"{path}: not a whole checkpoint: {name}.npz cannot be read")


@dataclass(frozen=True)
class TrainedNetwork:
    """What a checkpoint holds for those who use the network: its parameters and running statistics are in place."""

    config: Config
    network: Network
    classes: tuple[str, ...]
    span: tuple[float, float]  # the numbers that stand for black and white


def load_trained(path: Path) -> TrainedNetwork:
    """The network of a checkpoint."""
    about = read_meta(path)
    config = replace(Config.from_tables(about["config"], str(path)), init="")
    network = build_network(config, tuple(about["frame_shape"]), len(about["classes"]))
    for name, unit in network.units.items():
        held = read_unit(path, name)
        for kind, arrays in (("parameters", unit.parameters), ("state", unit.state)):
            for key, array in arrays.items():
                if f"{kind}.{key}" not in held:
                    raise InputError(f"{path}: not a whole checkpoint: {name}.npz lacks {kind}.{key}")
                array[...] = to_device(held[f"{kind}.{key}"])
    return TrainedNetwork(config, network, tuple(about["classes"]), tuple(about["span"]))


def _numbered(kind: str, held: dict[str, numpy.ndarray]) -> Iterator[numpy.ndarray]:
    entries = entries_with_prefix(kind, held)
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
