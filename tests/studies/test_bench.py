"""The benchmarks of one process: their counts are right; their times are only checked to be positive."""

import json

import numpy as np
import pytest

from sideways import BPTT, Sideways, SoftmaxCrossEntropy
from sideways.commands.main import main
from sideways.models import build_model
from sideways.training.memory import of_clip, of_unit


def bench(tmp_path, *arguments):
    assert main(["bench", *arguments, "--json", str(tmp_path / "bench.json")]) == 0
    return json.loads((tmp_path / "bench.json").read_text())


def test_step_counts_the_work_of_each_unit_and_shows_its_share_of_the_machine(tmp_path, capsys):
    report = bench(tmp_path, "step", "--model", "vgg8", "--size", "32", "--batch", "2", "--repeats", "1")
    units = {unit["unit"]: unit for unit in report["results"]["units"]}
    network = build_model("vgg8", (32, 32, 3), 101)
    assert units["conv1"]["flops"] == 4 * network.units["conv1"].multiply_adds  # no unit reads its input gradient
    assert units["conv2"]["flops"] == 6 * network.units["conv2"].multiply_adds
    assert report["results"]["sgemm_flops_per_second"] > 1e9
    assert all(unit[part] > 0 for unit in units.values() for part in ("forward", "backward", "update"))
    output = capsys.readouterr().out
    assert "whole tick" in output and "sgemm" in output and report["machine"]["cpu"] in output


def test_layers_shows_both_algorithms_of_a_convolution_and_their_errors(tmp_path, capsys):
    results = bench(tmp_path, "layers", "--size", "64", "--batch", "2", "--repeats", "1")["results"]
    convolution = [result for result in results if result["layer"].startswith("Conv2D(64→128")]
    assert [result["algorithm"] for result in convolution] == ["im2col ", "winograd*"]
    assert 1e-7 < convolution[0]["y"] < 1e-5 < convolution[1]["y"] < 1e-4
    assert sum("*" in line for line in capsys.readouterr().out.splitlines()[2:]) >= 5


def test_growth_has_a_row_for_each_size_and_a_price_per_unit(tmp_path, capsys):
    report = bench(tmp_path, "growth", "--repeats", "1")["results"]
    work = {(r["what"], r["value"]): r["work"] for r in report["growth"]}
    assert work["batch", 32] == 32 * work["batch", 1]
    assert work["frame size", 128] == pytest.approx(16 * work["frame size", 32], rel=0.01)
    assert "Each further unit costs" in capsys.readouterr().out


def test_memory_of_sideways_is_flat_in_the_length_of_a_clip_and_a_fraction_of_bptts(tmp_path, capsys):
    results = bench(tmp_path, "memory", "--size", "32", "--lengths", "16", "64")["results"]
    peak = {(r["rule"], r["T"]): r["peak"] for r in results}
    assert peak["Sideways", 64] == pytest.approx(peak["Sideways", 16], rel=0.02)
    saved = {(r["rule"], r["T"]): r["saved"] for r in results}
    assert saved["bptt", 64] > 3.9 * saved["bptt", 16] and peak["bptt", 64] > 5 * peak["Sideways", 64]
    for result in results:
        assert result["saved"] + result["messages"] + result["scratch"] >= result["peak"]
    assert "conv1" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["vgg5", "vgg5-skip"])
def test_counted_bytes_are_the_bytes_of_the_arrays(model):
    network = build_model(model, (16, 16, 1), 4, width=4)
    loss, frames = SoftmaxCrossEntropy(), [np.zeros((2, 16, 16, 1), np.float32)] * 20
    labels = [[0, 1]] * 20
    unit = network.units["conv1"]  # Conv2D, BatchNorm, MaxPool2D, ReLU: 16×16×4, pooled to 8×8×4
    counted = of_unit(network, unit, 2)
    activation = 4 * 2 * 8 * 8 * 4
    assert counted["output"] == activation and counted["messages"] == 2 * activation
    assert counted["saved"] >= 4 * activation  # the pool's input
    sideways, exact = (of_clip(rule(network, loss), frames, labels) for rule in (Sideways, BPTT))
    assert sideways["saved"] < exact["saved"] / 20
    assert sideways["messages"] == sum(of_unit(network, u, 2)["messages"] for u in network.units.values())
