"""Runs that are interrupted at awkward moments, and run directories that vanish or are not whole: one line each."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest

from sideways.commands.main import main
from sideways.errors import InputError, Interrupted
from sideways.training.checkpoint import find
from sideways.training.run import train
from tests.training.runs import RUN, parameters, same

pytestmark = pytest.mark.usefixtures("undrawn")


def after(clips, act):
    """A progress that acts when so many clips are done."""
    done = []

    def show(count, line):
        done.extend([1] * count)
        if len(done) == clips:
            act()

    return show


@pytest.mark.parametrize("checkpoint_every", [0, 3])
@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("act", ["removed", "moved"])
def test_a_run_whose_directory_vanishes_ends_with_a_line_and_advises_nothing(tmp_path, act, stop, checkpoint_every):
    run = tmp_path / "run"

    def vanish():
        shutil.rmtree(run) if act == "removed" else run.rename(tmp_path / "elsewhere")
        if stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InputError, match=rf"^the run directory {run} is gone: it was removed or moved [^\n]*$"):
        train(replace(RUN, checkpoint_every=checkpoint_every), run, after(2, vanish))
    assert not run.exists()  # no part of it is made again
    if act == "moved" and checkpoint_every:
        find(tmp_path / "elsewhere")


@pytest.mark.filterwarnings("error")  # nor is anything printed when the archive that cannot be closed is freed
def test_ctrl_c_while_the_parameters_are_written_ends_with_a_line_and_the_results_can_still_be_had(
    tmp_path, monkeypatch
):
    run, whole = tmp_path / "run", tmp_path / "whole"
    train(RUN, whole)
    closed = []

    def close(file):
        closed.append(file)
        if len(closed) == 3:
            raise KeyboardInterrupt  # the archive now has an array that is open
        return original(file)

    original = zipfile._ZipWriteFile.close
    monkeypatch.setattr("sideways.training.run.save_parameters", interrupted_by(monkeypatch, close))
    with pytest.raises(Interrupted, match=r"interrupted after the training; to write the results: --resume \S*55$"):
        train(RUN, run)
    gc.collect()
    monkeypatch.undo()
    assert not [path.name for path in run.glob("*parameters*")]
    assert main(["train", "--resume", str(run)]) == 0
    assert same(parameters(run), parameters(whole))


def interrupted_by(monkeypatch, close):
    """`save_parameters`, during which zip members are closed by the function `close`."""
    from sideways.training.run import save_parameters

    def save(*arguments):
        monkeypatch.setattr(zipfile._ZipWriteFile, "close", close)
        save_parameters(*arguments)

    return save


SIGNAL_AT_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, *more):
        if name == os.environ["AT"]:
            os.environ["AT"] = ""
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
"""


def interrupted_at(module, tmp_path, *command):
    """The exit code and the errors of a Python command that presses Ctrl-C when it begins to import a module."""
    (tmp_path / "sitecustomize.py").write_text(SIGNAL_AT_IMPORT)
    path = os.pathsep.join([str(tmp_path), *sys.path[:1], os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "AT": module}
    job = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=120)
    return job.returncode, job.stderr


@pytest.mark.parametrize(
    "module",
    ["numpy", "sideways.network", "sideways.commands.train", "sideways.training.options", "sideways.training.several"],
)
def test_ctrl_c_while_the_command_imports_its_modules_is_a_line(tmp_path, module):
    command = ["-m", "sideways", "train", "waves-skip", "--runs", str(tmp_path), "--clips", "1"]
    assert interrupted_at(module, tmp_path, *command) == (130, "sideways: interrupted\n")
    assert not (tmp_path / "waves-skip-1").exists()


def test_in_a_program_that_imports_the_library_ctrl_c_raises_an_exception_as_ever(tmp_path):
    code, errors = interrupted_at("sideways.network", tmp_path, "-c", "import sideways")
    assert code == -signal.SIGINT and errors.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("content", ["", "{", "[1", "[" * 100_000])
def test_a_config_of_one_of_several_runs_that_cannot_be_read_is_refused_in_a_line(tmp_path, capsys, content):
    (tmp_path / "runs" / "seed-1").mkdir(parents=True)
    (tmp_path / "runs" / "seed-1" / "config.json").write_text(content)
    options = ["waves-skip", "--seeds", "2", "--name", "runs", "--runs", str(tmp_path)]
    assert main(["train", *options]) == 2
    error = capsys.readouterr().err
    assert "seed-1/config.json cannot be read" in error and "remove" in error and error.count("\n") == 1


def test_a_config_is_whole_or_not_there(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dumps", full)
    with pytest.raises(OSError, match="No space"):
        train(RUN, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
