"""`sideways bench …`: the options of each measurement."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from sideways.backend import BACKENDS, default_backend
from sideways.studies.bench.decode import decode
from sideways.studies.bench.growth import growth
from sideways.studies.bench.layers import layers
from sideways.studies.bench.memory import memory
from sideways.studies.bench.pipeline import latency, pipeline
from sideways.studies.bench.step import step
from sideways.training.options import above_zero, count, positive


def add_benches(parser: argparse.ArgumentParser) -> None:
    """Add one command for each thing to measure."""
    benches = parser.add_subparsers(title="what to measure", metavar="BENCH", required=True)
    command = benches.add_parser("decode", help="frames decoded per second, beside what a training step takes")
    command.add_argument("data", metavar="KIND:PATH")
    command.add_argument("--workers", type=count, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    _frames(command)
    command.add_argument("--clips", type=positive, default=2, help="clips of each measurement (default: 2)")
    _json(command)
    command.set_defaults(run=lambda o: decode(o.data, o.workers, o.model, o.size, o.batch, o.clips, o.json))
    command = benches.add_parser("step", help="where the time of a training step goes, unit by unit, beside PyTorch")
    _frames(command)
    command.add_argument("--repeats", type=positive, default=15, help="default: 15")
    command.add_argument("--threads", type=positive, default=1, help="BLAS threads, and PyTorch's (default: 1)")
    command.add_argument("--backend", default=default_backend(), choices=BACKENDS)
    _json(command)
    command.set_defaults(run=lambda o: step(o.model, o.size, o.batch, o.repeats, o.threads, o.backend, o.json))
    command = benches.add_parser("layers", help="each layer of a model by itself; convolutions in both ways")
    _frames(command)
    command.add_argument("--repeats", type=positive, default=9, help="default: 9")
    _json(command)
    command.set_defaults(run=lambda o: layers(o.model, o.size, o.batch, o.repeats, o.json))
    command = benches.add_parser("growth", help="the time of a tick against batch, frame size, width, depth and units")
    command.add_argument("--repeats", type=positive, default=15, help="default: 15")
    _json(command)
    command.set_defaults(run=lambda o: growth(o.repeats, o.json))
    command = benches.add_parser("memory", help="bytes that training on clips of T frames needs, with each rule")
    _frames(command, batch=1)
    command.add_argument(
        "--lengths", type=positive, nargs="+", default=[16, 64, 256], metavar="T", help="default: 16 64 256"
    )
    _json(command)
    command.set_defaults(run=lambda o: memory(o.model, o.size, o.batch, o.lengths, o.json))
    for name, run, ticks, words in (
        ("pipeline", pipeline, 10, "frames/s of Sideways and of blocked backpropagation on 1 … K ranks"),
        ("latency", latency, 100, "what becomes of frames that arrive whether or not the learner is ready"),
    ):
        command = benches.add_parser(
            name, help=words, description=f"{words[0].upper()}{words[1:]}; starts mpirun itself."
        )
        command.add_argument("--ranks", type=positive, nargs="+", default=[1, 2], metavar="K", help="default: 1 2")
        _frames(command)
        command.add_argument("--units", type=positive, help="a mlp of this many equal units instead of the model")
        command.add_argument(
            "--ticks", type=positive, default=ticks, help=f"ticks of each measurement (default: {ticks})"
        )
        command.add_argument("--placement", help="measure, estimate, or by hand such as 0-2,3-7")
        command.add_argument("--emulate-ms", type=above_zero, help="emulate devices: each unit takes this long, idle")
        if name == "latency":
            command.add_argument(
                "--period-ms", type=above_zero, default=20.0, help="a frame arrives this often (default: 20)"
            )
        _json(command)
        command.set_defaults(run=lambda options, run=run: _bench(options, run))


def _bench(options: argparse.Namespace, run: Callable[[Sequence[int], Sequence[str], str | None], None]) -> None:
    names = ("model", "units", "size", "batch", "ticks", "placement", "emulate_ms", "period_ms")
    given = {name: getattr(options, name, None) for name in names}
    arguments = [part for name, value in given.items() if value for part in (f"--{name.replace('_', '-')}", str(value))]
    run(options.ranks, arguments, options.json)


def _frames(command: argparse.ArgumentParser, batch: int = 8) -> None:
    """What is measured: a model on frames of a size."""
    command.add_argument("--model", default="vgg8", help="default: vgg8")
    command.add_argument("--size", type=positive, default=112, help="height and width of a frame (default: 112)")
    command.add_argument("--batch", type=positive, default=batch, help=f"samples of a frame (default: {batch})")


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", metavar="FILE", help="also write the results here")
