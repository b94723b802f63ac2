"""`sideways doctor`: a table of what this machine has, what will therefore be used, and how to install what is missing.

This module imports Python's standard library only. Each probe runs in a process of its own, so that a library that
cannot be imported, ends its process or hangs costs one line of the table.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE = 60  # seconds for one probe


@dataclass(frozen=True)
class Probe:
    """One line of the table: a part of the machine, examined by a short program."""

    part: str
    program: str  # prints the line; fails if the part is missing or broken
    remedy: str  # the advice that is shown if the program fails


PYTHON = Probe(
    "Python",
    """
    import platform, sys
    assert sys.version_info >= (3, 11), f"Python {platform.python_version()} is too old"
    print(platform.python_version(), sys.executable)
    """,
    "install Python 3.11 or newer",
)
NUMPY = Probe(
    "NumPy",
    """
    import numpy
    blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    print(f"{numpy.__version__}, BLAS: {blas.get('name')} {blas.get('version')}", end="")
    from threadpoolctl import threadpool_info
    threads = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    print(f", {threads[0]} thread(s) unless a run sets another number" if threads else "")
    """,
    "pip install numpy threadpoolctl",
)
PACKAGES = Probe(
    "other packages",
    """
    import importlib, warnings
    warnings.simplefilter("ignore")
    names = "scipy", "skvideo", "imageio_ffmpeg", "matplotlib", "tqdm"
    modules = [importlib.import_module(name) for name in names]
    print(", ".join(f"{name} {getattr(m, '__version__', '')}".strip() for name, m in zip(names, modules)))
    """,
    "pip install . in the clone",
)
FFMPEG = Probe(
    "ffmpeg",
    """
    import subprocess, imageio_ffmpeg
    program = imageio_ffmpeg.get_ffmpeg_exe()
    words = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stdout.split()
    print(words[2], program)
    """,
    "pip install imageio-ffmpeg (without it no video can be read; synthetic tasks such as waves need none)",
)
MEMORY = Probe(
    "memory",
    """
    import os
    page, free, total = (os.sysconf(f"SC_{name}") for name in ("PAGE_SIZE", "AVPHYS_PAGES", "PHYS_PAGES"))
    try:
        available = next(line for line in open("/proc/meminfo") if line.startswith("MemAvailable"))
        free = 1024 * int(available.split()[1]) // page
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{page * free / 1e9:.1f} GB free of {page * total / 1e9:.1f} GB; {cores} core(s)")
    """,
    "",
)
CUPY = Probe("CuPy", "import cupy\nprint(cupy.__version__)", "pip install '.[cuda12]' (or cuda13) in the clone")
DRIVER = Probe(
    "CUDA driver",
    """
    import ctypes
    version = ctypes.c_int()
    code = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    assert code == 0, f"cuDriverGetVersion says error {code}"
    print(f"for CUDA up to {version.value // 1000}.{version.value % 1000 // 10}")
    """,
    "install NVIDIA's driver if the machine has a GPU",
)
GPUS = Probe(
    "GPUs",
    """
    import cupy
    count = cupy.cuda.runtime.getDeviceCount()
    assert count, "none"
    for number in range(count):
        cupy.cuda.Device(number).use()
        free, total = cupy.cuda.Device(number).mem_info
        name = cupy.cuda.runtime.getDeviceProperties(number)["name"].decode()
        print(f"{number}: {name}, {free / 1e9:.1f} GB free of {total / 1e9:.1f} GB")
    """,
    "needs a GPU, its driver and CuPy; check nvidia-smi",
)
MPI4PY = Probe(
    "mpi4py",
    """
    import mpi4py
    from mpi4py import MPI
    print(mpi4py.__version__, "on", " ".join(MPI.Get_library_version().splitlines()[0].split()))
    """,
    "pip install '.[mpi]' in the clone, or pip install mpi4py beside the site's own MPI",
)
MPIRUN = Probe(
    "mpirun",
    """
    import os, shutil, sys
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    program = shutil.which("mpirun", path=path)
    assert program, "there is none"
    print(program)
    """,
    "pip install '.[mpi]' in the clone brings one",
)
CUDA_AWARE = Probe(
    "CUDA-aware MPI",
    """
    from mpi4py import MPI
    from sideways.machine import cuda_aware
    aware, reason = cuda_aware()
    print("yes" if aware else "no", f"({reason})")
    """,
    "needs mpi4py",
)
TICKS = """
    import os, warnings
    os.environ["SIDEWAYS_BACKEND"] = {backend!r}
    import numpy, sideways
    network = sideways.Network([sideways.Unit("a", [sideways.Flatten(), sideways.Dense(4, 2)])], (2, 2, 1))
    rule = sideways.Sideways(network, sideways.SoftmaxCrossEntropy(), sideways.SGD(0.1))
    tick = rule.tick(numpy.ones((1, 2, 2, 1)), [0])
    assert numpy.isfinite(sideways.to_host(tick.loss)), "the loss is no number"
    warnings.simplefilter("ignore")
    # All that a run imports: at once, when it reads a video, and when it draws its plots.
    import sideways.training.several, imageio_ffmpeg, matplotlib.figure
    print("a tick was trained")
