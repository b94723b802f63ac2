"""Clips of a data set's videos: which frames, cut and coloured how; and the same whoever decodes them."""

import os
import pickle
import signal
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sideways.data.workers
from sideways import InputError
from sideways.data import Source, VideoClips, write_video
from sideways.data.clips import Normalised
from sideways.data.decoder import GREY, Decoder, Look, Order
from tests.data.conftest import LOSSLESS
from tests.data.test_video import ffmpeg

SMALL = {"length": 6, "size": 12, "short_side": 16, "fps": 25.0}


def marked(video, frames, height=16, width=24):
    """(T, H, W, 3) uint8: frame t of a video is told by its colours, after scaling too: red says t, green the video."""
    film = np.zeros((frames, height, width, 3), np.uint8)
    film[..., 0] = 5 * np.arange(frames)[:, None, None]
    film[..., 1] = 20 * video
    return film


def numbers(frames):
    """The t of marked frames (…, H, W, C)."""
    return (frames[..., 0].mean(axis=(-1, -2)) / 5).round().astype(int)


@pytest.fixture
def folder(tmp_path):
    """A set of 3 + 3 training and 1 + 2 test videos, of 4 to 40 frames at 25 per second."""
    number = 0
    for split, label, lengths in (
        ("train", "a", (40, 12, 4)),
        ("train", "b", (20, 6, 30)),
        ("test", "a", (40,)),
        ("test", "b", (20, 5)),
    ):
        (tmp_path / "set" / split / label).mkdir(parents=True, exist_ok=True)
        for i, length in enumerate(lengths):
            write_video(tmp_path / "set" / split / label / f"{i}.avi", marked(number, length), **LOSSLESS)
            number += 1
    return tmp_path / "set"


def task_of(folder, **options):
    return VideoClips(seed=3, data=f"folder:{folder}", **(SMALL | options))


def test_an_epoch_shows_every_training_video_once_each_in_a_new_order(folder):
    task = task_of(folder)
    orders = [[task.video("train", n)[0].path for n in range(6 * e, 6 * e + 6)] for e in range(4)]
    assert all(len(set(order)) == 6 for order in orders)
    assert len(set(map(tuple, orders))) > 1
    assert task.count("train") == 6 and task.count("test") == 3


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
    spare = 40 - 6
    assert np.allclose(starts, [(view + 0.5) / 4 * spare for view in range(4)], atol=1)
    assert task.items("test", 0, 16).tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [-1] * 4
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
    counts = np.bincount(task.targets("test", 0, 80)[0], minlength=8)  # 10 of each class, give or take 2.3
    assert counts.min() >= 4 and counts.max() <= 17


@given(st.floats(0, 1), st.floats(0, 1), st.booleans(), st.integers(4, 9), st.integers(0, 5), st.integers(0, 5))
def test_a_look_cuts_and_mirrors_all_frames_of_a_clip_alike(across, down, mirrored, size, more, wider):
    frames = np.random.default_rng(size).integers(0, 256, (3, size + more, size + wider, 3), dtype=np.uint8)
    cut = Look(across, down, mirrored)(frames, size)
    top, left = round(down * more), round(across * wider)
    expected = frames[:, top : top + size, left : left + size]
    np.testing.assert_array_equal(cut, expected[:, :, ::-1] if mirrored else expected)


@given(st.integers(0, 10_000), st.booleans(), st.floats(0, 0.9))
def test_what_is_drawn_stays_within_its_bounds_and_takes_the_same_number_of_draws(seed, flip, jitter):
    one, other = np.random.default_rng(seed), np.random.default_rng(seed)
    look = Look.drawn(one, flip, jitter)
    other.random(6)
    assert one.random() == other.random()
    assert flip or not look.mirrored
    for factor in (look.brightness, look.contrast, look.saturation):
        assert 1 - jitter <= factor <= 1 + jitter
    coloured = look(np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8), 6)
    assert coloured.dtype == np.uint8 and coloured.shape == (2, 6, 6, 3)


def test_brightness_contrast_and_saturation_are_what_they_say():
    frames = np.random.default_rng(0).integers(60, 120, (2, 8, 8, 3), dtype=np.uint8)
    x = frames.astype(float)
    np.testing.assert_allclose(Look(brightness=1.5)(frames, 8), 1.5 * x, atol=1)
    np.testing.assert_allclose(Look(contrast=0.5)(frames, 8), x.mean() + 0.5 * (x - x.mean()), atol=1)
    grey = x.mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(Look(saturation=0.5)(frames, 8), grey + 0.5 * (x - grey), atol=1)


