"""`sideways doctor --mpi`: check the hosts, their MPI and their network before a long run.

Every check is a small job under mpirun (or srun) with a time limit. The ranks run `sideways/mpi/site.py` and print
facts as JSON; this module starts them, and the functions in `sideways/studies/findings.py` say what the facts mean.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sideways.errors import InputError
from sideways.studies import findings
from sideways.studies.findings import Answers, Finding, facts_in
from sideways.studies.mpirun import command_of, run_within, srun_of

START = """
import json, os, socket
facts = {"host": socket.gethostname(), "pid": os.getpid(), "cores": sorted(os.sched_getaffinity(0))}
os.write(1, (json.dumps(facts) + "\\n").encode())
"""  # imports nothing that a host may lack
PER_PAIR = 3.0  # seconds more for each pair of ranks that is timed
MANY_PAIRS = 28  # of more pairs only neighbours are timed
WILDCARD_LIMIT = 10.0  # seconds more than the exchange of messages took; a receive that hangs is no fault of the site


@dataclass
class Site:
    """The hosts to check, and how a check is started there.

    ranks: processes of each job. hosts: their names; none for this machine, or for Slurm's choice. runs: the folder of
    all run directories. limit: seconds for each job.
    """

    ranks: int
    hosts: Sequence[str] = ()
    runs: str = "runs"
    limit: float = 60.0

    def command(self, *arguments: str) -> list[str]:
        """The command line of a job of `python ARGUMENTS`. Raises `InputError` if there is no launcher."""
        in_slurm = "SLURM_JOB_ID" in os.environ and shutil.which("srun")
        return (srun_of if in_slurm else command_of)(self.ranks, *arguments, hosts=self.hosts)

    def check(self, name: str, limit: float | None = None, **variables: str) -> Answers:
        """Start a check of `sideways/mpi/site.py`, with further environment variables, and return what it told."""
        limit = limit or self.limit
        options = [f"--limit={limit}", f"--runs={self.runs}"]
        return self._ask(limit, self.command("-m", "sideways.mpi.site", name, *options), variables)

    def start(self) -> Answers:
        """Start processes that tell their host and its cores, and need neither MPI nor any package."""
        return self._ask(self.limit, self.command("-c", START), {})

    def _ask(self, limit: float, command: Sequence[str], variables: dict[str, str]) -> Answers:
        ended = run_within(limit, command, dict(os.environ) | variables)
        return Answers(self.ranks, facts_in(ended.output), ended, limit)


def check_site(site: Site, say: Callable[[str], None] = print) -> int:
    """Make all checks and print a part for each. Returns the exit code: 1 if a long run would fail, else 0."""
    failed = []
    for finding in examine(site):
        say("\n".join(finding.lines()))
        failed += [finding.part] * finding.fails
    if failed:
        say(f"\na long run would fail here: mend {', '.join(failed)}, then check again")
    return 1 if failed else 0


def examine(site: Site) -> Iterator[Finding]:
    """Make one check after the other. The checks end where the later ones could only repeat a failure."""
    processes = site.start()
    yield (started := findings.hosts(processes, site.hosts))
    if started.fails:
        return
    told = site.check("versions")
    yield (equal := findings.versions(told, processes))
    if equal.fails:
        return
    placed = [facts["host"] for facts in told.facts]  # rank → host
    yield findings.gpus(site.check("gpus"))
    exchange = site.check("messages")
    yield (arriving := findings.messages(exchange, placed))
    if not arriving.fails:
        limit = site.limit + PER_PAIR * min(site.ranks * (site.ranks - 1) // 2, max(MANY_PAIRS, site.ranks))
        log = os.environ.get("UCX_LOG_LEVEL", "info")  # at this level UCX names its transports
        yield findings.speed(site.check("speed", limit, UCX_LOG_LEVEL=log), told, placed)
        yield findings.wildcard(site.check("wildcard", min(site.limit, exchange.ended.seconds + WILDCARD_LIMIT)))
        yield findings.files(site.check("files"))
        yield findings.udp(site.check("udp"), placed)
    yield findings.settings(told)


def site_of(hosts: str | None, ranks: int | None, **settings: Any) -> Site:
    """The site that the options of the command describe. Raises `InputError` for names or numbers that cannot be."""
    names = [name.strip() for name in hosts.split(",")] if hosts is not None else []
    if wrong := [name for name in names if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)]:
        raise InputError(f"--hosts takes names such as a,b, not {wrong[0]!r}")
    if ranks is None:
        tasks = os.environ.get("SLURM_NTASKS", "") if "SLURM_JOB_ID" in os.environ else ""
        ranks = max(2, len(names), int(tasks) if tasks.isdecimal() and not names else 0)
    if ranks < max(2, len(names)):
        raise InputError(f"--ranks must be at least {max(2, len(names))}: one for each host, and two to send a message")
    return Site(ranks, names, **settings)