"""
TABLE = (PYTHON, NUMPY, PACKAGES, FFMPEG, MEMORY, CUPY, DRIVER, GPUS, MPI4PY, MPIRUN, CUDA_AWARE)


def take(probe: Probe) -> tuple[bool, str]:
    """Run a probe. Returns (the part works, the lines that the probe printed or the reason why it failed)."""
    program = textwrap.dedent(probe.program)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, errors="replace", timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return False, f"does not answer within {PATIENCE} s"
    except OSError as error:
        return False, str(error)
    if done.returncode == 0:
        return True, done.stdout.strip()
    if done.returncode < 0:
        return False, f"ends its process with signal {-done.returncode}"
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    reason = lines[-1]
    for kind in ("ModuleNotFoundError: ", "ImportError: ", "AssertionError: ", "OSError: "):
        reason = reason.removeprefix(kind)
    return False, reason.strip()[:200]


def doctor(say: Callable[[str], None] = print) -> int:
    """Print the table and what follows from it. Returns the exit code: 0 if the default backend works, else 1."""
    results = {}
    for probe in TABLE:
        works, text = results[probe.part] = take(probe)
        first, *others = text.splitlines() or [""]
        say(f"{probe.part:<16}{first if works else 'no: ' + first}")
        for line in others:
            say(f"{'':<16}{line}")
        if not works and probe.remedy:
            say(f"{'':<16}→ {probe.remedy}")
    say("")
    default = os.environ.get("SIDEWAYS_BACKEND") or "numpy"
    usable = {}
    for backend in dict.fromkeys((default, "numpy", "cupy")):
        usable[backend], text = _try_backend(backend, backend == default, has_gpu=results["GPUs"][0])
        option = " (the default)" if backend == default else f" (with --backend {backend})"
        say(f"{'backend':<16}{backend}{option}: {'works, ' if usable[backend] else 'does not work: '}{text}")
    ranks = results["mpi4py"][0] and results["mpirun"][0]
    answer = "mpirun -n K sideways train …" if ranks else "need mpi4py and mpirun"
    say(f"{'several ranks':<16}{answer}")
    if ranks and usable["cupy"]:
        aware = results["CUDA-aware MPI"][1].startswith("yes")
        alternative = "; --transport cuda-aware hands device arrays to MPI" if aware else ""
        say(f"{'GPU messages':<16}through pinned host memory{alternative}")
    return 0 if usable[default] else 1


def _try_backend(backend: str, is_default: bool, has_gpu: bool) -> tuple[bool, str]:
    """Train one tick on a backend. Returns (it works, the line to print)."""
    if backend == "cupy" and not is_default and not has_gpu:
        return False, "no GPU that CuPy can use"
    return take(Probe(backend, TICKS.format(backend=backend), remedy=""))


def run_if_asked_for() -> None:
    """End the process with the table if the command is `sideways doctor …`. Called if NumPy cannot be imported."""
    if sys.argv[1:2] == ["doctor"]:
        sys.exit(doctor())
