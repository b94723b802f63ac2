"""`sideways doctor`: what this machine has, what will therefore be used, and the line that brings each missing part.

Nothing here is imported but Python's own modules: each look is taken by a process of its own, so that a library that is
broken, ends its process or hangs is one line in the table, whatever it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE = 60  # seconds for one look


@dataclass(frozen=True)
class Probe:
    """One line of the table: what a short program prints of a part, and what brings the part where that fails."""

    part: str
    program: str
    remedy: str


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
    print(f", {threads[0]} thread(s) unless a run is told another number" if threads else "")
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
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stdout.split()
    print(said[2], program)
    """,
    "pip install imageio-ffmpeg (videos cannot be read; made tasks such as waves can)",
)
MEMORY = Probe(
    "memory",
    """
    import os
    page, free, all = (os.sysconf(f"SC_{name}") for name in ("PAGE_SIZE", "AVPHYS_PAGES", "PHYS_PAGES"))
    try:
        told = next(line for line in open("/proc/meminfo") if line.startswith("MemAvailable"))
        free = 1024 * int(told.split()[1]) // page
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{page * free / 1e9:.1f} GB free of {page * all / 1e9:.1f} GB; {cores} core(s)")
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
    "install NVIDIA's driver, where there is a GPU",
)
GPUS = Probe(
    "GPUs",
    """
    import cupy
    count = cupy.cuda.runtime.getDeviceCount()
    assert count, "none"
    for number in range(count):
        cupy.cuda.Device(number).use()
        free, all = cupy.cuda.Device(number).mem_info
        name = cupy.cuda.runtime.getDeviceProperties(number)["name"].decode()
        print(f"{number}: {name}, {free / 1e9:.1f} GB free of {all / 1e9:.1f} GB")
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
    able, why = cuda_aware()
    print("yes" if able else "no", f"({why})")
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
    import sideways.commands.main
    print("a tick was trained")
"""
TABLE = (PYTHON, NUMPY, PACKAGES, FFMPEG, MEMORY, CUPY, DRIVER, GPUS, MPI4PY, MPIRUN, CUDA_AWARE)


def take(probe: Probe) -> tuple[bool, str]:
    """Whether the part is there, and what was seen of it or why not."""
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
    said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    for kind in ("ModuleNotFoundError: ", "ImportError: ", "AssertionError: ", "OSError: "):
        said = [line.removeprefix(kind) for line in said]
    return False, said[-1].strip()[:200]


def doctor(say: Callable[[str], None] = print) -> int:
    """Print the table and what follows from it. Exit code 0 if what is used by default can run, else 1."""
    seen = {}
    for probe in TABLE:
        there, words = seen[probe.part] = take(probe)
        first, *others = words.splitlines() or [""]
        say(f"{probe.part:<16}{first if there else 'no: ' + first}")
        for line in others:
            say(f"{'':<16}{line}")
        if not there and probe.remedy:
            say(f"{'':<16}→ {probe.remedy}")
    say("")
    default = os.environ.get("SIDEWAYS_BACKEND") or "numpy"
    runs = {}
    for backend in dict.fromkeys((default, "numpy", "cupy")):
        if backend == "cupy" != default and not seen["GPUs"][0]:
            runs[backend] = (False, "no GPU that CuPy can use")
        else:
            runs[backend] = take(Probe(backend, TICKS.format(backend=backend), ""))
        there, words = runs[backend]
        chosen = " (the default)" if backend == default else f" (with --backend {backend})"
        say(f"{'backend':<16}{backend}{chosen}: {'works, ' if there else 'does not work: '}{words}")
    ranks = seen["mpi4py"][0] and seen["mpirun"][0]
    how = "mpirun -n K python -m mpi …, in the clone" if ranks else "not before mpi4py and mpirun are there"
    say(f"{'several ranks':<16}{how}")
    if ranks and runs["cupy"][0]:
        aware = seen["CUDA-aware MPI"][1].startswith("yes")
        say(
            f"{'GPU messages':<16}through pinned host memory"
            + ("; --transport cuda-aware hands them to MPI as they are" if aware else "")
        )
    return 0 if runs[default][0] else 1


def step_in() -> None:
    """Where not even NumPy can be imported, `sideways doctor` still says what is wrong."""
    if sys.argv[1:] == ["doctor"]:
        try:
            import numpy  # noqa: F401
        except Exception:
            sys.exit(doctor())
