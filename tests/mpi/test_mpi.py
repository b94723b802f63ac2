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
from tests.mpi.jobs import SHORT, alive, parameters, pids, run, same, start, train

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


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--boundary", "stream", "--update-every", "1"],
        ["--update-every", "5"],
        [*DELAYED, "1", "--update-every", "1"],
    ],
)
def test_a_run_over_ranks_is_the_run_in_one_process_to_the_last_bit(tmp_path, options):
    options = [*options, "--evaluate-every", "2"]
    assert main(["train", "waves-skip", *SHORT, "--runs", str(tmp_path), "--name", "alone", *options]) == 0
    lines = [json.loads(line) for line in (tmp_path / "alone" / "metrics.jsonl").read_text().splitlines()]
    for ranks in (1, 2, 4):
        code, output, errors = train(ranks, tmp_path, f"ranks{ranks}", *options)
        assert code == 0, errors
        assert "persistent request" not in errors
        assert same(parameters(tmp_path / "alone"), parameters(tmp_path / f"ranks{ranks}"))
        lines_of_ranks = (tmp_path / f"ranks{ranks}" / "metrics.jsonl").read_text().splitlines()
        assert sorted(map(str, map(json.loads, lines_of_ranks))) == sorted(map(str, lines))
        assert re.search(r"rank +host +PID +device +work +units", output)


@pytest.mark.parametrize("rule", [[], [*DELAYED, "9"]], ids=["sideways", "n=9"])
def test_replicas_match_one_replica_with_the_whole_batch_to_rounding(tmp_path, rule):
    options = [
        *rule,
        "--set",
        "model_options.norm=false",
        "--dtype",
        "float64",
        "--update-every",
        "1",
        "--optimizer",
        "sgd",
    ]
    options += ["--lr", "0.01"]
    for name, ranks, replicas in (("whole", 2, 1), ("parts", 4, 2)):
        code, _, errors = train(ranks, tmp_path, name, *options, "--replicas", str(replicas))
        assert code == 0, errors
    whole, parts = parameters(tmp_path / "whole"), parameters(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for key in whole:
        assert np.allclose(whole[key], parts[key], rtol=1e-9, atol=1e-12)
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "parts")]
    assert results[0]["accuracy"] == results[1]["accuracy"]


def test_with_replicas_the_result_is_that_of_the_network_that_is_saved(tmp_path):
    code, _, errors = train(2, tmp_path, "run", "--replicas", "2", "--evaluate-every", "3")
    assert code == 0, errors
    assert main(["evaluate", str(tmp_path / "run"), "--out", str(tmp_path / "again")]) == 0
    paths = tmp_path / "run/results.json", tmp_path / "again/evaluation.json"
    result, again = (json.loads(path.read_text()) for path in paths)
    assert (again["loss"], again["accuracy"]) == (pytest.approx(result["loss"], rel=1e-6), result["accuracy"])


@pytest.mark.parametrize(
    ("ranks", "arguments", "words"),
    [
        (6, [], "6 ranks cannot share 5 units in 1 replica(s): mpirun -n 1, 2, 3, 4, 5 would work"),
        (3, ["--replicas", "2"], "mpirun -n 2, 4, 6, 8, 10 would work"),
        (2, ["--replicas", "2", "--batch", "7"], "a batch of 7 cannot be split over 2 replicas"),
        (2, ["--transport", "cuda-aware"], "goes with --backend cupy"),
        (2, ["--emulate-ms", "inf"], "a time in milliseconds"),
        (2, ["--boundary", "stream", "--set", "task_options.length=3"], "never reach the top"),
        (2, ["--rule", "bptt"], "rules sideways and delayed run over several ranks, not 'bptt'"),
        (2, ["--learn-every", "9"], "rule 'sideways' learns from every loss"),
        (2, ["--placement", "0-1,3-4"], "write units 0-4 in order"),
        (2, ["--placement", "0-4"], "needed are 2 groups"),
        (2, ["--model", "nope"], "unknown model 'nope'"),
        (2, ["--nonsense"], "unrecognized arguments: --nonsense"),
        (2, ["--name", "n" * 300], "File name too long"),
        (2, ["--split", "all"], "over several ranks run the splits one by one"),
        (2, ["--task", "pan", "--set", "task_options.videos=['missing.mp4']"], "missing.mp4: no such file"),
    ],
)
def test_bad_input_is_one_line_from_one_rank_and_exit_code_2(tmp_path, ranks, arguments, words):
    code, _, errors = train(ranks, tmp_path, "bad", *arguments)
    assert code == 2
    messages = errors.count("sideways:") + errors.count("sideways train:")  # the parser's own begin with the command
    assert words in errors and messages == 1 and "Traceback" not in errors
    assert not (tmp_path / "bad").exists()


