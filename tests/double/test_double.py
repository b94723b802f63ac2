"""Tests of the double itself: it is as strict as CuPy, and finds mistakes that a GPU would hide.

They need CuPy's wheel and no GPU.
"""

import gc

import numpy as np
import pytest

from double.clock import Event, Hazard, Stream, clock
from double.namespace import cupy
from double.signatures import real, signature_of


def pinned(count, dtype="float32"):
    return np.frombuffer(cupy.cuda.alloc_pinned_memory(4 * count), dtype, count)


@pytest.fixture(autouse=True)
def nothing_left_over():
    yield
    clock.finish()


def test_an_array_is_no_numpy_array_and_turns_into_one_by_get_alone():
    x = cupy.asarray([[1.0, 2.0]])
    assert not isinstance(x, np.ndarray)
    for implicit in (np.asarray, np.sum, np.tanh, list, lambda x: np.ones(2) + x, lambda x: x + np.ones(2)):
        with pytest.raises((TypeError, AssertionError)):
            assert not isinstance(implicit(x), list)
    assert type(x.get()) is np.ndarray and np.array_equal(x.get(), [[1, 2]])
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        np.asarray(x)
    with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy\.ndarray'>"):
        cupy.maximum(np.ones(2), x)
    with pytest.raises(TypeError, match="Unsupported type"):
        x[:] = np.zeros((1, 2))


def test_reductions_and_elements_are_arrays_without_axes():
    x = cupy.arange(6.0).reshape(2, 3)
    for scalar in (x.sum(), x[0, 0], x.max(), x @ x.T @ cupy.ones(2) @ cupy.ones(2)):
        assert type(scalar) is cupy.ndarray and scalar.shape == ()


def test_a_name_or_an_argument_that_cupy_lacks_is_refused():
    x = cupy.ones(3)
    for missing in ("matvec", "spacing", "nditer", "errstate", "no_such_function"):
        assert not hasattr(real, missing)
        with pytest.raises(AttributeError, match=missing):
            getattr(cupy, missing)
    with pytest.raises(AttributeError, match="no_such_method"):
        x.no_such_method  # noqa: B018
    for wrong in (
        lambda: cupy.maximum(x, 0, where=x > 0),
        lambda: cupy.multiply(x, x, subok=True),
        lambda: x.sum(where=x > 0),
        lambda: cupy.ones(3, like=x),
        lambda: x.get(copy=True),
        lambda: cupy.copyto(x, x, subok=True),
    ):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            wrong()


def test_every_name_of_the_double_is_cupys_and_takes_the_arguments_that_cupys_takes():
    for name in ("asarray", "empty", "matmul", "maximum", "copyto", "kron", "where"):
        assert hasattr(real, name) and signature_of(real, name).parameters
    assert list(signature_of(real.ndarray, "get").parameters) == ["self", "stream", "order", "out", "blocking"]
    assert list(signature_of(real.ndarray, "set").parameters) == ["self", "arr", "stream"]
    public = [name for name in vars(cupy.ndarray) if not name.startswith("_")]
    assert all(hasattr(real.ndarray, name) for name in public)
    for ours, theirs in ((Stream, real.cuda.Stream), (Event, real.cuda.Event)):
        for name in (name for name in vars(ours) if not name.startswith("_") and callable(vars(ours)[name])):
            expected = list(signature_of(theirs, name).parameters)
            assert list(signature_of(ours, name).parameters)[: len(expected)] == expected, name


def test_transfers_and_what_makes_the_host_wait_are_counted():
    with clock.counted() as counts:
        x = cupy.asarray(np.ones(4, np.float32))
        y = (x * 2 + 1).sum()
    assert counts["upload"] == 1 and counts["upload_bytes"] == 16 and not counts["synchronise"]
    for look in (float, bool, str, lambda a: a.item(), lambda a: f"{a:.2f}", lambda a: a.get()):
        with clock.counted() as counts:
            look(y)
        assert counts["synchronise"] == counts["download"] == 1
    with clock.counted() as counts:
        x[x > 0]
        cupy.nonzero(x)
    assert counts["synchronise"] == 2


def test_new_memory_holds_no_numbers():
    assert np.isnan(cupy.empty(3).get()).all()


def test_a_download_into_pinned_memory_is_poison_until_the_host_has_waited():
    x, memory, side = cupy.arange(3.0), pinned(3, "float32"), Stream(non_blocking=True)
    x = x.astype("float32")
    side.wait_event(Stream.null.record())
    x.get(stream=side, out=memory, blocking=False)
    event = side.record()
    assert np.isnan(memory).all() and not event.done
    event.synchronize()
    assert np.array_equal(memory, [0, 1, 2])


def test_a_download_that_is_not_ordered_after_the_work_that_it_copies_is_refused():
    x, memory, side = cupy.ones(3, "float32"), pinned(3), Stream(non_blocking=True)
    with pytest.raises(Hazard, match="may not have written yet"):
        x.get(stream=side, out=memory, blocking=False)
    side.wait_event(Stream.null.record())
    x.get(stream=side, out=memory, blocking=False)
    with pytest.raises(Hazard, match="may not have read yet"):
        x += 1
    side.synchronize()
    x += 1


def test_pinned_memory_that_is_written_into_while_a_copy_is_under_way_is_found():
    x, memory, side = cupy.ones(3, "float32"), pinned(3), Stream(non_blocking=True)
    memory[...] = 1
    side.wait_event(Stream.null.record())
    x.set(memory, stream=side)
    memory[0] = 2
    with pytest.raises(Hazard, match="written into by the host"):
        side.synchronize()
    with pytest.raises(Hazard, match="not pinned"):
        x.set(np.ones(3, "float32"))


def test_memory_that_goes_back_to_its_stream_while_another_uses_it_is_found():
    side, memory = Stream(non_blocking=True), pinned(3)
    x = cupy.ones(3, "float32")
    side.wait_event(Stream.null.record())
    x.get(stream=side, out=memory, blocking=False)
    del x
    gc.collect()
    with pytest.raises(Hazard, match="is given back while stream"):
        cupy.ones(3)
    side.synchronize()


def test_an_assignment_to_equal_indices_is_refused():
    x, rows = cupy.zeros(3), cupy.asarray([1, 1])
    with pytest.raises(Hazard, match="equal indices"):
        x[rows] = 1.0