@given(st.floats(0.1, 0.9), st.floats(0.1, 2))
def test_normalised_frames_are_made_when_asked_for(mean, deviation):
    values = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 4, 3), dtype=np.uint8)
    frames = Normalised(values, mean, deviation)
    assert len(frames) == 5 and len(frames[1:4]) == 3
    expected = (values / 255 - mean) / deviation
    for t, frame in enumerate(frames):
        assert frame.dtype == np.float32
        np.testing.assert_allclose(frame, expected[t], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(frames[1:4][2], frames[3])


# Files of all kinds ---------------------------------------------------------------------------------------------------


def write_upright(path):
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=1", path.with_suffix(".plain.mp4"))
    ffmpeg("-display_rotation", "90", "-i", path.with_suffix(".plain.mp4"), "-c", "copy", path)
    path.with_suffix(".plain.mp4").unlink()


KINDS = {
    "rotated.mp4": write_upright,
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
        place = tmp_path / split / "only"
        place.mkdir(parents=True)
        KINDS[name](place / name)
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


# Decoding ahead -------------------------------------------------------------------------------------------------------


def clips_of(task, workers, count=4, batch=4, part=slice(None)):
    with Source(task, batch, part=part, workers=workers, limits={"train": count, "test": 1}) as source:
        clips = [source.clip("train", index) for index in range(count)] + [source.clip("test", 0)]
        return [(np.stack(list(frames)), np.asarray(targets)) for frames, targets in clips]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_nothing(folder, workers):
    task = task_of(folder, jitter=0.3)
    for (frames, targets), (same, too) in zip(clips_of(task, 0), clips_of(task, workers), strict=True):
        np.testing.assert_array_equal(frames, same)
        np.testing.assert_array_equal(targets, too)


def test_a_part_of_each_batch_is_that_part(folder):
    task = task_of(folder)
    for (frames, targets), (half, labels) in zip(clips_of(task, 0), clips_of(task, 2, part=slice(2, 4)), strict=True):
        np.testing.assert_array_equal(frames[:, 2:4], half)
        np.testing.assert_array_equal(targets[:, 2:4], labels)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_is_replaced_and_nothing_changes(folder, monkeypatch, blow):
    monkeypatch.setattr(sideways.data.workers, "PATIENCE", 8.0)  # a process starts in less
    task = task_of(folder)
    expected = clips_of(task, 0, count=6)
    with Source(task, 4, workers=2, limits={"train": 6, "test": 1}) as source:
        for index in range(6):
            frames, _ = source.clip("train", index)
            np.testing.assert_array_equal(np.stack(list(frames)), expected[index][0])
            if index in (1, 3):
                os.kill(source.loader.workers[0].process.pid, blow)
        assert source.skipped == {}
        processes = [worker.process for worker in source.loader.workers]
        assert len(processes) == 2
    assert all(process.poll() is not None for process in processes)


def test_workers_that_keep_dying_leave_the_work_to_this_process(folder, monkeypatch, capsys):
    task = task_of(folder)
    expected = clips_of(task, 0, count=3)

    class Dying(sideways.data.workers.Worker):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.process.kill()
            time.sleep(0.1)

    monkeypatch.setattr(sideways.data.workers, "Worker", Dying)
    with Source(task, 4, workers=2, limits={"train": 3, "test": 1}) as source:
        for index in range(3):
            frames, _ = source.clip("train", index)
            shown = np.stack(list(frames))
            blamed = np.isclose(shown, (GREY / 255 - task.mean) / task.deviation).all(axis=(0, 2, 3, 4))
            np.testing.assert_array_equal(shown[:, ~blamed], expected[index][0][:, ~blamed])
    assert "decoding in this one" in capsys.readouterr().err


@pytest.mark.parametrize("full", [1, 2])
def test_where_shared_memory_is_full_other_places_are_taken_or_the_bytes_needed_are_named(folder, monkeypatch, full):
    task, fallocate, calls = task_of(folder), os.posix_fallocate, []

    def crowded(file, offset, size):
        calls.append(size)
        if len(calls) <= full:
            raise OSError(28, "No space left on device")
        fallocate(file, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", crowded)
    if full == 2:
        with pytest.raises(InputError, match="decoding ahead needs 41,472 bytes"):
            clips_of(task, 1)
        return
    for (frames, _), (same, _) in zip(clips_of(task, 0), clips_of(task, 1), strict=True):
        np.testing.assert_array_equal(frames, same)
    assert calls == [4 * 4 * 6 * 12 * 12 * 3] * 2  # clips of 4 samples, 4 of them: two ahead, and one of an evaluation


def test_all_bytes_of_the_shared_file_are_there_before_the_first_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sideways.data.workers, "SHARED_MEMORY", str(tmp_path))
    with sideways.data.workers.shared_file(1_000_000) as file:
        about = os.fstat(file.fileno())
        assert about.st_size == 1_000_000 and about.st_blocks * 512 >= 1_000_000


def test_an_evaluation_between_training_clips_takes_what_slots_are_left(folder):
    task = task_of(folder)
    expected = {("train", i): clips_of(task, 0)[i][0] for i in range(4)}
    expected["test", 0] = clips_of(task, 0)[4][0]
    with Source(task, 4, workers=2, limits={"train": 4, "test": 3}) as source:
        for split, index in [("train", 0), ("test", 0), ("train", 1), ("test", 0), ("train", 2), ("train", 3)]:
            frames, _ = source.clip(split, index)
            np.testing.assert_array_equal(np.stack(list(frames)), expected[split, index])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_replaced_by_another_of_its_class_and_named(folder, workers):
    broken = folder / "train" / "a" / "0.avi"
    broken.write_bytes(broken.read_bytes()[:40])
    task = task_of(folder)
    with Source(task, 3, workers=workers, limits={"train": 4, "test": 0}) as source:
        for index in range(4):
            frames, targets = source.clip("train", index)
            videos = [task.video("train", n)[0] for n in task.numbers(index, 3)]
            shown = (np.stack(list(frames))[0, ..., 1].mean(axis=(1, 2)) * task.deviation + task.mean) * 255 / 20
            for number, video, label in zip(shown.round().astype(int), videos, targets[0], strict=True):
                assert label == video.label
                assert number in ((1, 2) if video.path == broken else range(6))  # 1 and 2: the others of class a
        assert list(source.skipped) == [str(broken)]
        assert "no video" in source.skipped[str(broken)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_held_out_video_that_cannot_be_read_is_named_and_left_out(folder, workers):
    broken = folder / "test" / "b" / "0.avi"
    broken.write_bytes(b"")
    task = task_of(folder, views=2)
    with Source(task, 4, workers=workers, limits={"train": 0, "test": 2}) as source:
        clips = [source.clip("test", index) for index in range(2)]  # eight samples of six: the last two fill it up
        assert list(source.skipped) == [str(broken)]
        (item,) = source.unusable()
    assert task.listed["test"][item].path == broken
    for n, item_of in enumerate(np.concatenate([task.items("test", index, 4) for index in range(2)])):
        shown = np.stack(list(clips[n // 4][0]))[:, n % 4]
        assert (item_of == item) <= np.allclose(shown, (GREY / 255 - task.mean) / task.deviation)


def test_a_set_of_which_no_video_of_a_split_in_use_can_be_read_is_refused(folder):
    for path in (folder / "test").rglob("*.avi"):
        path.write_bytes(b"")
    task = task_of(folder)
    task.open(("train",))
    with pytest.raises(InputError, match=r"nothing usable to evaluate on: none of 3 videos can be read, such as test/"):
        task.open()
    with Source(task, 2, limits={"train": 1, "test": 0}) as source:
        source.open()
    for path in (folder / "train").rglob("*.avi"):
        path.unlink()
    with pytest.raises(InputError, match="nothing usable to train on: none of 0 listed videos is there"):
        task_of(folder).open(("train",))


def test_a_good_video_of_a_single_frame_is_looped_and_a_broken_one_that_promises_more_is_not(folder, tmp_path):
    decoder = Decoder(6, 5.0, 12, 16, False)
    for frames in (1, 4):  # at 25 per second, of which every fifth is wanted
        write_video(tmp_path / "short.avi", marked(0, frames), **LOSSLESS)
        sample = decoder.sample(Order((str(tmp_path / "short.avi"),)))
        assert sample.usable and len(set(numbers(sample.frames))) == 1
    write_video(tmp_path / "long.avi", marked(0, 40), **LOSSLESS)
    content = (tmp_path / "long.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: content.index(b"00dc") + 1500])
    sample = Decoder(6, 25.0, 12, 16, False).sample(Order((str(tmp_path / "cut.avi"),)))
    assert not sample.usable and list(sample.skipped) == [str(tmp_path / "cut.avi")]


def test_what_a_worker_is_sent_does_not_grow_with_the_data_set(tmp_path):
    sizes = []
    for count in (10, 1000):
        for split in ("train", "test"):
            (tmp_path / str(count) / split / "only").mkdir(parents=True)
            for i in range(count):
                (tmp_path / str(count) / split / "only" / f"{i:04d}.avi").touch()
        task = VideoClips(data=f"folder:{tmp_path / f'{count:4d}'.strip()}", **SMALL)
        sizes.append(
            [len(pickle.dumps(what)) for what in (task.decoder, task.order("train", 3), task.order("test", 3))]
        )
    assert all(few - 10 < many <= few + 20 for few, many in zip(*sizes, strict=True)) and max(sizes[1]) < 1500


def test_a_class_without_a_readable_file_is_shown_grey_and_all_its_files_are_named(folder):
    for path in (folder / "train" / "a").iterdir():
        path.write_bytes(b"")
    task = task_of(folder)
    n = next(n for n in range(6) if task.video("train", n)[0].label == 0)
    sample = task.sample("train", n)
    assert (sample.frames == GREY).all()
    assert sorted(sample.skipped) == sorted(str(path) for path in (folder / "train" / "a").iterdir())


@pytest.mark.parametrize(
    "wrong",
    [
        *({"size": 20}, {"size": 0}, {"stride": 0}, {"views": 0}, {"jitter": 1.0}, {"data": ""}),
        *({"fps": 0}, {"fps": float("inf")}, {"fps": float("nan")}),
    ],
)
def test_options_that_make_no_clips_are_refused(folder, wrong):
    with pytest.raises(InputError):
        task_of(folder, **wrong) if "data" not in wrong else VideoClips(**SMALL)
