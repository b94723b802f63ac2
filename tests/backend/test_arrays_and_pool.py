"""Tests of the memory pool, sums, windows, random numbers and the choice of a backend."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sideways as sw
from sideways.backend import (
    add,
    add_to_rows,
    column_sums,
    divide,
    equal,
    fresh,
    greater,
    maximum,
    multiply,
    multiply_rows,
    stable_hash,
    subtract,
    tanh,
    uniform,
    window_view,
    windows_of,
)
from sideways.backend.arithmetic import in_long_rows
from sideways.backend.pool import Pool


def test_the_pool_recycles_memory_only_when_nobody_holds_an_array_in_it():
    pool = Pool()
    first = pool.empty((100, 100), "float32")
    view = first[3:, ::2].T
    del first
    second = pool.empty((100, 100), "float32")
    assert pool.misses == 2 and not np.shares_memory(view, second)
    del view
    third = pool.empty((100, 100), "float32")
    window = window_view(third.reshape(1, 100, 100, 1), (3, 3), (1, 1))
    del third
    fourth = pool.empty((50, 200), "float32")
    assert pool.misses == 3 and not np.shares_memory(window, fourth)
    assert all(array.ctypes.data % 64 == 0 for array in (second, fourth))


def test_the_pool_lets_go_of_memory_that_nobody_uses():
    pool = Pool()
    pool.idle_limit, pool.patience = 10**5, 20
    for size in range(5000, 9000, 4):
        pool.empty((size,), "uint8")
    assert sum(size for size, blocks in pool.blocks.items() for _ in blocks) <= 2 * 10**5


def test_the_pool_keeps_what_is_used_again_and_again_however_large_it_is():
    pool = Pool()
    pool.idle_limit = 10**5
    for _ in range(3):
        for size in range(5000, 9000, 40):  # 0.7 MB, one block of each size
            pool.empty((size,), "uint8")
    assert pool.misses == 100


@given(st.integers(1, 300), st.integers(1, 5), st.integers(0, 99))
def test_column_sums_are_sums(rows, columns, seed):
    x = np.random.default_rng(seed).normal(size=(rows, 2, columns))
    assert np.allclose(column_sums(x), x.sum(axis=(0, 1)), rtol=1e-12, atol=1e-12)


@given(st.integers(1, 40), st.sampled_from([1, 3, 1023, 1024, 1536, 4096]), st.sampled_from(["float32", "float64"]))
def test_operations_on_the_rows_of_a_long_array_have_the_bits_of_the_plain_ones(columns, rows, dtype):
    random = np.random.default_rng(columns + rows)
    x, y = (random.normal(size=shape).astype(dtype) for shape in ((rows, 1, columns), (columns,)))
    long_x, _ = in_long_rows(x, y)
    assert (long_x.shape == x.shape) == (rows < 1024 or columns > 512 or rows % 2 == 1)
    for function, expected in ((subtract, x - y), (multiply, x * y)):
        assert np.array_equal(function(x, y), expected)
    for change, expected in ((add_to_rows, x + y), (multiply_rows, x * y)):
        changed = x.copy()
        change(changed, y)
        assert np.array_equal(changed, expected)
    assert np.array_equal(maximum(x, 0), np.maximum(x, 0)) and np.array_equal(maximum(x, 0.5), np.maximum(x, 0.5))


@given(st.integers(1, 40), st.integers(1, 60), st.sampled_from(["float32", "float64"]), st.booleans(), st.booleans())
def test_results_are_contiguous_and_of_the_dtype_of_their_arguments_whether_small_or_large(
    rows, columns, dtype, tx, ty
):
    random = np.random.default_rng(rows * columns)
    x, y = (
        random.normal(size=(columns, rows)).astype(dtype).T
        if turned
        else random.normal(size=(rows, columns)).astype(dtype)
        for turned in (tx, ty)
    )
    for function, plain in ((add, np.add), (subtract, np.subtract), (multiply, np.multiply), (divide, np.divide)):
        _check_result(function(x, y), plain(x, y), dtype)
    for number in (0, 0.5):
        _check_result(maximum(x, number), np.maximum(x, number), dtype)
        _check_result(multiply(x, number), np.multiply(x, number), dtype)
        _check_result(subtract(number, x), np.subtract(number, x), dtype)
        _check_result(greater(x, number), np.greater(x, number), "bool")
    _check_result(equal(x, y), x == y, "bool")
    _check_result(tanh(x), np.tanh(np.ascontiguousarray(x)), dtype)


def _check_result(result, expected, dtype):
    assert np.array_equal(result, expected) and result.dtype == dtype and result.flags.c_contiguous


@given(st.integers(1, 2000), st.sampled_from(["itself", "view", "base", "windows", "another", "turned"]), st.booleans())
def test_a_fresh_array_shares_no_memory_with_the_others(size, relation, pooled):
    make = partial(Pool().empty, dtype="float32") if pooled else partial(np.empty, dtype="float32")
    other = make((size + 2, 2))
    other[...] = 1
    if relation == "base":
        array, other = other, other[1:]
    else:
        array = {
            "itself": lambda: other,
            "view": lambda: other[:-1],
            "windows": lambda: window_view(other.reshape(1, -1, 1, 2), (1, 1), (1, 1)),
            "another": lambda: other.copy(),
            "turned": lambda: other.copy().T,
        }[relation]()
    result = fresh(array, [make((3,)), other])
    assert result.flags.c_contiguous and np.array_equal(result, array) and not np.shares_memory(result, other)
    assert (result is array) == (relation == "another")


@given(st.integers(3, 6), st.integers(3, 6), st.sampled_from([1, 3, 70]), st.sampled_from(["float32", "float64"]))
def test_copied_windows_are_windows_whether_their_rows_have_few_bytes_or_many(h, w, channels, dtype):
    x = np.random.default_rng(h * w).normal(size=(2, h, w, channels)).astype(dtype)
    for kernel, stride in (((2, 3), (1, 1)), ((3, 1), (2, 2))):
        rows = window_view(x, kernel, stride).reshape(-1, kernel[0] * kernel[1] * channels)
        windows, with_ones = windows_of(x, kernel, stride), windows_of(x, kernel, stride, ones=True)
        assert np.array_equal(windows, rows) and windows.flags.c_contiguous
        assert np.array_equal(with_ones, np.append(rows, np.ones((len(rows), 1)), axis=1))


@given(st.integers(3, 6), st.integers(3, 6), st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_windows_are_slices(h, w, stride):
    x = np.arange(2.0 * h * w * 2).reshape(2, h, w, 2)
    view = window_view(x, (2, 3), stride)
    for i in range(view.shape[1]):
        for j in range(view.shape[2]):
            corner = i * stride[0], j * stride[1]
            assert np.array_equal(view[:, i, j], x[:, corner[0] : corner[0] + 2, corner[1] : corner[1] + 3])
    assert view.shape[1:3] == ((h - 2) // stride[0] + 1, (w - 3) // stride[1] + 1)


def test_uniform_numbers_are_uniform_and_a_function_of_key_and_place():
    numbers = uniform(np.empty((1000, 100), np.float32), 7)
    assert numbers.min() >= 0 and numbers.max() < 1 and numbers.dtype == np.float32
    assert numbers.mean() == pytest.approx(0.5, abs=0.005) and numbers.var() == pytest.approx(1 / 12, abs=0.002)
    assert np.array_equal(numbers.reshape(-1)[:50], uniform(np.empty(50, np.float32), 7))
    assert not np.array_equal(numbers, uniform(numbers, 8))


def test_a_stable_hash_is_the_same_in_another_process():
    code = "from sideways.backend import stable_hash; print(stable_hash('initial weights', 3, 'conv1'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(other) == stable_hash("initial weights", 3, "conv1")


def test_an_unknown_backend_is_refused():
    with pytest.raises(sw.InputError, match="unknown backend 'torch': choose one of numpy, cupy"):
        sw.use_backend("torch")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (None, "CuPy is not installed; pip install"),
        ("class cuda:\n  class runtime:\n    def getDeviceCount(): raise RuntimeError('no driver')", "no usable GPU"),
        ("class cuda:\n  class runtime:\n    def getDeviceCount(): return 0", "shows no GPU"),
    ],
)
def test_cupy_without_cupy_or_without_a_gpu_says_which_in_one_line(module, words, tmp_path):
    (tmp_path / "cupy.py").write_text(module or "raise ImportError")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "SIDEWAYS_BACKEND": "cupy"}
    command = [sys.executable, "-m", "sideways", "summary", "mlp"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.count("\n") == 1
