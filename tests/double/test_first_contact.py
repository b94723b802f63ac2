"""First contact with a device: every step passes on the double, and names what is wrong where something is."""

import subprocess
import sys

import cupy
import numpy
import pytest

import sideways as sw
from double.clock import Hazard, MemoryPool, clock
from sideways.backend import contact
from sideways.studies import first_contact
from sideways.studies.first_contact import STEPS, examine


@pytest.mark.parametrize("name", [name for name in STEPS if name not in ("libraries", "speed")])
def test_a_step_passes_on_the_double(name):
    finding = examine(name)
    assert not finding.fails, finding.text
    assert len(finding.text) == 1


def test_where_a_library_is_missing_the_steps_end_with_its_name_and_a_remedy():
    lines = []  # the double has CuPy's wheel, and no CUDA
    assert first_contact.first_contact(lines.append) == 1
    assert "libraries   no: " in lines[0] and "pip install '.[cuda12]'" in lines[0]
    assert lines[1:] == ["\nfailed: libraries; alone: python -m sideways.studies.first_contact libraries"]


def test_an_operation_with_other_numbers_or_an_error_is_named(monkeypatch):
    assert contact.wrong_operations() == []
    monkeypatch.setattr(cupy, "tanh", lambda x: x)
    monkeypatch.setattr(cupy, "matmul", lambda *arrays: 1 / 0)
    wrong = contact.wrong_operations()
    assert "tanh, exp, log, sqrt, float32: the numbers are not NumPy's" in wrong
    assert "product of matrices, float64: ZeroDivisionError: division by zero" in wrong
    assert {line.partition(", float")[0] for line in wrong} == {
        "tanh, exp, log, sqrt",
        "product of matrices",
        "product of a transposed matrix",
        "products of many matrices",
        "product with one row",
    }


def test_a_layer_with_other_numbers_is_named(monkeypatch):
    maximum = cupy.maximum
    monkeypatch.setattr(cupy, "maximum", lambda *arrays, **options: maximum(*arrays, **options) * 1.01)
    with pytest.raises(AssertionError, match=r"off by .* of its root mean square"):
        first_contact.layers_beside_numpy()


def test_a_wait_and_growing_memory_in_the_steady_state_are_found(monkeypatch):
    monkeypatch.setattr(clock, "pool", MemoryPool())  # empty: another test may have used more
    kept, tick = [], sw.Sideways.tick

    def wasteful(rule, *arguments):
        kept.append(cupy.empty(1_000_000))
        return tick(rule, *arguments)

    monkeypatch.setattr(sw.Sideways, "tick", wasteful)
    with pytest.raises(AssertionError, match=r"took [\d,]+ bytes from the device"):
        first_contact.steady()

    def waiting(rule, *arguments):
        sw.synchronise()
        return tick(rule, *arguments)

    monkeypatch.setattr(sw.Sideways, "tick", waiting)
    with pytest.raises(Hazard, match="the host has waited 10 times"):
        first_contact.steady()


def test_parameters_on_another_device_are_told_apart():
    here = cupy.zeros(3)
    assert contact.all_here([here])
    cupy.cuda.Device(1).use()
    try:
        assert not contact.all_here([here]) and contact.all_here([cupy.zeros(3)])
    finally:
        cupy.cuda.Device(0).use()


def test_an_unknown_step_is_refused():
    done = subprocess.run([sys.executable, "-m", first_contact.__name__, "lunch"], capture_output=True, text=True)
    assert done.returncode == 1 and "name a step: libraries, operations, layers" in done.stderr
    assert numpy.isfinite([step.seconds for step in STEPS.values()]).all()
