"""Products in TensorFloat-32: only where it was asked for, and only those of convolutions and dense layers."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import sideways as sw
from double.clock import Stream, clock
from double.namespace import cupy
from sideways.backend import column_sums, matmul
from sideways.backend.blas import Recorder
from sideways.backend.streams import Graph, compute_in, own_stream
from sideways.commands.main import main
from sideways.layers.conv import Im2col
from sideways.layers.winograd import Winograd
from sideways.training.checkpoint import find, load_trained

SMALL = ["waves-skip", "--clips", "2", "--batch", "2", "--evaluation-clips", "1", "--set", "task_options.size=12"]


def normal(*shapes):
    random = np.random.default_rng(0)
    return [random.normal(size=shape).astype("float32") for shape in shapes]


def relative_error(found, exact):
    return abs(found.get() - exact).max() / abs(exact).max()


def test_products_lose_digits_in_tf32_and_sums_over_rows_do_not():
    x, y = normal((40, 30), (30, 20))
    exact, sums = x.astype(float) @ y, x.astype(float).sum(axis=0)
    for precision, least, most in (("float32", 0, 1e-6), ("tf32", 1e-5, 1e-3)):
        sw.use_backend("cupy", precision)
        there = [cupy.asarray(array) for array in (x, y)]
        assert least <= relative_error(matmul(*there), exact) <= most
        assert relative_error(column_sums(there[0]), sums) < 1e-6


def test_gradients_of_biases_and_normalisation_keep_their_digits_in_tf32():
    x, dy = normal((2, 8, 8, 3), (2, 8, 8, 4))
    bias = []
    for precision in ("float32", "tf32"):
        sw.use_backend("cupy", precision)
        layer = sw.Conv2D(3, 4, kernel=3)
        layer.initialise(np.random.default_rng(1), "float32")
        _, saved = layer.forward(cupy.asarray(x))
        _, gradients = layer.backward(cupy.asarray(dy), saved)
        bias.append(gradients["bias"].get())
    assert np.array_equal(*bias)


def test_a_graph_records_products_in_their_precision():
    compute_in(own_stream())
    x = cupy.asarray(np.float32([[1 + 2**-20]]))
    for precision, expected in (("float32", np.float32(1 + 2**-20) ** 2), ("tf32", 1)):
        sw.use_backend("cupy", precision)
        column_sums(x)  # makes ones, which a recording cannot
        graph = Graph(Recorder())
        with graph.recorded():
            product, total = matmul(x, x), column_sums(x)
        graph.launch()
        assert product.get() == expected and total.get() == np.float32(1 + 2**-20)
    Stream.null.use()


def test_a_wide_convolution_takes_no_transforms_in_tf32():
    layer = sw.Conv2D(64, 64, kernel=3)
    for precision, kind in (("float32", Winograd), ("tf32", Im2col)):
        sw.use_backend("cupy", precision)
        assert type(layer.algorithm((8, 32, 32, 64))) is kind


def test_without_a_gpu_tf32_is_refused(capsys):
    with pytest.raises(sw.InputError, match="needs a GPU"):
        sw.use_backend("numpy", "tf32")
    with pytest.raises(sw.InputError, match="unknown precision"):
        sw.use_backend("cupy", "half")
    for options in (["--backend", "numpy"], ["--backend", "cupy", "--dtype", "float64"]):
        assert main(["train", *SMALL, *options, "--precision", "tf32"]) == 2
        assert "precision 'tf32' rounds float32 on a GPU" in capsys.readouterr().err


def test_a_run_in_tf32_keeps_its_precision_on_a_gpu_and_is_evaluated_in_full_precision_without(tmp_path):
    options = [*SMALL, "--backend", "cupy", "--precision", "tf32", "--runs", str(tmp_path), "--name", "run"]
    assert main(["train", *options]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["precision"] == "tf32"
    assert load_trained(find(tmp_path / "run")).config.precision == "tf32"
    assert load_trained(find(tmp_path / "run"), "numpy").config.precision == "float32"
    assert main(["evaluate", str(tmp_path / "run"), "--backend", "numpy"]) == 0


def test_the_environment_variable_of_cupy_changes_nothing():
    code = (
        "import cupy, numpy as np, sideways as sw; from double.clock import clock; from sideways.backend import matmul;"
        "assert clock.compute_type == 'TF32'; sw.use_backend('cupy'); x = np.float32([[1 + 2**-20]]);"
        "there = matmul(cupy.asarray(x), cupy.asarray(x)).get(); assert there == x @ x and there != 1"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"CUPY_TF32": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(autouse=True)
def full_precision_afterwards():
    yield
    sw.use_backend("cupy")
    assert clock.compute_type == "FP32"
