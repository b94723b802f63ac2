"""`sideways doctor --mpi`: a site that works passes every check; what is wrong is found, named and ended in time."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sideways.errors import InputError
from sideways.mpi.site import pairs
from sideways.studies import findings
from sideways.studies.findings import Answers, facts_in
from sideways.studies.mpirun import Ended, command_of, run_within, srun_of
from sideways.studies.site import Site, check_site, site_of
from tests.command_line import refused
from tests.mpi.test_mpi import alive

pytestmark = pytest.mark.alone
PARTS = ("hosts", "versions", "GPUs", "messages", "speed", "wildcards", "files", "UDP", "to set")
ENDED = Ended(0, "", "", 1.0)


def answers(*facts, ended=ENDED):
    """The answers of ranks with these facts, one rank after the other, on the hosts a, a, b, b, …"""
    told = [{"host": "ab"[rank // 2], "rank": rank, **entry} for rank, entry in enumerate(facts)]
    return Answers(len(facts), told, ended, limit=9.0)


@dataclass
class Broken(Site):
    """A site on which some checks run another command line, within another time.

    jobs: check → command line. limits: check → seconds.
    """

    jobs: dict = field(default_factory=dict)
    limits: dict = field(default_factory=dict)

    def command(self, *arguments):
        return next((job for name, job in self.jobs.items() if name in arguments), super().command(*arguments))

    def check(self, name, limit=None, **variables):
        return super().check(name, self.limits.get(name, limit), **variables)


def report(site):
    """Check a site. Returns (exit code, lines)."""
    lines = []
    code = check_site(site, lambda text: lines.extend(text.splitlines()))
    return code, lines


@pytest.mark.parametrize("ranks", [2, 3])
def test_on_this_machine_every_check_is_reported_and_passes(tmp_path, monkeypatch, ranks):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    runs = tmp_path / "new" / "runs"
    code, lines = report(Site(ranks, runs=str(runs)))
    text = "\n".join(lines)
    assert code == 0, text
    assert [line.split("  ")[0] for line in lines if not line.startswith(" ")] == list(PARTS)
    assert "no: " not in text
    cores = len(os.sched_getaffinity(0))
    assert f"{ranks} processes started: {os.uname().nodename} × {ranks} ({cores} cores)" in text
    assert ("more ranks than cores" in text) == (ranks > cores)
    assert len(re.findall(r"^ +\d ↔ \d +\d", text, re.MULTILINE)) == ranks * (ranks - 1) // 2
    assert f"rank 0 writes to {runs}, and every host sees" in text
    assert not (tmp_path / "new").exists()  # nothing is left of the check
    assert lines[-1].split() == ["to", "set", "nothing"]


def test_the_times_of_messages_are_in_seconds_and_the_clock_of_one_host_is_one():
    told = Site(2).check("speed")
    assert not told.problem()
    (facts,) = told.facts
    assert facts["pair"] == [0, 1]
    assert 1e-7 < facts["seconds"]["8"] < 0.2 and 1e6 < 6.4e6 / facts["seconds"]["6400000"] < 1e11
    assert abs(facts["clock"]) < 0.02


def test_a_check_that_hangs_is_reported_within_its_limit_and_leaves_no_process(tmp_path):
    pids = tmp_path / "pids"
    hang = f"import os, time; open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    deaf = command_of(2, "-c", f"import signal; signal.signal(15, signal.SIG_IGN); {hang}")
    site = Broken(2, jobs={"messages": deaf}, limits={"messages": 8.0})
    told = site.check("messages")
    assert 8.0 <= told.ended.seconds < 14.0  # the ranks have 3 s to end by themselves
    code, lines = report(site)
    assert code == 1
    (line,) = (line for line in lines if line.startswith("messages"))
    assert line.split("no: ")[1] == "the exchange fails: does not end within 8 s (its processes were killed)"
    assert lines[lines.index(line) + 1].strip().startswith("→ a firewall")
    assert lines[-1] == "a long run would fail here: mend messages, then check again"
    ranks = [int(pid) for pid in pids.read_text().split()]
    assert len(ranks) == 4 and not any(map(alive, ranks))


def test_a_wildcard_receive_that_hangs_fails_nothing():
    finding = findings.wildcard(Answers(2, [], Ended(None, "", "", 9.0), limit=9.0))
    assert finding.note and not finding.fails
    assert finding.lines()[0].endswith("a receive from any source does not end within 9 s (its processes were killed)")


def test_a_rank_ends_itself_where_nobody_else_can():
    program = (
        "import sys, sideways.mpi.site as site, time\n"
        "site.CHECKS['gpus'] = lambda options: time.sleep(600)\n"
        "sys.argv[1:] = ['gpus', '--limit', '0.5']\n"
        "site.main()\n"
    )
    start = time.monotonic()
    assert subprocess.run([sys.executable, "-c", program]).returncode == -14  # SIGALRM
    assert time.monotonic() - start < 30


def test_other_versions_on_one_rank_are_found(tmp_path):
    fake = tmp_path / "fake.py"
    fake.write_text(
        "import os, runpy, sideways\n"
        "sideways.__version__ = '9.9'\n"
        "os.environ['OPENBLAS_NUM_THREADS'] = '2'\n"
        "runpy.run_module('sideways.mpi.site', run_name='__main__')\n"
    )
    mpirun, *flags, _, _, python = command_of(1)
    one = ["-n", "1", python, "-m", "sideways.mpi.site", "versions"]
    site = Broken(2, jobs={"versions": [mpirun, *flags, *one, ":", "-n", "1", python, str(fake), "versions"]})
    code, lines = report(site)
    host = os.uname().nodename
    text = "\n".join(lines)
    assert code == 1
    assert re.search(rf"versions +no: sideways differs: .* \(rank 0 on {host}\); 9\.9 \(rank 1 on {host}\)", text)
    assert f"OPENBLAS_NUM_THREADS differs: 1 (rank 0 on {host}); 2 (rank 1 on {host})" in text
    assert "→ install the same sideways" in text and lines[-1].startswith("a long run would fail here: mend versions")


def test_another_processor_or_numpy_is_a_note_about_the_last_bits():
    same = {"sideways": "1", "MPI": "MPICH 5", "NumPy": "2.0"}
    told = answers({"versions": same}, {"versions": same}, {"versions": same | {"NumPy": "1.9"}})
    finding = findings.versions(told, told)
    assert finding.note and not finding.fails
    assert finding.text[0] == "NumPy differs: 2.0 (rank 0 on a, 1 on a); 1.9 (rank 2 on b)"
    assert "may not end with the bits of one process" in finding.remedies[0]


def test_the_host_whose_ranks_cannot_import_is_named():
    started = answers({}, {}, {}, {})
    told = Answers(4, started.facts[:2], Ended(1, "", "ModuleNotFoundError: No module named 'numpy'\n", 1.0), 9.0)
    finding = findings.versions(told, started)
    assert finding.fails and finding.text == (
        ["no answer from rank 2, 3: b", "exit code 1: ModuleNotFoundError: No module named 'numpy'"]
    )


def test_lost_messages_name_their_ranks_and_hosts():
    told = answers({"missing": []}, {"missing": []}, {"missing": [1]})
    finding = findings.messages(told, ["a", "a", "b"])
    assert finding.fails and finding.text == ["nothing from rank 1 (a) reaches rank 2 (b)"]


def test_lost_datagrams_and_clocks_apart_are_notes():
    placed = ["a", "a", "b"]
    finding = findings.udp(answers({"silent": [2]}, {"silent": [2]}, {"silent": []}), placed)
    assert finding.note and finding.text == ["no datagram from b reaches a"] and "silent" in finding.remedies[0]
    seconds = {"8": 1e-6, "64000": 1e-4, "6400000": 0.1}
    pair = {"host": "a", "rank": 0, "pair": [0, 2], "seconds": seconds, "clock": 7.5}
    log = "UCX INFO  x inter-node cfg#1 tag(tcp/eth0)  am(tcp/eth0)\nUCX INFO x intra-node cfg#2 tag(sysv/memory)\n"
    versions = answers(*[{"versions": {"MPI": "MPICH 5"}, "variables": ["UCX_TLS=tcp"]}] * 3)
    finding = findings.speed(Answers(3, [pair], Ended(0, log, "", 1.0), 9.0), versions, placed)
    assert finding.text[:2] == [
        "MPICH 5; on one host: MPICH's shared memory, between hosts: UCX tcp/eth0",
        "set: UCX_TLS=tcp",
    ]
    assert finding.text[3].split() == ["0", "↔", "2", "1.0", "0.64", "0.06", "+7500.00", "a", "↔", "b"]
    assert finding.remedies == ["the clocks of a and b differ by 7.5 s: set them by NTP"]


def test_a_slow_pair_on_one_host_is_a_note():
    versions = answers(*[{"versions": {"MPI": "MPICH 5"}, "variables": []}] * 2)
    for latency, remedies in ((2e-6, 0), (2e-3, 1)):
        seconds = {"8": latency, "64000": 1e-4, "6400000": 0.1}
        pair = {"host": "a", "rank": 0, "pair": [0, 1], "seconds": seconds, "clock": 0.0}
        finding = findings.speed(Answers(2, [pair], ENDED, 9.0), versions, ["a", "a"])
        assert len(finding.remedies) == remedies and finding.note == bool(remedies) and not finding.fails


def test_where_rank_0_cannot_write_no_run_can(tmp_path):
    (tmp_path / "file").write_text("")
    site = Site(2, runs=str(tmp_path / "file"))
    finding = findings.files(site.check("files"))
    assert finding.fails and finding.text[0].endswith("File exists") and "--runs" in finding.remedies[0]


def test_a_host_that_ssh_does_not_know_is_named():
    code, lines = report(Site(2, ["localhost", "nowhere.invalid"]))
    assert code == 1 and lines[0].startswith("hosts       no: ")
    assert any("`ssh HOST true` must work here without a password, for" in line for line in lines)
    assert lines[-1] == "a long run would fail here: mend hosts, then check again"


def test_facts_are_found_in_any_output_and_in_the_order_of_ranks():
    output = '[0] {"host": "b", "rank": 1}{"host": "a", "rank": 0}\nwarning: {"host"\n{"host": "a", "ra'
    assert [facts["host"] for facts in facts_in(output)] == ["a", "b"]


def test_all_pairs_of_few_ranks_and_neighbours_of_many():
    assert pairs(3) == [(0, 1), (0, 2), (1, 2)]
    assert len(pairs(8)) == 28 and pairs(9) == [(k, k + 1) for k in range(8)]


def test_the_hosts_become_flags_of_each_launcher(tmp_path, monkeypatch):
    for version, flags in (
        ("HYDRA build details", ["-launcher", "ssh", "-hosts", "a,b", "-ppn", "2", "-n", "3"]),
        ("mpirun (Open MPI) 5", ["--allow-run-as-root", "--oversubscribe", "--host", "a:2,b:2", "-n", "3"]),
    ):
        program = tmp_path / "mpirun"
        program.write_text(f"#!/bin/sh\necho '{version}'\n")
        program.chmod(0o700)
        monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
        assert command_of(3, "x", hosts=["a", "b"]) == [str(program), *flags, str(tmp_path / "python"), "x"]
    assert srun_of(3, "x", hosts=["a", "b"])[:4] == ["srun", "-n", "3", "--nodelist=a,b"]


def test_in_an_allocation_of_slurm_srun_starts_as_many_ranks_as_it_has_tasks(tmp_path, monkeypatch):
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "6")
    site = site_of(None, None)
    assert site.command("-c", "pass") == ["srun", "-n", "6", sys.executable, "-c", "pass"]


def test_without_a_limit_of_its_own_a_job_runs_to_its_end():
    ended = run_within(60, [sys.executable, "-c", "import sys; print('out'); sys.exit('err')"], dict(os.environ))
    assert (ended.code, ended.output, ended.errors) == (1, "out\n", "err\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hosts", "a,b"], "--hosts goes with --mpi"),
        (["--mpi", "--hosts", "a,,b"], "--hosts takes names such as a,b, not ''"),
        (["--mpi", "--hosts=-x"], "--hosts takes names such as a,b, not '-x'"),
        (["--mpi", "--ranks", "1"], "--ranks must be at least 2"),
        (["--mpi", "--hosts", "a,b,c", "--ranks", "2"], "--ranks must be at least 3"),
        (["--mpi", "--limit", "0"], "a number above 0"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(command, arguments, words):
    refused(command("doctor", *arguments), words)


def test_without_mpirun_the_way_to_get_one_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.executable", str(Path("/nowhere/python")))
    with pytest.raises(InputError, match="there is no mpirun: pip install"):
        check_site(Site(2))


def test_with_a_broken_numpy_the_table_of_this_machine_is_printed(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('no such thing')")
    done = subprocess.run(
        [sys.executable, "-m", "sideways", "doctor", "--mpi"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"^NumPy +no: no such thing$", done.stdout, re.MULTILINE)
