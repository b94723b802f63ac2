"""Ranks whose hosts differ: in their versions, in the videos they see, in what is on their disks, in their clocks."""

import re
import shutil
import subprocess

import pytest

from sideways.commands.main import main
from sideways.data.videos.datasets import open_set
from sideways.data.videos.make import make
from sideways.studies.mpirun import command_of
from tests.mpi.jobs import SHORT, parameters, same

pytestmark = [pytest.mark.xdist_group("ranks"), pytest.mark.usefixtures("undrawn")]
VIDEOS = ["videos-small-skip", "--clips", "2", "--batch", "4", "--set", "task_options.length=16"]


def two_ranks(tmp_path, first_lines, *arguments):
    """Train on two ranks of this machine, of which the second starts with these lines of Python."""
    script = tmp_path / "second.py"
    script.write_text(f"{first_lines}\nimport runpy\nrunpy.run_module('sideways.mpi.rank', run_name='__main__')\n")
    mpirun, *flags, _, _, python = command_of(1)
    job = [mpirun, *flags, "-n", "1", python, "-m", "sideways.mpi.rank", *arguments]
    job += [":", "-n", "1", python, str(script), *arguments]
    return subprocess.run(job, text=True, capture_output=True, timeout=120)


def refused(done, words):
    """Assert that all ranks refused to train, with these words in one line."""
    assert done.returncode == 2, done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert done.stderr.count("sideways:") == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("import numpy\nnumpy.__version__ = '9.0.0'", r"NumPy is 9\.0\.0 for rank 1 on \S+, and \d\S+ for rank 0 on"),
        ("import sideways\nsideways.__version__ = '0.1'", r"sideways is 0\.1 \(\w{8}\) for rank 1 on \S+, and \d"),
        (
            "import pathlib\nread = pathlib.Path.read_bytes\n"
            "pathlib.Path.read_bytes = lambda path: read(path) + b'#' * (path.name == 'losses.py')",
            r"sideways is (\S+) \((\w{8})\) for rank 1 on \S+, and \1 \((?!\2)\w{8}\) for rank 0",
        ),
    ],
    ids=["NumPy", "sideways", "a source file"],
)
def test_another_version_on_one_host_is_refused(tmp_path, lines, words):
    refused(two_ranks(tmp_path, lines, "waves-skip", *SHORT, "--runs", str(tmp_path)), words)


def test_clocks_that_differ_by_years_change_nothing(tmp_path):
    later = "import time\nnow = time.time\ntime.time = lambda: now() - 1e8"
    options = ["waves-skip", *SHORT, "--checkpoint-every", "30", "--runs", str(tmp_path)]
    done = two_ranks(tmp_path, later, *options, "--name", "ranks")
    assert done.returncode == 0, done.stderr
    assert main(["train", *options, "--name", "alone"]) == 0
    assert same(parameters(tmp_path / "alone"), parameters(tmp_path / "ranks"))


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """A small UCF101."""
    out = tmp_path_factory.mktemp("sets") / "ucf"
    make("ucf101", out, groups=3, each=1)
    return out


def test_a_host_that_lacks_a_video_is_named_with_the_video(data_set, tmp_path):
    shutil.copytree(data_set, tmp_path / "copy")
    video = open_set(f"ucf101:{tmp_path}/copy").train[2]
    video.path.unlink()
    elsewhere = f"import os\nos.environ['SIDEWAYS_DATA'] = '{data_set}={tmp_path}/copy'"
    options = [*VIDEOS, "--data", f"ucf101:{data_set}", "--runs", str(tmp_path)]
    refused(two_ranks(tmp_path, elsewhere, *options), rf"rank 1 on \S+ lacks {re.escape(video.name)}")


def test_a_host_without_the_folder_is_named_with_all_its_places(data_set, tmp_path):
    elsewhere = f"import os\nos.environ['SIDEWAYS_DATA'] = '/nowhere={data_set.parent}'"
    options = [*VIDEOS, "--data", "ucf101:/nowhere/ucf", "--runs", str(tmp_path)]
    words = r"sideways: rank 0 on \S+: data 'ucf101:/nowhere/ucf': there is no folder /nowhere/ucf"
    refused(two_ranks(tmp_path, elsewhere, *options), words)
