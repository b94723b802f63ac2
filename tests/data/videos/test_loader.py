"""Decoding ahead: workers change no clip, not even if they die or hang, and broken files are reported."""

import os
import pickle
import shutil
import signal
import time
from multiprocessing.connection import wait

import numpy as np
import pytest
from marked import SMALL, marked, numbers, task_of

import sideways.data.videos.loader
from sideways import InputError
from sideways.data import Source, VideoClips, write_video
from sideways.data.videos.decoder import GREY, Decoder, Order
from tests.data.conftest import LOSSLESS


def clips_of(task, workers, count=5, batch=2, part=slice(None), tested=2):
    with Source(task, batch, part=part, workers=workers, limits={"train": count, "test": tested}) as source:
        clips = [source.clip("train", index) for index in range(count)]
        clips += [source.clip("test", index) for index in range(tested)]
        return [(np.stack(list(frames)), np.asarray(targets)) for frames, targets in clips]


@pytest.fixture(scope="module")
def task(set_of_videos):
    """A task on the whole data set, for tests that damage no file. Its colours vary."""
    return task_of(set_of_videos, jitter=0.3)


@pytest.fixture(scope="module")
def expected(task):
    """The clips of two samples that this process decodes: (split, index) → (frames, targets)."""
    jobs = [*(("train", index) for index in range(6)), ("test", 0), ("test", 1)]
    return dict(zip(jobs, clips_of(task, 0, count=6), strict=True))


def assert_equal(clip, expected):
    for array, same in zip(clip, expected, strict=True):
        np.testing.assert_array_equal(array, same)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_nothing(task, expected, workers):
    clips = clips_of(task, workers)  # the fifth fills slots anew; the last sample is padding
    jobs = [*(("train", index) for index in range(5)), ("test", 0), ("test", 1)]
    for job, clip in zip(jobs, clips, strict=True):
        assert_equal(clip, expected[job])


def test_a_part_of_each_batch_is_that_part(task):
    options = {"count": 2, "batch": 4, "tested": 1}
    parts = clips_of(task, 2, part=slice(2, 4), **options)
    for (frames, targets), (half, labels) in zip(clips_of(task, 0, **options), parts, strict=True):
        np.testing.assert_array_equal(frames[:, 2:4], half)
        np.testing.assert_array_equal(targets[:, 2:4], labels)


@pytest.fixture
def stop(monkeypatch):
    """A function that stops a worker. To a worker that is stopped and says nothing, 200 seconds pass as one. The
    attribute `waiting` counts the orders that had no room in its pipe meanwhile."""
    stopped = []

    def hurried(pipes, timeout):
        ready = wait(pipes, timeout)
        for worker in stopped:
            if worker.pipe in pipes and worker.pipe not in ready:
                worker.since -= 200 * timeout
                stop.waiting = len(worker.waiting)
        return ready

    def stop(worker):
        os.kill(worker.process.pid, signal.SIGSTOP)
        stopped.append(worker)

    monkeypatch.setattr(sideways.data.videos.loader, "wait", hurried)
    return stop


@pytest.mark.parametrize("hangs", [False, True], ids=["dies", "hangs"])
def test_a_worker_that_dies_or_hangs_is_replaced_and_nothing_changes(task, expected, stop, hangs):
    with Source(task, 2, workers=2, limits={"train": 6, "test": 1}) as source:
        first = [worker.process for worker in source.loader.workers]
        for index in range(6):
            frames, _ = source.clip("train", index)
            np.testing.assert_array_equal(np.stack(list(frames)), expected["train", index][0])
            if index in (1, 3):
                worker = source.loader.workers[0]
                stop(worker) if hangs else worker.process.kill()
        assert source.skipped == {}
        processes = [worker.process for worker in source.loader.workers]
        assert len(processes) == 2 and {*processes} - {*first}
    assert all(process.poll() is not None for process in processes)


