"""Tasks: what their frames are, that they repeat, and that nothing but motion depends on the class."""

from functools import cache

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sideways import InputError
from sideways.data import make_task
from sideways.data.motion import DIAGONALS, DIRECTIONS, velocities
from sideways.data.pan import Pan, WhichClip
from sideways.data.synthetic import Waves

STEP = {"right": (1, 0), "down": (0, 1), "left": (-1, 0), "up": (0, -1)}  # x to the right, y down
often = settings(max_examples=30, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def tasks(films):
    """(name, seed) → a task of 9 frames, built once; those on video read the two small films."""

    @cache
    def task(name, seed=0, **options):
        options = {"length": 9, **options}
        if name in ("pan", "which-clip"):
            options |= {"videos": films, "size": 8, "lines": 48}
        return make_task(name, seed, **options)

    return task


# Any task

NAMES = ["waves", "shapes", "pan", "which-clip"]
numbers = {"seed": st.integers(0, 2), "split": st.sampled_from(["train", "test"]), "index": st.integers(0, 1000)}


@often
@given(name=st.sampled_from(NAMES), data=st.data(), batch=st.integers(1, 5), **numbers)
def test_a_clip_is_a_function_of_seed_split_and_index_and_of_nothing_else(tasks, name, data, batch, seed, split, index):
    task = tasks(name, seed)
    clip = task.clip(split, index, batch)
    task.clip(split, index + 1, batch)  # what is made in between does not matter
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


# Waves


def naive_waves(k, phase, v, length, size):
    """The formula, one cosine at a time, of one sample."""
    images = numpy.zeros((length, size, size))
    for t, y, x in numpy.ndindex(images.shape):
        for kx, ky, angle in zip(k[0], k[1], phase, strict=True):
            images[t, y, x] += numpy.cos(kx * (x - v[0] * t) + ky * (y - v[1] * t) + angle)
    return images * (2 / len(phase)) ** 0.5


@often
@given(
    size=st.integers(1, 7),
    length=st.integers(1, 4),
    waves=st.integers(1, 4),
    samples=st.integers(1, 3),
    seed=st.integers(0),
)
def test_waves_are_the_sum_of_cosines_moved_by_their_velocity(size, length, waves, samples, seed):
    random = numpy.random.default_rng(seed)
    k, v = random.normal(size=(2, samples, waves)), random.normal(size=(samples, 2))
    phase = random.uniform(0, 7, (samples, waves))
    images = Waves(length=length, size=size).texture(k, phase, v)
    assert images.shape == (samples, length, size, size, 1)
    for n in range(samples):
        expected = naive_waves(k[:, n], phase[n], v[n], length, size)
        numpy.testing.assert_allclose(images[n, ..., 0], expected, atol=1e-12)


@often
@given(speed=st.floats(0, 3), directions=st.sampled_from([4, 8]), index=st.integers(0, 1000))
def test_a_wave_at_tick_t_is_the_first_frame_moved_by_speed_times_t_towards_its_class(speed, directions, index):
    moving = make_task("waves", speed=speed, directions=directions, length=3, size=12)
    labels = moving.targets("train", index, 2)[0]
    clip = moving.clip("train", index, 2)
    drawn = [moving._generators("train", index, 2, slice(None))[n] for n in range(2)]
    moving.labels(drawn)
    for n, label in enumerate(labels):
        angle = 2 * numpy.pi * label / directions
        v = speed * numpy.array([numpy.cos(angle), numpy.sin(angle)])
        turn, phase, length = drawn[n].random((3, 16))
        number = 2 * numpy.pi / (6 + 6 * length)
        k = number * numpy.array([numpy.cos(2 * numpy.pi * turn), numpy.sin(2 * numpy.pi * turn)])
        expected = naive_waves(k, 2 * numpy.pi * phase, v, 3, 12)
        numpy.testing.assert_allclose(clip.frames[:, n, ..., 0], expected, atol=1e-5)


def overlap(frames, step):
    """What two frames in a row both show if what is shown moves by step (x, y): (earlier, later), each (…, h, w)."""
    x, y = step
    height, width = frames.shape[-2:]
    earlier = frames[:-1, max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
    later = frames[1:, max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
    return earlier, later


@pytest.mark.parametrize("speed", [1, 2])
def test_waves_move_by_whole_pixels_in_the_direction_that_the_class_names(speed):
    task = make_task("waves", speed=speed)
    clip = task.clip("train", 0, 32)
    assert set(clip.targets[0]) == {0, 1, 2, 3}
    for n, label in enumerate(clip.targets[0]):
        x, y = STEP[task.classes[label]]
        earlier, later = overlap(clip.frames[:, n, ..., 0], (speed * x, speed * y))
        numpy.testing.assert_allclose(later, earlier, atol=1e-5)


def test_one_frame_of_waves_has_mean_0_and_variance_1_for_every_class():
    task = make_task("waves", length=1, size=8)
    clip = task.clip("train", 0, 4000)
    for label in range(4):
        values = clip.frames[0, clip.targets[0] == label].astype(float)
        assert values.mean() == pytest.approx(0, abs=0.05)
        assert values.var() == pytest.approx(1, abs=0.05)


# Shapes


@pytest.mark.parametrize("speed", [1, 3])
def test_shapes_roll_over_the_torus_in_the_direction_that_the_class_names(speed):
    task = make_task("shapes", speed=speed)
    clip = task.clip("train", 0, 32)
    assert set(clip.targets[0]) == {0, 1, 2, 3}
    for n, label in enumerate(clip.targets[0]):
        x, y = STEP[task.classes[label]]
        frames = clip.frames[:, n, ..., 0]
        expected = numpy.roll(frames[:-1], (speed * y, speed * x), axis=(1, 2))
        numpy.testing.assert_allclose(frames[1:], expected, atol=1e-5)


# Pan


@often
@given(video=st.integers(0, 1), first=st.integers(0, 51), seed=st.integers(0))
def test_a_crop_mixes_the_four_pixels_around_each_place(tasks, video, first, seed):
    task = tasks("pan")
    task.open()
    corners = numpy.random.default_rng(seed).uniform((0, 0), (64 - 9, 48 - 9), (9, 2))
    crops = task.crop(video, first, corners)
    assert crops.shape == (9, 8, 8)
    for t, (x, y) in enumerate(corners):
        film = task.videos[video][first + t].astype(float)
        left, top = int(x), int(y)
        for row, column in numpy.ndindex(8, 8):
            expected = sum(
                (1 - abs(x - left - i)) * (1 - abs(y - top - j)) * film[top + row + j, left + column + i]
                for i in (0, 1)
                for j in (0, 1)
            )
            assert crops[t, row, column] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("speed", [1, 2])
def test_the_view_over_a_still_picture_moves_by_whole_pixels_in_the_direction_that_the_class_names(films, speed):
    task = Pan(videos=films[:1], length=9, size=12, speed=speed, lines=48)
    clip = task.clip("train", 0, 32)
    assert set(clip.targets[0]) == {0, 1, 2, 3}

    def mismatch(frames, step):
        """Between what two frames in a row both show; each frame was standardised by itself, so do it again."""
        parts = [part - part.mean(axis=(1, 2), keepdims=True) for part in overlap(frames, step)]
        earlier, later = (part / part.std(axis=(1, 2), keepdims=True) for part in parts)
        return numpy.abs(later - earlier).max()

    for n, label in enumerate(clip.targets[0]):
        frames = clip.frames[:, n, ..., 0]
        view_moves = STEP[task.classes[label]]
        wrong = {
            words: mismatch(frames, (-speed * x, -speed * y))  # the view moves right: what it shows moves left
            for words, (x, y) in STEP.items()
        }
        assert wrong.pop(task.classes[label]) < 1e-3, view_moves
        assert min(wrong.values()) > 0.5


class Recorded(Pan):
    """Pan that notes what it crops and what was placed, and may be told the labels."""

    told = None

    def open(self):
        self.crops, self.places = [], []
        super().open()

    def labels(self, generators):
        labels = super().labels(generators)
        return labels if self.told is None else numpy.full(len(labels), self.told)

    def crop(self, video, first, corners):
        self.crops.append((video, first, corners))
        return super().crop(video, first, corners)

    def place(self, split, generator, video=None):
        self.places.append(super().place(split, generator, video))
        return self.places[-1]


@pytest.mark.parametrize("held_out", [0.2, 0.3, 0.5])
def test_no_frame_is_in_both_splits_and_nearly_every_frame_is_in_one(films, held_out):
    task = Recorded(videos=films, length=9, size=8, lines=48, held_out=held_out)
    used = {}
    for split in ("train", "test"):
        task.clip(split, 0, 400)
        used[split] = {(video, first + t) for video, first, _ in task.crops for t in range(9)}
        assert max(frame for _, frame in used[split]) < 60
    assert used["train"] & used["test"] == set()
    assert min(frame for _, frame in used["test"]) >= round(60 * (1 - held_out))
    assert len(used["train"] | used["test"]) >= 2 * 60 - 8


@pytest.mark.parametrize("directions", [4, 8])
def test_where_a_clip_lies_does_not_depend_on_its_class(films, directions):
    task = Recorded(videos=films, length=9, size=8, lines=48, speed=1.0, directions=directions)
    places = []
    for task.told in range(directions):
        task.clip("train", 0, 50)
        places.append([(video, first, *corner) for video, first, corner in task.places])
    assert all(of_class == places[0] for of_class in places)
    assert numpy.std([x % 1 for _, _, x, _ in places[0]]) == pytest.approx(12**-0.5, abs=0.06)  # anywhere, in both
    assert numpy.std([y % 1 for _, _, _, y in places[0]]) == pytest.approx(12**-0.5, abs=0.06)


@pytest.mark.parametrize("directions", [4, 8])
def test_over_the_ticks_a_frame_lies_about_its_clips_place_alike_for_every_class(films, directions):
    task = Recorded(videos=films[:1], length=9, size=8, lines=48, speed=1.0, directions=directions)
    means, squares = [], []
    for task.told in range(directions):
        task.clip("train", 0, 500)
        away = numpy.stack(
            [path - corner for (_, _, corner), (_, _, path) in zip(task.places, task.crops, strict=True)]
        ).reshape(-1, 2)
        means.append(away.mean(axis=0))
        squares.append(away.T @ away / len(away))
    one_axis = ((numpy.arange(9) - 4) ** 2).mean()  # the variance of one step at random
    expected = one_axis * directions / 4 * numpy.eye(2)
    numpy.testing.assert_allclose(means, 0, atol=0.5)
    numpy.testing.assert_allclose(squares, numpy.tile(expected, (directions, 1, 1)), atol=0.08 * one_axis * directions)


@pytest.mark.parametrize("directions", [4, 8])
@pytest.mark.parametrize("speed", [0.3, 1.0])
def test_every_path_is_straight_and_has_the_speed_and_direction_of_its_class(films, directions, speed):
    task = Recorded(videos=films, length=9, size=8, lines=48, speed=speed, directions=directions)
    clip = task.clip("train", 0, 64)
    assert set(clip.targets[0]) == set(range(directions))
    for (_, _, path), label in zip(task.crops, clip.targets[0], strict=True):
        angle = 2 * numpy.pi * label / directions
        step = speed * numpy.array([numpy.cos(angle), numpy.sin(angle)])
        numpy.testing.assert_allclose(numpy.diff(path, axis=0), numpy.tile(step, (8, 1)), atol=1e-9)
        assert path.min() >= 0
        assert (path <= (64 - 9, 48 - 9)).all()  # the crop and the pixel beside it lie within the picture


@pytest.mark.parametrize(("directions", "names"), [(4, DIRECTIONS), (8, DIAGONALS)])
def test_directions_are_named_clockwise_from_the_right_and_have_one_speed(directions, names):
    v = velocities(numpy.arange(directions), directions, 1.5)
    numpy.testing.assert_allclose(numpy.hypot(*v.T), 1.5)
    for (x, y), name in zip(v, names, strict=True):
        words = [word for word, there in (("down", y > 0.1), ("up", y < -0.1)) if there]
        words += [word for word, there in (("right", x > 0.1), ("left", x < -0.1)) if there]
        assert "-".join(words) == name


# Which clip


def test_the_label_of_which_clip_is_the_video_that_is_shown(tasks):
    task = tasks("which-clip")
    assert task.classes == ("still", "stripes")
    clip = task.clip("test", 0, 64)
    upright = numpy.abs(numpy.diff(clip.frames, axis=2)).max(axis=(0, 2, 3, 4)) < 1e-3  # every row looks the same
    assert upright.tolist() == (clip.targets[0] == 1).tolist()
    assert 16 < upright.sum() < 48


def test_the_crop_of_which_clip_stands_still(tasks):
    frames = tasks("which-clip").clip("train", 0, 8).frames
    numpy.testing.assert_array_equal(frames, numpy.tile(frames[:1], (9, 1, 1, 1, 1)))


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
        ("which-clip", {"speed": 1}, "task 'which-clip' has no option 'speed'"),
    ],
)
def test_options_that_make_no_task_are_refused(name, options, words):
    with pytest.raises(InputError) as refusal:
        make_task(name, **options)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 48}, "still.avi: at 64×48 pixels paths over 16 pixels with a crop of 48 do not fit"),
        ({"speed": 5.0}, "still.avi: at 64×48 pixels paths over 40 pixels with a crop of 8 do not fit"),
        ({"length": 19, "speed": 0.0}, "its 60 frames, of which the last 18 are held out, are too few for clips of 19"),
        ({"videos": ["nowhere.mp4"]}, "nowhere.mp4: no such file"),
    ],
)
def test_videos_that_do_not_fit_are_refused_when_they_are_read(films, options, words):
    task = make_task("pan", **({"videos": films, "length": 9, "size": 8, "lines": 48, "speed": 2.0} | options))
    with pytest.raises(InputError) as refusal:
        task.clip("train", 0, 1)
    assert words in str(refusal.value)


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="unknown split 'validation': choose 'train' or 'test'"):
        make_task("waves").clip("validation", 0, 1)


def test_targets_are_known_without_reading_a_video():
    task = WhichClip(videos=["nowhere.mp4", "neither.mp4"])
    assert task.targets("train", 0, 5).shape == (18, 5)
    assert task.classes == ("nowhere", "neither")
