"""Hosts on this machine: namespaces with a network, processes, a name and mounts of their own, joined by a switch.

    with Network(folder, 2) as network:
        job = network.start(4, 2, "-m", "sideways.mpi", "waves-skip")      # mpirun, on the first host
        network.hosts[1].unplug()

Each host runs an sshd, through which mpirun starts its daemon there. All messages between two hosts are TCP over a
virtual cable. Nothing outlives this process: the hosts end with it, and their interfaces and mounts end with them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from sideways.studies.mpirun import command_of

PROGRAMS = ("ip", "sshd", "ssh", "ssh-keygen", "unshare", "nsenter", "setpriv", "mount", "taskset")
NAMESPACES = ("--net", "--uts", "--mount", "--pid")
PATIENCE = 30.0  # seconds until an sshd must listen
END_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
HOST = """
set -e
hostname "$1"
mount -t tmpfs -o size=256m none /dev/shm
mount -t sysfs none /sys
mount -t tmpfs none /run
mkdir /run/sshd
mount --bind "$2/hosts" /etc/hosts
mount --bind "$2/$1.boot_id" /proc/sys/kernel/random/boot_id  # by which UCX tells machines apart
for start in ~/.bashrc ~/.zshenv; do if [ -e $start ]; then mount --bind /dev/null $start; fi; done
ip link set lo up
exec "$3" -D -e -f "$2/$1.sshd"
"""
SSHD = """
Port 22
HostKey {folder}/{name}.key
AuthorizedKeysFile {folder}/client.pub
StrictModes no
UsePAM no
PidFile none
SetEnv TMPDIR=/run
LogLevel INFO
MaxStartups 100
"""
SSH = """
IdentityFile {folder}/client
IdentitiesOnly yes
UserKnownHostsFile {folder}/known_hosts
StrictHostKeyChecking yes
BatchMode yes
LogLevel ERROR
"""


def obstacle() -> str:
    """The reason why hosts cannot be made on this machine; empty if they can."""
    if os.geteuid():
        return "only root can make network namespaces"
    if missing := [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]:
        return f"there is no {', '.join(missing)} (Debian: apt-get install iproute2 openssh-server)"
    trial = [*END_WITH_PARENT, "unshare", *NAMESPACES, "--fork", "--mount-proc", "ip", "link", "add", "e0"]
    done = subprocess.run([*trial, "type", "veth", "peer", "name", "h0"], text=True, capture_output=True)
    return f"namespaces cannot be made: {done.stderr.strip()}" if done.returncode else ""


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def call(*words: object) -> str:
    """Run a command, and return its output. Raises `RuntimeError` with its errors if it fails."""
    done = subprocess.run([str(word) for word in words], text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def _started(*words: object, **options) -> subprocess.Popen:
    """Start a process that ends with this one."""
    return subprocess.Popen([*END_WITH_PARENT, *map(str, words)], stdin=subprocess.DEVNULL, **options)


def _child(process: subprocess.Popen) -> int:
    """The PID of the only child of a process, once there is one."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            if numbers := children.read_text().split():
                return int(numbers[0])
        time.sleep(0.01)
    raise RuntimeError("unshare has started nothing")


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


class Done(NamedTuple):
    """A job that has ended: exit code, output, errors, seconds."""

    code: int
    output: str
    errors: str
    seconds: float


