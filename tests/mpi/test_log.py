"""Receives name their sender: MPICH's receives from any sender hang where messages travel over TCP."""

import ast
from pathlib import Path

import pytest

import sideways.mpi
from sideways.commands.main import main
from sideways.studies.mpirun import command_of
from tests.mpi.jobs import UNDRAWN, parameters, run, same

APART = ("site.py", "watchdog.py")  # tries such receives, to tell whether they work at a site; knows no MPI
SOURCES = sorted(path for path in Path(sideways.mpi.__file__).parent.glob("*.py") if path.name not in APART)
ARGUMENTS = {  # of each method that receives or looks for a message: up to the source and the tag, which may be any
    **dict.fromkeys(("Recv", "Irecv", "Recv_init", "Mrecv"), ("buf", "source", "tag")),
    **dict.fromkeys(("recv", "irecv"), ("buf", "source", "tag")),
    **dict.fromkeys(("Probe", "Iprobe", "probe", "iprobe", "Improbe", "Mprobe"), ("source", "tag")),
}


def wildcards(source):
    """The lines of a source that receive from any rank, or with any tag."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Name, ast.Attribute)):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in ("ANY_SOURCE", "ANY_TAG"):
                yield node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ARGUMENTS:
            given = len(node.args) + sum(keyword.arg in ("source", "tag") for keyword in node.keywords)
            if given < len(ARGUMENTS[node.func.attr]):
                yield node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_receive_names_its_sender_and_its_tag(path):
    assert not list(wildcards(path.read_text(encoding="utf-8")))


def test_the_search_for_wildcards_finds_them():
    source = "comm.Recv(line, MPI.ANY_SOURCE, 1)\ncomm.Recv(frame, 0)\ncomm.Recv(frame, 0, 1)\ncomm.Iprobe(tag=1)\n"
    assert sorted(wildcards(source)) == [1, 2, 4]


@pytest.mark.xdist_group("ranks")
@pytest.mark.usefixtures("undrawn")
def test_over_tcp_metrics_arrive_and_the_run_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setenv("MPIR_CVAR_NOLOCAL", "1")  # MPICH then sends nothing through shared memory
    monkeypatch.setenv("UCX_TLS", "tcp")
    if "--oversubscribe" in command_of(1):  # Open MPI
        monkeypatch.setenv("OMPI_MCA_pml", "ob1")
        monkeypatch.setenv("OMPI_MCA_btl", "self,tcp")
    options = ["waves-skip", "--clips", "2", "--batch", "2", "--evaluation-clips", "1", "--evaluate-every", "1"]
    options += ["--runs", str(tmp_path)]
    code, _, errors = run(2, UNDRAWN, *options, "--name", "tcp", timeout=100)
    assert code == 0, errors
    assert main(["train", *options, "--name", "one"]) == 0
    assert same(parameters(tmp_path / "one"), parameters(tmp_path / "tcp"))
    one, tcp = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("one", "tcp"))
    assert one == tcp
