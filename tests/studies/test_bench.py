"""The benchmarks of one process: their counts are right; their times are only checked to be positive."""

import json
import time
from functools import partial

import numpy as np
import pytest

from sideways import BPTT, Sideways, SoftmaxCrossEntropy
from sideways.commands.main import main
from sideways.models import build_model
from sideways.studies.bench import growth, sweep
from sideways.studies.bench.step import in_turn
from sideways.training.memory import of_clip, of_unit


def bench(tmp_path, *arguments):
    assert main(["bench", *arguments, "--json", str(tmp_path / "bench.json")]) == 0
    return json.loads((tmp_path / "bench.json").read_text())


def test_step_counts_the_work_of_each_unit_and_shows_its_share_of_the_machine(tmp_path, capsys):
    report = bench(tmp_path, "step", "--model", "vgg8", "--size", "16", "--batch", "2", "--repeats", "1")
    units = {unit["unit"]: unit for unit in report["results"]["units"]}
    network = build_model("vgg8", (16, 16, 3), 101)
    assert units["conv1"]["flops"] == 4 * network.units["conv1"].multiply_adds  # no unit reads its input gradient
    assert units["conv2"]["flops"] == 6 * network.units["conv2"].multiply_adds
    assert report["results"]["sgemm_flops_per_second"] > 1e9
    assert all(unit[part] > 0 for unit in units.values() for part in ("forward", "backward", "update"))
    output = capsys.readouterr().out
    assert "whole tick" in output and "sgemm" in output and report["machine"]["cpu"] in output


def test_step_runs_whole_periods_of_each_rule_and_compares_the_frames_per_second_of_a_repeat(tmp_path, capsys):
    report = bench(tmp_path, "step", "--model", "vgg5-skip", "--size", "16", "--batch", "2", "--repeats", "3")
    seconds = report["results"]["seconds"]
    assert list(seconds)[:3] == ["Sideways", "Delayed, n = 1", "Delayed, n = 9"]
    rows = {line[:15].strip(): line[15:].split() for line in capsys.readouterr().out.splitlines()}
    for name, times in seconds.items():
        assert len(times) == 3 and min(times) > 0
        ratio = np.median([own / other for own, other in zip(seconds["Sideways"], times, strict=True)])
        milliseconds, _, frames, printed, *_ = map(float, rows[name])
        assert milliseconds == pytest.approx(1e3 * np.median(times), abs=0.006)
        assert frames == pytest.approx(2 / np.median(times), abs=0.06)
        assert printed == pytest.approx(ratio, abs=0.006)


def test_a_sweep_compares_each_cell_of_its_grid_with_the_fastest_of_pytorchs_steps(tmp_path, capsys, monkeypatch):
    peers = {"PyTorch, slow": lambda: sum(range(200_000)), "PyTorch, fast": lambda: sum(range(20_000))}
    monkeypatch.setattr(sweep, "pytorch", lambda network, *_: dict(peers))
    for name, values in (("WIDTHS", (2, 4)), ("SIZES", (8,)), ("BATCHES", (1, 3)), ("SECONDS", 0.001)):
        monkeypatch.setattr(sweep, name, values)
    cells = bench(tmp_path, "step", "--model", "vgg5-skip", "--sweep", "--repeats", "3")["results"]
    assert [(cell["width"], cell["size"], cell["batch"]) for cell in cells] == [
        (w, 8, n) for w in (2, 4) for n in (1, 3)
    ]
    for cell in cells:
        own, fast, slow = (cell["seconds"][name] for name in ("Sideways", "PyTorch, fast", "PyTorch, slow"))
        assert cell["best"] == "PyTorch, fast" and np.median(fast) < np.median(slow)
        assert cell["ratio"] == pytest.approx(np.median(np.array(own) / fast))
    last = capsys.readouterr().out.split("Mean of the ratios: ")[1]
    assert last.startswith(f"{np.mean([cell['ratio'] for cell in cells]):.2f}, largest: ")


def test_a_sweep_without_pytorch_says_so_in_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "pytorch", lambda network, *_: {})
    assert main(["bench", "step", "--model", "vgg5", "--sweep"]) == 2
    assert "the sweep compares with PyTorch, which is not installed" in capsys.readouterr().err


