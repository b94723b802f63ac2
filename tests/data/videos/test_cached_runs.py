"""Whole runs with `--cache`: the bits of a run without, on any command that decodes; and the share of time waited."""

import json

import numpy as np
import pytest

from sideways.commands.main import main
from sideways.data.videos import decoder, kept

RUN = ["--clips", "2", "--batch", "2", "--workers", "0", "--set", "task_options.length=16"]
RUN += ["--set", "model_options.width=4"]


@pytest.fixture
def train(folder, tmp_path, capsys, monkeypatch):
    """A function that trains on the small folder as a new process would: (exit code, errors, run directory)."""
    monkeypatch.chdir(tmp_path)

    def run(name, *options):
        for memory in (decoder._whole, kept._mapped, kept.kept_frames):
            memory.cache_clear()
        code = main(["train", "videos-small-skip", "--data", f"folder:{folder}", *RUN, "--name", name, *options])
        return code, capsys.readouterr(), tmp_path / "runs" / name

    return run


def parameters(run):
    with np.load(run / "parameters.npz") as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}


@pytest.mark.usefixtures("undrawn")
def test_a_run_with_a_cache_ends_with_the_bits_of_one_without_also_if_it_decodes_nothing(train, tmp_path, monkeypatch):
    runs = [train("plain")[2]]
    for name in ("empty", "filled"):
        code, _, run = train(name, "--cache", "kept", "--cache-gb", "0.5")
        options = json.loads((run / "config.json").read_text())["task_options"]
        assert code == 0 and (options["cache"], options["cache_gb"]) == ("kept", 0.5)
        assert len(list((tmp_path / "kept" / "videos").glob("*.frames"))) >= 5
        runs.append(run)
        monkeypatch.setattr(decoder, "read_frames", None)  # from here on nothing is decoded
    assert parameters(runs[0]) == parameters(runs[1]) == parameters(runs[2])
    results = [json.loads((run / "results.json").read_text()) for run in runs]
    assert results[0]["loss"] == results[1]["loss"] == results[2]["loss"]


@pytest.mark.usefixtures("undrawn")
def test_a_run_says_which_share_of_its_time_it_has_waited_for_frames(train, monkeypatch):
    code, printed, run = train("plain")
    waited = json.loads((run / "results.json").read_text())["waiting"]
    assert code == 0 and 0 < waited < 1
    assert f"{waited:.1%} of the time waiting for frames\n" in printed.out
    assert f"| share of the time spent waiting for frames | {waited:.1%} |" in (run / "report.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_a_run_is_resumed_with_another_cache_and_ends_with_the_same_bits(train, tmp_path):
    _, _, whole = train("whole", "--checkpoint-every", "16", "--cache", "kept")
    first = whole / "checkpoints" / "step-00000016"
    before = parameters(whole)
    assert main(["train", "--resume", str(first), "--cache", "elsewhere", "--cache-gb", "1"]) == 0
    assert parameters(whole) == before and list((tmp_path / "elsewhere" / "videos").glob("*.frames"))


@pytest.mark.parametrize(
    ("recipe", "options", "words"),
    [
        ("videos-small-skip", ["--cache", "/dev/null/x"], "cache /dev/null/x: the folder cannot be made"),
        ("videos-small-skip", ["--cache", "x", "--cache-gb", "0"], "--cache-gb: a number above 0 is wanted, not '0'"),
        ("waves-skip", ["--cache", "x"], "task 'waves' has no option 'cache'"),
    ],
)
def test_a_cache_that_cannot_be_is_refused_in_a_line(folder, command, recipe, options, words):
    data = ["--data", f"folder:{folder}"] if recipe.startswith("videos") else []
    code, _, errors = command("train", recipe, *data, *options)
    assert code == 2 and errors.count("\n") == 1 and words in errors
