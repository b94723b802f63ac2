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
RUN_ALL = "const done = arguments[0]; jupyterapp.commands.execute('notebook:run-all-cells').then(done, done)"
NOTEBOOK = "return JSON.stringify(jupyterapp.shell.currentWidget.context.model.toJSON())"
FIRST_CELL = """
const cells = jupyterapp.shell.currentWidget.context.model.sharedModel.cells
cells.find(cell => cell.cell_type === 'code').setSource(arguments[0])
"""
RUN_FIRST = """
const done = arguments[0], notebook = jupyterapp.shell.currentWidget.content
notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.type === 'code')
jupyterapp.commands.execute('notebook:run-cell').then(done, done)
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
    driver.set_script_timeout(SECONDS)
    driver.command_executor._client_config.timeout = SECONDS
    yield driver
    driver.quit()


def opened(chromium, address, path):
    """Open a notebook, and wait until its Python answers."""
    chromium.get(f"{address}/lab/index.html?path={path.name}&reset")
    end = time.monotonic() + SECONDS
    while (status := chromium.execute_script(STATUS)) != "idle":
        assert time.monotonic() < end, status
        time.sleep(1)


def test_python_starts_in_the_browser_and_runs_a_cell(chromium, address):
    path = next(TUTORIALS.glob("01_*.ipynb"))
    opened(chromium, address, path)
    chromium.execute_script(FIRST_CELL, "import sys\nprint(sys.platform, sum(k**2 for k in range(10)))")
    assert chromium.execute_async_script(RUN_FIRST) is True
    cell = next(c for c in json.loads(chromium.execute_script(NOTEBOOK))["cells"] if c["cell_type"] == "code")
    assert "".join("".join(output["text"]) for output in cell["outputs"]) == "emscripten 285\n"


def run_all(chromium, address, path):
    """Run a notebook from top to bottom. Returns it with its outputs."""
    opened(chromium, address, path)
    assert chromium.execute_async_script(RUN_ALL) is True
    return json.loads(chromium.execute_script(NOTEBOOK))


if WHEELS:

    @pytest.mark.parametrize("path", sorted(TUTORIALS.glob("0[1-6]*.ipynb")), ids=lambda path: path.stem)
    def test_a_notebook_gives_its_saved_results_in_the_browser(chromium, address, path):
        fresh = run_all(chromium, address, path)
        outputs = [output for cell in fresh["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]
        assert not [output for output in outputs if output["output_type"] == "error"]
        assert differences(read(path), fresh) == []
