"""How the exercise is tested: which file holds the student's code, and what is shown of a failure."""

import os
import re
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: sums repeat to the last bit

import pytest
from hypothesis import HealthCheck, Phase, settings
from mistakes import load

HERE = Path(__file__).parent
settings.register_profile(
    "exercise",
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("exercise")


def pytest_addoption(parser):
    parser.addoption(
        "--module", action="append", metavar="FILE", help="the file to test (default: my_sideways.py in this folder)"
    )
    parser.addoption("--patience", type=float, default=30.0, metavar="S", help="end step 4 after so long a standstill")


def pytest_generate_tests(metafunc):
    if "mine" in metafunc.fixturenames:
        files = metafunc.config.getoption("--module") or [str(HERE / "my_sideways.py")]
        metafunc.parametrize("mine", files, indirect=True, scope="session", ids=lambda file: Path(file).stem)


@pytest.fixture(scope="session")
def mine(request):
    """The module with the student's code; its attribute `path` names the file."""
    module = load(Path(request.param).read_text(encoding="utf-8"), request.param)
    module.path = request.param
    return module


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show the message alone of a failed comparison and of what is not written yet; a traceback would only hide it."""
    report = yield
    if call.excinfo and call.excinfo.errisinstance((AssertionError, NotImplementedError)):
        report.longrepr = str(call.excinfo.value)
    return report


def pytest_report_teststatus(report):
    """Show each test as a sentence."""
    if report.when == "call" or report.failed:
        file, _, name = report.nodeid.rpartition("::")
        sentence = re.sub(r"^test_|\[\w+-|\[\w+\]|\]", " ", name).replace("_", " ").replace("-", " ")
        mark = "✓" if report.passed else "✗"
        return report.outcome, f"{mark} {step_of(file)}: {' '.join(sentence.split())}\n", report.outcome
    return None


def pytest_terminal_summary(terminalreporter):
    """Say which steps are done, and where to go on."""
    outcomes = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            outcomes.setdefault(step_of(report.nodeid.partition("::")[0]), set()).add(outcome)
    for step, outcome in sorted(outcomes.items()):
        words = "done" if outcome == {"passed"} else "not yet (README.md has hints, folded)"
        terminalreporter.write_line(f"{step}: {words}")


def step_of(file):
    """The name of the step that a file of tests belongs to."""
    return f"Step {Path(file).name.split('_')[2]}"
