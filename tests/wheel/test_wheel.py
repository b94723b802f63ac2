"""The wheel, installed in a fresh environment and used outside the clone: every command works, with all its files.

`make test-wheel` runs it: it installs the library and what it depends on, which takes a minute.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel
ROOT = Path(__file__).parents[2]
SHORT = ["--clips", "2", "--batch", "2", "--evaluation-clips", "1", "--set", "task_options.size=8"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Run the installed `sideways` in an empty folder: (exit code, what it printed)."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    (wheel,) = folder.glob("sideways-*.whl")
    subprocess.run([folder / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel], check=True)
    work = tmp_path_factory.mktemp("work")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments):
        command = [folder / "venv/bin/sideways", *map(str, arguments)]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr

    run.work = work
    return run


def good(answer, words=""):
    code, printed = answer
    assert code == 0 and "Traceback" not in printed, printed
    assert words in printed
    return printed


def test_the_commands_that_list_and_describe(installed):
    good(installed("--help"), "train")
    good(installed("models"), "vgg8-skip")
    assert {"waves-skip", "waves-bare", "ucf101-vgg8"} <= {
        line.split()[0] for line in good(installed("recipes")).splitlines() if line.strip()
    }
    good(installed("summary", "vgg5-skip", "--size", 16, 16, 1, "--classes", 4), "out of step")
    good(installed("doctor"), "a tick was trained")
    good(installed("claims"), "temporal")
    for command in ("train", "evaluate", "predict", "export", "compare", "data", "demo", "bench", "explore", "plot"):
        good(installed(command, "--help"), "usage: sideways")


def test_a_run_from_training_to_export(installed):
    good(installed("train", "pan-skip", *SHORT, "--name", "short"), "written to runs/short")
    results = json.loads((installed.work / "runs/short/results.json").read_text())
    assert results["samples"] == 2
    good(installed("evaluate", "runs/short"), "accuracy")
    good(installed("compare", "runs/short"), "comparison.png")
    good(installed("export", "runs/short", "weights.npz"), "weights.npz")
    good(installed("train", "waves-bare-rates", *SHORT, "--name", "ablation"), "written to runs/ablation")


def test_videos_are_made_checked_and_predicted_on(installed):
    good(installed("data", "make", "ucf101", "small"), "written to small")
    good(installed("data", "check", "ucf101:small"), "usable")
    arguments = ["videos-small-skip", "--data", "ucf101:small", "--clips", 2, "--name", "videos"]
    good(installed("train", *arguments), "accuracy")
    film = next((installed.work / "small").rglob("*.avi"))
    good(installed("predict", "runs/videos", film), "most probable classes")


def test_pictures_and_the_explorer(installed):
    good(installed("explore", "--no-open", "--out", "explorer.html"))
    assert (
        "<svg" in (installed.work / "explorer.html").read_text()
        or "svg" in (installed.work / "explorer.html").read_text()
    )
    good(installed("plot", "skip", "--out", "skip.gif"))
    assert (installed.work / "skip.gif").stat().st_size > 10_000


def test_a_benchmark_and_a_claim(installed):
    good(installed("bench", "step", "--model", "vgg5", "--size", 16, "--batch", 2, "--repeats", 2), "frames/s")
    code, printed = installed("bench", "pipeline", "--ranks", 1)
    assert code == 2 and "there is no mpirun" in printed and "Traceback" not in printed
