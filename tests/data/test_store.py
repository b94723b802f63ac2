"""The folder of `--cache`: its bound holds, the longest unused goes first, and any number of processes may share it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sideways import InputError
from sideways.data.store import Store

FOREIGN = ("notes.txt", "videos/film.mp4", "doom-1/readme.txt", "other/a.frames")  # files that are not the store's


def name(number):
    """The name of a file; every third is a block of Doom."""
    return f"doom-1/{number}.block" if number % 3 == 0 else f"videos/{number}.frames"


def content(number, size):
    return bytes([number % 256]) * size


def files(folder):
    """The files that were published: name → bytes."""
    found = [path for pattern in ("videos/*.frames", "doom-*/*.block") for path in folder.glob(pattern)]
    return {str(path.relative_to(folder)): path.stat().st_size for path in found}


def taken(folder):
    """The bytes of all files of the store, also of a draft."""
    draft = folder / ".draft"
    return sum(files(folder).values()) + (draft.stat().st_size if draft.exists() else 0)


steps = st.one_of(
    st.tuples(st.just("keep"), st.integers(0, 12), st.integers(1, 700)),
    st.tuples(st.sampled_from(["use", "drop", "lose"]), st.integers(0, 12), st.just(0)),
    st.tuples(st.just("reopen"), st.just(0), st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=30))
def test_the_bound_holds_after_every_step_and_a_file_is_there_if_and_only_if_it_was_kept(tmp_path_factory, sequence):
    folder = tmp_path_factory.mktemp("store")
    store, most = Store(folder, 1e-6), 1000
    for step, number, size in sequence:
        path = store.path(name(number))
        before = path.exists()
        if step == "keep":
            kept = store.keep(name(number), [content(number, size // 2), content(number, size - size // 2)])
            assert kept == path.exists() and (kept or not before)
            if kept and not before:
                assert path.read_bytes() == content(number, size)
        elif step == "lose":  # removed by hand
            path.unlink(missing_ok=True)
        elif step == "reopen":
            for other in files(folder):  # an earlier day: `Store` may remove them now
                os.utime(folder / other, (number, 1000))
            store = Store(folder, 1e-6)
        else:
            getattr(store, step)(name(number))
            assert path.exists() == (before and step == "use")
        assert taken(folder) <= most


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(10)), st.integers(1, 900))
def test_the_files_whose_last_use_is_longest_ago_make_room_and_no_other_file_is_touched(tmp_path_factory, order, size):
    folder = tmp_path_factory.mktemp("store")
    for number in range(10):
        assert Store(folder, 1e-6).keep(name(number), [content(number, 100)])
    for other in FOREIGN:
        (folder / other).parent.mkdir(exist_ok=True)
        (folder / other).write_bytes(b"x" * 5000)
    for age, number in enumerate(order):  # the first was used last
        os.utime(folder / name(number), (0, 5000 - age))
    assert Store(folder, 1e-6).keep("videos/new.frames", [content(99, size)])
    stay = max((900 - size) // 100, 0)  # emptied to nine tenths of the bound
    assert files(folder).keys() == {name(number) for number in order[:stay]} | {"videos/new.frames"}
    assert all((folder / other).stat().st_size == 5000 for other in FOREIGN)


def test_a_file_that_was_used_since_the_folder_was_opened_makes_no_room(tmp_path):
    for number in range(10):
        Store(tmp_path, 1e-6).keep(name(number), [content(number, 100)])
        os.utime(tmp_path / name(number), (0, number))
    store = Store(tmp_path, 1e-6)
    for number in (0, 1, 2):
        store.use(name(number))
    assert store.keep("videos/new.frames", [bytes(600)])
    assert files(tmp_path).keys() == {name(0), name(1), name(2), "videos/new.frames"}
    assert not store.keep("videos/newer.frames", [bytes(600)]) and store.keep("videos/small.frames", [bytes(100)])
    assert len(files(tmp_path)) == 5


def test_a_file_larger_than_the_bound_is_not_kept_and_removes_nothing_in_use(tmp_path):
    store = Store(tmp_path, 1e-6)
    assert store.keep(name(1), [bytes(500)]) and not store.keep(name(2), [bytes(1001)])
    assert files(tmp_path) == {name(1): 500}


def test_a_disk_that_refuses_is_an_error_and_leaves_no_draft(tmp_path):
    store = Store(tmp_path, 1)
    (tmp_path / "videos").write_bytes(b"")  # a file where the folder should be
    with pytest.raises(OSError):
        store.keep(name(1), [bytes(10)])
    assert not (tmp_path / ".draft").exists()
    (tmp_path / "videos").unlink()
    assert store.keep(name(1), [bytes(10)])


@pytest.mark.parametrize("gigabytes", [0, -1, float("inf"), float("nan")])
def test_a_bound_that_is_none_and_a_folder_that_cannot_be_made_are_refused(tmp_path, gigabytes):
    with pytest.raises(InputError, match="cache_gb is a size in gigabytes"):
        Store(tmp_path, gigabytes)
    with pytest.raises(InputError, match="the folder cannot be made"):
        Store("/dev/null/x")


WRITER = """
import sys
from sideways.data.store import Store
folder, seed = sys.argv[1], int(sys.argv[2])
print("open", flush=True)
for turn in range(40):
    store = Store(folder, 2e-3)
    number = (turn * 7 + seed * 3) % 50
    store.keep(f"videos/{number}.frames", [bytes([number]) * 100_000] * 3)
"""


def writer(folder, seed):
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(seed)], stdout=subprocess.PIPE)


def assert_whole(folder):
    for path in (folder / "videos").glob("*.frames"):
        assert path.read_bytes() == bytes([int(path.stem)]) * 300_000


def test_processes_that_write_at_once_keep_the_bound_and_whole_files(tmp_path):
    writers = [writer(tmp_path, seed) for seed in range(3)]
    store, most = Store(tmp_path, 2e-3), 0
    while any(process.poll() is None for process in writers):
        with store._lock():  # so that no file comes or goes while they are counted
            most = max(most, taken(tmp_path))
        assert_whole(tmp_path) if most == 0 else None
        time.sleep(0.01)
    assert [process.wait() for process in writers] == [0, 0, 0]
    assert 300_000 <= most <= 2_000_000
    assert files(tmp_path)
    assert_whole(tmp_path)


def test_a_process_that_is_killed_while_it_writes_leaves_whole_files_and_no_lock(tmp_path):
    for seed in range(4):
        process = writer(tmp_path, seed)
        process.stdout.readline()
        time.sleep(0.02 * seed)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert_whole(tmp_path)
    (tmp_path / ".draft").write_bytes(bytes(1_900_000))  # of another that was killed
    assert Store(tmp_path, 2e-3).keep("videos/60.frames", [bytes([60]) * 300_000])
    assert taken(tmp_path) <= 2_000_000
    assert_whole(tmp_path)
