"""The exercise in tutorials/exercise/, run as a student or a teacher would, and what came of it."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
EXERCISE = ROOT / "tutorials" / "exercise"
SCAFFOLD = EXERCISE / "my_sideways.py"
SOLUTION = EXERCISE / "solution" / "my_sideways.py"
read_mistakes = runpy.run_path(str(EXERCISE / "mistakes.py"))["read_mistakes"]


def outcomes(tmp_path, files, *options):
    """Run the tests of the exercise on files, in one process. Returns name of the file → {test: message or ""}.

    A test that passes has the message "". Names of the files differ.
    """
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", str(EXERCISE), "--maxfail", "999", "--junitxml", str(report), *options]
    for file in files:
        command += ["--module", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    job = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert job.returncode in (0, 1), job.stdout + job.stderr
    results = {Path(file).stem: {} for file in files}
    for case in ElementTree.parse(report).iter("testcase"):
        name, _, parameters = case.attrib["name"].rstrip("]").partition("[")
        stem = max((stem for stem in results if parameters.startswith(stem)), key=len)
        assert case.find("error") is None, job.stdout
        failure = case.find("failure")
        words = "" if failure is None else re.sub(r"^E ", "", str(failure.text), flags=re.MULTILINE)
        results[stem][f"{name}{parameters.removeprefix(stem)}"] = " ".join(words.split())
    return results


def written(tmp_path, step):
    """Write the program of each mistake of a step. Returns file → the mistake."""
    files = {tmp_path / f"{mistake.name}.py": mistake for mistake in read_mistakes() if mistake.step == step}
    for file, mistake in files.items():
        file.write_text(mistake.source(), encoding="utf-8")
    return files
