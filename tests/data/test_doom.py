"""The task `doom`: labels are what was measured, and clips depend on their numbers alone, however they are made."""

import hashlib
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy
import pytest

from sideways import InputError
from sideways.data import Source, make_task
from sideways.data.doom.blocks import Cache, Maker, Request
from sideways.data.doom.clips import DoomClips
from sideways.data.doom.process import check_installed
from sideways.data.doom.scene import CLASSES, Settings

pytestmark = pytest.mark.xdist_group("doom")
SMALL = {"maps": ["map22", "map08"], "held_out_maps": ["map26"], "places": 5, "held_out_places": 2, "length": 9}
SMALL |= {"size": 16}
SPLITS = ("train", "test")


@pytest.fixture(scope="module")
def task():
    """A small task, made without workers and without a cache."""
    with closing(make_task("doom", seed=3, **SMALL)) as task:
        task.open()
        yield task


def digest(task):
    """A checksum of the first clips of a task, and the frames they hold."""
    clips = [
        task.clip(split, index, 8) for split, indices in (("train", (0, 4, 9)), ("test", (0, 1))) for index in indices
    ]
    return hashlib.sha256(b"".join(clip.frames.tobytes() + clip.targets.tobytes() for clip in clips)).hexdigest()


# What the clips show


def motion(poses):
    """The class that measured poses (T, 4) show, in complex numbers: the ground is a plane, and headings are turns."""
    place, heading = poses[:, 0] + 1j * poses[:, 1], numpy.exp(1j * numpy.radians(poses[:, 3]))
    steps, turns = numpy.diff(place) / heading[:-1], numpy.angle(heading[1:] / heading[:-1], deg=True)
    kinds = {
        "forward": steps.real > 8,
        "back": steps.real < -8,
        "left": steps.imag > 8,
        "right": steps.imag < -8,
        "turn left": turns > 3,
        "turn right": turns < -3,
        "still": (abs(steps) < 0.5) & (abs(turns) < 0.1),
    }
    return [name for name, holds in kinds.items() if holds.all()]


def test_the_label_of_each_clip_is_the_motion_that_was_measured(task):
    for split in SPLITS:
        for item in range(task.count(split)):
            frames, poses = task.frames_and_poses(split, item)
            assert motion(poses) == [CLASSES[item % 7]]
            changes = numpy.abs(numpy.diff(frames.astype(float), axis=0)).mean(axis=(1, 2, 3))
            variance = numpy.mean([frame.astype(float).var() for frame in frames])
            seen = numpy.mean((frames[1:].astype(float) - frames[:-1]) ** 2) / variance
            assert (changes.max() < 1) if item % 7 == 6 else (seen > 0.05)


def test_the_label_of_sample_n_is_the_motion_of_the_clip_that_it_shows(task):
    kinds = set()
    for split, batch in (("train", 30), ("test", 6)):
        clip = task.clip(split, 1, batch)
        assert clip.targets.tolist() == task.targets(split, 1, batch).tolist()
        for k in range(batch):
            item, turned = task.item(split, batch + k), task.turned_round(split, batch + k)
            frames, poses = task.frames_and_poses(split, item)
            frames, poses = shown(frames, poses, *turned)
            assert motion(poses) == [CLASSES[label] for label in {*clip.targets[:, k].tolist()}]
            centred = frames - frames.mean(axis=(1, 2, 3), keepdims=True)
            spread = centred.std(axis=(1, 2, 3), keepdims=True)
            numpy.testing.assert_allclose(clip.frames[:, k], centred / numpy.maximum(spread, 4), atol=1e-4)
            kinds.add((split, *turned))
    assert len(kinds) == 5  # four in training; clips of the test split are shown as they are


def shown(frames, poses, mirrored, backwards):
    """Frames (T, H, W, C) and poses (T, 4) as a mirror at the line y = 0 and a clip played backwards show them."""
    frames, poses = frames.astype(float), poses.copy()
    if mirrored:
        frames, poses = numpy.flip(frames, axis=2), poses * (1, -1, 1, -1)
    return (numpy.flip(frames, axis=0), numpy.flip(poses, axis=0)) if backwards else (frames, poses)


