"""Crops of playing videos: only the motion of `Pan` depends on the class, and `WhichClip` shows the right video."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sideways import InputError
from sideways.data import make_task, pan, write_video
from sideways.data.pan import Pan, WhichClip
from tests.data.conftest import LOSSLESS
from tests.data.test_synthetic import STEP, overlap

often = settings(max_examples=30, deadline=None, derandomize=True)


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
        """The largest difference of the parts that frames in a row share, after standardising each part by itself."""
        parts = [part - part.mean(axis=(1, 2), keepdims=True) for part in overlap(frames, step)]
        earlier, later = (part / part.std(axis=(1, 2), keepdims=True) for part in parts)
        return numpy.abs(later - earlier).max()

    for n, label in enumerate(clip.targets[0]):
        frames = clip.frames[:, n, ..., 0]
        view_moves = STEP[task.classes[label]]
        wrong = {
            words: mismatch(frames, (-speed * x, -speed * y))  # if the view moves right, its content moves left
            for words, (x, y) in STEP.items()
        }
        assert wrong.pop(task.classes[label]) < 1e-3, view_moves
        assert min(wrong.values()) > 0.5


class Recorded(Pan):
    """A `Pan` that records every crop it draws and cuts, and that gives every sample the class `label`, if set."""

    label = None

    def open(self):
        self.crops, self.drawn = [], []
        super().open()

    def labels(self, generators):
        labels = super().labels(generators)
        return labels if self.label is None else numpy.full(len(labels), self.label)

    def crop(self, video, first, corners):
        self.crops.append((video, first, corners))
        return super().crop(video, first, corners)

    def draw_crop(self, split, generator, video=None):
        self.drawn.append(super().draw_crop(split, generator, video))
        return self.drawn[-1]


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
def test_the_crop_drawn_for_a_clip_does_not_depend_on_its_class(films, directions):
    task = Recorded(videos=films, length=9, size=8, lines=48, speed=1.0, directions=directions)
    drawn = []
    for task.label in range(directions):
        task.clip("train", 0, 50)
        drawn.append([(video, first, *corner) for video, first, corner in task.drawn])
    assert all(of_class == drawn[0] for of_class in drawn)
    assert numpy.std([x % 1 for _, _, x, _ in drawn[0]]) == pytest.approx(12**-0.5, abs=0.06)  # uniform between pixels
    assert numpy.std([y % 1 for _, _, _, y in drawn[0]]) == pytest.approx(12**-0.5, abs=0.06)


@pytest.mark.parametrize("directions", [4, 8])
def test_over_the_ticks_frames_are_spread_about_the_corner_of_their_clip_alike_for_every_class(films, directions):
    task = Recorded(videos=films[:1], length=9, size=8, lines=48, speed=1.0, directions=directions)
    means, squares = [], []
    for task.label in range(directions):
        task.clip("train", 0, 500)
        offsets = numpy.stack(
            [path - corner for (_, _, corner), (_, _, path) in zip(task.drawn, task.crops, strict=True)]
        ).reshape(-1, 2)
        means.append(offsets.mean(axis=0))
        squares.append(offsets.T @ offsets / len(offsets))
    one_axis = ((numpy.arange(9) - 4) ** 2).mean()  # the variance of one random position
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
        assert (path <= (64 - 9, 48 - 9)).all()  # the crop and the pixels beside it lie within the picture


# Which clip


def test_the_label_of_which_clip_is_the_video_that_is_shown(tasks):
    task = tasks("which-clip")
    assert task.classes == ("still", "stripes")
    clip = task.clip("test", 0, 64)
    striped = numpy.abs(numpy.diff(clip.frames, axis=2)).max(axis=(0, 2, 3, 4)) < 1e-3  # all rows are equal
    assert striped.tolist() == (clip.targets[0] == 1).tolist()
    assert 16 < striped.sum() < 48


def test_the_crop_of_which_clip_stands_still(tasks):
    frames = tasks("which-clip").clip("train", 0, 8).frames
    numpy.testing.assert_array_equal(frames, numpy.tile(frames[:1], (9, 1, 1, 1, 1)))


@often
@given(speed=st.sampled_from([0.5, 1.0, 2.0]), index=st.integers(0, 99))
def test_the_crop_of_which_clip_glides_straight_at_its_speed(films, speed, index):
    task = WhichClip(videos=films, length=9, size=8, lines=48, speed=speed)
    paths, crop = [], task.crop
    task.crop = lambda *arguments: paths.append(arguments[2]) or crop(*arguments)
    task.clip("train", index, 2)
    for path in paths:
        steps = numpy.diff(path, axis=0)
        numpy.testing.assert_allclose(steps, numpy.tile(steps[:1], (8, 1)), atol=1e-9)
        assert numpy.hypot(*steps[0]) == pytest.approx(speed)


def test_shuffled_frames_are_the_frames_of_the_clip_in_another_order(tasks):
    plain, shuffled = (tasks("which-clip", speed=1.0, shuffled=on).clip("train", 3, 4) for on in (False, True))
    assert not numpy.array_equal(plain.frames, shuffled.frames)
    assert numpy.array_equal(plain.targets, shuffled.targets)
    for one, other in zip(plain.frames.swapaxes(0, 1), shuffled.frames.swapaxes(0, 1), strict=True):
        assert sorted(frame.tobytes() for frame in one) == sorted(frame.tobytes() for frame in other)


# Refusals


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


def test_targets_are_known_without_reading_a_video():
    task = WhichClip(videos=["nowhere.mp4", "neither.mp4"], speed=1.0)
    assert task.targets("train", 0, 5).shape == (18, 5)
    assert task.classes == ("nowhere", "neither")


@pytest.mark.parametrize("used", [1.0, 0.7, 0.5])
def test_no_frame_after_the_part_that_is_used_is_in_any_clip(films, used):
    task = WhichClip(videos=films, length=5, size=8, lines=48, used=used)
    task.open()
    assert [len(video) for video in task.videos] == [60 * used] * 2
    for (start, last), (first_test, last_test) in zip(task.spans["train"], task.spans["test"], strict=True):
        assert (start, last + 5) == (0, first_test) and last_test + 5 == 60 * used
        assert first_test == round(60 * used * 0.7)


@pytest.mark.parametrize("used", [0.0, 1.1, -0.5])
def test_a_part_of_a_video_is_a_part(films, used):
    with pytest.raises(InputError, match="used is the part of each video"):
        WhichClip(videos=films, used=used)


def test_the_title_of_a_crop_is_the_name_of_its_video(tasks):
    task = tasks("which-clip")
    clip = task.clip("test", 3, 6)
    assert task.titles("test", 3, 6) == [task.names[label] for label in clip.targets[0]]
    assert task.titles("test", 3, 6, slice(2, 4)) == task.titles("test", 3, 6)[2:4]
    assert tasks("pan").titles("test", 3, 6) == [""] * 6


def test_a_video_is_decoded_once_for_several_tasks_and_again_when_it_was_written_anew(tmp_path, monkeypatch):
    path, decoded = tmp_path / "film.avi", []
    read = pan.read_frames
    monkeypatch.setattr(
        pan, "read_frames", lambda *arguments, **options: decoded.append(1) or read(*arguments, **options)
    )
    seen = []
    for level, seed in ((40, 0), (40, 1), (200, 2)):
        if level not in seen:
            write_video(path, [numpy.full((48, 64, 3), level, numpy.uint8)] * 60, **LOSSLESS)
        task = WhichClip(seed, length=9, videos=[path], size=8, lines=48)
        task.open()
        seen.append(int(task.videos[0].mean().round()))
    assert seen == [40, 40, 200] and len(decoded) == 2
    with pytest.raises(ValueError, match="read-only"):
        task.videos[0][0] = 0
