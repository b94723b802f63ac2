"""The files of checkpoints: their contents, when they are written, replaced and removed, and which are refused."""

import json
import os
import re
import shutil
import signal
import zipfile
from dataclasses import replace

import numpy as np
import pytest

import sideways.training.checkpoint
import sideways.training.run
from sideways import InputError
from sideways.commands.main import main
from sideways.errors import Interrupted
from sideways.training.checkpoint import Checkpoints, find, listed, load_trained
from sideways.training.run import train
from tests.training.runs import RUN, edit, parameters, replace_array

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """The folder of the run `RUN`, trained once."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(RUN, folder)
    return folder


@pytest.fixture
def finished(trained_once, tmp_path):
    """A copy of the finished run `RUN`, which the test may change, as `run` in its folder."""
    return shutil.copytree(trained_once, tmp_path / "run")


def test_a_checkpoint_in_mid_stream_holds_messages_targets_sums_and_the_open_clip(tmp_path):
    config = replace(RUN, update_every=4, boundary="stream", rates={"conv2": 0.5}, checkpoint_every=6)
    train(config, tmp_path / "run")
    step = tmp_path / "run" / "checkpoints" / "step-00000018"
    with np.load(step / "conv4.npz") as arrays:
        keys = set(arrays)
        assert {"message.17.conv1", "message.17.conv3", "message.17.head"} <= keys
        assert arrays["message.17.conv1"].shape == (4, 4, 4, 4)
        assert any(key.startswith("sum.0.") for key in keys)
        assert int(arrays["count"]) == (18 - 5) % 4  # conv4 runs backward from tick 5 on
    with np.load(step / "head.npz") as arrays:
        assert len([key for key in arrays if key.startswith("target.")]) == 5  # the latency is 4
        assert len([key for key in arrays if key.startswith("loss.")]) == 7  # ticks 11 … 17 belong to the second clip
    meta = json.loads((step / "meta.json").read_text())
    assert (meta["ticks"], meta["clip"], meta["tick"], meta["clock"]) == (18, 1, 7, 18)


def test_only_the_last_checkpoints_are_kept(tmp_path):
    train(replace(RUN, keep_checkpoints=2), tmp_path / "run")
    assert [path.name for path in listed(tmp_path / "run")] == ["step-00000049", "step-00000055"]


def test_no_checkpoint_holds_a_pickle(finished, tmp_path):
    for path in (tmp_path / "run").rglob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[key].dtype != object for key in arrays)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda step: (step / "conv2.npz").write_bytes((step / "conv2.npz").read_bytes()[:-100]), "checksum"),
        (lambda step: (step / "conv2.npz").unlink(), "conv2.npz is missing"),
        (lambda step: (step / "meta.json").write_text("{"), "not a checkpoint of this project"),
        (lambda step: (step / "meta.json").write_text('{"format": 99, "files": {}}'), "format 99"),
        (lambda step: _flip(step / "conv2.npz"), "conv2.npz does not match its checksum"),
        (lambda step: edit(step, ticks=-5), "ticks must not be negative"),
        (lambda step: edit(step, ticks=10**6), "step-00000055: not a checkpoint of this run: tick 1000000 is not"),
        (lambda step: edit(step, clip=2.0), "clip must be a whole number, not 2.0"),
        (lambda step: edit(step, counters=None), "counters must be a table"),
        (lambda step: edit(step, frame_shape=[8, 8, 3]), "frames of shape (8, 8, 3)"),
        (lambda step: replace_array(step, "conv2", "parameters.0.weight", np.ones(1, "f")), "expected is (3, 3, 4, 4)"),
        (lambda step: replace_array(step, "conv2", "optimizer.first.0.bias", np.ones(7, "f")), "has shape (7,)"),
        (lambda step: replace_array(step, "conv2", "updates", np.array(10**9)), "updates is 1000000000 after 55 ticks"),
        (lambda step: replace_array(step, "head", "message.54.conv4", np.ones(1, "f")), "has no place in it"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_is_offered(finished, tmp_path, capsys, damage, words):
    damage(listed(tmp_path / "run")[-1])
    assert main(["train", "--resume", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    offered = error.split()[-1]
    assert "an earlier checkpoint is whole: " in error and offered.endswith("step-00000049")
    assert main(["train", "--resume", offered]) == 0
    assert not (tmp_path / "run" / "checkpoints" / ".step-00000055").exists()


def _flip(path):
    """Flip the bits of one byte of the largest array."""
    with zipfile.ZipFile(path) as arrays:
        largest = max(arrays.infolist(), key=lambda member: member.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + largest.file_size] ^= 255  # after the headers of the member, before its last bytes
    path.write_bytes(bytes(content))


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find(tmp_path / "nothing")
    with pytest.raises(InputError, match="no checkpoint in it"):
        find(tmp_path)


def test_a_finished_run_that_is_resumed_does_not_write_its_checkpoint_again(finished, tmp_path):
    newest = listed(tmp_path / "run")[-1]
    before = {path: path.stat().st_ino for path in newest.iterdir()}
    train(RUN, tmp_path / "run", resume=newest)
    assert {path: path.stat().st_ino for path in newest.iterdir()} == before


def test_where_the_ticks_of_a_run_are_a_multiple_its_last_checkpoint_is_written_once_and_holds_its_end(
    tmp_path, monkeypatch
):
    published = []
    publish = Checkpoints._publish
    monkeypatch.setattr(Checkpoints, "_publish", lambda *arguments: published.append(publish(*arguments)))
    train(replace(RUN, checkpoint_every=11), tmp_path / "run")
    assert len(published) == len(listed(tmp_path / "run")) == 5  # one after each clip
    expected, trained = parameters(tmp_path / "run"), load_trained(listed(tmp_path / "run")[-1])
    for unit, arrays in trained.network.parameters.items():
        assert all(np.array_equal(expected[f"{unit}/{key}"], array) for key, array in arrays.items())


def test_a_checkpoint_that_is_replaced_is_never_missing_while_the_new_one_is_written(finished, tmp_path, monkeypatch):
    second = listed(tmp_path / "run")[1]
    kept = []  # for each checkpoint, whether the old one existed while the new one was written

    class Watched(Checkpoints):
        def _files(self, rule, progress):
            kept.append((self.folder / f"step-{rule.ticks:08d}").exists())
            return super()._files(rule, progress)

    monkeypatch.setattr(sideways.training.run, "Checkpoints", Watched)
    train(RUN, tmp_path / "run", resume=listed(tmp_path / "run")[0])
    assert len(kept) == 7 and all(kept)
    find(second)
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


def test_drafts_of_killed_runs_are_removed_and_those_that_come_later_are_not_counted_among_the_last(finished, tmp_path):
    config = replace(RUN, keep_checkpoints=2)
    abandoned = tmp_path / "run" / "checkpoints" / ".step-00000012"
    abandoned.mkdir()
    with pytest.raises(Interrupted) as stopped:
        train(config, tmp_path / "run", press_ctrl_c_after(3), resume=listed(tmp_path / "run")[2])
    path_in_message = stopped.value.args[0].rpartition(" ")[2]
    assert find(path_in_message).name == "step-00000033" and not abandoned.exists()


def press_ctrl_c_after(clips):
    """A progress that presses Ctrl-C when so many clips are done."""
    done = []

    def show(count, line):
        done.extend([1] * count)
        if len(done) == clips:
            os.kill(os.getpid(), signal.SIGINT)

    return show


def test_where_the_disk_is_full_the_draft_goes_and_a_line_says_so(tmp_path, monkeypatch, capsys):
    def full(path, content):
        path.write_bytes(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sideways.training.checkpoint, "_write", full)
    options = ["--clips", "2", "--batch", "2", "--evaluation-clips", "1", "--runs", str(tmp_path), "--name", "run"]
    assert main(["train", "waves-skip", *options]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"cannot write the checkpoint .*step-\d+: No space left on device$", error)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_checkpoint_away_from_its_run_is_not_resumed_and_nothing_is_written_beside_it(finished, tmp_path, capsys):
    copied = tmp_path / "a" / "b" / "step-00000055"
    shutil.copytree(listed(tmp_path / "run")[-1], copied)
    assert main(["train", "--resume", str(copied)]) == 2
    assert "a checkpoint must lie in its run" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "a").rglob("*") if p.is_dir()) == ["b", "step-00000055"]


def test_a_unit_without_one_of_its_arrays_is_refused_in_a_line(finished, tmp_path, capsys):
    replace_array(listed(tmp_path / "run")[-1], "conv2", "parameters.0.weight", None)
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out.npz")]) == 2
    assert "conv2.npz lacks parameters.0.weight" in capsys.readouterr().err
