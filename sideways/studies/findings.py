"""Turn the facts that the ranks of a check have told into a `Finding`: what they mean for a run, and a remedy."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sideways.studies.mpirun import Ended
from sideways.tables import aligned

Facts = list[dict[str, Any]]
WIDTH = 12  # characters of the first column
SLOW = 50e-6  # seconds for 8 bytes on one host; shared memory takes a few microseconds
BITS = ("Python", "NumPy", "mpi4py", "processor", "BLAS", "OPENBLAS_NUM_THREADS")  # a difference changes the last bits
TELLING = re.compile(
    r"Error|failed|denied|refused|not found|No such|No route|ot resolve|Host key|timed out|Abort|sideways:"
)


@dataclass(frozen=True)
class Finding:
    """The lines of one part of the report. fails: a long run would fail; note: it runs, but there is something to know.

    remedies: the advice shown below the lines.
    """

    part: str
    text: Sequence[str]
    fails: bool = False
    note: bool = False
    remedies: Sequence[str] = ()

    def lines(self) -> list[str]:
        """The lines to print."""
        first, *others = self.text
        mark = "no: " if self.fails else "note: " if self.note else ""
        lines = [f"{self.part:<{WIDTH}}{mark}{first}", *(f"{'':<{WIDTH}}{line}" for line in others)]
        return [line.rstrip() for line in lines] + [f"{'':<{WIDTH}}→ {remedy}" for remedy in self.remedies]


@dataclass(frozen=True)
class Answers:
    """The facts that the ranks of a job have told, in the order of the ranks, and how the job ended."""

    ranks: int
    facts: Facts
    ended: Ended
    limit: float  # seconds

    def problem(self) -> str:
        """The reason why the job did not end well; empty if it did."""
        if self.ended.code is None:
            return f"does not end within {self.limit:g} s (its processes were killed)"
        if self.ended.code == 0:
            return ""
        lines = [line.strip() for line in self.ended.errors.splitlines() if line.strip(" -=|\t")]
        line = next((line for line in reversed(lines) if TELLING.search(line)), lines[-1] if lines else "")
        return f"exit code {self.ended.code}{': ' if line else ''}{line[:200]}"

    def silent(self) -> str:
        """The ranks that have told nothing, in words; empty if all have told something."""
        missing = sorted(set(range(self.ranks)) - {facts["rank"] for facts in self.facts})
        return f"no answer from rank {_listed(missing)}" if missing else ""


def facts_in(output: str) -> Facts:
    """The JSON objects that begin with a host, wherever they stand in the output, in the order of the ranks."""
    decoder, facts, position = json.JSONDecoder(), [], 0
    while (position := output.find('{"host"', position)) >= 0:
        try:
            entry, position = decoder.raw_decode(output, position)
        except ValueError:  # the rank was ended while it wrote
            position += 1
        else:
            facts.append(entry)
    return sorted(facts, key=lambda entry: entry.get("rank", 0))


def _listed(entries: Sequence[object]) -> str:
    return ", ".join(map(str, entries))


def hosts(answers: Answers, asked: Sequence[str]) -> Finding:
    """Check that a process was started for each rank, on as many hosts as were asked for."""
    cores: dict[str, set[int]] = {}
    shares: dict[str, int] = {}
    for facts in answers.facts:
        cores.setdefault(facts["host"], set()).update(facts["cores"])
        shares[facts["host"]] = shares.get(facts["host"], 0) + 1
    there = _listed([f"{host} × {share} ({len(cores[host])} cores)" for host, share in shares.items()])
    text = [f"{len(answers.facts)} processes started: {there}" if there else "no process was started"]
    few = len(answers.facts) < answers.ranks or len(shares) < len(asked)
    if few or answers.problem():
        wanted = f"{answers.ranks} processes on {len(asked) or 'any'} host(s) were asked for"
        text += [answers.problem() or wanted]
        remedies = [f"every host needs this Python at the same path: {sys.executable}"]
        if asked:
            absent = _listed([host for host in asked if host not in shares])
            remedies.insert(0, f"`ssh HOST true` must work here without a password, for {absent}")
        return Finding("hosts", text, fails=True, remedies=remedies)
    crowded = [host for host, share in shares.items() if share > len(cores[host])]
    remedies = [f"more ranks than cores on {_listed(crowded)}: a run is as fast as its cores, not its ranks"]
    return Finding("hosts", text, note=bool(crowded), remedies=remedies if crowded else ())


def versions(answers: Answers, started: Answers) -> Finding:
    """Compare the versions of all ranks. Other code or another MPI is a failure, the rest may change the last bits.

    started: the answers from which the hosts are known.
    """
    if missing := answers.silent():
        dumb = {facts["host"] for facts in started.facts} - {facts["host"] for facts in answers.facts}
        missing += f": {_listed(sorted(dumb))}" if dumb else ""
        remedies = [f"on every host: {sys.executable} -m pip install 'sideways[mpi]', or the clone at the same path"]
        return Finding("versions", [missing, answers.problem()], fails=True, remedies=remedies)
    equal, different = [], {}
    for name, value in answers.facts[0]["versions"].items():
        holders: dict[str, list[str]] = {}
        for facts in answers.facts:
            holders.setdefault(facts["versions"][name], []).append(f"{facts['rank']} on {facts['host']}")
        if len(holders) == 1:
            equal.append(f"{name} {value}".replace("MPI MPICH", "MPICH").replace("MPI Open", "Open"))
        else:
            parts = (f"{other} (rank {_listed(ranks)})" for other, ranks in holders.items())
            different[name] = f"{name} differs: {'; '.join(parts)}"
    fatal = [name for name in different if name not in BITS]
    remedies = []
    if fatal:
        remedies.append("install the same sideways and the same MPI on every host")
    elif different:
        remedies.append("runs work, but may not end with the bits of one process; choose equal hosts for that")
    text = [*different.values(), *textwrap.wrap(f"equal: {_listed(equal)}", 100)]
    return Finding("versions", text, fails=bool(fatal), note=bool(different), remedies=remedies)


def gpus(answers: Answers) -> Finding:
    """Say how many GPUs CuPy can use on each host."""
    first = {facts["host"]: facts for facts in reversed(answers.facts)}
    shares = {host: sum(facts["host"] == host for facts in answers.facts) for host in first}
    text = [
        f"{host}: {facts['gpus']} × {facts['name']}"
        if facts["gpus"]
        else f"{host}: none ({re.split(r' [(]|;', facts['reason'])[0]})"
        for host, facts in reversed(first.items())
    ]
    with_gpus = [host for host, facts in first.items() if facts["gpus"]]
    remedies = []
    if with_gpus and len(with_gpus) < len(first):
        remedies.append("--backend cupy needs a GPU on every host")
    if shared := [host for host in with_gpus if shares[host] > first[host]["gpus"]]:
        remedies.append(f"ranks share GPUs on {_listed(shared)}; one rank per GPU is fastest")
    if problem := answers.problem():
        text.append(problem)
    return Finding("GPUs", text, note=bool(remedies or problem), remedies=remedies)


def messages(answers: Answers, placed: Sequence[str]) -> Finding:
    """Check that a message passes between every two ranks, and that all ranks can add up a number."""
    lost = [(sender, facts["rank"]) for facts in answers.facts for sender in facts.get("missing", ())]
    remedies = [
        "a firewall between the hosts, or the wrong network: every host must accept TCP connections from the others",
        "with several networks name the right one: UCX_NET_DEVICES=eth0 (MPICH with UCX), FI_TCP_IFACE=eth0 (OFI), "
        "OMPI_MCA_btl_tcp_if_include=eth0 (Open MPI)",
    ]
    if lost:
        text = [f"nothing from rank {a} ({placed[a]}) reaches rank {b} ({placed[b]})" for a, b in lost[:8]]
        return Finding("messages", text, fails=True, remedies=remedies)
    summed = sum(facts.get("total") == sum(range(answers.ranks)) for facts in answers.facts)
    if summed < answers.ranks:
        told = "all messages between two ranks arrive, but a sum over all ranks" if answers.facts else "the exchange"
        return Finding("messages", [f"{told} fails: {answers.problem() or 'wrong sum'}"], fails=True, remedies=remedies)
    if problem := answers.problem():
        return Finding("messages", [f"all arrive, but the job {problem}"], note=True)
    return Finding("messages", ["arrive between every two ranks; a sum over all ranks is right"])


def speed(answers: Answers, versions: Answers, placed: Sequence[str]) -> Finding:
    """Show latency, bandwidth and clocks for each pair, and the transports as far as they can be told."""
    rows, slowest, remedies = [], (0.0, ""), []
    for facts in answers.facts:
        (a, b), seconds, clock = facts["pair"], facts["seconds"], facts["clock"]
        ends = "one host" if placed[a] == placed[b] else f"{placed[a]} ↔ {placed[b]}"
        rates = [f"{size / seconds[str(size)] / 1e9:.2f}" for size in (64_000, 6_400_000)]
        rows.append([f"{a} ↔ {b}", f"{seconds['8'] * 1e6:.1f}", *rates, f"{clock * 1e3:+.2f}", ends])
        slowest = max(slowest, (seconds["6400000"], f"{a} ↔ {b}"))
        if placed[a] == placed[b] and seconds["8"] > SLOW:
            remedies.append(
                f"{a} ↔ {b} is slow for one host: do other programs take its cores, or is there TCP inside?"
            )
        if abs(clock) > 1.0:
            remedies.append(f"the clocks of {placed[a]} and {placed[b]} differ by {abs(clock):.1f} s: set them by NTP")
    text = _transports(answers, versions, placed)
    if rows:
        head = ("ranks", "8 B, µs", "64 kB, GB/s", "6.4 MB, GB/s", "clock, ms", "  between")
        text += aligned(head, [[*row[:-1], f"  {row[-1]}"] for row in rows]).splitlines()
        text.append(f"a tick that sends 6.4 MB over {slowest[1]} takes at least {slowest[0] * 1e3:.1f} ms")
    if problem := answers.problem():
        done = f"after {len(rows)} pairs" if rows else "with the first pair"
        remedy = "large messages do not pass (MTU? a container without CMA?): try UCX_TLS=tcp or OMPI_MCA_btl=self,tcp"
        return Finding("speed", [f"{problem}, {done}", *text], fails=True, remedies=[remedy])
    return Finding("speed", text, note=bool(remedies), remedies=remedies)


def _transports(answers: Answers, versions: Answers, placed: Sequence[str]) -> list[str]:
    """The lines that tell by which way messages go: MPI's own shared memory, what UCX says, and what the user has set.

    UCX writes, with UCX_LOG_LEVEL=info, lines such as `inter-node cfg#1 tag(tcp/eth0)`.
    """
    said = set(re.findall(r"(intra|inter)-node cfg#\d+ tag\(([^)]*)\)", answers.ended.output + answers.ended.errors))
    library = versions.facts[0]["versions"]["MPI"]
    variables = sorted({variable for facts in versions.facts for variable in facts["variables"]})
    own = library.startswith("MPICH") and not any(v.startswith("MPIR_CVAR_NOLOCAL") for v in variables)
    ways = {"intra": "MPICH's shared memory" if own else "", "inter": ""}
    for place in ways:
        ways[place] = ways[place] or _listed(sorted({f"UCX {tag}" for where, tag in said if where == place}))
    if len(set(placed)) == len(placed):
        del ways["intra"]
    if len(set(placed)) == 1:
        del ways["inter"]
    names = {"intra": "on one host", "inter": "between hosts"}
    told = _listed([f"{names[place]}: {way or 'not told by the library'}" for place, way in ways.items()])
    return [f"{library}; {told}", f"set: {_listed(variables) or 'no variable that chooses a transport'}"]


def wildcard(answers: Answers) -> Finding:
    """Say if a receive that names no sender works. Sideways makes none, so a failure is no more than a note."""
    if any(len(facts["senders"]) == answers.ranks - 1 for facts in answers.facts):
        return Finding("wildcards", ["a receive from any source works (sideways needs none)"])
    text = f"a receive from any source {answers.problem() or 'fails'}"
    return Finding("wildcards", [text, "sideways needs none; other programs may hang here"], note=True)


def files(answers: Answers) -> Finding:
    """Say which hosts see the folder of the runs. Only rank 0 must be able to write there."""
    if not answers.facts:
        return Finding("files", [f"not known where runs go, because the job {answers.problem()}"], note=True)
    folder = answers.facts[0]["folder"]
    if problem := answers.facts[0]["problem"]:
        remedies = ["choose a folder that rank 0 can write to: --runs"]
        return Finding("files", [f"rank 0 cannot write to {folder}: {problem}"], fails=True, remedies=remedies)
    blind = sorted({facts["host"] for facts in answers.facts if not facts["sees"]})
    if blind:
        return Finding("files", [f"{folder} is not shared with {_listed(blind)}; only rank 0 needs it"])
    return Finding("files", [f"rank 0 writes to {folder}, and every host sees the file within a second"])


def udp(answers: Answers, placed: Sequence[str]) -> Finding:
    """Say if datagrams pass between rank 0's host and the others, in both directions, as heartbeats do."""
    if len(set(placed)) == 1:
        return Finding("UDP", ["one host: no heartbeat leaves it"])
    lost = {
        (placed[sender], facts["host"])
        for facts in answers.facts
        for sender in facts["silent"]
        if placed[sender] != facts["host"] and placed[0] in (placed[sender], facts["host"])
    }
    problem = answers.problem() or answers.silent()
    if not lost and not problem:
        return Finding("UDP", [f"datagrams pass between {placed[0]} and every other host, in both directions"])
    text = [f"no datagram from {a} reaches {b}" for a, b in sorted(lost)] + [problem] * bool(problem)
    remedies = ["let UDP pass: heartbeats do not arrive, so a run works, but does not notice a host that falls silent"]
    return Finding("UDP", text, note=True, remedies=remedies)


def settings(versions: Answers) -> Finding:
    """Say which environment variables a run needs here."""
    text = []
    threads = {facts["versions"]["OPENBLAS_NUM_THREADS"] for facts in versions.facts}
    if threads - {"1", "not set"}:
        text.append("OPENBLAS_NUM_THREADS=1 (Open MPI: mpirun -x OPENBLAS_NUM_THREADS=1): one core for each rank")
    elif "not set" in threads:
        text.append("nothing for BLAS: sideways train sets OPENBLAS_NUM_THREADS=1 where it is not set")
    several = {facts["host"]: facts["interfaces"] for facts in versions.facts if len(facts["interfaces"]) > 1}
    if several and len({facts["host"] for facts in versions.facts}) > 1:
        is_open_mpi = versions.facts[0]["versions"]["MPI"].startswith("Open MPI")
        variable = "OMPI_MCA_btl_tcp_if_include" if is_open_mpi else "UCX_NET_DEVICES"
        names = next(iter(several.values()))
        text.append(f"{variable}=… if messages take the wrong network ({_listed(names[:6])} on {next(iter(several))})")
    return Finding("to set", text or ["nothing"])
