"""Run a notebook as a browser would, and print it with its outputs, as JSON: `python like_a_browser.py NOTEBOOK`.

Pyodide, the Python of browsers, starts no thread and no process, and lacks some modules and functions of the system;
the tutorials in the browser also have no SciPy, no scikit-video and no ffmpeg. All of that is taken away here, before
anything else is imported.
"""

import ast
import contextlib
import io
import json
import linecache
import os
import sys
import sysconfig
import threading
from pathlib import Path

SYSTEM = ["resource", "fcntl", "pwd", "grp", "termios", "sqlite3", "ssl", "lzma"]  # not in Pyodide 0.29 as it starts
LIBRARIES = ["scipy", "skvideo", "imageio", "imageio_ffmpeg", "mpi4py", "cupy", "vizdoom", "torch"]  # not installed
MODULES = {*SYSTEM, *LIBRARIES}
FUNCTIONS = [
    "sched_getaffinity",
    "sched_setaffinity",
    "setpriority",
    "nice",
    "pipe2",
    "posix_spawn",
    "geteuid",
]  # of os


class Without:
    """A finder of modules that does not find those that a browser does not have."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in MODULES else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


def become_a_browser():
    """Take away what Pyodide does not have. `subprocess` refuses to start programs by itself on this platform."""
    sysconfig.get_config_vars()  # read now, since they lie in a file that is named after the platform
    sys.platform = "emscripten"
    sys.meta_path[:] = map(Without, sys.meta_path)
    for name in MODULES & set(sys.modules):
        del sys.modules[name]
    for name in FUNCTIONS:
        delattr(os, name)

    def refuse(*arguments, **options):
        raise RuntimeError("can't start new thread, as in a browser")

    def no_process():
        raise OSError("no process can be started in a browser")

    threading.Thread.start = refuse
    os.fork = no_process


def run(notebook):
    """Run the code cells of a notebook in order, and put what they print or return into it."""
    names = {"__name__": "__main__"}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        code = "".join(cell["source"])
        place = f"<cell {number}>"
        linecache.cache[place] = len(code), None, code.splitlines(keepends=True), place  # for `inspect.getsource`
        body, value, printed = ast.parse(code).body, None, io.StringIO()
        shows = bool(body) and isinstance(body[-1], ast.Expr) and not code.rstrip().endswith(";")
        last = body.pop() if shows else None
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.Module(body, []), place, "exec"), names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), place, "eval"), names)
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": printed.getvalue()}]
        if value is not None:
            cell["outputs"].append({"output_type": "execute_result", "data": {"text/plain": repr(value)}})
        names["plt"].close("all")
    return notebook


if __name__ == "__main__":
    become_a_browser()
    print(json.dumps(run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