def test_without_augment_every_clip_is_shown_as_it_is(task):
    with closing(make_task("doom", seed=3, **SMALL, augment=False)) as other:
        assert not any(any(other.turned_round("train", n)) for n in range(100))
        assert other.targets("train", 0, 70)[0].tolist() == [other.item("train", n) % 7 for n in range(70)]


def test_a_walk_back_visits_the_positions_of_a_walk_forward_in_reverse_order_and_so_do_the_other_pairs(task):
    for item in range(0, task.count("train"), 7):
        poses = [task.frames_and_poses("train", item + label)[1] for label in range(7)]
        heading = numpy.radians(poses[0][0, 3])
        forward, left = (numpy.cos(heading), numpy.sin(heading)), (-numpy.sin(heading), numpy.cos(heading))
        for one, other, axis in ((0, 1, forward), (2, 3, left)):
            along = poses[one][:, :2] @ axis, poses[other][::-1, :2] @ axis
            numpy.testing.assert_allclose(*along, atol=3)  # units; a step is 10 units
            assert {*offsets_across(poses[one], axis)} == {0}
        turns = poses[4][:, 3], poses[5][::-1, 3]
        numpy.testing.assert_allclose((turns[0] - turns[1] + 180) % 360, 180, atol=0.2)


def offsets_across(poses, axis):
    """How far a walk leaves its line, in whole units."""
    across = poses[:, :2] @ (-axis[1], axis[0])
    return numpy.round(across - across[0])


def test_each_set_holds_every_class_equally_often_and_an_epoch_every_clip_once(task):
    assert (task.count("train"), task.count("test"), task.held_out_items()) == (70, 14, 14)
    for epoch in range(3):
        items = [task.item("train", n) for n in range(70 * epoch, 70 * (epoch + 1))]
        assert sorted(items) == list(range(70)) and items != sorted(items)
    assert sorted(task.item("test", n) for n in range(14)) == list(range(14))
    assert task.items("test", 1, 8).tolist() == [8, 9, 10, 11, 12, 13, -1, -1]
    assert numpy.bincount(task.targets("test", 0, 14)[0]).tolist() == [2] * 7


def test_the_first_clips_of_a_run_need_the_first_blocks_only():
    task = DoomClips(seed=1)
    group = 4 * 4 * 7  # blocks × places × classes
    assert max(task.item("train", n) for n in range(group)) == group - 1
    assert max(task.item("train", n) for n in range(task.count("train"), task.count("train") + group)) > 10 * group
    assert task.count("train") == 15 * 20 * 7 and task.count("test") == 7 * 10 * 7


def test_no_map_is_learnt_from_and_held_out():
    task = DoomClips()
    maps = {split: {request.map for request in task.requests[split]} for split in SPLITS}
    assert not maps["train"] & maps["test"] and (len(maps["train"]), len(maps["test"])) == (15, 7)


# The same clips, wherever and however they are made


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(task, workers):
    with closing(make_task("doom", seed=3, **SMALL)) as other:
        Source(other, 8, workers=workers)
        assert digest(other) == digest(task)


def test_another_process_makes_the_same_clips_whatever_it_made_before(task):
    program = """
from contextlib import closing
from sideways.data import make_task
from tests.data.test_doom import SMALL, digest
with closing(make_task("doom", seed=3, **SMALL)) as task:
    task.clip("test", 0, 3)
    task.clip("train", 7, 2)
    print(digest(task))
"""
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert made.stdout.strip() == digest(task)


def test_another_seed_makes_other_clips_and_a_part_of_a_batch_is_the_part_of_the_clip(task):
    clip = task.clip("train", 2, 6)
    numpy.testing.assert_array_equal(task.clip("train", 2, 6, slice(1, 4)).frames, clip.frames[:, 1:4])
    with closing(make_task("doom", seed=4, **SMALL)) as other:
        assert not numpy.array_equal(other.clip("train", 2, 6).frames, clip.frames)


