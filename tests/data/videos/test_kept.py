"""Decoded frames in a folder: with and without it the same bytes, whatever happens to its files and to the videos."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marked import marked, task_of

from sideways.data import write_video
from sideways.data.videos import decoder, kept
from sideways.data.videos.kept import KeptFrames
from sideways.data.videos.loader import Worker
from tests.data.conftest import LOSSLESS
from tests.data.videos.test_loader import clips_of


@pytest.fixture(autouse=True)
def no_memory():
    """Let no test see videos, or files of the store, that another has left in the memory of this process."""
    for memory in (decoder._whole, kept._mapped, kept.kept_frames):
        memory.cache_clear()


@pytest.fixture
def film(tmp_path):
    """A file that stands for a video of the frames that a test makes up."""
    path = tmp_path / "film.avi"
    path.write_bytes(b"any")
    return str(path)


def random_frames(seed, count=7, shape=(4, 5, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def never():
    raise AssertionError("decoded")


# Whole tasks


@pytest.mark.parametrize("options", [{"keep": True, "tempo": 0.5}, {}, {"jitter": 0.3, "views": 3, "grey": True}])
@pytest.mark.parametrize("workers", [0, 2])
def test_clips_with_a_cache_have_the_bytes_of_those_without(folder, tmp_path, options, workers):
    held_out = 3 * options.get("views", 1)
    tested = -(-held_out // 2)  # batches of two
    plain = clips_of(task_of(folder, **options), 0, tested=tested)
    for _ in range(2):  # an empty folder, and a filled one
        cached = clips_of(task_of(folder, cache=str(tmp_path / "cache"), **options), workers, tested=tested)
        for clip, other in zip(plain, cached, strict=True):
            for array, same in zip(clip, other, strict=True):
                np.testing.assert_array_equal(array, same)
    assert len(list((tmp_path / "cache" / "videos").iterdir())) == (9 if "keep" in options else held_out)


@pytest.mark.parametrize("keep", [False, True])
def test_clips_that_loop_and_clips_that_stay_share_a_folder_without_being_mixed_up(folder, tmp_path, keep):
    # A clip of eight frames is longer than one of the held-out videos.
    settings_of_both = [{"length": 8, "keep": keep, "loop": loop} for loop in (True, False)]
    plain = [task_of(folder, **options).clip("test", 0, 3).frames.values for options in settings_of_both]
    assert not np.array_equal(*plain)
    for options, frames in [*zip(settings_of_both, plain, strict=True)] * 2:
        cached = task_of(folder, cache=str(tmp_path / "cache"), **options)
        np.testing.assert_array_equal(cached.clip("test", 0, 3).frames.values, frames)


@pytest.mark.parametrize(("keep", "splits"), [(True, ("train", "test")), (False, ("test",))])
def test_from_a_filled_folder_nothing_that_it_holds_is_decoded_again(folder, tmp_path, monkeypatch, keep, splits):
    task = task_of(folder, keep=keep, cache=str(tmp_path / "cache"))
    before = {split: task.clip(split, 0, 9).frames.values for split in splits}
    for memory in (decoder._whole, kept._mapped, kept.kept_frames):
        memory.cache_clear()
    monkeypatch.setattr(decoder, "read_frames", lambda *_, **__: never())
    for split, frames in before.items():
        np.testing.assert_array_equal(task.clip(split, 0, 9).frames.values, frames)


def test_a_changed_video_is_decoded_again(folder, tmp_path):
    path = folder / "test" / "a" / "0.avi"
    for options in ({"keep": True}, {}):
        task = task_of(folder, cache=str(tmp_path / "cache"), **options)
        n = next(n for n in range(3) if task.video("test", n)[0].path == path)
        before = task.sample("test", n).frames
        write_video(path, marked(11, 40), **LOSSLESS)
        after = task.sample("test", n).frames
        assert not np.array_equal(after, before)
        np.testing.assert_array_equal(after, task_of(folder).sample("test", n).frames)
        write_video(path, marked(6, 40), **LOSSLESS)


def test_a_broken_video_is_named_as_without_a_folder(folder, tmp_path):
    (folder / "test" / "a" / "0.avi").write_bytes(b"")
    (folder / "test" / "b" / "0.avi").unlink()
    for keep in (True, False):
        plain, cached = (task_of(folder, keep=keep, **cache) for cache in ({}, {"cache": str(tmp_path / "cache")}))
        for n in range(plain.count("test")):
            assert plain.sample("test", n).skipped == cached.sample("test", n).skipped


@pytest.mark.parametrize("keep", [True, False])
def test_without_a_folder_each_video_that_is_kept_is_decoded_by_one_worker(folder, monkeypatch, keep):
    workers, assign = {}, Worker.assign

    def recorded(worker, job, order, slot):
        workers.setdefault(order.paths[0], []).append(worker.pipe.fileno())
        assign(worker, job, order, slot)

    monkeypatch.setattr(Worker, "assign", recorded)
    plain = clips_of(task_of(folder, keep=keep), 0, count=3, batch=6)
    cut = clips_of(task_of(folder, keep=keep), 2, count=3, batch=6)
    for clip, other in zip(plain, cut, strict=True):
        np.testing.assert_array_equal(clip[0], other[0])
    assert len(workers) == 9 and len({number for numbers in workers.values() for number in numbers}) == 2
    assert all(len({*numbers}) == 1 for numbers in workers.values()) == keep


# The files of the folder


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 3), st.data())
def test_frames_come_from_the_decoder_once_and_then_from_the_file(tmp_path_factory, count, size, channels, data):
    folder = tmp_path_factory.mktemp("kept")
    (folder / "film").write_bytes(b"any")
    frames = random_frames(size, count, (size, size + 1, channels))
    chosen = np.array(data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=9)))
    for decode in (lambda: frames, never):
        clip = KeptFrames(str(folder), 1.0).frames(str(folder / "film"), ["x"], lambda n: chosen % n, decode)
        assert clip.dtype == np.uint8 and clip.flags.c_contiguous
        np.testing.assert_array_equal(clip, frames[chosen])


def kept_file(folder, path, frames):
    """Keep these frames; the file that holds them."""
    KeptFrames(str(folder), 1.0).frames(path, ["x"], np.arange, lambda: frames)
    (file,) = (folder / "videos").iterdir()
    return file


damages = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 10**6), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0, 10**6), st.just(0)),
    st.tuples(st.just("zeros"), st.integers(0, 10**6), st.integers(1, 200)),
)


@settings(max_examples=150, deadline=None)
@given(damages)
def test_a_file_that_is_damaged_anywhere_is_noticed_and_made_again(tmp_path_factory, damage):
    folder = tmp_path_factory.mktemp("kept")
    film = str(folder / "film")
    (folder / "film").write_bytes(b"any")
    frames = random_frames(1)
    file = kept_file(folder, film, frames)
    whole = file.read_bytes()
    kind, position, amount = damage
    position %= len(whole)
    if kind == "flip":
        file.write_bytes(whole[:position] + bytes([whole[position] ^ amount]) + whole[position + 1 :])
    else:
        file.write_bytes((whole[:position] + (bytes(amount) + whole[position + amount :] if amount else b""))[:900])
    kept._mapped.cache_clear()
    clip = KeptFrames(str(folder), 1.0).frames(film, ["x"], np.arange, lambda: frames)
    np.testing.assert_array_equal(clip, frames)
    kept._mapped.cache_clear()
    np.testing.assert_array_equal(KeptFrames(str(folder), 1.0).frames(film, ["x"], np.arange, never), frames)


def test_a_file_under_the_name_of_another_is_noticed(tmp_path, film):
    frames = random_frames(2)
    file = kept_file(tmp_path, film, frames)
    store = KeptFrames(str(tmp_path), 1.0)
    other = tmp_path / store.name(film, ["y"])
    file.rename(other)
    np.testing.assert_array_equal(store.frames(film, ["y"], np.arange, lambda: frames[::-1]), frames[::-1])


def test_the_name_of_a_file_stands_for_the_video_its_version_the_settings_and_the_program(tmp_path, film, monkeypatch):
    store = KeptFrames(str(tmp_path), 1.0)
    names = [store.name(film, ["whole", 25.0, 40, True])]
    names += [store.name(film, settings) for settings in (["whole", 12.5, 40, True], ["clip", 25.0, 40, True])]
    os.utime(film, ns=(0, 1))
    names.append(store.name(film, ["whole", 25.0, 40, True]))
    with open(film, "ab") as file:
        file.write(b"!")
    os.utime(film, ns=(0, 1))
    names.append(store.name(film, ["whole", 25.0, 40, True]))
    monkeypatch.setattr("sideways.data.videos.processes.version", lambda: "another")
    names.append(KeptFrames(str(tmp_path), 1.0).name(film, ["whole", 25.0, 40, True]))
    assert len({*names}) == len(names) == 6


# A folder with no room


def test_videos_that_find_no_room_stay_in_memory_and_are_decoded_once_more_at_most(folder, tmp_path, monkeypatch):
    plain = task_of(folder, keep=True).clip("train", 0, 24).frames.values
    decoder._whole.cache_clear()
    calls, read = [], decoder.read_frames
    monkeypatch.setattr(decoder, "read_frames", lambda path, *a, **o: (calls.append(path), read(path, *a, **o))[1])
    task = task_of(folder, keep=True, cache=str(tmp_path / "cache"), cache_gb=4e-5)
    np.testing.assert_array_equal(task.clip("train", 0, 24).frames.values, plain)
    assert sum(path.stat().st_size for path in (tmp_path / "cache" / "videos").iterdir()) <= 40_000
    assert len({*calls}) == 6 <= len(calls) <= 7  # the first that finds no room is decoded twice


def test_a_disk_that_refuses_costs_a_warning_and_no_frame(tmp_path, film, capsys):
    store, frames = KeptFrames(str(tmp_path / "cache"), 1.0), random_frames(3)
    (tmp_path / "cache" / "videos").write_bytes(b"")
    for option in ("x", "y"):
        np.testing.assert_array_equal(store.frames(film, [option], np.arange, lambda: frames), frames)
    assert capsys.readouterr().err.count("warning") == 1
