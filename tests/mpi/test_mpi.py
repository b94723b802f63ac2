"""Several ranks, with the real mpirun: same bits, refusals, replicas, killed ranks, Ctrl-C."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sideways.commands.main import main
from sideways.studies.mpirun import command_of
from sideways.training.checkpoint import find
from tests.mpi.jobs import SHORT, UNDRAWN, alive, parameters, pids, run, run_all, same, start, train

pytestmark = [
    pytest.mark.xdist_group("ranks"),  # one job at a time: ranks wait by spinning
    pytest.mark.usefixtures("undrawn"),
]
HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("rule", "ranks", "count"),
    [*(("sideways", ranks, 24) for ranks in (1, 2, 3, 4, 5)), ("delayed", 2, 60), ("delayed", 3, 40)],
)
def test_random_networks_end_with_the_same_bits_on_any_number_of_ranks(rule, ranks, count):
    code, output, errors = run(ranks, str(HERE / "same_bits.py"), str(ranks), str(count), rule)
    assert (code, output.strip()) == (0, f"{count} of {count} agreed"), errors
    assert "persistent request" not in errors


DELAYED = ["--rule", "delayed", "--learn-every"]


OPTIONS = {
    "plain": [],
    "stream": ["--boundary", "stream", "--update-every", "1"],
    "fifth": ["--update-every", "5"],
    "delayed": [*DELAYED, "1", "--update-every", "1"],
}


def commands(tmp_path, prefix=""):
    """The command lines of runs with all OPTIONS, in folders of these names after a prefix."""
    common = ["waves-skip", *SHORT, "--evaluate-every", "2", "--runs", str(tmp_path)]
    return [[*common, "--name", prefix + name, *options] for name, options in OPTIONS.items()]


def test_a_large_message_arrives_while_both_ranks_are_busy_with_other_units():
    code, output, errors = run(2, str(HERE / "moves.py"))
    assert (code, sorted(line.partition(",")[0] for line in output.splitlines())) == (0, ["ok", "ok"]), errors[-2000:]


def test_a_run_over_ranks_is_the_run_in_one_process_to_the_last_bit(tmp_path):
    for line in commands(tmp_path):
        assert main(["train", *line]) == 0
    for ranks in (1, 2, 4):
        results = run_all(ranks, *commands(tmp_path, f"{ranks}-"))
        for name, (output, _) in zip(OPTIONS, results, strict=True):
            alone, over_ranks = tmp_path / name, tmp_path / f"{ranks}-{name}"
            assert same(parameters(alone), parameters(over_ranks)), over_ranks
            metrics = [(path / "metrics.jsonl").read_text().splitlines() for path in (alone, over_ranks)]
            one, other = (sorted(map(str, map(json.loads, lines))) for lines in metrics)
            assert one == other, over_ranks
            assert re.search(r"rank +host +PID +device +work +units", output)


def test_replicas_match_one_replica_with_the_whole_batch_to_rounding(tmp_path):
    common = ["waves-skip", *SHORT, "--runs", str(tmp_path), "--set", "model_options.norm=false"]
    common += ["--dtype", "float64", "--update-every", "1", "--optimizer", "sgd", "--lr", "0.01"]
    rules = {"sideways": [], "n=9": [*DELAYED, "9"]}
    for name, ranks, replicas in (("whole", 2, 1), ("parts", 4, 2)):
        more = ["--replicas", str(replicas)]
        run_all(ranks, *([*common, *rule, *more, "--name", f"{name}-{key}"] for key, rule in rules.items()))
    for rule in rules:
        whole, parts = (parameters(tmp_path / f"{name}-{rule}") for name in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        for key in whole:
            assert np.allclose(whole[key], parts[key], rtol=1e-9, atol=1e-12), (rule, key)
        results = [
            json.loads((tmp_path / f"{name}-{rule}" / "results.json").read_text()) for name in ("whole", "parts")
        ]
        assert results[0]["accuracy"] == results[1]["accuracy"]


def test_with_replicas_the_result_is_that_of_the_network_that_is_saved(tmp_path):
    code, _, errors = train(2, tmp_path, "run", "--replicas", "2", "--evaluate-every", "2")
    assert code == 0, errors
    assert main(["evaluate", str(tmp_path / "run"), "--out", str(tmp_path / "again")]) == 0
    paths = tmp_path / "run/results.json", tmp_path / "again/evaluation.json"
    result, again = (json.loads(path.read_text()) for path in paths)
    assert (again["loss"], again["accuracy"]) == (pytest.approx(result["loss"], rel=1e-6), result["accuracy"])


def one_line(errors, words):
    """Assert that one rank has complained, in one line with these words."""
    messages = errors.count("sideways:") + errors.count("sideways train:")  # the parser's own begin with the command
    assert words in errors and messages == 1 and "Traceback" not in errors, errors


@pytest.mark.parametrize(
    ("ranks", "arguments", "words"),
    [
        (6, [], "6 ranks cannot share 5 units in 1 replica(s): mpirun -n 1, 2, 3, 4, 5 would work"),
        (2, ["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_input_is_one_line_from_one_rank_and_exit_code_2(tmp_path, ranks, arguments, words):
    code, _, errors = train(ranks, tmp_path, "bad", *arguments)
    assert code == 2
    one_line(errors, words)
    assert not (tmp_path / "bad").exists()


def test_any_bad_input_is_one_line_from_one_rank(tmp_path):
    bad = [
        (["--replicas", "2", "--batch", "7"], "a batch of 7 cannot be split over 2 replicas"),
        (["--replicas", "3"], "2 ranks cannot share 5 units in 3 replica(s): mpirun -n 3, 6, 9, 12, 15 would work"),
        (["--transport", "cuda-aware"], "goes with --backend cupy"),
        (["--emulate-ms", "inf"], "a time in milliseconds"),
        (["--boundary", "stream", "--set", "task_options.length=3"], "never reach the top"),
        (["--rule", "bptt"], "rules sideways and delayed run over several ranks, not 'bptt'"),
        (["--learn-every", "9"], "rule 'sideways' learns from every loss"),
        (["--placement", "0-1,3-4"], "write units 0-4 in order"),
        (["--placement", "0-4"], "needed are 2 groups"),
        (["--model", "nope"], "unknown model 'nope'"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--name", "n" * 300], "File name too long"),
        (["--split", "all"], "over several ranks run the splits one by one"),
        (["--task", "pan", "--set", "task_options.videos=['missing.mp4']"], "missing.mp4: no such file"),
    ]
    common = ["waves-skip", *SHORT, "--runs", str(tmp_path), "--name", "bad"]
    results = run_all(2, *([*common, *arguments] for arguments, _ in bad), codes=2)
    for (_, words), (_, errors) in zip(bad, results, strict=True):
        one_line(errors, words)
    assert not list(tmp_path.iterdir())


def test_ranks_started_with_other_options_are_found_out(tmp_path):
    one = ["-m", "sideways.mpi", "waves-skip", *SHORT, "--runs", str(tmp_path)]
    mpirun, *flags, _, ranks, python = command_of(1)
    assert (ranks, python) == ("1", sys.executable)
    job = [mpirun, *flags, "-n", "1", python, *one, ":", "-n", "1", python, *one, "--lr", "0.5"]
    done = subprocess.run(job, text=True, capture_output=True, timeout=120)
    assert done.returncode == 2 and "rank(s) 1 were started with other options" in done.stderr


def test_an_exception_in_one_rank_ends_all_with_its_place_and_traceback(tmp_path):
    code, _, errors = train(3, tmp_path, "diverged", "--lr", "1e30", "--optimizer", "sgd")
    assert code != 0 and "the loss is nan in clip" in errors
    (tmp_path / "broken.py").write_text(
        "import sideways.network as n\n"
        "forward, calls = n.Unit.forward, [0]\n"
        "def broken(self, *a, **k):\n"
        "    calls[0] += self.name == 'conv4'\n"
        "    if calls[0] > 30: raise RuntimeError('the sky falls')\n"
        "    return forward(self, *a, **k)\n"
        "n.Unit.forward = broken\n"
        "import runpy; runpy.run_module('sideways.mpi.rank', run_name='__main__')\n"
    )
    code, _, errors = run(3, str(tmp_path / "broken.py"), "waves-skip", *SHORT, "--runs", str(tmp_path), timeout=60)
    assert code != 0
    assert re.search(r"rank \d+ on \S+, unit conv4, tick \d+:", errors)
    assert "RuntimeError: the sky falls" in errors and errors.count("Traceback") == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_rank_ends_the_whole_job_within_ten_seconds(tmp_path, seed):
    moment = random.Random(seed)
    often = ["--clips", "1000", "--checkpoint-every", "5", "--evaluate-every", "2", "--evaluation-clips", "1"]
    job = start(3, UNDRAWN, "waves-skip", *often, "--runs", str(tmp_path), "--name", "killed")
    ranks = pids(job)
    time.sleep(moment.uniform(0, 2))
    victim = moment.choice(ranks)
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    _, errors = job.communicate(timeout=10)
    assert job.returncode != 0
    assert f"rank {ranks.index(victim)} on" in errors and f"(PID {victim}) was killed by signal 9" in errors
    while any(map(alive, ranks)):
        assert time.monotonic() - killed < 10
        time.sleep(0.05)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    if metrics.exists():  # then every line in the file is complete
        assert all(json.loads(line)["kind"] in ("train", "evaluation") for line in metrics.read_text().splitlines())
    if list(tmp_path.glob("killed/checkpoints/step-*")):
        assert find(tmp_path / "killed").name.startswith("step-")  # `find` refuses a checkpoint that is not whole


SLEEPER = """
import os, time
from sideways.mpi.watchdog import guard
guard()
print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_where_the_launcher_misses_a_rank_that_was_killed_the_others_end_all_the_same():
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SLEEPER],
            env={**os.environ, "PMI_RANK": str(rank)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(3)
    ]  # the launcher is this process, which ends none of them
    children = [int(rank.stdout.readline()) for rank in ranks]
    os.kill(children[1], signal.SIGKILL)
    assert [rank.wait(timeout=10) for rank in ranks] == [-signal.SIGKILL, 128 + signal.SIGKILL, -signal.SIGKILL]
    assert ranks[1].stderr.read().startswith("sideways: rank 1 on ")
    deadline = time.monotonic() + 5
    while any(map(alive, children)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("whole_group", "words"), [(True, False), (False, True)])