def test_frames_are_grey_or_coloured_and_of_any_size_up_to_the_screen():
    settings = Settings(length=3, size=112, grey=False)
    with closing(Maker(settings, 0, None)) as maker:
        block = maker.block(Request(0, "map22", 0, 1))
    assert block.frames.shape == (1, 7, 3, 112, 112, 3) and block.frames.dtype == numpy.uint8
    assert numpy.ptp(block.frames.astype(int), axis=-1).max() > 10


# The cache


def test_a_cached_block_has_the_bits_of_a_new_one_and_a_damaged_one_is_made_again(task, tmp_path, monkeypatch):
    options = SMALL | {"cache": str(tmp_path / "cache")}
    with closing(make_task("doom", seed=3, **options)) as other:
        assert digest(other) == digest(task)
    files = sorted((tmp_path / "cache").glob("doom-*/*.block"))
    contents = [path.read_bytes() for path in files]
    assert len(files) == 5 and not list((tmp_path / "cache").glob("**/*.draft"))
    frames = 84 * 9 * 16 * 16
    assert frames < sum(map(len, contents)) < frames + 84 * 9 * 4 * 8 + 5 * 1000  # poses, and headers
    with monkeypatch.context() as patch, closing(make_task("doom", seed=3, **options)) as other:
        patch.setattr("sideways.data.doom.blocks.GameProcess", None)  # no game is needed
        assert digest(other) == digest(task)
    for path, damage in zip(files, (lambda b: b[:-1], lambda b: b"", lambda b: b[:40] + b"x" + b[41:]), strict=False):
        path.write_bytes(damage(path.read_bytes()))
    with closing(make_task("doom", seed=3, **options)) as other:
        assert digest(other) == digest(task)
    assert [path.read_bytes() for path in files] == contents


def test_other_settings_or_another_version_have_another_folder(tmp_path, monkeypatch):
    folders = {Cache(tmp_path, chosen).folder for chosen in (Settings(), Settings(tics=1), Settings(size=16))}
    assert len(folders) == 3 and Cache(tmp_path, Settings()).folder in folders
    monkeypatch.setattr("sideways.data.doom.blocks.check_installed", lambda: "another")
    assert Cache(tmp_path, Settings()).folder not in folders


# Refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "size must be from 1 to 120"),
        ({"size": 121}, "size must be from 1 to 120"),
        ({"tics": 0}, "tics from 1 to 35"),
        ({"places": 0}, "places and held_out_places must be from 1 to 10000, not 0 and 10"),
        ({"held_out_places": 10**9}, "must be from 1 to 10000"),
        ({"length": 0}, "at least one frame"),
        ({"maps": []}, "at least one map each"),
        ({"maps": "map01"}, "maps must be a list"),
        ({"maps": ["map21"]}, "map21 is named twice"),
        ({"cache": 3}, "cache must be a string"),
    ],
)
def test_options_that_make_no_task_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        make_task("doom", **options)


def test_maps_without_room_and_maps_that_do_not_exist_are_refused(tmp_path):
    for options, words in (
        ({"maps": ["map99"]}, "there is no map 'map99': maps are map01 to map32"),
        ({"maps": ["map03"], "length": 60}, "map03 has no more room for clips of 60 frames"),
        ({"cache": "/dev/null/x"}, "the folder cannot be made"),
    ):
        task = make_task("doom", **SMALL | options)
        with closing(task), pytest.raises(InputError, match=words):
            task.open()


@pytest.mark.parametrize("options", [["doom-skip"], ["stream-predictor-skip", "--data", "stream:doom"]])
def test_a_missing_vizdoom_is_refused_in_a_line_that_says_what_to_install(command, monkeypatch, tmp_path, options):
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "vizdoom" else find(name, *rest)
    )
    code, _, errors = command("train", *options)
    assert code == 2 and errors.count("\n") == 1 and "pip install vizdoom" in errors
    assert not (tmp_path / "runs").exists()


def test_nothing_imports_vizdoom_but_the_process_that_plays():
    program = "import sys; import sideways.commands.train, sideways.training.run, sideways.data.doom.worker; "
    program += "sys.exit('vizdoom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_vizdoom_is_installed_for_these_tests():
    assert check_installed()[0].isdigit()
