"""The set-up of a rank: its units on its device, its mailbox, its rule and its source of frames."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sideways.data import Source, Task
from sideways.machine import TRANSPORTS
from sideways.mpi.agreement import check_data
from sideways.mpi.emulated import emulate
from sideways.mpi.gather import on_all_ranks, spread_parameters
from sideways.mpi.mailbox import MPIMailbox
from sideways.mpi.nccl import NCCLMailbox, peers_of
from sideways.mpi.node import ALL, Node
from sideways.mpi.ranks import Ranks, part_of_batch
from sideways.mpi.replicas import ReplicatedDelayed, ReplicatedSideways
from sideways.mpi.transport import make_mailbox, transport_of
from sideways.mpi.world import RANK, WORLD
from sideways.network import FRAME, Network
from sideways.rules import Mailbox, Sideways
from sideways.training.build import build_network, build_rule, build_task
from sideways.training.config import Config
from sideways.training.needs import check_memory
from sideways.training.run import limits

REPLICATED = {"sideways": ReplicatedSideways, "delayed": ReplicatedDelayed}


@dataclass
class Rank:
    """A rank that is ready to train."""

    ranks: Ranks
    rule: Sideways
    source: Source
    mailbox: MPIMailbox | NCCLMailbox


def set_up(options: argparse.Namespace, config: Config) -> Rank:
    """Make everything that a rank needs to train, and print the table of ranks. Every rank must call this function."""
    task = on_all_ranks(lambda: build_task(config))
    on_all_ranks(lambda: check_data(WORLD, task))
    on_all_ranks(lambda: check_memory(config, task, WORLD.size))
    node = Node.of(WORLD)
    device, shared = on_all_ranks(node.take_device)  # before anything is put on it
    readable = replace(config, init=config.init if RANK == 0 else "")  # no other host needs the file of --init
    network = on_all_ranks(lambda: build_network(readable, task.frame_shape, len(task.classes)))
    if config.init:
        spread_parameters(network)
    ranks = on_all_ranks(lambda: Ranks.split(WORLD, len(network.units), options.replicas))
    batch = on_all_ranks(lambda: part_of_batch(config.batch, ranks.replicas))
    if options.emulate_ms:
        emulate(network, options.emulate_ms)
    marks = network.marks(config.learn_every) if config.rule == "delayed" else None
    groups, costs = on_all_ranks(lambda: ranks.assign_units(network, batch, options.placement, marks))
    owner = {name: stage for stage, group in enumerate(groups) for name in group}
    transport = on_all_ranks(lambda: transport_of(options.transport, shared))
    timetable = partial(network.timetable, marks=marks)
    mailbox = make_mailbox(network, timetable, owner, batch, ranks, transport, node.crowded)
    units = groups[ranks.stage]
    rule = on_all_ranks(lambda: _rule(config, task, network, ranks, batch, mailbox, units, transport))
    source = on_all_ranks(lambda: _source(config, task, network, ranks, batch, units))
    if table := ranks.table(network, groups, costs, device):
        print(table, flush=True)
        if config.backend != "numpy":
            print(f"GPU arrays travel {TRANSPORTS[transport]}", flush=True)
        if options.emulate_ms:
            print(f"compute is emulated: each unit takes {options.emulate_ms:g} ms per tick, spent idle", flush=True)
    return Rank(ranks, rule, source, mailbox)


def _rule(
    config: Config,
    task: Task,
    network: Network,
    ranks: Ranks,
    batch: int,
    mailbox: Mailbox,
    units: list[str],
    transport: str,
) -> Sideways:
    options: dict[str, Any] = {"mailbox": mailbox, "units": units, "first_sample": ranks.replica * batch}
    if ranks.replicas == 1:
        return build_rule(config, task, network, **options)
    with ALL:
        peers = ranks.peers.Dup()
    options |= {"peers": peers, "in_place": transport == "cuda-aware"}
    if transport == "nccl":
        options["nccl"] = peers_of(peers)
    return build_rule(config, task, network, REPLICATED, **options)


def _source(config: Config, task: Task, network: Network, ranks: Ranks, batch: int, units: list[str]) -> Source:
    return Source(
        task,
        config.batch,
        frames=any(FRAME in network.units[name].inputs for name in units),
        targets=network.top.name in units,
        part=slice(ranks.replica * batch, (ranks.replica + 1) * batch),
        workers=config.workers,
        limits=limits(config, task),
    )
