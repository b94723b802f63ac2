"""PyTorch on the network of `sideways bench pipeline`: plain training, and its pipeline schedules.

`torch.distributed.pipelining` (GPipe: Huang et al., 2019; 1F1B: Narayanan et al., 2019) cuts a batch into micro-batches
and still waits for the last gradient before the next batch:

    GPipe, 2 ranks, 4 micro-batches         F0 F1 F2 F3 ·  B0 B1 B2 B3 ·        m / (m + K - 1) of the time at work
                                            ·  F0 F1 F2 F3 B0 B1 B2 B3

Each schedule runs in processes of its own, over gloo, one thread each; rank 0 prints the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from sideways.balance import balanced, speed_up
from sideways.models import build_model
from sideways.studies.bench.torch_network import Stage

SCHEDULES = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}


def main() -> None:
    """Start the processes, and print the result of rank 0 as JSON."""
    parser = argparse.ArgumentParser(prog="python -m sideways.studies.bench.torch_pipeline")
    parser.add_argument("schedule", choices=("plain", *SCHEDULES))
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--model", default="vgg8")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--batch", type=int, default=8, help="samples of a micro-batch")
    parser.add_argument("--micro-batches", type=int, default=16)
    options = parser.parse_args()
    with socket.socket() as probe:  # to find a free port
        probe.bind(("127.0.0.1", 0))
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(probe.getsockname()[1]),
            "OMP_NUM_THREADS": str(options.threads),
        }
    with tempfile.NamedTemporaryFile("r") as result_file:
        torch.multiprocessing.spawn(_process, (options, result_file.name), options.ranks)
        print(result_file.read())


def _process(rank: int, options: argparse.Namespace, path: str) -> None:
    """Time one process's share of the training; rank 0 writes the result to this path."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = (options.size, options.size, 3)
    units = [Stage([unit]) for unit in build_model(options.model, shape, 101).units.values()]
    frames = torch.rand(options.batch, 3, options.size, options.size)
    if options.schedule == "plain":
        step, micro_batches, allowed = _plain(units, frames), 1, float(options.threads)
    else:
        dist.init_process_group("gloo", rank=rank, world_size=options.ranks)
        costs = torch.tensor(_costs(units, frames), dtype=torch.float64)
        dist.broadcast(costs, 0)
        groups = balanced([str(i) for i in range(len(units))], costs.tolist(), options.ranks)
        micro_batches = options.micro_batches
        allowed = speed_up(costs.tolist(), groups) * micro_batches / (micro_batches + options.ranks - 1)
        stage = nn.Sequential(*(units[int(i)] for i in groups[rank]))
        step = _scheduled(stage, rank, options, frames)
    step()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        step()
        seconds.append((time.perf_counter() - start) / micro_batches)
    if rank == 0:
        result = {"method": options.schedule, "ranks": options.ranks, "threads": options.threads}
        result |= {"batch": options.batch, "allowed": allowed}
        result |= {"seconds_per_tick": statistics.median(seconds), "spread": max(seconds) - min(seconds)}
        with open(path, "w") as result_file:
            json.dump(result | {"micro_batches": micro_batches, "torch": torch.__version__}, result_file)
    if dist.is_initialized():
        dist.destroy_process_group()


def _plain(units: Sequence[nn.Module], frames: torch.Tensor) -> Callable[[], None]:
    """One step of ordinary training in one process, to compare the schedules with."""
    network = nn.Sequential(*units)
    optimizer, labels = _optimizer(network), _labels(len(frames))

    def step() -> None:
        nn.functional.cross_entropy(network(frames), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _scheduled(units: nn.Module, rank: int, options: argparse.Namespace, frames: torch.Tensor) -> Callable[[], None]:
    """One step of a pipeline schedule: all micro-batches forward and backward, then the update."""
    stage = PipelineStage(units, rank, options.ranks, torch.device("cpu"))
    schedule = SCHEDULES[options.schedule](stage, options.micro_batches, loss_fn=nn.functional.cross_entropy)
    optimizer, labels = _optimizer(units), _labels(options.batch).repeat(options.micro_batches)
    batch = (frames.repeat(options.micro_batches, 1, 1, 1),) if rank == 0 else ()
    target = {"target": labels} if rank == options.ranks - 1 else {}

    def step() -> None:
        schedule.step(*batch, **target, return_outputs=False)
        optimizer.step()
        optimizer.zero_grad()
        dist.barrier()

    return step


def _optimizer(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)


def _labels(count: int) -> torch.Tensor:
    return torch.arange(count) % 10


def _costs(units: Sequence[nn.Module], frames: torch.Tensor) -> list[float]:
    """Seconds of forward and backward of each unit in PyTorch, by which the stages are balanced."""
    costs = []
    x = frames
    for unit in units:
        times = []
        for _ in range(3):
            detached = x.detach().requires_grad_()
            start = time.perf_counter()
            y: Any = unit(detached)
            y.sum().backward()
            times.append(time.perf_counter() - start)
        unit.zero_grad()
        costs.append(min(times))
        x = y
    return costs


if __name__ == "__main__":
    main()