def test_a_rank_that_the_launcher_ends_is_not_named_as_killed(whole_group, words):
    for number in (signal.SIGTERM, signal.SIGINT):
        rank = subprocess.Popen(
            [sys.executable, "-c", SLEEPER],
            start_new_session=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        child = int(rank.stdout.readline())
        os.kill(-rank.pid if whole_group else child, number)
        _, errors = rank.communicate(timeout=10)
        assert (f"(PID {child}) was killed by signal {int(number)}" in errors) == words
        assert rank.returncode == 128 + number


def test_after_ctrl_c_all_ranks_stop_after_the_same_tick_and_a_process_alone_goes_on_from_there(tmp_path):
    options = ["--clips", "30", "--batch", "8", "--evaluation-clips", "2", "--boundary", "stream"]
    options += ["--update-every", "4", "--runs", str(tmp_path)]
    job = start(3, UNDRAWN, "waves-skip", *options, "--name", "stopped")
    ranks = pids(job)
    while not (tmp_path / "stopped" / "metrics.jsonl").exists():
        time.sleep(0.01)
    time.sleep(0.5)
    for pid in ranks:  # a terminal sends the signal to all of them, too
        os.kill(pid, signal.SIGINT)
    _, errors = job.communicate(timeout=30)
    assert job.returncode == 130, errors
    assert "interrupted; to go on: --resume" in errors and "Traceback" not in errors
    assert not any(map(alive, ranks))
    (checkpoint,) = (tmp_path / "stopped" / "checkpoints").iterdir()
    assert main(["train", "--resume", str(checkpoint)]) == 0
    assert main(["train", "waves-skip", *options, "--name", "whole"]) == 0
    assert same(parameters(tmp_path / "whole"), parameters(tmp_path / "stopped"))


def test_ctrl_c_in_the_last_evaluation_ends_all_ranks_which_is_made_anew_when_the_run_goes_on(tmp_path):
    options = ["waves-skip", "--clips", "2", "--batch", "8", "--evaluation-clips", "80", "--runs", str(tmp_path)]
    job = start(3, UNDRAWN, *options, "--name", "stopped")
    ranks = pids(job)
    while not list((tmp_path / "stopped").glob("checkpoints/step-*")):  # written before the evaluation begins
        time.sleep(0.01)
    time.sleep(0.3)
    for pid in ranks:
        os.kill(pid, signal.SIGINT)
    _, errors = job.communicate(timeout=30)
    assert job.returncode == 130, errors
    assert "interrupted; to go on: --resume" in errors and "Traceback" not in errors
    (checkpoint,) = (tmp_path / "stopped" / "checkpoints").iterdir()
    lines = (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["train", "train"]
    code, _, errors = run(3, UNDRAWN, "--resume", str(checkpoint))
    assert code == 0, errors
    lines = (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["train", "train", "evaluation"]


def test_a_checkpoint_of_any_number_of_ranks_resumes_on_any_other_to_the_same_bits(tmp_path):
    moves = [(1, 4, []), (2, 3, []), (1, 3, [*DELAYED, "1"]), (2, 3, [*DELAYED, "3"]), (4, 1, [*DELAYED, "9"])]
    options = ["waves-skip", "--clips", "5", "--batch", "4", "--evaluation-clips", "2", "--boundary", "stream"]
    options += ["--checkpoint-every", "25", "--update-every", "4", "--evaluate-every", "2", "--runs", str(tmp_path)]

    def run_each(lines):  # (ranks, command line) of each
        for ranks in {ranks for ranks, _ in lines}:
            own = [line for number, line in lines if number == ranks]
            if ranks > 1:
                run_all(ranks, *own)
            else:
                assert [main(["train", *line]) for line in own] == [0] * len(own)

    paths = [tmp_path / f"run-{number}" for number in range(len(moves))]
    run_each([(move[0], [*options, *move[2], "--name", path.name]) for path, move in zip(paths, moves, strict=True)])
    expected = [(parameters(path), (path / "metrics.jsonl").read_bytes()) for path in paths]
    for path in paths:
        (path / "parameters.npz").unlink()
    checkpoints = [
        str(path / "checkpoints" / "step-00000050") for path in paths
    ]  # in the third clip: each has 18 ticks
    run_each([(move[1], ["--resume", step]) for step, move in zip(checkpoints, moves, strict=True)])
    for path, (arrays, metrics) in zip(paths, expected, strict=True):
        assert same(arrays, parameters(path)), path
        assert (path / "metrics.jsonl").read_bytes() == metrics, path


def test_replicas_are_resumed_to_the_same_bits_between_two_parts_of_a_gradient(tmp_path):
    options = [*DELAYED, "9", "--boundary", "stream", "--update-every", "1", "--checkpoint-every", "26"]
    code, _, errors = train(2, tmp_path, "run", *options, "--replicas", "2")
    assert code == 0, errors
    expected, checkpoint = parameters(tmp_path / "run"), tmp_path / "run" / "checkpoints" / "step-00000052"
    with np.load(checkpoint / "conv1.npz") as arrays:  # the part by the skip edge has come, the other is under way
        assert "part.0.weight" in arrays and arrays["input.45.frame"].shape[0] == 16
    (tmp_path / "run" / "parameters.npz").unlink()
    code, _, errors = run(2, UNDRAWN, "--resume", str(checkpoint), "--replicas", "2")
    assert code == 0, errors
    assert same(expected, parameters(tmp_path / "run"))
