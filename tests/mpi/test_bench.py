"""The measurements over several ranks, on emulated devices, and the baseline that Sideways is measured against."""

import json
from pathlib import Path

import pytest

from sideways.commands.main import main
from tests.mpi.jobs import run

EMULATED = ["--units", "4", "--size", "8", "--emulate-ms", "10"]
BLOCKED_BITS = str(Path(__file__).parent / "blocked_bits.py")

pytestmark = pytest.mark.xdist_group("ranks")  # one job at a time: ranks wait by spinning


def bench(tmp_path, measurement, *options):
    """Run a benchmark. Returns (method, ranks) → result."""
    assert main(["bench", measurement, *EMULATED, "--json", str(tmp_path / "bench.json"), *options]) == 0
    results = json.loads((tmp_path / "bench.json").read_text())["results"]
    return {(result["method"], result["ranks"]): result for result in results}


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_blocked_backpropagation_over_ranks_is_backpropagation_to_the_last_bit(ranks):
    code, output, errors = run(ranks, BLOCKED_BITS, timeout=60)
    assert (code, sorted(output.splitlines())) == (0, [f"{rank}: ok" for rank in range(ranks)]), errors


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
        assert result["frames"] >= 29 * work / 0.015  # the learner was busy for at least 29 steps
        assert all(age >= 0.01 for age in result["age_in_parameters"].values())
    assert "updates/frame" in capfd.readouterr().out
