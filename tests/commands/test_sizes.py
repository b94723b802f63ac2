"""Sizes beyond the memory of the machine are refused in a line and at once, before anything is allocated."""

import json
import resource
import subprocess
import sys
from dataclasses import replace

import pytest
from command_line import QUICK, refused

import sideways as sw
from sideways import machine
from sideways.errors import InputError
from sideways.models import MODELS, build_model
from sideways.network import sizes
from sideways.training import needs as needs_of_runs
from sideways.training.build import build_network, build_rule, build_task
from sideways.training.memory import peak
from sideways.training.needs import check_memory, needs
from tests.training.runs import TINY

GIGABYTES = 5
HUGE = (10**6, 10**9, 10**18)
DIGITS = "9" * 5000
TOO_LARGE = [
    *([*recipe, "--batch", size] for recipe in ([], ["waves-predictor-skip"]) for size in HUGE),
    *(["pan-skip", "--batch", size] for size in HUGE),
    *(["--set", f"task_options.{name}={size}"] for name in ("size", "length") for size in HUGE),
    *(["pan-skip", "--set", f"task_options.{name}={size}"] for name in ("size", "length") for size in HUGE),
    *(["--model", "mlp", "--set", f"model_options.hidden=[{size}, {size}]"] for size in HUGE),
    *(["--set", f"model_options.width={size}"] for size in HUGE),
    *(["--set", f"model_options.middle={size}"] for size in HUGE),
    *(["waves-predictor-skip", "--horizon", size] for size in HUGE),
    *(["--rule", rule, "--set", f"task_options.length={10**6}", "--batch", 4] for rule in ("bptt", "delayed")),
    *(["--workers", size] for size in HUGE),
    *(["--seeds", size] for size in HUGE),
    *([option, DIGITS] for option in ("--batch", "--clips", "--horizon", "--seed", "--update-every", "--seeds")),
    *([option, "9" * 4000] for option in ("--batch", "--clips", "--horizon", "--seed", "--update-every")),
    *(["--set", f"{key}={DIGITS}"] for key in ("clips", "distinct_clips", "task_options.size", "model_options.width")),
    *(["--set", f"{key}=0x{DIGITS}"] for key in ("clips", "distinct_clips", "task_options.size", "optimizer.beta1")),
]
PROGRAM = """
import contextlib, io, json, sys
from sideways.commands.main import main
for arguments in json.loads(sys.stdin.read()):
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    print(json.dumps([code, errors.getvalue()]), flush=True)
"""


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES * 10**9, GIGABYTES * 10**9))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The answers to all commands of TOO_LARGE under `ulimit -v`: (exit code, errors)."""
    folder = tmp_path_factory.mktemp("huge")
    commands = [["train", *map(str, arguments)] for arguments in TOO_LARGE]
    commands += [["summary", "vgg8", "--size", str(size), str(size), "3"] for size in HUGE]
    commands += [["summary", "vgg8", "--classes", str(size)] for size in HUGE[1:]]
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=400,
        preexec_fn=limit_memory,
    )
    assert finished.returncode == 0, finished.stderr
    assert list(folder.iterdir()) == []
    return {tuple(c): json.loads(line) for c, line in zip(commands, finished.stdout.splitlines(), strict=True)}


def test_huge_sizes_end_with_exit_code_2_and_a_line_without_a_traceback(answers):
    for arguments, (code, errors) in answers.items():
        assert (code, len(errors.splitlines())) == (2, 1), (arguments, errors[-2000:])
        assert errors.startswith("sideways")
        assert len(errors) < 700, arguments


def test_the_refusal_names_the_largest_part_and_the_memory_there_is(answers):
    words = answers["train", "--batch", str(10**9)][1]
    assert "the frames of a clip need 110 TB" in words
    assert "(ulimit -v): choose a smaller --batch" in words
    assert "the memory of the optimizer needs" in answers["train", "--set", f"model_options.width={10**6}"][1]
    of_bptt = answers["train", "--rule", "bptt", "--set", f"task_options.length={10**6}", "--batch", "4"][1]
    assert "the activations need" in of_bptt


def test_the_command_line_itself_is_refused_under_ulimit(tmp_path):
    finished = subprocess.run(
        [sys.executable, "-m", "sideways", "train", "--batch", "1000000000"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        preexec_fn=limit_memory,
    )
    refused((finished.returncode, finished.stdout, finished.stderr), "110 TB")


# The estimate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_parameters_are_counted_before_they_exist(model):
    network = build_model(model, (32, 32, 3), None if model.startswith("predictor") else 4)
    counted = sizes.parameter_counts(list(network.units.values()))
    assert counted == {name: sum(a.size for a in arrays.values()) for name, arrays in network.parameters.items()}


LARGER = replace(TINY, batch=16, task_options={"length": 18, "size": 16}, model_options={})
RUNS = [
    LARGER,
    replace(LARGER, rule="bptt"),
    replace(LARGER, rule="delayed"),
    replace(LARGER, rule="delayed", learn_every=9),
    replace(LARGER, rule="backprop"),
    replace(LARGER, rule="noisy"),
    replace(LARGER, boundary="stream"),
    replace(LARGER, dtype="float64", optimizer={"name": "sgd"}),
    replace(LARGER, task="shapes"),
    replace(LARGER, task="pan"),
    replace(LARGER, task="which-clip"),
    replace(LARGER, model="mlp", model_options={"hidden": [512, 512]}),
    replace(LARGER, model="vgg5-shortcut"),
    replace(LARGER, model="vgg8", batch=2, task_options={"size": 32}),
    replace(LARGER, model="vgg8-skip", task_options={"size": 32}, model_options={"merge": "add", "width": 16}),
    replace(LARGER, model="predictor-skip", horizon=2),
    replace(LARGER, batch=2, task_options={"length": 300, "size": 16}),
]


@pytest.mark.parametrize("config", RUNS, ids=lambda config: f"{config.task} {config.model} {config.rule}")
def test_the_estimate_is_below_the_memory_that_a_run_uses_but_not_far_below(config):
    """No run that fits is refused, and none that needs five times the memory there is begins."""
    task = build_task(config)
    task.clip("train", 0, 1)  # decodes the videos, if there are any

    def train():
        held = []  # like the training loop, hold the gradients of a tick until the next one
        network = build_network(config, task.frame_shape, len(task.classes))
        rule = build_rule(config, task, network)
        for index in range(2):
            clip = task.clip("train", index, config.batch)
            for frame, target in zip(clip.frames, clip.targets, strict=True):
                held[:] = [rule.tick(frame, target)]
            rule.end_clip()

    estimate = max(sum(parts.values()) for parts in needs(config, task))
    used = peak(train)
    assert used / 5 < estimate < used


def test_a_run_is_refused_exactly_if_the_estimate_is_above_the_free_memory(monkeypatch):
    config = replace(TINY, batch=30000)
    task = build_task(config)
    estimate = max(sum(parts.values()) for parts in needs(config, task))
    monkeypatch.setattr(sizes, "memory", lambda on_host: (estimate, "a test"))
    check_memory(config, task)
    check_memory(replace(config, batch=50000), task, ranks=2)
    monkeypatch.setattr(sizes, "memory", lambda on_host: (estimate - 1, "a test"))
    with pytest.raises(InputError, match=r"free are .* \(a test\): choose a smaller --batch"):
        check_memory(config, task)


def test_on_a_gpu_frames_count_on_the_host_and_all_else_on_the_device(monkeypatch):
    config = replace(TINY, batch=30000)
    task = build_task(config)
    monkeypatch.setattr(needs_of_runs, "on_device", lambda: True)
    free = {True: 10**15, False: 10**6}
    monkeypatch.setattr(sizes, "memory", lambda on_host: (free[on_host], "a test"))
    with pytest.raises(InputError, match=r"the arrays of this run need .* of which the activations need"):
        check_memory(config, task)
    free |= {True: 10**6, False: 10**15}
    with pytest.raises(InputError, match="the frames of this run need"):
        check_memory(config, task)


def test_a_network_whose_parameters_do_not_fit_names_the_largest_unit(monkeypatch):
    monkeypatch.setattr(sizes, "memory", lambda on_host: (10**9, "a test"))
    units = [sw.Unit("a", [sw.Flatten(), sw.Dense(4, 20_000)]), sw.Unit("b", [sw.Dense(20_000, 20_000)], ["a"])]
    with pytest.raises(InputError, match=r"unit 'b' needs 1\.6 GB; free are 1\.0 GB \(a test\)"):
        sw.Network(units, (2, 2, 1))


def test_running_out_of_memory_all_the_same_is_a_line_too(command, monkeypatch):
    def train(*arguments):
        raise MemoryError("Unable to allocate 3 GiB")

    monkeypatch.setattr("sideways.training.several.train_many", train)
    refused(command("train", *QUICK), "out of memory: Unable to allocate 3 GiB; choose a smaller --batch")


# The memory there is --------------------------------------------------------------------------------------------------


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A function that gives files of the system other contents: name → text."""
    real = machine._lines

    def pretend(contents):
        monkeypatch.setattr(
            machine, "_lines", lambda path: contents[str(path)].splitlines() if str(path) in contents else real(path)
        )

    return pretend


