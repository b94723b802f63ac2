"""`sideways doctor --gpu`: first contact with a GPU, step by step, from its libraries to a tick over two ranks.

Each step runs in a process of its own with a time limit, because a CUDA error sticks to its process. A step that fails
names the smallest thing that failed: `python -m sideways.studies.first_contact STEP` runs it alone.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from sideways import layers
from sideways.backend import contact, synchronise, to_device, to_host, use_backend
from sideways.errors import InputError
from sideways.losses import SoftmaxCrossEntropy
from sideways.models import build_model
from sideways.optimizers import SGD
from sideways.rules import BPTT, Backprop, Delayed, Rule, Sideways
from sideways.rules.graphed import GraphedSideways
from sideways.studies.findings import Finding
from sideways.studies.mpirun import command_of, run_within
from sideways.training.prefetch import Prefetch

MAKERS: tuple[Callable[[], layers.Layer], ...] = (
    lambda: layers.Conv2D(16, 32, 3),
    lambda: layers.Conv2D(16, 8, 5, stride=2),
    lambda: layers.Conv2D(16, 32, 1),
    lambda: layers.BatchNorm(16),
    lambda: layers.MaxPool2D(2),
    lambda: layers.MaxPool2D(3, 2, "same"),
    lambda: layers.AveragePool2D(3, 2, "same"),
    layers.GlobalAveragePool,
    lambda: layers.Upsample2D(2),
    layers.ReLU,
    layers.Tanh,
    lambda: layers.Dropout(0.3),
    lambda: layers.GatedChange([layers.Conv2D(16, 2, 3)], 2, window=2),
)  # for images of 12 × 12 × 16
TOLERANCE = 2e-3  # of float32, relative to the root mean square
RULES = {"Sideways": Sideways, "Delayed": Delayed, "Backprop": Backprop, "BPTT": BPTT}


def libraries() -> None:
    """Find what CuPy loads late: without these the first product fails, although `import cupy` works."""
    print("\n".join(contact.libraries()))


def operations() -> None:
    """Compare each operation that the layers use with NumPy's."""
    wrong = contact.wrong_operations()
    assert not wrong, "; ".join(wrong)
    print(f"{len(contact.OPERATIONS)} operations give NumPy's numbers")


def layers_beside_numpy() -> None:
    """Compare every layer, forward and backward, with NumPy; and with itself: two runs give the same bits."""
    for make in MAKERS:
        host, device, again = (_forward_and_backward(make(), backend) for backend in ("numpy", "cupy", "cupy"))
        for name, expected in host.items():
            scale = numpy.sqrt(numpy.mean(expected**2)) + 1e-9
            error = float(numpy.abs(device[name] - expected).max() / scale)
            assert error < TOLERANCE, f"{make()!r}: {name} is off by {error:.1e} of its root mean square"
            assert numpy.array_equal(device[name], again[name]), f"{make()!r}: {name} differs between two equal runs"
    print(f"{len(MAKERS)} layers give NumPy's numbers, and the same bits twice")


def _forward_and_backward(layer: layers.Layer, backend: str) -> dict[str, numpy.ndarray]:
    """The output of a layer and all gradients, as host arrays."""
    use_backend(backend)
    random = numpy.random.default_rng(0)
    layer.initialise(numpy.random.default_rng(1), "float32")
    y, saved = layer.forward(to_device(random.normal(size=(16, 12, 12, 16)), "float32"), train=True)
    dx, gradients = layer.backward(to_device(random.normal(size=y.shape), "float32"), saved)
    return {"y": to_host(y), "dx": to_host(dx), **{key: to_host(array) for key, array in gradients.items()}}


def ticks() -> None:
    """Train by every rule beside NumPy; then with the compute stream held up, so that a missing wait shows."""
    for name, kind in RULES.items():
        expected = _losses(kind, "numpy", held_up=False)
        for held_up in (False, True):
            losses = _losses(kind, "cupy", held_up)
            when = " while the device is slow" if held_up else ""
            right = numpy.allclose(losses, expected, rtol=TOLERANCE)
            assert right, f"{name}{when}: losses {losses} instead of {expected}"
    print(f"{', '.join(RULES)} learn as with NumPy, on a slow device too")


def graphs() -> None:
    """Train beside NumPy with ticks that are recorded once and given to the device as a whole."""
    expected = _losses(Sideways, "numpy", held_up=False)
    for held_up in (False, True):
        losses = _losses(GraphedSideways, "cupy", held_up)
        assert numpy.allclose(losses, expected, rtol=TOLERANCE), f"losses {losses} instead of {expected}"
    print("ticks that are CUDA graphs learn as with NumPy, on a slow device too")


def _losses(kind: type[Rule], backend: str, held_up: bool) -> list[float]:
    """The losses of two clips."""
    use_backend(backend)
    network = build_model("vgg5-skip", (16, 16, 1), 4, width=8, norm=False, merging="relu")
    rule: Any = kind(network, SoftmaxCrossEntropy(), SGD(1e-3, momentum=0.9))
    random, prefetch, losses = numpy.random.default_rng(0), Prefetch(rule), []
    for _ in range(2):
        frames = random.normal(size=(15, 8, 16, 16, 1)).astype("float32")
        for _, frame, target in prefetch.pairs(frames, random.integers(0, 4, (15, 8))):
            if held_up:
                contact.hold_up()
            tick = rule.tick(frame, target, prefetch.fetch)
            losses += [] if tick.loss is None else [tick.loss]
        rule.end_clip()
    return [float(to_host(loss)) for loss in losses]


