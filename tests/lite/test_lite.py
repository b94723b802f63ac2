"""The tutorials that run in a browser, built and opened in a real headless Chromium: `make test-lite`.

A test must not rely on Pyodide's server. The packages that the kernel starts with are pure Python, and come from PyPI
when the site is built. NumPy and Matplotlib for browsers do not: with LITE_WHEELS=FOLDER, a folder that has the wheels
of all packages, each notebook is run too, and its results are compared with the saved ones.
"""

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from notebooks import TUTORIALS, differences, read
from selenium import webdriver

pytestmark = pytest.mark.lite

ROOT = Path(__file__).parent.parent.parent
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1440,1000"),
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # nothing outside this machine can be reached
]
KERNEL = {  # the packages that the kernel starts with, in the versions of Pyodide 0.29.3
    "asttokens": "3.0.0",
    "comm": "0.2.3",
    "decorator": "5.2.1",
    "executing": "2.2.0",
    "ipython": "9.0.2",
    "jedi": "0.19.2",
    "matplotlib-inline": "0.2.1",
    "micropip": "0.11.0",
    "packaging": "24.2",
    "parso": "0.8.4",
    "prompt-toolkit": "3.0.50",
    "pure-eval": "0.2.3",
    "pygments": "2.19.1",
    "six": "1.17.0",
    "stack-data": "0.6.3",
    "traitlets": "5.14.3",
    "wcwidth": "0.2.13",
}
WHEELS = os.environ.get("LITE_WHEELS")
SECONDS = 900  # for Python to start, and for a notebook to run, on a busy machine
STATUS = """
const panel = window.jupyterapp && jupyterapp.shell.currentWidget
const session = panel && panel.context && panel.context.isReady && panel.sessionContext.session
return session && session.kernel ? session.kernel.status : null
"""
RUN = """
window.ran = null
const running = jupyterapp.commands.execute(arguments[0])
running.then(result => { window.ran = result }, error => { window.ran = String(error) })
"""
NOTEBOOK = "return JSON.stringify(jupyterapp.shell.currentWidget.context.model.toJSON())"
FIRST_CELL = """
const cells = jupyterapp.shell.currentWidget.context.model.sharedModel.cells
cells.find(cell => cell.cell_type === 'code').setSource(arguments[0])
"""
SELECT_FIRST = """
const notebook = jupyterapp.shell.currentWidget.content
notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.type === 'code')
"""


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """The address of the site, built and served on this machine alone."""
    folder, wheels = tmp_path_factory.mktemp("site"), Path(WHEELS or tmp_path_factory.mktemp("wheels"))
    if not WHEELS:
        options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--python-version", "3.13", "--platform", "any"]
        names = [f"{name}=={version}" for name, version in KERNEL.items()]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, "-d", wheels, *names], check=True)
    build = [sys.executable, ROOT / "tutorials" / "lite" / "build.py", "--wheels", wheels, "--out", folder / "lite"]
    subprocess.run(build, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/lite"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that prints nothing."""

    def log_message(self, *words):
        pass


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Debian's Chromium and its driver, with an empty profile."""
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def wait_for(wanted, chromium, script):
    """Wait until a script in the page returns a value."""
    end = time.monotonic() + SECONDS
    while (value := chromium.execute_script(script)) != wanted:
        assert value is None or isinstance(value, str), value
        assert time.monotonic() < end, value
        time.sleep(1)


def opened(chromium, address, path):
    """Open a notebook, and wait until its Python answers."""
    chromium.get(f"{address}/lab/index.html?path={path.name}&reset")
    wait_for("idle", chromium, STATUS)


def run(chromium, command):
    """Run a command of JupyterLab that runs cells. Returns the notebook with its outputs."""
    chromium.execute_script(RUN, command)
    wait_for(True, chromium, "return window.ran")
    return json.loads(chromium.execute_script(NOTEBOOK))


def test_python_starts_in_the_browser_and_runs_a_cell(chromium, address):
    opened(chromium, address, next(TUTORIALS.glob("01_*.ipynb")))
    chromium.execute_script(FIRST_CELL, "import sys\nprint(sys.platform, sum(k**2 for k in range(10)))")
    chromium.execute_script(SELECT_FIRST)
    fresh = run(chromium, "notebook:run-cell")
    cell = next(cell for cell in fresh["cells"] if cell["cell_type"] == "code")
    assert "".join("".join(output["text"]) for output in cell["outputs"]) == "emscripten 285\n"


if WHEELS:

    @pytest.mark.parametrize("path", sorted(TUTORIALS.glob("0[1-6]*.ipynb")), ids=lambda path: path.stem)
    def test_a_notebook_gives_its_saved_results_in_the_browser(chromium, address, path):
        opened(chromium, address, path)
        fresh = run(chromium, "notebook:run-all-cells")
        outputs = [output for cell in fresh["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]
        assert not [output for output in outputs if output["output_type"] == "error"]
        assert differences(read(path), fresh) == []
