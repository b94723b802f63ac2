"""`sideways doctor` on machines where something is missing or broken: a table, never a traceback."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sideways.doctor
from sideways.doctor import CUDA_AWARE, CUPY, FFMPEG, GPUS, MPI4PY, NUMPY, PACKAGES, TABLE, Probe, take

CLONE = Path(__file__).parent.parent
RAISES = "raise ImportError('no such thing')"


def examined(tmp_path, broken, *folders, **environment):
    """Run the doctor on a machine where some modules are broken. Returns (exit code, printed lines).

    broken: module → the text that stands in its place. folders: further folders on the path.
    """
    for name, text in broken.items():
        (tmp_path / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(tmp_path), *folders, str(CLONE)])
    environment = {key: value for key, value in os.environ.items() if key != "SIDEWAYS_BACKEND"} | environment
    done = subprocess.run(
        [sys.executable, "-m", "sideways", "doctor"],
        env=environment | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stdout + done.stderr and not done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.fixture(scope="module")
def taken():
    """What the probes find on this machine, each taken once: part → result."""
    return {probe.part: take(probe) for probe in TABLE}


@pytest.fixture
def doctor(tmp_path, monkeypatch, taken):
    """A function like `examined`, in this process, that takes anew only the probes that meet the broken module."""

    def run(broken, probes):
        for name, text in broken.items():
            (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(CLONE)]))
        known = {part: result for part, result in taken.items() if part not in [probe.part for probe in probes]}
        monkeypatch.setattr(sideways.doctor, "take", lambda probe: known.get(probe.part) or take(probe))
        printed = []
        code = sideways.doctor.doctor(printed.append)
        lines = "\n".join(printed).splitlines()
        assert not any("Traceback" in line for line in lines)
        return code, lines

    return run


def line_of(lines, part):
    return next(line for line in lines if line.startswith(part))


def test_where_the_default_can_run_the_exit_code_is_0_and_every_part_has_its_line(doctor, monkeypatch):
    monkeypatch.delenv("SIDEWAYS_BACKEND", raising=False)
    code, lines = doctor({}, ())
    assert code == 0
    assert all(line_of(lines, probe.part) for probe in TABLE)
    assert re.search(r"NumPy +\d+\.\d+.*BLAS: .*\d+ thread", line_of(lines, "NumPy"))
    assert re.search(r"GB free of .* GB; \d+ core", line_of(lines, "memory"))
    assert line_of(lines, "backend").endswith("numpy (the default): works, a tick was trained")
    missing = [i for i, line in enumerate(lines) if re.match(r".{16}no: ", line)]
    assert all("→" in lines[i + 1] for i in missing)


def test_what_is_broken_and_not_needed_is_one_line_with_its_remedy_and_exit_code_0(doctor, monkeypatch):
    monkeypatch.delenv("SIDEWAYS_BACKEND", raising=False)
    broken = {"mpi4py": RAISES, "cupy": "import os; os.kill(os.getpid(), 11)"}
    code, lines = doctor(broken, (CUPY, GPUS, MPI4PY, CUDA_AWARE))
    assert code == 0
    for part, words in (("mpi4py", "no: no such thing"), ("CuPy", "no: ends its process with signal 11")):
        number = lines.index(line_of(lines, part))
        assert words in lines[number] and "→ pip install" in lines[number + 1]


@pytest.mark.parametrize(
    ("probe", "module", "text", "words"),
    [
        (CUPY, "cupy", RAISES, "no such thing"),
        (CUPY, "cupy", "raise RuntimeError('half installed')", "RuntimeError: half installed"),
        (CUPY, "cupy", "def (", "SyntaxError"),
        (MPI4PY, "mpi4py", "import os; os._exit(3)", "exit code 3"),
    ],
)
def test_a_part_that_is_broken_is_told_in_a_line(tmp_path, monkeypatch, probe, module, text, words):
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    works, line = take(probe)
    assert not works and line.startswith(words) and "\n" not in line


def cannot_run(code, lines):
    assert code == 1
    assert any("no: no such thing" in line for line in lines) and any("→ pip install" in line for line in lines)
    assert "numpy (the default): does not work: no such thing" in line_of(lines, "backend")


def test_where_numpy_is_missing_the_exit_code_is_1_and_the_remedy_is_there(tmp_path):
    cannot_run(*examined(tmp_path, {"numpy": RAISES}))


@pytest.mark.parametrize(
    ("name", "probes"),
    [("matplotlib", (PACKAGES,)), ("imageio_ffmpeg", (PACKAGES, FFMPEG)), ("threadpoolctl", (NUMPY,))],
)
def test_where_the_default_cannot_run_the_exit_code_is_1_and_the_remedy_is_there(doctor, monkeypatch, name, probes):
    monkeypatch.delenv("SIDEWAYS_BACKEND", raising=False)
    cannot_run(*doctor({name: RAISES}, probes))


def test_a_default_that_the_environment_names_and_that_cannot_run_is_exit_code_1(doctor, monkeypatch):
    monkeypatch.setenv("SIDEWAYS_BACKEND", "cupy")
    code, lines = doctor({"cupy": RAISES}, (CUPY, GPUS))
    assert code == 1
    assert "cupy (the default): does not work: " in line_of(lines, "backend")
    assert any("numpy (with --backend numpy): works" in line for line in lines)


def test_a_part_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr("sideways.doctor.PATIENCE", 1)
    works, words = take(Probe("x", "import time; time.sleep(30)", ""))
    assert (works, words) == (False, "does not answer within 1 s")
