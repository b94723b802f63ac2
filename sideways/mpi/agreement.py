"""Checks that all ranks agree before they train: on the versions that compute, and on the videos that they see."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy
from mpi4py import MPI

import sideways
from sideways.data import Task
from sideways.data.videos.clips import VideoClips
from sideways.errors import InputError
from sideways.mpi.node import ALL
from sideways.mpi.site import digest


def check_versions(world: MPI.Comm) -> None:
    """Raise `InputError` on every rank if some host has another version of sideways or NumPy than that of rank 0.

    Two versions may round differently, or wait for messages that the other one does not send.
    """
    versions = {
        "sideways": f"{sideways.__version__} ({digest(Path(sideways.__file__).parent)})",
        "NumPy": numpy.__version__,
    }
    with ALL:
        everyone = world.allgather((socket.gethostname(), versions))
    first_host, first = everyone[0]
    for rank, (host, other) in enumerate(everyone):
        for name in versions:
            if other[name] != first[name]:
                raise InputError(
                    f"{name} is {other[name]} for rank {rank} on {host}, and {first[name]} for rank 0 on {first_host}: "
                    "install the same version on all hosts"
                )


def check_data(world: MPI.Comm, task: Task) -> None:
    """Raise `InputError` on every rank if some host lacks videos of the lists that the host of rank 0 has, or has more.

    The numbers of clips would then stand for different videos on different hosts.
    """
    with ALL:
        everyone = world.allgather((socket.gethostname(), task.fingerprint))
    other = next((rank for rank, (_, fingerprint) in enumerate(everyone) if fingerprint != everyone[0][1]), None)
    if other is None:
        return
    with ALL:  # long lists, which travel only if there is something to say
        here, there = (world.bcast(_missing(task), rank) for rank in (0, other))
    if not (lacking := sorted(here ^ there)):
        raise InputError(
            f"rank {other} on {everyone[other][0]} reads other lists of videos than rank 0 or has another ViZDoom"
        )
    lacks = other if lacking[0] in there else 0
    raise InputError(
        f"the hosts have different videos: {len(lacking)} are on some hosts only; rank {lacks} on {everyone[lacks][0]} "
        f"lacks {lacking[0]}"
    )


def _missing(task: Task) -> set[str]:
    """The listed videos that this host lacks."""
    return set(task.base.videos.missing) if isinstance(task.base, VideoClips) else set()
