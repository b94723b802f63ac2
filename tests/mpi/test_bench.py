"""The measurements over several ranks, on emulated devices, and the baseline that Sideways is measured against."""

import json
from pathlib import Path

import pytest

from sideways.commands.main import main
from tests.mpi.jobs import run

EMULATED = ["--units", "4", "--size", "8", "--emulate-ms", "10"]
BLOCKED_BITS = str(Path(__file__).parent / "blocked_bits.py")

pytestmark = pytest.mark.alone


def bench(tmp_path, measurement, *options):
    """Run a benchmark. Returns (method, learn_every, ranks) → result."""
    assert main(["bench", measurement, *EMULATED, "--json", str(tmp_path / "bench.json"), *options]) == 0
    results = json.loads((tmp_path / "bench.json").read_text())["results"]
    assert len(results) == 8
    return {(result["method"], result["learn_every"], result["ranks"]): result for result in results}


def work(method, learn_every, ranks):
    """The least mean seconds of a tick: each unit takes a third of 10 ms for a forward pass, the rest for a backward.

    On four ranks each unit has one to itself.
    """
    forward, backward = 0.01 / 3, 0.02 / 3
    if method == "delayed":
        units = [*[forward + (forward + backward) / learn_every] * 3, forward + backward / learn_every]
    else:
        units = [forward + backward] * 4
    return max(units) if ranks == 4 and method != "backprop" else sum(units)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_blocked_backpropagation_over_ranks_is_backpropagation_to_the_last_bit(ranks):
    code, output, errors = run(ranks, BLOCKED_BITS, timeout=60)
    assert (code, sorted(output.splitlines())) == (0, [f"{rank}: ok" for rank in range(ranks)]), errors


def test_nothing_emulated_runs_faster_than_it_is_said_to(tmp_path, capfd):
    results = bench(tmp_path, "pipeline", "--ranks", "1", "4", "--ticks", "5", "--placement", "estimate")
    assert {method[:2] for method in results} == {("sideways", 1), ("delayed", 1), ("delayed", 7), ("backprop", 1)}
    for method, result in results.items():
        assert result["seconds_per_tick"] >= work(*method)
        assert result["slow_down"] is None  # emulated devices do not share a machine's memory
        if method[0] != "backprop":
            assert result["allowed"] == pytest.approx(1 if method[2] == 1 else speed_up_of_four(*method[:2]))
    output = capfd.readouterr().out
    assert "compute is emulated" in output and "one tick in n" in output
    rows = [line.split("  ")[0] for line in output.splitlines()]
    for name in ("Sideways", "Delayed, n = 1", "Delayed, n = 7", "backprop, blocked"):
        assert rows.count(name) == 2


def speed_up_of_four(method, learn_every):
    """The speed-up over one rank that the multiply-adds of the four units allow, with a rank for each."""
    products = [192 * 32, 32 * 32, 32 * 32, 32 * 10]  # of a forward pass
    backwards = [products[0], *(2 * count for count in products[1:])]  # the lowest unit needs no gradient of the frame
    again = [0, 0, 0, 0] if method == "sideways" else [*products[:3], 0]
    costs = [f + (g + b) / learn_every for f, g, b in zip(products, again, backwards, strict=True)]
    return sum(costs) / max(costs)


def test_frames_that_come_faster_than_a_learner_takes_them_are_counted_as_dropped(tmp_path, capfd):
    period = 0.015
    results = bench(tmp_path, "latency", "--ranks", "1", "4", "--ticks", "30", "--period-ms", f"{1e3 * period}")
    for method, result in results.items():
        assert result["dropped"] == result["frames"] - 30 >= 0
        updates = result["updates_per_frame"] * result["frames"]
        if method[:2] == ("delayed", 7):
            assert 4 <= updates <= 5  # of each unit, on average: one tick in 7 among 30
        else:
            assert updates == pytest.approx(30)
            assert result["frames"] >= 29 * work(*method) / period  # the learner was busy for at least 29 steps
        ages = list(result["age_in_parameters"].values())
        assert all(age >= 0.01 / 3 for age in ages)
        if method[0] != "backprop" and method[2] == 1:  # successive steps take frames that come a period apart, or more
            assert result["age_in_output"] >= 3 * period
        if method[0] == "delayed":  # unit i learns from a frame when the gradient of its loss has come: after 3 + 3 - i
            least = [(6 - i) * period for i in range(4)]
            assert ages[0] >= least[0]  # this unit's rank waits for frames also where others need not
            assert method[2] == 4 or all(age >= bound for age, bound in zip(ages, least, strict=True))
    output = capfd.readouterr().out
    assert "updates/frame" in output and "Unmarked frames cause no update" in output
