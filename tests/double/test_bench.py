"""Benchmarks on a device: each of them computes there, and waits for the device before its clock stops."""

import json

import pytest

from double.clock import clock
from sideways.commands.main import main

SMALL = ["--model", "vgg5", "--size", "8", "--batch", "2"]
IN_PROCESS = {
    "step": [*SMALL, "--repeats", "1"],
    "layers": [*SMALL, "--repeats", "1"],
    "memory": [*SMALL, "--lengths", "9"],
}
ON_RANKS = {"pipeline": [*SMALL, "--ticks", "2"], "latency": [*SMALL, "--ticks", "2", "--period-ms", "500"]}


@pytest.mark.parametrize("name", IN_PROCESS)
def test_a_benchmark_in_this_process_computes_on_the_device(name, tmp_path, monkeypatch):
    monkeypatch.setattr("sideways.studies.bench.memory.DEPTHS", (2,))
    clock.journal = []
    try:
        main(["bench", name, *IN_PROCESS[name], "--backend", "cupy", "--json", str(tmp_path / "of.json")])
        works = {work for work, *_ in clock.journal}
    finally:
        clock.journal = None
    assert "matmul" in works
    assert json.loads((tmp_path / "of.json").read_text())["results"]


def test_the_time_of_a_layer_ends_when_the_device_has_computed_it(tmp_path):
    with clock.counted() as counts:
        main(["bench", "layers", *IN_PROCESS["layers"], "--backend", "cupy", "--json", str(tmp_path / "of.json")])
    rows = json.loads((tmp_path / "of.json").read_text())["results"]
    assert counts["synchronise"] >= 3 * 2 * len(rows)  # before, between and after the passes, in two repeats


@pytest.mark.parametrize("name", ON_RANKS)
def test_a_benchmark_of_ranks_gives_each_rank_its_gpu(name, tmp_path):
    main(["bench", name, *ON_RANKS[name], "--ranks", "2", "--backend", "cupy", "--json", str(tmp_path / "of.json")])
    results = json.loads((tmp_path / "of.json").read_text())["results"]
    assert {result["device"] for result in results if "device" in result} == {"GPU 0000:00:00.0"}  # of rank 0
    assert {result["method"] for result in results if "device" in result} == {"sideways", "delayed", "backprop"}