@pytest.mark.parametrize(("batch", "long"), [(2, False), (12, True)], ids=["few orders", "more than a pipe holds"])
def test_a_worker_that_hangs_from_the_start_with_any_number_of_orders_is_replaced(
    task, expected, set_of_videos, tmp_path, stop, batch, long
):
    if long:  # each order names all videos of its class, by some 3000 characters each
        task = task_of(shutil.copytree(set_of_videos, tmp_path.joinpath(*["d" * 200] * 14)), jitter=0.3)
    with Source(task, batch, workers=1, limits={"train": 3, "test": 1}) as source:
        stop(source.loader.workers[0])
        frames, _ = source.clip("train", 0)
        samples = np.concatenate([expected["train", index][0] for index in range(batch // 2)], axis=1)
        np.testing.assert_array_equal(np.stack(list(frames)), samples)
    assert stop.waiting or not long


def test_workers_that_keep_dying_leave_the_work_to_this_process(task, expected, monkeypatch, capsys):

    class Dying(sideways.data.videos.loader.Worker):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.process.kill()
            time.sleep(0.1)

    monkeypatch.setattr(sideways.data.videos.loader, "Worker", Dying)
    with Source(task, 2, workers=2, limits={"train": 4, "test": 1}) as source:
        for index in range(4):
            frames, _ = source.clip("train", index)
            shown = np.stack(list(frames))
            grey = np.isclose(shown, (GREY / 255 - task.mean) / task.deviation).all(axis=(0, 2, 3, 4))
            np.testing.assert_array_equal(shown[:, ~grey], expected["train", index][0][:, ~grey])
    assert "decoding in the main process" in capsys.readouterr().err


@pytest.mark.parametrize("keep", [False, True], ids=["clips of evaluations", "whole videos"])
def test_until_a_worker_is_ready_cached_samples_are_read_here_and_others_wait_for_it(
    set_of_videos, tmp_path, monkeypatch, keep
):
    task = task_of(set_of_videos, keep=keep, cache=str(tmp_path / "cache"))
    splits = ("train", "test") if keep else ("test",)
    expected = {split: np.stack(list(task.clip(split, 0, 2).frames)) for split in splits}  # fills the cache

    def patient(pipes, timeout):
        assert timeout == 0, "this process waited for a worker"
        return wait(pipes, timeout)

    with Source(task, 2, workers=1, limits={"train": 1, "test": 1}) as source:
        os.kill(source.loader.workers[0].process.pid, signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(sideways.data.videos.loader, "wait", patient)
            for split in splits:
                np.testing.assert_array_equal(np.stack(list(source.clip(split, 0)[0])), expected[split])
        assert not source.loader.slots
        shutil.rmtree(tmp_path / "cache" / "videos")
        os.kill(source.loader.workers[0].process.pid, signal.SIGCONT)
        np.testing.assert_array_equal(np.stack(list(source.clip("test", 0)[0])), expected["test"])
        assert not source.loader._starting()


def test_a_worker_that_hangs_from_the_start_is_replaced_even_if_all_samples_are_cached(set_of_videos, tmp_path):
    task = task_of(set_of_videos, cache=str(tmp_path / "cache"))
    expected = np.stack(list(task.clip("test", 0, 2).frames))
    with Source(task, 2, workers=1, limits={"train": 0, "test": 1}) as source:
        first = source.loader.workers[0]
        os.kill(first.process.pid, signal.SIGSTOP)
        first.since -= sideways.data.videos.loader.PATIENCE
        np.testing.assert_array_equal(np.stack(list(source.clip("test", 0)[0])), expected)
        assert source.loader.workers[0] is not first and first.process.poll() is not None


def test_a_process_that_looks_late_for_the_first_answers_of_a_worker_does_not_replace_it(
    set_of_videos, tmp_path, monkeypatch
):
    task = task_of(set_of_videos, cache=str(tmp_path / "cache"))
    task.clip("test", 0, 1)  # cached, so that nobody waits for the worker; clip 1 is not
    with Source(task, 1, workers=1, limits={"train": 0, "test": 2}) as source:
        first = source.loader.workers[0]
        source.clip("test", 0)
        assert wait([first.pipe], 60)  # it has started, and now decodes
        time.sleep(1.0)
        monkeypatch.setattr(sideways.data.videos.loader, "PATIENCE", 0.5)
        source.clip("test", 1)
        assert source.loader.workers == [first] and not source.loader.unusable


@pytest.mark.parametrize("full", [1, 2])
def test_if_shared_memory_is_full_another_folder_is_used_or_the_bytes_needed_are_named(
    task, expected, monkeypatch, full
):
    fallocate, calls = os.posix_fallocate, []

    def crowded(file, offset, size):
        calls.append(size)
        if len(calls) <= full:
            raise OSError(28, "No space left on device")
        fallocate(file, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", crowded)
    if full == 2:
        with pytest.raises(InputError, match="decoding ahead needs 20,736 bytes"):
            clips_of(task, 1)
        return
    for clip, job in zip(clips_of(task, 1, count=1, tested=1), [("train", 0), ("test", 0)], strict=True):
        assert_equal(clip, expected[job])
    assert calls == [4 * 2 * 6 * 12 * 12 * 3] * 2  # bytes: 4 clips of 2 samples


def test_all_bytes_of_the_shared_file_are_there_before_the_first_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sideways.data.videos.loader, "SHARED_MEMORY", str(tmp_path))
    with sideways.data.videos.loader.shared_file(1_000_000) as file:
        status = os.fstat(file.fileno())
        assert status.st_size == 1_000_000 and status.st_blocks * 512 >= 1_000_000


def test_an_evaluation_between_training_clips_uses_the_slots_that_are_left(task, expected):
    with Source(task, 2, workers=2, limits={"train": 4, "test": 3}) as source:
        for split, index in [("train", 0), ("test", 0), ("train", 1), ("test", 0), ("train", 2), ("train", 3)]:
            frames, _ = source.clip(split, index)
            np.testing.assert_array_equal(np.stack(list(frames)), expected[split, index][0])


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
                assert number in (
                    (1, 2) if video.path == broken else range(6)
                )  # videos 1 and 2 are the others of class a
        assert list(source.skipped) == [str(broken)]
        assert "no video" in source.skipped[str(broken)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_held_out_video_that_cannot_be_read_is_named_and_left_out(folder, workers):
    broken = folder / "test" / "b" / "0.avi"
    broken.write_bytes(b"")
    task = task_of(folder, views=2)
    with Source(task, 4, workers=workers, limits={"train": 0, "test": 2}) as source:
        clips = [source.clip("test", index) for index in range(2)]  # eight samples of six: the last two are padding
        assert list(source.skipped) == [str(broken)]
        flags = source.unusable_items()
    assert flags.dtype == bool and flags.shape == (3,)
    (item,) = np.flatnonzero(flags)
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
    for frames in (1, 4):  # at 25 per second, of which every fifth is decoded
        write_video(tmp_path / "short.avi", marked(0, frames), **LOSSLESS)
        sample = decoder.sample(Order((str(tmp_path / "short.avi"),)))
        assert sample.usable and len(set(numbers(sample.frames))) == 1
    write_video(tmp_path / "long.avi", marked(0, 40), **LOSSLESS)
    content = (tmp_path / "long.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: content.index(b"00dc") + 1500])
    sample = Decoder(6, 25.0, 12, 16, False).sample(Order((str(tmp_path / "cut.avi"),)))
    assert not sample.usable and list(sample.skipped) == [str(tmp_path / "cut.avi")]


def test_messages_to_a_worker_do_not_grow_with_the_data_set(tmp_path):
    sizes = []
    for count in (10, 1000):
        for split in ("train", "test"):
            (tmp_path / str(count) / split / "only").mkdir(parents=True)
            for i in range(count):
                (tmp_path / str(count) / split / "only" / f"{i:04d}.avi").touch()
        task = VideoClips(data=f"folder:{tmp_path / f'{count:4d}'.strip()}", **SMALL)
        sizes.append(
            [len(pickle.dumps(message)) for message in (task.decoder, task.order("train", 3), task.order("test", 3))]
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