def test_the_least_of_all_limits_counts(system):
    files = {
        "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   6000 kB\nSwapFree:  1000 kB\n",
        "/proc/self/cgroup": "0::/job/step\n",
        "/sys/fs/cgroup/job/step/memory.max": "max\n",
        "/sys/fs/cgroup/job/step/memory.current": "100\n",
    }
    system(files)
    assert machine.memory() == (7000 * 1024, "available memory of this machine")
    job = {
        "/sys/fs/cgroup/job/memory.max": "5000000\n",
        "/sys/fs/cgroup/job/memory.current": "4000000\n",
        "/sys/fs/cgroup/job/memory.stat": "anon 1\ninactive_file 300000\nactive_file 200000\n",
    }
    system(files | job)
    assert machine.memory() == (1_500_000, "the limit of the control group")


def test_control_groups_of_version_1_count(system):
    folder = "/sys/fs/cgroup/memory/job"
    system(
        {
            "/proc/self/cgroup": "4:memory:/job\n0::/\n",
            f"{folder}/memory.limit_in_bytes": "2000000\n",
            f"{folder}/memory.usage_in_bytes": "1500000\n",
            f"{folder}/memory.stat": "total_inactive_file 250000\n",
        }
    )
    assert machine.memory() == (750_000, "the limit of the control group")


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (23_440_000_000, "23.4 GB"), (640_000_000_000, "640 GB")],
)
def test_bytes_are_written_for_people(count, words):
    assert machine.in_bytes(count) == words
