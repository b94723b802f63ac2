"""Checkpoints: all state of a run between two ticks, each in a folder that is either complete or absent.

    checkpoints/step-00001200/
        conv1.npz …     per unit: parameters, running statistics, optimizer, sums of gradients, messages waiting for it;
                        for the top also the delayed targets, and losses and outputs of the open clip
        meta.json       counters, position in the data, config, and the SHA-256 of every file (see `manifest.py`)

No pickle. Nothing in a checkpoint depends on how many ranks wrote it. Rank 0 alone writes and reads the files, those of
all units: no other host needs the run directory.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy

from sideways.backend import to_device, to_host, use_backend
from sideways.data import Source
from sideways.errors import InputError
from sideways.network import Network
from sideways.rules.rule import Rule
from sideways.rules.state import entries_with_prefix, restore_unit, unit_state
from sideways.rules.state_check import check_state
from sideways.rules.ticking_rule import TickingRule
from sideways.training.build import build_network
from sideways.training.config import Config
from sideways.training.manifest import FORMAT, DamagedError, digest, read_meta, read_unit, seal
from sideways.training.parameters import write_arrays
from sideways.training.processes import OneProcess, Processes
from sideways.training.progress import Progress

RESUME = "--resume "
RESUME_SEVERAL = "repeat the command, with --name {}, to continue the runs that have not finished"
FOLDER = "checkpoints"
PREFIX = "step-"
PER_SAMPLE = ("message.", "target.", "output.", "input.")  # arrays with one entry per sample of the batch
Units = dict[str, dict[str, numpy.ndarray]]  # unit → the arrays of its file
COUNTERS = ("clip", "tick", "seconds", "metrics_bytes", "evaluate", "given")  # fields of `Progress` in meta.json


class Checkpoints:
    """Writes and reads the checkpoints of one run.

    directory: the run directory. A checkpoint is due every `config.checkpoint_every` ticks (0: never; the loop saves at
    the end and after Ctrl-C), and the last `config.keep_checkpoints` checkpoints are kept. With several processes, each
    process calls `save` at the same tick, and the leader writes the units of all.
    """

    def __init__(self, directory: Path, config: Config, source: Source, processes: Processes | None = None):
        self.directory, self.config, self.source = directory, config, source
        self.processes: Processes = processes or OneProcess()
        self.folder = directory / FOLDER
        self.saved_at = 0  # ticks
        self.newest: tuple[int, int, int, bool] | None = None  # the moment of the run in the newest checkpoint

    def due(self, rule: Rule) -> bool:
        """Say whether a checkpoint is to be written now."""
        every = self.config.checkpoint_every
        return bool(every) and rule.ticks // every > self.saved_at // every

    def save(self, rule: Rule, progress: Progress) -> Path:
        """Write all state into a draft folder, then publish the draft by renaming it.

        Writes nothing if the newest checkpoint already holds this moment of the run. Raises `InputError` if the disk
        refuses, or if the run directory is gone.
        """
        rule.check_whole()
        final = self.folder / f"{PREFIX}{rule.ticks:08d}"
        if self.newest == _moment(rule, progress):
            return final
        draft = self.folder / f".{final.name}"
        broken_files = self.processes.gather(self.source.broken)
        digests: dict[str, str] = {}

        def write(name: str, content: bytes) -> None:
            _write(draft / name, content)
            digests[name] = digest(content)

        try:
            if self.processes.is_leader:
                check_run(self.directory)
                for abandoned in self.folder.glob(f".{PREFIX}*"):  # left by runs that were killed
                    shutil.rmtree(abandoned, ignore_errors=True)
                draft.mkdir(parents=True)
            self.processes.to_leader(self._files(rule, progress), write)
            if self.processes.is_leader:
                self._publish(draft, final, rule, progress, broken_files, digests)
        except OSError as error:
            check_run(self.directory)
            shutil.rmtree(draft, ignore_errors=True)
            raise InputError(f"cannot write the checkpoint {final}: {error.strerror or error}") from None
        self.saved_at, self.newest = rule.ticks, _moment(rule, progress)
        self.processes.barrier()
        return final

    def _files(self, rule: Rule, progress: Progress) -> Iterator[tuple[str, bytes]]:
        """The name and the content of the file of each unit of this process."""
        for name in rule.owned:
            entries: dict[str, Any] = dict(unit_state(rule, name))
            if name == rule.network.top.name:
                entries |= {f"loss.{i}": loss for i, loss in enumerate(progress.losses)}
                entries |= {f"output.{i}": output for i, output in enumerate(progress.outputs)}
            arrays: dict[str, Any] = {key: self.processes.join(key, to_host(value)) for key, value in entries.items()}
            if all(array is not None for array in arrays.values()):
                content = io.BytesIO()
                write_arrays(content, arrays)
                yield f"{name}.npz", content.getvalue()

    def _publish(
        self,
        draft: Path,
        final: Path,
        rule: Rule,
        progress: Progress,
        broken_files: dict[str, str],
        digests: dict[str, str],
    ) -> None:
        """Write meta.json, give the draft its final name, and remove checkpoints that are not to be kept."""
        task = self.source.task
        meta: dict[str, Any] = {"format": FORMAT, "ticks": rule.ticks, "clock": rule.clock}
        meta |= {key: getattr(progress, key) for key in COUNTERS}
        meta |= {"files": digests, "frame_shape": task.frame_shape, "classes": task.classes, "span": task.span}
        meta |= {"data": task.fingerprint, "skipped": broken_files, "counters": self.source.counters()}
        meta["config"] = self.config.to_tables()
        _write(draft / "meta.json", seal(meta))
        if final.exists():  # the run was resumed from an earlier checkpoint
            final.rename(self.folder / f".{PREFIX}replaced")
        draft.rename(final)
        _sync_folder(self.folder)
        shutil.rmtree(self.folder / f".{PREFIX}replaced", ignore_errors=True)
        until_now = [path for path in listed(self.directory) if ticks_of(path) <= rule.ticks]
        for old in until_now[: -self.config.keep_checkpoints]:
            shutil.rmtree(old, ignore_errors=True)

    def load(self, path: Path, rule: Rule, part: slice = slice(None)) -> Progress:
        """Restore a fresh rule and its source to the moment of a checkpoint.

        part: the samples of the batch that a replica trains on. Raises `InputError` if a file is damaged, or is not of
        this network and data; nothing is restored from a file that is.
        """
        try:
            meta, units = self._read(path, rule)
            self._check_data(path, meta)
            self._check_moment(path, meta, rule)
            return self._restore(path, meta, units, rule, part)
        except DamagedError as error:
            raise with_earlier(path, error, RESUME) from None

    def _read(self, path: Path, rule: Rule) -> tuple[dict[str, Any], Units]:
        """The content of meta.json, and of the files of this process's units. The leader reads all files."""
        meta = self.processes.from_leader(lambda: read_meta(path))
        units: Units = {}
        for name in rule.network.units:
            entries = self.processes.from_leader(partial(read_unit, path, meta, name))
            if name in rule.owned:
                units[name] = entries
        return meta, units

    def _restore(self, path: Path, meta: dict[str, Any], units: Units, rule: Rule, part: slice) -> Progress:
        progress = Progress(**{key: meta[key] for key in COUNTERS})
        rule.ticks, rule.clock = meta["ticks"], meta["clock"]
        self.saved_at = rule.ticks
        for name, entries in units.items():
            try:
                check_state(rule, name, entries, self.config.batch, progress.tick)
            except InputError as error:
                raise DamagedError(f"{path}: unit {name!r} is not of this network and moment: {error}") from None
            own = {key: value[part] if key.startswith(PER_SAMPLE) else value for key, value in entries.items()}
            restore_unit(rule, name, own)
            if name == rule.network.top.name:
                progress.losses = list(_numbered("loss", entries))
                progress.outputs = [output[part] for output in _numbered("output", entries)]
        self.source.resume(meta["skipped"], progress.given, progress.tick, meta["counters"])
        if path == self.folder / path.name:
            self.newest = _moment(rule, progress)
        return progress

    def _check_moment(self, path: Path, meta: dict[str, Any], rule: Rule) -> None:
        """Raise `DamagedError` if the counters contradict each other, or are not of this run."""
        task, length, clips = self.source.task, self.source.task.length, self.config.clips
        ticks, clip, tick = meta["ticks"], meta["clip"], meta["tick"]
        stream = isinstance(rule, TickingRule) and rule.boundary == "stream"
        whole = tick == 0 or (tick < length and clip < clips and not rule.whole_clips)
        fault = ""
        if clip > clips or not whole or ticks != clip * length + tick or ticks_of(path) not in (-1, ticks):
            fault = f"tick {ticks} is not tick {tick} after {clip} of {clips} clips of {length} ticks"
        elif meta["clock"] != (ticks if stream else tick):
            fault = f"clock is {meta['clock']} in tick {ticks}"
        elif (tuple(meta["frame_shape"]), tuple(meta["span"])) != (tuple(task.frame_shape), tuple(task.span)):
            fault = f"frames of shape {tuple(meta['frame_shape'])} and span {tuple(meta['span'])}; the data's are "
            fault += f"{tuple(task.frame_shape)}, {tuple(task.span)}"
        elif meta["counters"].keys() != self.source.counters().keys() or min(meta["counters"].values(), default=0) < 0:
            fault = f"counters {meta['counters']} are not of this data"
        if fault:
            raise DamagedError(f"{path}: not a checkpoint of this run: {fault}")

    def _check_data(self, path: Path, meta: dict[str, Any]) -> None:
        """Raise `InputError` for data of other classes; warn if the files of the data have changed."""
        task = self.source.task
        if tuple(meta["classes"]) != tuple(task.classes):
            raise InputError(
                f"{path}: this run tells {len(meta['classes'])} classes ({_first_three(meta['classes'])}); the data "
                f"now has {len(task.classes)} ({_first_three(task.classes)})"
            )
        if self.processes.is_leader and meta["data"] != task.fingerprint:
            print(
                f"sideways: warning: {path}: the listed videos, or the files present, have changed since (or the "
                "version of ViZDoom); the run goes on, and will not end with the bits of an uninterrupted run",
                file=sys.stderr,
            )


