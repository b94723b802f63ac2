"""The benchmarks of several ranks, on emulated devices: never better than possible."""

import json

import pytest

from sideways.commands.main import main

EMULATED = ["--units", "4", "--size", "8", "--emulate-ms", "10"]

pytestmark = pytest.mark.xdist_group("ranks")  # one job at a time: ranks wait by spinning


def bench(tmp_path, what, *options):
    """{(method, ranks): result} of a benchmark."""
    assert main(["bench", what, *EMULATED, "--json", str(tmp_path / "bench.json"), *options]) == 0
    results = json.loads((tmp_path / "bench.json").read_text())["results"]
    return {(result["method"], result["ranks"]): result for result in results}


def test_nothing_emulated_runs_faster_than_it_is_said_to(tmp_path, capfd):
    results = bench(tmp_path, "pipeline", "--ranks", "1", "4", "--ticks", "5")
    for (method, ranks), result in results.items():
        work = 0.01 if (method, ranks) == ("sideways", 4) else 0.04
        assert result["seconds_per_tick"] >= work
    output = capfd.readouterr().out
    assert "compute is emulated" in output
    rows = [line.split("  ")[0] for line in output.splitlines()]
    assert rows.count("Sideways") == rows.count("backprop, blocked") == 2


def test_frames_that_come_faster_than_a_learner_takes_them_are_counted_as_dropped(tmp_path, capfd):
    results = bench(tmp_path, "latency", "--ranks", "1", "4", "--ticks", "30", "--period-ms", "15")
    assert len(results) == 4
    for (method, ranks), result in results.items():
        assert result["dropped"] == result["frames"] - 30 >= 0
        assert result["updates_per_frame"] == pytest.approx(30 / result["frames"])
        work = 0.01 if (method, ranks) == ("sideways", 4) else 0.04
        assert result["frames"] >= 29 * work / 0.015  # 29 steps took at least that long
        assert all(age >= 0.01 for age in result["age_in_parameters"].values())
    assert "updates/frame" in capfd.readouterr().out
