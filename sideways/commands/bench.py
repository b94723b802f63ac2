"""`sideways bench …`: measurements of speed and memory."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

from sideways.backend import BACKENDS, PRECISIONS, default_backend, use_backend
from sideways.machine import TRANSPORTS
from sideways.validation import above_zero, count, positive

HELP = "measure speed and memory, in one process and on several ranks"


def add(parser: argparse.ArgumentParser) -> None:
    """Add one command for each measurement."""
    benches = parser.add_subparsers(title="measurements", metavar="BENCH", required=True)
    for name, add_options, run, words in (
        (
            "decode",
            _add_decode,
            run_decode,
            "frames decoded per second beside training, and how long runs wait for frames",
        ),
        ("step", _add_step, run_step, "the time of a step, unit by unit; Sideways and Delayed beside PyTorch"),
        ("layers", _add_layers, run_layers, "each layer of a model by itself; convolutions by both algorithms"),
        ("growth", _add_growth, run_growth, "the time of a tick against batch, frame size, width, depth and units"),
        ("memory", _add_memory, run_memory, "bytes that training on clips of T frames needs, with each rule"),
        (
            "pipeline",
            _add_pipeline,
            run_pipeline,
            "frames/s of Sideways, Delayed and blocked backpropagation on 1 … K ranks",
        ),
        ("latency", _add_latency, run_latency, "updates and dropped frames when frames arrive at a steady rate"),
        ("plan", _add_plan, run_plan, "frames/s, latency and memory on many ranks, computed before you rent them"),
    ):
        bench = benches.add_parser(name, help=words)
        if run in (run_pipeline, run_latency):
            bench.description = f"{words[0].upper()}{words[1:]}; starts mpirun itself."
        add_options(bench)
        bench.add_argument("--backend", default=default_backend(), choices=BACKENDS, help="where to compute")
        bench.add_argument("--precision", default="float32", choices=PRECISIONS, help="of products on a GPU")
        bench.add_argument("--json", metavar="FILE", help="also write the results into this file")
        bench.set_defaults(run=run if run in (run_pipeline, run_latency) else partial(_in_this_process, run))


def _in_this_process(run: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> None:
    """Measure on the backend that the command line names."""
    use_backend(options.backend, options.precision)
    run(options)


# In one process ------------------------------------------------------------------------------------------------------


def _add_decode(bench: argparse.ArgumentParser) -> None:
    bench.description = (
        "Measures whether workers decode as fast as a network learns, and which share of a run of sideways train is "
        "spent waiting for frames, with and without --cache."
    )
    bench.add_argument(
        "data", nargs="?", metavar="KIND:PATH", help="such as ucf101:/data/ucf101 (default: videos written for this)"
    )
    bench.add_argument(
        "--workers", type=count, nargs="+", default=[0, 1, 2], metavar="N", help="decoding processes (default: 0 1 2)"
    )
    bench.add_argument("--size", type=positive, default=112, help="height and width of a frame (default: 112)")
    words = "whose network learns (default: videos-small-skip up to 64 pixels, ucf101-vgg8-skip above)"
    bench.add_argument("--recipe", metavar="NAME", help=words)
    bench.add_argument("--model", help="a network instead of the recipe's (see: sideways models)")
    bench.add_argument("--batch", type=positive, help="samples in a batch (default: the recipe's)")
    bench.add_argument("--clips", type=positive, default=2, help="clips of each measurement of speed (default: 2)")
    words = "a run of sideways train takes so long, if it never waits (default: 60)"
    bench.add_argument("--seconds", type=above_zero, default=60.0, help=words)


def run_decode(options: argparse.Namespace) -> None:
    """Measure decoding, training, both at once, and whole runs."""
    from sideways.studies.bench.decode import config_of, decode

    network = options.recipe, options.model, options.size, options.batch
    config = config_of(*network, options.backend, options.precision)
    decode(options.data, options.workers, config, options.clips, options.seconds, options.json)


def _add_step(bench: argparse.ArgumentParser) -> None:
    _add_network(bench)
    _add_repeats(bench, default=7)
    bench.add_argument("--threads", type=positive, default=1, help="BLAS threads, and PyTorch's (default: 1)")
    bench.add_argument("--compile", action="store_true", help="also run PyTorch's networks through torch.compile")
    words = "one tick beside PyTorch's best step, on a grid of widths, sizes and batches, instead of --size and --batch"
    bench.add_argument("--sweep", action="store_true", help=words)


def run_step(options: argparse.Namespace) -> None:
    """Measure a training step, unit by unit; or whole, on a grid of sizes."""
    from sideways.studies.bench.step import step
    from sideways.studies.bench.sweep import sweep

    if options.sweep:
        sweep(options.model, options.repeats, options.compile, options.json)
    else:
        step(
            *(options.model, options.size, options.batch, options.repeats),
            *(options.threads, options.compile, options.json),
        )


def _add_layers(bench: argparse.ArgumentParser) -> None:
    _add_network(bench)
    _add_repeats(bench, default=9)


def run_layers(options: argparse.Namespace) -> None:
    """Measure each layer by itself."""
    from sideways.studies.bench.layers import layers

    layers(options.model, options.size, options.batch, options.repeats, options.json)


def _add_growth(bench: argparse.ArgumentParser) -> None:
    _add_repeats(bench, default=15)


def run_growth(options: argparse.Namespace) -> None:
    """Measure how the time of a tick grows."""
    from sideways.studies.bench.growth import growth

    growth(options.repeats, options.json)


def _add_memory(bench: argparse.ArgumentParser) -> None:
    _add_network(bench, batch=1)
    bench.add_argument(
        "--lengths",
        type=positive,
        nargs="+",
        default=[16, 64, 256],
        metavar="T",
        help="frames of a clip (default: 16 64 256)",
    )


def run_memory(options: argparse.Namespace) -> None:
    """Measure the memory that each rule needs."""
    from sideways.studies.bench.memory import memory

    memory(options.model, options.size, options.batch, options.lengths, options.json)


# On several ranks ----------------------------------------------------------------------------------------------------


def _add_pipeline(bench: argparse.ArgumentParser, ticks: int = 10) -> None:
    bench.add_argument(
        "--ranks", type=positive, nargs="+", default=[1, 2], metavar="K", help="numbers of ranks (default: 1 2)"
    )
    _add_network(bench)
    bench.add_argument("--units", type=positive, help="an mlp of this many equal units instead of the model")
    bench.add_argument("--ticks", type=positive, default=ticks, help=f"ticks of each measurement (default: {ticks})")
    bench.add_argument("--placement", help="units of each rank: measure, estimate, or a list such as 0-2,3-7")
    bench.add_argument(
        "--transport", choices=("auto", *TRANSPORTS), help="how GPU arrays travel, as for mpirun … sideways train"
    )
    bench.add_argument(
        "--emulate-ms", type=above_zero, help="emulate devices: each unit waits this long instead of computing"
    )


def run_pipeline(options: argparse.Namespace) -> None:
    """Measure the throughput of ranks."""
    from sideways.studies.bench.pipeline import pipeline

    _on_ranks(options, pipeline)


def _add_latency(bench: argparse.ArgumentParser) -> None:
    _add_pipeline(bench, ticks=100)
    bench.add_argument(
        "--period-ms", type=above_zero, default=20.0, help="milliseconds from one frame to the next (default: 20)"
    )


def run_latency(options: argparse.Namespace) -> None:
    """Measure updates and dropped frames when frames arrive at a steady rate."""
    from sideways.studies.bench.pipeline import latency

    _on_ranks(options, latency)


def _on_ranks(options: argparse.Namespace, measure: Callable[[Sequence[int], Sequence[str], str | None], None]) -> None:
    """Start a measurement, with the options that are set as arguments of `python -m sideways.mpi.bench`."""
    names = ("model", "units", "size", "batch", "ticks", "placement", "emulate_ms", "period_ms")
    of_device = ("backend", "precision", "transport")
    values = {name: getattr(options, name, None) for name in (*names, *of_device)}
    arguments = [
        text for name, value in values.items() if value for text in (f"--{name.replace('_', '-')}", str(value))
    ]
    measure(options.ranks, arguments, options.json)


# Before there are ranks ----------------------------------------------------------------------------------------------


def _add_plan(bench: argparse.ArgumentParser) -> None:
    bench.description = (
        "Computes what a network will do on many ranks, from the static schedule, the costs of the units and the speed "
        "of the links. Nothing runs on several ranks, but with --check."
    )
    _add_network(bench, positional=True)
    bench.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the model")
    bench.add_argument("--units", type=positive, help="an mlp of this many units instead of the model")
    bench.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    bench.add_argument("--rule", default="sideways", choices=("sideways", "delayed"))
    bench.add_argument(
        "--learn-every", type=positive, metavar="N", help="delayed: learn from one tick in N (default: 1)"
    )
    bench.add_argument(
        "--ranks", type=positive, nargs="+", default=[2, 4, 8], metavar="K", help="of all replicas (default: 2 4 8)"
    )
    bench.add_argument(
        "--replicas", type=positive, nargs="+", metavar="R", help="(default: the fastest number for each K)"
    )
    costs = bench.add_argument_group("costs", "Without options, the units are timed on this machine.")
    costs.add_argument("--device-gflops", type=above_zero, metavar="G", help="GFLOP/s that each rank's device reaches")
    costs.add_argument(
        "--costs",
        choices=("estimate", "measure"),
        help="with --device-gflops: each unit's share of the work from its multiply-adds (default), or measured here",
    )
    costs.add_argument("--unit-ms", type=above_zero, metavar="MS", help="every unit takes so long for the whole batch")
    costs.add_argument(
        "--link-gbs", type=above_zero, default=10.0, metavar="B", help="gigabytes per second each way (default: 10)"
    )
    costs.add_argument(
        "--link-us", type=above_zero, default=10.0, metavar="L", help="microseconds that a message takes (default: 10)"
    )
    bench.add_argument("--check", action="store_true", help="with --unit-ms: run the emulated jobs beside the plans")
    bench.add_argument("--ticks", type=positive, default=30, help="--check: ticks of each repeat (default: 30)")


def run_plan(options: argparse.Namespace) -> None:
    """Plan for many ranks; exit code 1 if a check finds a plan that is off by more than 5 %."""
    from sideways.studies.bench.plan import plan

    plan(options)


# Options of several measurements -------------------------------------------------------------------------------------


def _add_network(bench: argparse.ArgumentParser, batch: int = 8, positional: bool = False) -> None:
    words = "a name (see: sideways models; default: vgg8)"
    if positional:
        bench.add_argument("model", nargs="?", default="vgg8", help=words)
    else:
        bench.add_argument("--model", default="vgg8", help=words)
    bench.add_argument("--size", type=positive, default=112, help="height and width of a frame (default: 112)")
    bench.add_argument("--batch", type=positive, default=batch, help=f"samples in a batch (default: {batch})")


def _add_repeats(bench: argparse.ArgumentParser, default: int) -> None:
    bench.add_argument("--repeats", type=positive, default=default, help=f"repetitions (default: {default})")
