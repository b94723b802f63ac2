"""Run Python where `import cupy` finds the real CuPy, unmodified, over a stand-in for HIP that needs no GPU.

    python tests/standin/run.py [--lazy] -m pytest --backend cupy tests/layers

The environment needs the wheel `cupy-rocm-7-0`, which loads HIP's libraries when it starts, and this machine a C++
compiler. --lazy: the work of a stream is done as late as a device may do it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

HERE = Path(__file__).parent
BUILD = Path(sys.prefix) / "standin"
SOURCES = [HERE / name for name in ("hip.cpp", "compiler.cpp", "blas.cpp")]
FLAGS = ["-std=c++17", "-O2", "-w", "-fPIC"]
# A GPU may round a product and a sum at once; without that, results are easier to compare.
FLAGS_OF_KERNELS = [*FLAGS, "-ffp-contract=off"]
HIPCC = """#!/bin/sh
# CuPy asks hipcc for its folders of headers.
echo "#include <...> search starts here:" >&2
echo " {folder}" >&2
echo "End of search list." >&2
"""


def build() -> None:
    """Build the stand-in, unless it is there and newer than its sources: one library under all the names of HIP's.

    CuPy's cache of kernels lies in the same folder, and goes with a stand-in that is built anew.
    """
    done = BUILD / "done"
    if done.exists() and all(path.stat().st_mtime < done.stat().st_mtime for path in HERE.rglob("*.*")):
        return
    shutil.rmtree(BUILD, ignore_errors=True)
    (BUILD / "bin").mkdir(parents=True)
    extensions = [
        Path(str(file.locate())) for file in distribution("cupy-rocm-7-0").files or [] if file.name.endswith(".so")
    ]
    objects = []
    for path in SOURCES:
        objects.append(BUILD / f"{path.stem}.o")
        subprocess.run(["c++", *FLAGS, "-c", path, "-o", objects[-1]], check=True)
    missing = sorted(_undefined(extensions) - _defined(objects))
    stubs = "".join(_stub(name) for name in missing)
    library = BUILD / "libstandin.so"
    subprocess.run(
        ["c++", *FLAGS, "-shared", "-o", library, *objects, "-x", "c++", "-", "-ldl"],
        input=f'#include <cstdio>\nextern "C" {{\n{stubs}}}\n',
        check=True,
        text=True,
    )
    for name in _libraries(extensions) | {"libhiprtc.so", "libhiprtc.so.7"}:
        (BUILD / name).symlink_to(library.name)
    # Every kernel includes this header, which the compiler need not parse again for each.
    header = [HERE / "include" / "device.h", "-o", BUILD / "device.h.gch"]
    subprocess.run(["c++", *FLAGS_OF_KERNELS, "-x", "c++-header", *header], check=True)
    hipcc = BUILD / "bin" / "hipcc"
    hipcc.write_text(HIPCC.format(folder=HERE / "include"))
    hipcc.chmod(0o755)
    done.touch()


def _stub(name: str) -> str:
    """A function that says that it is not there, and fails."""
    return f'long {name}() {{ fprintf(stderr, "the stand-in has no {name}\\n"); return 1; }}\n'


def _undefined(libraries: list[Path]) -> set[str]:
    """The functions of HIP that CuPy's extensions look for."""
    text = _output("nm", "--dynamic", "--undefined-only", *libraries)
    return set(re.findall(r" U (_*(?:hip|roc|nccl)\w*)", text))


def _defined(objects: list[Path]) -> set[str]:
    return set(re.findall(r" [TtWVB] (\w+)", _output("nm", "--defined-only", *objects)))


def _libraries(extensions: list[Path]) -> set[str]:
    """The names of HIP's libraries that CuPy's extensions load."""
    text = "".join(_output("readelf", "--dynamic", path) for path in extensions)
    return set(re.findall(r"\(NEEDED\).*\[(lib(?:amdhip|hip|roc|rccl)[^\]]*)\]", text))


def _output(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, text=True, capture_output=True).stdout


def main() -> None:
    arguments = sys.argv[1:]
    if lazy := arguments[:1] == ["--lazy"]:
        arguments = arguments[1:]
    build()
    environment = os.environ | {
        "LD_LIBRARY_PATH": os.pathsep.join([str(BUILD), os.environ.get("LD_LIBRARY_PATH", "")]),
        "PATH": os.pathsep.join([str(BUILD / "bin"), os.environ["PATH"]]),
        "STANDIN_FLAGS": shlex.join([*FLAGS_OF_KERNELS, f"-I{BUILD}", f"-I{HERE / 'include'}"]),
        "CUPY_CACHE_DIR": str(BUILD / "cache"),
        "OPENBLAS_NUM_THREADS": "1",
    }
    if lazy:
        environment["STANDIN_LAZY"] = "1"
    os.execve(sys.executable, [sys.executable, *arguments], environment)


if __name__ == "__main__":
    main()