def _vgg8(size: int, **options: Any) -> Callable[[], object]:
    """A function that runs one tick of vgg8 on the device, in the steady state."""
    use_backend("cupy")
    network = build_model("vgg8", (size, size, 3), 101, **options)
    rule = Sideways(network, SoftmaxCrossEntropy(), SGD(1e-4, momentum=0.9), boundary="stream")
    frame = to_device(numpy.random.default_rng(0).normal(size=(8, size, size, 3)), "float32")
    labels = to_device(numpy.arange(8))
    for _ in range(20):
        rule.tick(frame, labels)
    return lambda: rule.tick(frame, labels)


def steady() -> None:
    """Check that a tick in the steady state takes no memory from the device, and that the host does not wait for it."""
    tick = _vgg8(64, width=16)
    before = contact.pool_bytes()
    with contact.refusing_to_wait():
        for _ in range(10):
            tick()
    grown = contact.pool_bytes() - before
    assert not grown, f"ten ticks took {grown:,} bytes from the device"
    print("ten ticks took no memory from the device, and the host did not wait for it")


def speed() -> None:
    """Time a tick of vgg8, 8 frames of 112×112: until the host has queued it, and until the device has computed it."""
    tick, count = _vgg8(112), 20
    synchronise()
    start = time.perf_counter()
    for _ in range(count):
        tick()
    queued = (time.perf_counter() - start) / count
    synchronise()
    done = (time.perf_counter() - start) / count
    bound = "the host" if queued > 0.9 * done else "the device"
    print(f"a tick of vgg8 takes {1e3 * done:.2f} ms, of which the host needs {1e3 * queued:.2f} ms: {bound} bounds it")


RANK = """
import sideways.mpi.training as training
from sideways.backend import contact

set_up = training.set_up

def checked(*arguments):
    rank = set_up(*arguments)
    units = rank.rule.network.units.items()
    far = [name for name, unit in units if not contact.all_here(unit.parameters.values())]
    assert not far, f"the parameters of {far} lie on another GPU than the one that computes"
    return rank

training.set_up = checked
from sideways.mpi.rank import run
run()
"""


def ranks() -> None:
    """Train over two ranks, the parameters of each on the GPU on which it computes."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["waves-skip", "--backend", "cupy", "--clips", "2", "--evaluation-clips", "1", "--batch", "2"]
        options += ["--set", "task_options.size=8", "--runs", folder, "--name", "run"]
        done = run_within(120, command_of(2, "-c", RANK, *options), dict(os.environ))
        complaints = [line for line in done.errors.splitlines() if "Error" in line or "sideways:" in line]
        assert done.code == 0, complaints[-1] if complaints else f"exit code {done.code}"
        losses = [json.loads(line)["loss"] for line in Path(f"{folder}/run/metrics.jsonl").read_text().splitlines()]
    assert numpy.isfinite(losses).all(), f"the losses are {losses}"
    shared = "; they share one GPU" if "warning: 2 ranks share" in done.errors else ""
    print(f"two ranks have trained, each with its parameters on its own GPU{shared}")


@dataclass(frozen=True)
class Step:
    """A step, its time limit in seconds, and what helps if it fails. needed: later steps would only fail as well."""

    work: Callable[[], None]
    seconds: float
    remedy: str
    needed: bool = False


STEPS = {
    "libraries": Step(
        libraries,
        60,
        "NVIDIA's driver and pip install '.[cuda12]' (or cuda13, if the driver is for CUDA 13) in the clone",
        needed=True,
    ),
    "operations": Step(operations, 180, "another version of CuPy; the issues on its page name known faults"),
    "layers": Step(layers_beside_numpy, 300, "the tests name more: python -m pytest --backend cupy tests/layers"),
    "ticks": Step(ticks, 300, "the tests name more: python -m pytest --backend cupy tests/rules"),
    "graphs": Step(graphs, 300, "leave out --cuda-graph; all else works without it"),
    "steady": Step(steady, 300, "the run is right, but slow"),
    "speed": Step(speed, 300, "other programs on this GPU: nvidia-smi"),
    "ranks": Step(ranks, 180, "sideways doctor --mpi checks the MPI"),
}


def first_contact(say: Callable[[str], None] = print) -> int:
    """Run all steps and print a part for each. Returns the exit code: 1 if one has failed, else 0."""
    failed = []
    for name in STEPS:
        finding = examine(name)
        say("\n".join(finding.lines()))
        failed += [name] * finding.fails
        if finding.fails and STEPS[name].needed:
            break
    if failed:
        say(f"\nfailed: {', '.join(failed)}; alone: python -m sideways.studies.first_contact {failed[0]}")
    return 1 if failed else 0


def examine(name: str) -> Finding:
    """Run a step in a process of its own."""
    step = STEPS[name]
    done = run_within(step.seconds, [sys.executable, "-m", "sideways.studies.first_contact", name], dict(os.environ))
    if done.code == 0:
        return Finding(name, done.output.splitlines())
    reason = f"does not end within {step.seconds:g} s" if done.code is None else f"ends with code {done.code}"
    complaints = [line for line in done.errors.splitlines() if line.strip()]
    return Finding(name, [complaints[-1] if complaints and done.code else reason], fails=True, remedies=[step.remedy])


def main() -> None:
    """Run the step that the command line names, in this process."""
    if sys.argv[1:] not in [[name] for name in STEPS]:
        raise InputError(f"name a step: {', '.join(STEPS)}")
    STEPS[sys.argv[1]].work()


if __name__ == "__main__":
    main()
