"""Clips of a data set's videos: the frames chosen, and how they are cut and coloured; and files of all kinds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marked import SMALL, marked, numbers, task_of

from sideways import InputError
from sideways.data import VideoClips, write_video
from sideways.data.videos.clips import Normalised
from sideways.data.videos.decoder import Augmentation, Decoder, Order
from tests.data.conftest import LOSSLESS
from tests.data.videos.test_ffmpeg import ffmpeg


def test_an_epoch_shows_every_training_video_once_each_in_a_new_order(folder):
    task = task_of(folder)
    orders = [[task.video("train", n)[0].path for n in range(6 * e, 6 * e + 6)] for e in range(4)]
    assert all(len(set(order)) == 6 for order in orders)
    assert len(set(map(tuple, orders))) > 1
    assert task.count("train") == 6 and task.count("test") == 3


@pytest.mark.parametrize("seed", [0, 5])
def test_a_balanced_task_shows_every_class_equally_often_and_each_video_of_a_class_in_turn(tmp_path, seed):
    counts = {"a": 7, "b": 1, "c": 3}
    for name, count in counts.items():
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(count):
            (tmp_path / "train" / name / f"{i}.avi").touch()
    task = VideoClips(seed=seed, data=f"folder:{tmp_path}", balanced=True, **SMALL)
    shown = [task.video("train", n)[0] for n in range(3 * 42)]
    for n in range(0, len(shown), 3):
        assert sorted(video.label for video in shown[n : n + 3]) == [0, 1, 2]
    assert len({tuple(video.label for video in shown[n : n + 3]) for n in range(0, len(shown), 3)}) > 3
    for label, count in enumerate(counts.values()):
        paths = [video.path for video in shown if video.label == label]
        epochs = [tuple(paths[n : n + count]) for n in range(0, len(paths), count)]
        assert all(len(set(epoch)) == count for epoch in epochs) and (count == 1 or len(set(epochs)) > 1)
    at_random = np.random.default_rng(0).permutation(len(shown))
    assert [task.video("train", int(n))[0] for n in at_random] == [shown[n] for n in at_random]
    assert task.targets("train", 2, 16)[0].tolist() == [video.label for video in shown[32:48]]


def test_a_balanced_task_leaves_out_a_class_without_training_videos(folder):
    for path in (folder / "train" / "a").iterdir():
        path.unlink()
    task = task_of(folder, balanced=True)
    assert {task.video("train", n)[0].label for n in range(20)} == {1}


def test_tempo_plays_training_clips_faster_or_slower_within_its_bounds_and_changes_nothing_else(folder):
    plain, varied = task_of(folder), task_of(folder, tempo=0.5)
    speeds = []
    for n in range(60):
        one, other = plain.order("train", n), varied.order("train", n)
        assert one.speed == 1.0 and (one.paths, one.moment, one.augmentation) == (
            other.paths,
            other.moment,
            other.augmentation,
        )
        speeds.append(other.speed)
    assert min(speeds) < 0.6 and max(speeds) > 1.4 and min(speeds) >= 0.5 and max(speeds) <= 1.5
    assert all(varied.order("test", n).speed == 1.0 for n in range(3))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(("speed", "step"), [(1.0, 1), (2.0, 2), (3.0, 3)])
def test_a_clip_at_a_higher_speed_shows_frames_further_apart(folder, speed, step, keep):
    decoder = task_of(folder, keep=keep).decoder
    shown = numbers(decoder.sample(Order((str(folder / "train" / "a" / "0.avi"),), 0.0, speed=speed)).frames)
    assert np.diff(shown).tolist() == [step] * 5


@given(st.integers(1, 40), st.integers(1, 12), st.floats(0, 1), st.floats(0.1, 3), st.booleans())
def test_a_clip_of_a_kept_video_is_cut_at_its_moment_and_begins_anew_or_stays_only_if_the_video_is_too_short(
    frames, length, moment, speed, loop
):
    decoder = Decoder(length, 25.0, 12, 16, False, keep=True, loop=loop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sideways.data.videos.decoder._whole", lambda *_: marked(0, frames))
        shown = numbers(decoder.cut("", moment, speed))
    steps = np.floor(np.arange(length) * speed).astype(int)
    if steps[-1] + 1 > frames:
        assert shown.tolist() == [step % frames if loop else min(step, frames - 1) for step in steps]
    else:
        assert (shown - shown[0]).tolist() == steps.tolist() and shown[0] >= 0
        assert abs(shown[0] - moment * max(frames - (length - 1) * speed - 1, 0)) <= 0.5


def test_a_kept_video_is_decoded_once_and_gives_the_clips_of_one_that_is_not(folder):
    plain, kept = task_of(folder), task_of(folder, keep=True)
    for n in range(12):
        frames, others = (numbers(task.sample("train", n).frames) for task in (plain, kept))
        assert abs(int(frames[0]) - int(others[0])) <= 1 and np.diff(frames).tolist() == np.diff(others).tolist()
    before = kept.clip("train", 1, 6).frames.values
    for path in (folder / "train").glob("*/*.avi"):
        path.unlink()
    assert np.array_equal(kept.clip("train", 1, 6).frames.values, before)


def test_a_broken_video_that_is_to_be_kept_is_replaced_by_another_of_its_class(folder):
    (folder / "train" / "a" / "1.avi").write_bytes(b"")
    task = task_of(folder, keep=True)
    n = next(n for n in range(6) if task.video("train", n)[0].name == "train/a/1.avi")
    sample = task.sample("train", n)
    assert sample.usable and list(sample.skipped) == [str(folder / "train" / "a" / "1.avi")]
    assert (sample.frames[..., 1] <= 50).all()  # video 0 or 2, both of class a


def test_a_training_clip_is_a_run_of_frames_from_a_random_start_and_a_short_video_is_looped(folder):
    task = task_of(folder)
    starts = set()
    for n in range(36):
        video, _ = task.video("train", n)
        length = {"a": (40, 12, 4), "b": (20, 6, 30)}[video.path.parent.name][int(video.path.stem)]
        shown = numbers(task.sample("train", n).frames)
        if length < 6:
            assert shown.tolist() == [0, 1, 2, 3, 0, 1]
        else:
            assert shown.tolist() == list(range(shown[0], shown[0] + 6)) and shown[-1] < length
            starts.add((length, shown[0]))
    assert len({start for length, start in starts if length == 40}) > 3


@pytest.mark.parametrize("keep", [False, True])
def test_without_loop_a_video_that_is_too_short_stays_at_its_last_frame(folder, keep):
    task = task_of(folder, keep=keep, loop=False)
    clips = {task.video("train", n)[0].name: numbers(task.sample("train", n).frames).tolist() for n in range(6)}
    assert clips["train/a/2.avi"] == [0, 1, 2, 3, 3, 3]
    assert all(np.diff(shown).tolist() == [1] * 5 for name, shown in clips.items() if name != "train/a/2.avi")


@pytest.mark.parametrize(("stride", "fps"), [(2, 25.0), (3, 25.0), (1, 5.0)])
def test_a_stride_and_a_lower_rate_leave_frames_out_evenly(folder, stride, fps):
    task = task_of(folder, stride=stride, fps=fps, length=4)
    first = next(n for n in range(3) if task.video("test", n)[0].name == "test/a/0.avi")
    shown = numbers(task.sample("test", first).frames)
    assert set(np.diff(shown)) == {stride if fps == 25 else 5}


def test_a_higher_rate_repeats_frames(folder):
    task = task_of(folder, fps=50.0, length=12)
    first = next(n for n in range(3) if task.video("test", n)[0].name == "test/a/0.avi")
    shown = numbers(task.sample("test", first).frames)
    assert set(np.diff(shown)) == {0, 1} and shown[-1] - shown[0] in (5, 6)


def test_the_views_of_an_evaluation_are_spread_evenly_over_the_video(folder):
    task = task_of(folder, views=4)
    assert task.count("test") == 12
    first = next(n for n in range(0, 12, 4) if task.video("test", n)[0].name == "test/a/0.avi")
    starts = [int(numbers(task.sample("test", n).frames)[0]) for n in range(first, first + 4)]
    last_start = 40 - 6
    assert np.allclose(starts, [(view + 0.5) / 4 * last_start for view in range(4)], atol=1)
    assert task.items("test", 0, 16).tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [-1] * 4
    assert task.titles("test", 0, 12) == [video.name for video in task.listed["test"] for _ in range(4)]
    labels = task.targets("test", 0, 12)[0]
    assert all(len(set(labels[n : n + 4])) == 1 for n in (0, 4, 8)) and sorted(labels) == [0] * 4 + [1] * 8


def test_the_first_part_of_an_evaluation_is_a_fair_sample_of_all_classes_and_the_same_for_every_seed(tmp_path):
    for name in "abcdefgh":
        for split, count in (("train", 1), ("test", 25)):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / split / name / f"{i:02d}.avi").touch()
    orders = []
    for seed in (1, 2):
        task = VideoClips(seed=seed, data=f"folder:{tmp_path}", **SMALL)
        orders.append([task.video("test", n)[0].path for n in range(200)])
    assert orders[0] == orders[1] and len(set(orders[0])) == 200
    assert orders[0] != sorted(orders[0])
    counts = np.bincount(
        task.targets("test", 0, 80)[0], minlength=8
    )  # 10 of each class, with a standard deviation of 2.3
    assert counts.min() >= 4 and counts.max() <= 17


@given(st.floats(0, 1), st.floats(0, 1), st.booleans(), st.integers(4, 9), st.integers(0, 5), st.integers(0, 5))
def test_an_augmentation_cuts_and_mirrors_all_frames_of_a_clip_alike(across, down, mirrored, size, more, wider):
    frames = np.random.default_rng(size).integers(0, 256, (3, size + more, size + wider, 3), dtype=np.uint8)
    cut = Augmentation(across, down, mirrored)(frames, size)
    top, left = round(down * more), round(across * wider)
    expected = frames[:, top : top + size, left : left + size]
    np.testing.assert_array_equal(cut, expected[:, :, ::-1] if mirrored else expected)


@given(st.integers(0, 10_000), st.booleans(), st.floats(0, 0.9))
def test_a_drawn_augmentation_stays_within_its_bounds_and_always_takes_six_draws(seed, flip, jitter):
    one, other = np.random.default_rng(seed), np.random.default_rng(seed)
    augmentation = Augmentation.drawn(one, flip, jitter)
    other.random(6)
    assert one.random() == other.random()
    assert flip or not augmentation.mirrored
    for factor in (augmentation.brightness, augmentation.contrast, augmentation.saturation):
        assert 1 - jitter <= factor <= 1 + jitter
    coloured = augmentation(np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8), 6)
    assert coloured.dtype == np.uint8 and coloured.shape == (2, 6, 6, 3)


def test_brightness_contrast_and_saturation_change_colours_by_their_formulas():
    frames = np.random.default_rng(0).integers(60, 120, (2, 8, 8, 3), dtype=np.uint8)
    x = frames.astype(float)
    np.testing.assert_allclose(Augmentation(brightness=1.5)(frames, 8), 1.5 * x, atol=1)
    np.testing.assert_allclose(Augmentation(contrast=0.5)(frames, 8), x.mean() + 0.5 * (x - x.mean()), atol=1)
    grey = x.mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(Augmentation(saturation=0.5)(frames, 8), grey + 0.5 * (x - grey), atol=1)


@given(st.floats(0.1, 0.9), st.floats(0.1, 2))
def test_normalised_frames_follow_their_formula(mean, deviation):
    values = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 4, 3), dtype=np.uint8)
    frames = Normalised(values, mean, deviation)
    assert len(frames) == 5 and len(frames[1:4]) == 3
    expected = (values / 255 - mean) / deviation
    for t, frame in enumerate(frames):
        assert frame.dtype == np.float32
        np.testing.assert_allclose(frame, expected[t], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(frames[1:4][2], frames[3])


@given(st.integers(0, 99), st.integers(-40, 40), st.floats(0.3, 1.2))
def test_standardised_frames_have_mean_0_and_variance_1_whatever_the_light(seed, brighter, contrast):
    values = np.random.default_rng(seed).integers(50, 150, (4, 2, 6, 5, 3)).astype(float)
    lit = np.rint(128 + contrast * (values - 100) + brighter).astype(np.uint8)
    frames = np.stack([*Normalised(lit, 0.45, 0.225, standardise=True)])
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames.mean(axis=(2, 3, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(frames.var(axis=(2, 3, 4)), 1, atol=1e-4)
    expected = np.stack([*Normalised(values.astype(np.uint8), 0.45, 0.225, standardise=True)])
    assert np.abs(frames - expected).max() < 0.1  # what rounding to whole grey levels leaves
    np.testing.assert_array_equal(np.stack([*Normalised(lit, 0.45, 0.225, True)[1:3]]), frames[1:3])


# Files of all kinds ---------------------------------------------------------------------------------------------------


def write_rotated(path):
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=1", path.with_suffix(".plain.mp4"))
    ffmpeg("-display_rotation", "90", "-i", path.with_suffix(".plain.mp4"), "-c", "copy", path)
    path.with_suffix(".plain.mp4").unlink()


KINDS = {
    "rotated.mp4": write_rotated,
    "grey.avi": lambda p: ffmpeg(
        "-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=1", "-pix_fmt", "gray", "-c:v", "ffv1", p
    ),
    "odd.avi": lambda p: ffmpeg("-f", "lavfi", "-i", "testsrc=size=63x47:rate=25:duration=1", "-c:v", "ffv1", p),
    "tiny.avi": lambda p: ffmpeg("-f", "lavfi", "-i", "testsrc=size=10x8:rate=25:duration=1", "-c:v", "ffv1", p),
    "slow.webm": lambda p: ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=12.5:duration=1", p),
    "ntsc.mkv": lambda p: ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=30000/1001:duration=1", p),
    "sound.mp4": lambda p: ffmpeg(
        *("-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=1"),
        *("-f", "lavfi", "-i", "sine=duration=3", "-c:a", "aac", p),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_any_file_becomes_a_clip_of_the_same_shape(tmp_path, name):
    for split in ("train", "test"):
        folder = tmp_path / split / "only"
        folder.mkdir(parents=True)
        KINDS[name](folder / name)
    for grey in (False, True):
        task = VideoClips(data=f"folder:{tmp_path}", grey=grey, **SMALL)
        sample = task.sample("train", 0)
        assert sample.skipped == {} and sample.frames.shape == (6, 12, 12, 1 if grey else 3)
        assert sample.frames.std() > 10 and (np.diff(sample.frames.astype(int), axis=0) != 0).any()


def test_frames_of_a_variable_rate_are_shown_for_as_long_as_they_last(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "only").mkdir(parents=True)
        plain, path = tmp_path / "plain.avi", tmp_path / split / "only" / "varies.mkv"
        write_video(plain, marked(0, 12), fps=20, **LOSSLESS)
        times = r"if(lt(N\,4)\,N*0.1\,0.4+(N-4)*0.05)/TB"  # four frames of 100 ms, then eight of 50 ms
        ffmpeg("-i", plain, "-vf", f"settb=1/1000,setpts={times}", "-fps_mode", "passthrough", "-c:v", "ffv1", path)
    task = VideoClips(data=f"folder:{tmp_path}", **(SMALL | {"fps": 20.0, "length": 16}))
    shown = numbers(task.sample("test", 0).frames)
    assert np.bincount(shown, minlength=12)[:11].tolist() == [2] * 4 + [1] * 7


@pytest.mark.parametrize(
    "wrong",
    [
        *({"size": 20}, {"size": 0}, {"stride": 0}, {"views": 0}, {"jitter": 1.0}, {"data": ""}),
        *({"tempo": 1.0}, {"tempo": -0.1}),
        *({"fps": 0}, {"fps": float("inf")}, {"fps": float("nan")}),
    ],
)
def test_options_that_make_no_clips_are_refused(folder, wrong):
    with pytest.raises(InputError):
        task_of(folder, **wrong) if "data" not in wrong else VideoClips(**SMALL)
