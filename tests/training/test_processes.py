"""The processes that share a run: one alone, and the part of a process that does not lead."""

import io
import typing

import numpy as np

from sideways.data import Source
from sideways.training.build import build_network, build_rule, build_task
from sideways.training.checkpoint import Checkpoints
from sideways.training.processes import OneProcess, Processes
from sideways.training.progress import Progress
from sideways.training.run import create_directory
from tests.training.runs import TINY


class Follower:
    """One of several processes, not the leader, whose calls are recorded. The other processes do not exist."""

    is_leader = False

    def __init__(self):
        self.calls = []

    def barrier(self):
        self.calls.append("barrier")

    def any(self, flags):
        self.calls.append("any")
        return flags

    def gather(self, entries):
        self.calls.append("gather")
        return entries

    def join(self, key, array):
        self.calls.append(f"join {key}")
        return array

    def to_leader(self, files, take):
        self.calls.append("to_leader")
        self.sent = dict(files)


def test_one_process_has_all_members_of_processes_leads_and_changes_nothing():
    alone: Processes = OneProcess()
    members = [name for name in vars(Processes) if not name.startswith("_")]
    assert set(members) == {"is_leader", "barrier", "any", "gather", "join", "to_leader", "from_leader"}
    for name in members:
        assert hasattr(alone, name)
        if callable(getattr(alone, name)):
            assert typing.get_type_hints(getattr(OneProcess, name)) == typing.get_type_hints(getattr(Processes, name))
    assert alone.is_leader
    flags, array = np.array([True, False]), np.ones(3)
    alone.barrier()
    assert alone.any(flags) is flags
    assert alone.gather({"film.mp4": "broken"}) == {"film.mp4": "broken"}
    assert alone.join("parameters.0.weight", array) is array
    assert alone.from_leader(lambda: array) is array
    taken = []
    alone.to_leader([("conv1.npz", b"1"), ("head.npz", b"2")], lambda *file: taken.append(file))
    assert taken == [("conv1.npz", b"1"), ("head.npz", b"2")]


def save(directory, processes):
    """Write a checkpoint of a run that has not begun. Returns its path; the units are conv1 … conv4 and head."""
    task = build_task(TINY)
    rule = build_rule(TINY, task, build_network(TINY, task.frame_shape, len(task.classes)))
    create_directory(directory, TINY)
    with Source(task, TINY.batch) as source:
        return Checkpoints(directory, TINY, source, processes).save(rule, Progress())


UNITS = ["conv1.npz", "conv2.npz", "conv3.npz", "conv4.npz", "head.npz"]


def test_a_process_that_does_not_lead_sends_its_units_to_the_leader_and_touches_no_file(tmp_path):
    follower = Follower()
    final = save(tmp_path / "run", follower)
    assert final == tmp_path / "run" / "checkpoints" / "step-00000000"
    assert not final.parent.exists()
    assert sorted(follower.sent) == UNITS
    assert follower.calls[:2] == ["gather", "to_leader"] and follower.calls[-1] == "barrier"  # it is published
    assert all(call.startswith("join ") for call in follower.calls[2:-1])
    assert "join parameters.0.weight" in follower.calls


def test_a_process_alone_writes_the_same_units_and_publishes_the_checkpoint(tmp_path):
    follower = Follower()
    save(tmp_path / "follower", follower)
    final = save(tmp_path / "alone", OneProcess())
    assert sorted(path.name for path in final.iterdir()) == [*UNITS, "meta.json"]
    for name in UNITS:
        with np.load(final / name) as one, np.load(io.BytesIO(follower.sent[name])) as other:
            assert one.files == other.files
            assert all(np.array_equal(one[key], other[key]) for key in one.files)