class Host:
    """A host: its name, its address, and the PID, outside, of its first process, with which all others there end."""

    def __init__(self, network: Network, number: int):
        self.network, self.name, self.address = network, f"host{number}", f"10.77.0.{number}"
        cores = sorted(os.sched_getaffinity(0))
        self.core = ("taskset", "--cpu-list", str(cores[number % len(cores)]))  # more ranks than cores do not spin

    def boot(self, stack: ExitStack) -> None:
        """Start the host with its sshd, and plug in its cable."""
        folder, sshd = self.network.folder, shutil.which("sshd", path=_path())
        log = folder / f"{self.name}.log"
        script = ("sh", "-c", HOST, "sh", self.name, folder, sshd)
        with log.open("w") as errors:
            words = ("unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", *script)
            unshare = _started(*self.core, *words, stderr=errors)
        stack.callback(_end, unshare)
        self.pid = _child(unshare)
        self.own = (unshare.pid, self.pid)
        deadline = time.monotonic() + PATIENCE
        while "Server listening" not in log.read_text():
            if unshare.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start: {log.read_text()}")
            time.sleep(0.02)
        self.network.switch("add", self.name, "type", "veth", "peer", "name", "e0", "netns", self.pid)
        self.network.switch("set", self.name, "master", "switch0", "up")
        self.call("ip", "address", "add", f"{self.address}/24", "dev", "e0")
        self.call("ip", "link", "set", "e0", "up")

    def words(self, *words: object) -> list[str]:
        """The command that runs a command on this host, as if typed there."""
        enter = ("nsenter", "--target", str(self.pid), *NAMESPACES, "--")
        return [*enter, *END_WITH_PARENT, *self.core, *map(str, words)]

    def call(self, *words: object) -> str:
        """Run a command on this host, and return its output."""
        return call(*self.words(*words))

    def unplug(self) -> None:
        """Pull this host's cable."""
        self.network.switch("set", self.name, "down")

    def plug(self) -> None:
        """Put this host's cable back."""
        self.network.switch("set", self.name, "up")

    def hide(self, folder: Path, megabytes: int = 64) -> None:
        """Lay an empty disk of this size over a folder, on this host alone."""
        self.call("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", folder)

    def move(self, folder: Path, to: Path) -> None:
        """Show a folder at another path, and nothing at its own path, on this host alone."""
        self.call("mount", "--bind", folder, to)
        self.hide(folder)

    def seen(self, path: Path) -> Path:
        """A path from outside to what this host sees at a path."""
        return Path(f"/proc/{self.pid}/root{path}")

    def processes(self, word: str = "") -> dict[int, str]:
        """PID, outside, → command line of each process of this host besides sshd whose command holds a word."""
        own = os.readlink(f"/proc/{self.pid}/ns/net")
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(process / "ns/net") != own or int(process.name) in self.own:
                    continue
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if command and not command.startswith("sshd:") and word in command:
                    found[int(process.name)] = command
        return found

    def outside(self, pid: int) -> int:
        """The PID, outside, of the process that has a PID on this host."""
        for number in self.processes():
            with suppress(OSError):
                status = Path(f"/proc/{number}/status").read_text()
                if status.partition("NSpid:")[2].splitlines()[0].split()[-1] == str(pid):
                    return number
        raise ProcessLookupError(f"{self.name} has no process {pid}")


