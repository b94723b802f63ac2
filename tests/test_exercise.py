"""The exercise: its solution passes, its scaffold does not, and each well-known mistake is caught and named.

Step 4, which starts two processes, has its tests in tests/mpi/test_exercise.py.
"""

import ast
import os
import re
import shlex
import subprocess
import sys

import imageio_ffmpeg
import pytest
from exercises import EXERCISE, ROOT, SCAFFOLD, SOLUTION, outcomes, written

from sideways.commands.main import main
from sideways.data.videos.ffmpeg import shipped_clips

ONE_PROCESS = ["-k", "step_1 or step_2 or step_3"]


def test_the_solution_passes_every_step_in_one_process(tmp_path):
    (results,) = outcomes(tmp_path, [SOLUTION], *ONE_PROCESS).values()
    assert len(results) >= 15
    assert {name: message for name, message in results.items() if message} == {}


def test_the_untouched_scaffold_fails_every_test_with_the_method_that_is_to_be_written(tmp_path):
    (results,) = outcomes(tmp_path, [SCAFFOLD], *ONE_PROCESS).values()
    assert len(results) >= 15
    assert set(results.values()) == {f"Step {n}: write {name}Sideways.tick." for n, name in ((1, "Chain"), (3, "Skip"))}


@pytest.mark.parametrize("step", [1, 2, 3])
def test_every_well_known_mistake_is_caught_by_an_example_of_its_step_and_named(tmp_path, step):
    files = written(tmp_path, step)
    caught = outcomes(tmp_path, files, "-k", f"step_{step} and not any_chain and not any_graph")
    assert len(files) >= 10
    for file, mistake in files.items():
        messages = [message for message in caught[file.stem].values() if message]
        assert messages, mistake.name
        assert mistake.lesson or any("have changed since then" in message for message in messages), mistake.name
        assert any(mistake.lesson in message for message in messages), (mistake.name, messages)


def body(function):
    """The statements of a function after its docstring."""
    return function.body[1:] if ast.get_docstring(function) else function.body


def outline(path, left_out):
    """Classes and methods of a file with signatures and docstrings, and the bodies of methods that are not left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    shown = {}
    for group in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        shown[group.name] = ast.get_docstring(group), [base.id for base in group.bases]
        for method in (node for node in group.body if isinstance(node, ast.FunctionDef)):
            name = f"{group.name}.{method.name}"
            code = None if name in left_out else [ast.unparse(statement) for statement in body(method)]
            shown[name] = ast.unparse(method.args), ast.get_docstring(method), code
    return shown


def test_the_scaffold_is_the_solution_with_five_methods_left_to_the_reader():
    left_out = set()
    for group in (node for node in ast.parse(SCAFFOLD.read_text()).body if isinstance(node, ast.ClassDef)):
        for method in (node for node in group.body if isinstance(node, ast.FunctionDef)):
            if isinstance(body(method)[0], ast.Raise):
                left_out.add(f"{group.name}.{method.name}")
                assert re.match(r"Step \d\. ", ast.get_docstring(method))
    assert len(left_out) == 5
    assert outline(SCAFFOLD, left_out) == outline(SOLUTION, left_out)


def test_the_solution_takes_no_rule_from_the_library():
    names = set(re.findall(r"\bsw\.(\w+)", SOLUTION.read_text(encoding="utf-8")))
    assert names == {"Tick"}
    assert "rules" not in SOLUTION.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "capstone.md"])
def test_every_link_of_the_exercise_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (EXERCISE / page).read_text(encoding="utf-8"))
    assert len(links) > 3
    assert [link for link in links if not link.startswith("https:") and not (EXERCISE / link).exists()] == []


def test_make_exercise_runs_the_tests_of_the_scaffold_and_make_test_does_not():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^exercise: .*\n\t.*pytest tutorials/exercise", makefile, re.MULTILINE)
    assert 'testpaths = ["tests"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


# The capstone ---------------------------------------------------------------------------------------------------------

CAPSTONE = (EXERCISE / "capstone.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    ((?:sideways|python tutorials).+)$", CAPSTONE, re.MULTILINE)


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A folder with a real film, my_film.mp4, and pieces of two real films sorted into mine/train and mine/test."""
    monkeypatch.chdir(tmp_path)
    films = [str(path) for path in shipped_clips().values()]
    (tmp_path / "my_film.mp4").symlink_to(films[0])
    for action, film in zip(("open", "close"), films, strict=False):
        for start, (split, name) in enumerate((("train", "01"), ("train", "02"), ("test", "08"))):
            piece = tmp_path / "mine" / split / action / f"{name}.mp4"
            piece.parent.mkdir(parents=True, exist_ok=True)
            cut = ["-ss", str(start / 2), "-t", "2.5", "-i", film, "-vf", "scale=64:48", str(piece)]
            subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *cut], check=True)


@pytest.mark.usefixtures("at_home", "undrawn")
def test_every_command_of_the_capstone_runs_on_real_video(capsys):
    trained = [shlex.split(line)[1:] for line in COMMANDS if line.startswith("sideways")]
    assert [line[0] for line in trained].count("train") >= 8
    for line in trained:
        if line[0] == "train":  # a shorter run, of one seed
            cut = line.index("--seeds") if "--seeds" in line else len(line)
            line[cut:] = [*line[cut + 2 :], "--clips", "2", "--batch", "4", "--evaluation-clips", "1"]
            line += ["--set", "task_options.views=1"] if "videos" in line[1] else []
        code = main([word.replace("runs/mine/seed-1", "runs/mine") for word in line])
        printed = capsys.readouterr()
        assert code == 0, (line, printed.err)


@pytest.mark.usefixtures("at_home")
def test_the_solution_and_the_library_end_with_the_same_bits_on_real_video():
    lines = [shlex.split(line)[1:] for line in COMMANDS if "film.py" in line]
    assert len(lines) == 2
    for script, *arguments in lines:
        command = [sys.executable, str(ROOT / script), *arguments, "--clips", "2", "--module", str(SOLUTION)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        job = subprocess.run(command, env=environment, text=True, capture_output=True)
        assert job.stdout.endswith("Both end with the same bits.\n"), job.stderr