def test_what_runs_in_turn_runs_whole_periods_and_its_seconds_are_those_of_one_call():
    calls = []
    runs = {"short": lambda: calls.append("short"), "long": lambda: calls.append("long") or time.sleep(0.004)}
    seconds = in_turn(runs, 3, 2)
    assert calls == ["short"] * 6 + ["long"] * 6 + (["short"] * 3 + ["long"] * 3) * 2
    assert len(seconds["short"]) == 2 and max(seconds["short"]) < 0.004 <= min(seconds["long"])


def test_layers_shows_both_algorithms_of_a_convolution_and_their_errors(tmp_path, capsys):
    results = bench(tmp_path, "layers", "--size", "64", "--batch", "2", "--repeats", "1")["results"]
    convolution = [result for result in results if result["layer"].startswith("Conv2D(64→128")]
    assert [result["algorithm"] for result in convolution] == ["im2col ", "winograd*"]
    assert 1e-7 < convolution[0]["y"] < 1e-5 < convolution[1]["y"] < 1e-4
    assert sum("*" in line for line in capsys.readouterr().out.splitlines()[2:]) >= 5


def test_growth_has_a_row_for_each_size_and_a_price_per_unit(tmp_path, capsys, monkeypatch):
    narrow = {
        what: [(n if what == "batch" else 1, size, width // 4, depth) for n, size, width, depth in cases]
        for what, cases in growth.GROWTHS.items()
    }
    monkeypatch.setattr(growth, "GROWTHS", narrow)
    report = bench(tmp_path, "growth", "--repeats", "1")["results"]
    work = {(r["what"], r["value"]): r["work"] for r in report["growth"]}
    assert work["batch", 32] == 32 * work["batch", 1]
    assert work["frame size", 128] == pytest.approx(16 * work["frame size", 32], rel=0.01)
    assert "Each further unit costs" in capsys.readouterr().out


def test_memory_is_flat_in_the_length_of_a_clip_but_for_bptt_and_per_unit_in_the_depth_with_few_marked_losses(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("sideways.studies.bench.memory.build_model", partial(build_model, width=8))
    monkeypatch.setattr("sideways.studies.bench.memory.SIZE", 16)  # pixels, of the chains
    monkeypatch.setattr("sideways.studies.bench.memory.DEPTHS", (2, 4, 8))
    results = bench(tmp_path, "memory", "--size", "32", "--lengths", "32", "128")["results"]
    of = {(r["rule"], r["T"]): r for r in results["lengths"]}
    for rule in ("Sideways", "Delayed, n = 1", "Delayed, n = 2D-1"):  # a clip of 32 has more than one cycle of 2D-1
        assert of[rule, 128]["peak"] == pytest.approx(of[rule, 32]["peak"], rel=0.05)
        assert of["bptt", 128]["peak"] > 3 * of[rule, 128]["peak"]
    assert of["bptt", 128]["saved"] > 3.9 * of["bptt", 32]["saved"]
    assert of["bptt", 128]["peak"] > 5 * of["Sideways", 128]["peak"]
    kinds = ("saved", "messages", "inputs", "waiting", "scratch")
    for result in (*results["lengths"], *results["depths"]):
        assert sum(result[kind] for kind in kinds) >= result["peak"]
    inputs = {(r["rule"], r["depth"]): r["inputs"] / r["depth"] for r in results["depths"]}
    activation = 4 * 16 * 16 * 16
    for depth in (2, 4, 8):
        assert inputs["Sideways", depth] == 0
        # one input for each unit but the top; that of the lowest is the frame, of 3 channels instead of 16
        assert depth * inputs["Delayed, n = 2D-1", depth] == (depth - 2 + 3 / 16) * activation
        lowest = 2 * (depth - 1) * 3 / 16
        assert depth * inputs["Delayed, n = 1", depth] == (lowest + (depth - 2) * (depth - 1)) * activation
    output = capsys.readouterr().out
    assert "conv1" in output and "inputs kB per unit" in output


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
    messages = sum(of_unit(network, u, 2)["messages"] for u in network.units.values())
    assert sideways["messages"] == messages - 2 * of_unit(network, network.top, 2)["output"]  # which no unit reads