class Network:
    """Hosts that are joined by a switch. folder: an empty folder for keys, settings and logs."""

    def __init__(self, folder: Path, count: int):
        self.folder = folder
        self.hosts = [Host(self, number) for number in range(1, count + 1)]
        self.stack = ExitStack()

    def __enter__(self) -> Network:
        with ExitStack() as stack:
            unshare = _started("unshare", "--net", "sleep", "infinity")
            stack.callback(_end, unshare)
            self.pid = unshare.pid
            while os.readlink(f"/proc/{self.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
                time.sleep(0.01)
            self.switch("add", "switch0", "type", "bridge")
            self.switch("set", "switch0", "up")
            self._write_settings()
            for host in self.hosts:
                host.boot(stack)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def switch(self, *words: object) -> None:
        """Run `ip link …` at the switch."""
        call("nsenter", "--target", self.pid, "--net", "ip", "link", *words)

    def _write_settings(self) -> None:
        for name in ("client", *(f"{host.name}.key" for host in self.hosts)):
            call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name)
        for host in self.hosts:
            (self.folder / f"{host.name}.sshd").write_text(SSHD.format(folder=self.folder, name=host.name))
            (self.folder / f"{host.name}.boot_id").write_text(f"{uuid.uuid4()}\n")
        keys = [(self.folder / f"{host.name}.key.pub").read_text() for host in self.hosts]
        known = (f"{host.name},{host.address} {key}" for host, key in zip(self.hosts, keys, strict=True))
        (self.folder / "known_hosts").write_text("".join(known))
        (self.folder / "ssh_config").write_text(SSH.format(folder=self.folder))
        names = [f"{host.address} {host.name}" for host in self.hosts]
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]))
        self.ssh = self.folder / "ssh"
        self.ssh.write_text(f'#!/bin/sh\nexec ssh -F {self.folder}/ssh_config "$@"\n')
        self.ssh.chmod(0o700)

    def command(self, ranks: int, hosts: int, *arguments: str, variables: Iterable[str] = ()) -> list[str]:
        """The command `mpirun -n RANKS python ARGUMENTS` over the first hosts, typed on the first one.

        variables: names of variables of the environment that the ranks get.
        """
        mpirun, *flags, _, _, python = command_of(1)
        slots = ",".join(f"{host.name}:{-(-ranks // hosts)}" for host in self.hosts[:hosts])
        if flags:  # Open MPI needs some, MPICH none
            flags = ["--allow-run-as-root", "--mca", "plm_ssh_agent", str(self.ssh), "--host", slots]
            flags += ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "e0"]
            flags += ["--bind-to", "none", *(word for name in variables for word in ("-x", name))]
        else:
            flags = ["-launcher", "ssh", "-launcher-exec", str(self.ssh), "-hosts", slots]
        return self.hosts[0].words(mpirun, *flags, "-n", ranks, python, *arguments)

    def start(self, ranks: int, hosts: int, *arguments: str, **variables: str) -> subprocess.Popen:
        """Start `mpirun -n RANKS python ARGUMENTS` over the first hosts, with TCP also between ranks of one host."""
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "MPIR_CVAR_NOLOCAL": "1", "UCX_TLS": "tcp"}
        environment |= {"TMPDIR": "/run"}  # hosts share /tmp, and PIDs that name folders of Open MPI repeat there
        return subprocess.Popen(
            self.command(ranks, hosts, *arguments, variables=variables),
            env=environment | variables,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, ranks: int, hosts: int, *arguments: str, timeout: float = 100, **variables: str) -> Done:
        """Run a job to its end. Kills everything on the hosts, and raises `TimeoutExpired`, if it takes too long."""
        start, job = time.monotonic(), self.start(ranks, hosts, *arguments, **variables)
        try:
            output, errors = job.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise
        return Done(job.returncode, output, errors, time.monotonic() - start)

    def plug(self) -> None:
        """Put all cables back, and wait until every other host can be reached from the first one."""
        for host in self.hosts:
            host.plug()
            host.call("ip", "neighbour", "flush", "dev", "e0")  # a host may remember that nobody answered
        deadline = time.monotonic() + PATIENCE
        for host in self.hosts[1:]:
            connect = f"import socket; socket.create_connection(({host.address!r}, 22), 1)"
            command = self.hosts[0].words(sys.executable, "-c", connect)
            while subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{host.name} stays out of reach")

    @property
    def launcher(self) -> int:
        """The PID, outside, of the mpirun that runs on the first host."""
        names = ("mpirun", "prterun")  # Open MPI's mpirun becomes prterun
        processes = self.hosts[0].processes().items()
        return next(pid for pid, command in processes if os.path.basename(command.split()[0]) in names)

    def kill_all(self) -> None:
        """Kill every process on the hosts besides sshd."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self, word: str = "") -> dict[int, str]:
        """PID → command line of each process of all hosts whose command holds a word."""
        return {pid: command for host in self.hosts for pid, command in host.processes(word).items()}