def test_ranks_started_with_other_options_are_found_out(tmp_path):
    one = ["-m", "sideways.mpi", "waves-skip", *SHORT, "--runs", str(tmp_path)]
    mpirun, *flags, _, ranks, python = command_of(1)
    assert (ranks, python) == ("1", sys.executable)
    job = [mpirun, *flags, "-n", "1", python, *one, ":", "-n", "1", python, *one, "--lr", "0.5"]
    done = subprocess.run(job, text=True, capture_output=True, timeout=120)
    assert done.returncode == 2 and "rank(s) 1 were started with other options" in done.stderr


def test_an_exception_in_one_rank_ends_all_with_its_place_and_traceback(tmp_path):
    code, _, errors = train(3, tmp_path, "diverged", "--lr", "1e30", "--optimizer", "sgd", "--batch", "32")
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


@pytest.mark.parametrize("seed", range(10))
def test_a_killed_rank_ends_the_whole_job_within_ten_seconds(tmp_path, seed):
    moment = random.Random(seed)
    often = ["--clips", "1000", "--checkpoint-every", "5", "--evaluate-every", "2", "--evaluation-clips", "1"]
    job = start(3, "-m", "sideways.mpi", "waves-skip", *often, "--runs", str(tmp_path), "--name", "killed")
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
    job = start(3, "-m", "sideways.mpi", "waves-skip", *options, "--name", "stopped")
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
    options = ["waves-skip", "--clips", "2", "--batch", "8", "--evaluation-clips", "300", "--runs", str(tmp_path)]
    job = start(3, "-m", "sideways.mpi", *options, "--name", "stopped")
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
    code, _, errors = run(3, "-m", "sideways.mpi", "--resume", str(checkpoint))
    assert code == 0, errors
    lines = (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["train", "train", "evaluation"]


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [(1, 4, []), (2, 3, []), (1, 3, [*DELAYED, "1"]), (2, 3, [*DELAYED, "3"]), (4, 1, [*DELAYED, "9"])],
)
def test_a_checkpoint_of_any_number_of_ranks_resumes_on_any_other_to_the_same_bits(tmp_path, before, after, rule):
    options = ["waves-skip", "--clips", "5", "--batch", "4", "--evaluation-clips", "2", "--boundary", "stream"]
    options += [
        "--checkpoint-every",
        "25",
        "--update-every",
        "4",
        "--evaluate-every",
        "2",
        "--runs",
        str(tmp_path),
        *rule,
    ]

    def run_on(ranks, *arguments):
        if ranks == 1:
            assert main(["train", *arguments]) == 0
        else:
            code, _, errors = run(ranks, "-m", "sideways.mpi", *arguments)
            assert code == 0, errors

    run_on(before, *options, "--name", "run")
    expected = parameters(tmp_path / "run")
    metrics = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    (tmp_path / "run" / "parameters.npz").unlink()
    run_on(
        after, "--resume", str(tmp_path / "run" / "checkpoints" / "step-00000050")
    )  # within the third clip: each has 18 ticks
    assert same(expected, parameters(tmp_path / "run"))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == metrics


def test_replicas_are_resumed_to_the_same_bits_between_two_parts_of_a_gradient(tmp_path):
    options = [*DELAYED, "9", "--boundary", "stream", "--update-every", "1", "--checkpoint-every", "26"]
    code, _, errors = train(2, tmp_path, "run", *options, "--replicas", "2")
    assert code == 0, errors
    expected, checkpoint = parameters(tmp_path / "run"), tmp_path / "run" / "checkpoints" / "step-00000052"
    with np.load(checkpoint / "conv1.npz") as arrays:  # the part by the skip edge has come, the other is under way
        assert "part.0.weight" in arrays and arrays["input.45.frame"].shape[0] == 16
    (tmp_path / "run" / "parameters.npz").unlink()
    code, _, errors = run(2, "-m", "sideways.mpi", "--resume", str(checkpoint), "--replicas", "2")
    assert code == 0, errors
    assert same(expected, parameters(tmp_path / "run"))
