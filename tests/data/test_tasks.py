"""Tasks: their frames are as described, every clip can be made again, and only the motion depends on the class."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sideways import InputError
from sideways.data import FramesAhead, LiveStream, VideoClips, make_task
from sideways.data.motion import DIAGONALS, DIRECTIONS, velocities

often = settings(max_examples=30, deadline=None, derandomize=True)

# Any task
NAMES = ["waves", "shapes", "pan", "which-clip"]
numbers = {"seed": st.integers(0, 2), "split": st.sampled_from(["train", "test"]), "index": st.integers(0, 1000)}


@often
@given(name=st.sampled_from(NAMES), data=st.data(), batch=st.integers(1, 5), **numbers)
def test_a_clip_is_a_function_of_seed_split_and_index_alone(tasks, name, data, batch, seed, split, index):
    task = tasks(name, seed)
    clip = task.clip(split, index, batch)
    task.clip(split, index + 1, batch)  # a clip in between makes no difference
    again = task.clip(split, index, batch)
    assert clip.frames.tobytes() == again.frames.tobytes()
    assert clip.targets.tolist() == again.targets.tolist() == task.targets(split, index, batch).tolist()
    part = data.draw(st.slices(batch))
    if len(range(batch)[part]):
        some = task.clip(split, index, batch, part)
        numpy.testing.assert_array_equal(some.targets, clip.targets[:, part])
        numpy.testing.assert_allclose(some.frames, clip.frames[:, part], atol=1e-6)


@often
@given(name=st.sampled_from(NAMES), **numbers)
def test_another_seed_split_or_index_gives_another_clip(tasks, name, seed, split, index):
    frames = tasks(name, seed).clip(split, index, 2).frames
    others = [
        tasks(name, seed + 1).clip(split, index, 2),
        tasks(name, seed).clip("test" if split == "train" else "train", index, 2),
        tasks(name, seed).clip(split, index + 1, 2),
    ]
    assert [numpy.array_equal(other.frames, frames) for other in others] == [False] * 3


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_holds_float32_frames_and_one_target_per_frame_each_class_equally_often(tasks, name):
    task = tasks(name)
    clip = task.clip("train", 0, 3)
    assert clip.frames.shape == (9, 3, *task.frame_shape)
    assert (clip.frames.dtype, clip.frames.flags.c_contiguous) == (numpy.float32, True)
    assert (clip.targets.shape, clip.targets.dtype) == ((9, 3), numpy.int64)
    assert (clip.targets == clip.targets[0]).all()
    labels = task.targets("train", 1, 4000)[0]
    share = numpy.bincount(labels, minlength=len(task.classes)) / 4000
    assert numpy.abs(share - 1 / len(task.classes)).max() < 4 * (0.25 / 4000) ** 0.5


@pytest.mark.parametrize("name", ["shapes", "pan", "which-clip"])
def test_every_single_frame_has_mean_0_and_variance_1(tasks, name):
    frames = tasks(name).clip("test", 0, 16).frames.astype(float)
    numpy.testing.assert_allclose(frames.mean(axis=(2, 3, 4)), 0, atol=1e-5)
    numpy.testing.assert_allclose(frames.std(axis=(2, 3, 4)), 1, atol=1e-4)


def test_tasks_tell_whether_frames_are_used_up_and_whether_clips_come_from_files():
    made = make_task("waves", length=9)
    assert (made.live, made.stored, made.counters()) == (False, False, {})
    assert (LiveStream.live, LiveStream.stored, VideoClips.live, VideoClips.stored) == (True, False, False, True)
    clip = made.clip("train", 0, 2)
    made.resume(100, 3, {})  # clips are functions of their numbers
    numpy.testing.assert_array_equal(made.clip("train", 0, 2).frames, clip.frames)
    assert made.base is made and made.from_base(clip) is clip


def test_frames_ahead_turn_a_clip_of_their_base_into_frames_and_later_frames():
    task = FramesAhead(make_task("waves", length=9), 2)
    whole = task.base.clip("train", 0, 3)
    clip = task.from_base(whole)
    assert task.length == 7
    numpy.testing.assert_array_equal(clip.frames, whole.frames[:7])
    numpy.testing.assert_array_equal(clip.targets, whole.frames[2:])


@pytest.mark.parametrize(("directions", "names"), [(4, DIRECTIONS), (8, DIAGONALS)])
def test_directions_are_named_clockwise_from_the_right_and_have_one_speed(directions, names):
    v = velocities(numpy.arange(directions), directions, 1.5)
    numpy.testing.assert_allclose(numpy.hypot(*v.T), 1.5)
    for (x, y), name in zip(v, names, strict=True):
        words = [word for word, fits in (("down", y > 0.1), ("up", y < -0.1)) if fits]
        words += [word for word, fits in (("right", x > 0.1), ("left", x < -0.1)) if fits]
        assert "-".join(words) == name


# Refusals


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("wave", {}, "unknown task 'wave': choose one of waves, shapes, pan, which-clip"),
        ("waves", {"sped": 1}, "task 'waves' has no option 'sped'; it has length, size, speed, directions"),
        ("waves", {"speed": -1}, "the speed must not be negative"),
        ("waves", {"speed": float("nan")}, "the speed must not be negative"),
        ("waves", {"speed": "fast"}, "task 'waves': speed must be a number, not 'fast'"),
        ("waves", {"directions": 5}, "directions must be 4 or 8, not 5"),
        ("waves", {"length": 0}, "at least one frame, not length=0"),
        ("waves", {"length": 2.5}, "task 'waves': length must be a whole number, not 2.5"),
        ("waves", {"size": 0}, "at least one pixel, not size=0"),
        ("shapes", {"size": 7}, "at least 8 pixels, not size=7"),
        ("shapes", {"speed": -0.5}, "the speed must not be negative"),
        ("pan", {"directions": 6}, "directions must be 4 or 8, not 6"),
        ("pan", {"held_out": 0}, "held_out is the part of each video kept for the test, between 0 and 1, not 0"),
        ("pan", {"size": 0}, "size and lines must be positive"),
        ("pan", {"most_frames": 0}, "most_frames must be at least 1, not 0"),
        ("pan", {"videos": []}, "at least one path"),
        ("pan", {"videos": "film.mp4"}, "videos must be a list, each entry a string or a path, not 'film.mp4'"),
        ("pan", {"videos": 3}, "videos must be a list, each entry a string or a path, not 3"),
        ("which-clip", {"directions": 4}, "task 'which-clip' has no option 'directions'"),
    ],
)
def test_options_that_make_no_task_are_refused(name, options, words):
    with pytest.raises(InputError) as refusal:
        make_task(name, **options)
    assert words in str(refusal.value)


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="unknown split 'validation': choose 'train' or 'test'"):
        make_task("waves").clip("validation", 0, 1)
