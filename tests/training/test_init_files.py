"""Files of parameters for `--init`: a file that unpacks to more than the network holds is refused before it is read."""

import io
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from sideways.errors import InputError
from sideways.models import build_model
from sideways.training.memory import peak
from sideways.training.parameters import save_parameters, start_from

LARGE = 36_000_000  # bytes
NAME = "conv1/0.weight"


@pytest.fixture
def network():
    return build_model("vgg5", (8, 8, 1), 4, width=4)


def archive(path, network, name, header, zeros):
    """Write the parameters of a network, but for one array the header given, and so many bytes of zeros."""
    save_parameters(network, path)
    with zipfile.ZipFile(path) as whole:
        members = {member: whole.read(member) for member in whole.namelist()}
    file = io.BytesIO()
    npy.write_array_header_2_0(file, header)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as changed:
        for member, content in members.items():
            changed.writestr(member, file.getvalue() + bytes(zeros) if member == f"{name}.npy" else content)
    assert path.stat().st_size < LARGE / 40
    return str(path)


def header(shape, dtype="<f4"):
    return {"descr": dtype, "fortran_order": False, "shape": shape}


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (header((3, 3, 1, LARGE // 36)), r"conv1/0.weight has shape \(3, 3, 1, \d+\), expected is \(3, 3, 1, 4\)"),
        (header((3, 3, 1, 4)), "its sizes contradict each other"),
        (header((3, 3, 1, 4), f"|S{LARGE // 36}"), "conv1/0.weight is no array of numbers"),
        (header((3, 3, 1, 4), f"<U{LARGE // 144}"), "conv1/0.weight is no array of numbers"),
        (header((3, 3, 1, 4), "|O"), "conv1/0.weight is no array of numbers"),
        (header((10**30,)), "its sizes contradict each other"),
    ],
    ids=["shape", "more data", "bytes", "text", "objects", "astronomic"],
)
def test_a_file_that_unpacks_to_more_than_the_network_holds_is_refused_unread(tmp_path, network, contents, words):
    path = archive(tmp_path / "bomb.npz", network, NAME, contents, LARGE)

    def refuse():
        with pytest.raises(InputError, match=rf"^--init .*bomb\.npz: .*{words}"):
            start_from(network, path)

    assert peak(refuse) < LARGE / 4


def test_arrays_that_the_network_does_not_have_are_not_read(tmp_path, network):
    other = build_model("vgg5", (8, 8, 1), 4, width=4, middle=3)
    shapes = {f"{name}/{key}" for name, unit in other.parameters.items() for key in unit}
    assert "conv5/0.weight" in shapes  # not in `network`
    path = archive(tmp_path / "more.npz", other, "conv5/0.weight", header((LARGE // 4,)), LARGE)

    def refuse():
        with pytest.raises(InputError, match=r"conv4/0.weight has shape"):
            start_from(network, path)

    assert peak(refuse) < LARGE / 4


def test_a_top_of_another_shape_is_not_read_and_all_else_is(tmp_path, network):
    path = archive(tmp_path / "top.npz", network, "head/1.weight", header((LARGE // 4,)), LARGE)
    fresh = build_model("vgg5", (8, 8, 1), 4, width=4, seed=5)
    before = fresh.parameters["head"]["1.weight"].copy()
    assert peak(lambda: start_from(fresh, path)) < LARGE / 4
    assert np.array_equal(fresh.parameters["conv1"]["0.weight"], network.parameters["conv1"]["0.weight"])
    assert np.array_equal(fresh.parameters["head"]["1.weight"], before)