def _moment(rule: Rule, progress: Progress) -> tuple[int, int, int, bool]:
    return (rule.ticks, progress.clip, progress.tick, progress.evaluate)


def _first_three(classes: Sequence[str]) -> str:
    return ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")


def listed(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((path for path in (run / FOLDER).glob(f"{PREFIX}*") if path.is_dir()), key=ticks_of)


def ticks_of(path: Path) -> int:
    """The tick after which a checkpoint was taken, from its name; -1 for any other name."""
    number = path.name.removeprefix(PREFIX)
    return int(number) if number.isdigit() else -1


def is_run(directory: Path) -> bool:
    """Say whether a folder is the directory of a run."""
    return (directory / "config.json").is_file()


def run_of(path: Path) -> Path:
    """The directory of the run that a checkpoint lies in. Raises `InputError` if the checkpoint lies elsewhere."""
    run = path.parent.parent
    if path.parent.name != FOLDER or not is_run(run):
        raise InputError(
            f"{path}: to go on, a checkpoint must lie in its run, RUN/{FOLDER}/{path.name} beside RUN/config.json"
        )
    return run


def check_run(directory: Path) -> None:
    """Raise `InputError` if the directory of a run that is under way was removed or moved."""
    if not is_run(directory):
        raise InputError(f"the run directory {directory} is gone: it was removed or moved while the run was under way")


def find(folder: str | Path, option: str = "") -> Path:
    """Find a usable checkpoint: the folder itself, or the newest one of a run. Raises `InputError` without one.

    option: what the user would write before the name of another checkpoint.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; a run (runs/NAME) or a checkpoint (…/{FOLDER}/{PREFIX}…) is wanted")
    if listed(path):
        path = listed(path)[-1]
    elif any(path.glob("*/config.json")):
        raise InputError(
            f"{path}: a folder of several runs: name one of them (to train on: {RESUME_SEVERAL.format(path.name)})"
        )
    elif not path.name.startswith(PREFIX):
        raise InputError(f"{path}: no checkpoint in it (looked for {FOLDER}/{PREFIX}…)")
    try:
        check(path)
    except DamagedError as error:
        raise with_earlier(path, error, option) from None
    return path


def check(path: Path) -> None:
    """Raise `DamagedError` if a checkpoint is not whole: every file is read, and compared with its checksum."""
    meta = read_meta(path)
    for name in meta["files"]:
        read_unit(path, meta, name.removesuffix(".npz"))


def with_earlier(path: Path, error: DamagedError, option: str) -> InputError:
    """The error, which also names the newest whole checkpoint before the damaged one, if there is any."""
    for earlier in reversed([other for other in listed(path.parent.parent) if ticks_of(other) < ticks_of(path)]):
        with contextlib.suppress(DamagedError):
            check(earlier)
            return InputError(f"{error}; an earlier checkpoint is whole: {option}{earlier}")
    return error


@dataclass(frozen=True)
class TrainedNetwork:
    """The network of a checkpoint, its parameters and running statistics in place, and what it was trained on."""

    config: Config
    network: Network
    classes: tuple[str, ...]
    span: tuple[float, float]  # the numbers that stand for black and white


def load_trained(path: Path, backend: str = "") -> TrainedNetwork:
    """Build a checkpoint's network on a backend (default: the run's). Raises `InputError` if a file or array is bad."""
    meta = read_meta(path)
    config = Config.from_tables(meta["config"], str(path))
    config = replace(config.on(backend or config.backend), init="")
    use_backend(config.backend, config.precision)
    network = build_network(config, tuple(meta["frame_shape"]), len(meta["classes"]))
    for name, unit in network.units.items():
        entries = read_unit(path, meta, name)
        for kind, arrays in (("parameters", unit.parameters), ("state", unit.state)):
            for key, array in arrays.items():
                entry = entries.get(f"{kind}.{key}")
                if entry is None or entry.shape != array.shape or entry.dtype != array.dtype:
                    fault = "lacks" if entry is None else f"has {entry.shape} instead of {array.shape} in"
                    raise InputError(f"{path}: not a whole checkpoint: {name}.npz {fault} {kind}.{key}")
                array[...] = to_device(entry)
    return TrainedNetwork(config, network, tuple(meta["classes"]), tuple(meta["span"]))


def _numbered(kind: str, unit_entries: dict[str, numpy.ndarray]) -> Iterator[numpy.ndarray]:
    entries = entries_with_prefix(kind, unit_entries)
    return (entries[str(i)] for i in range(len(entries)))


def _write(path: Path, content: bytes) -> None:
    """Write a file, and return when it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
