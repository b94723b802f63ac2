"""`sideways bench memory`: the memory that training on a clip of T frames needs, with each rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from sideways.losses import SoftmaxCrossEntropy
from sideways.models import build_model
from sideways.network import Network
from sideways.rules import BPTT, Backprop, Delayed, Rule, Sideways
from sideways.studies.bench.growth import chain
from sideways.studies.bench.output import print_table, write_json
from sideways.tables import aligned
from sideways.training.memory import of_clip, table

PARTS = ("saved", "messages", "inputs", "waiting", "scratch", "peak")
HEAD = ("rule", "T", *(f"{part} MB" for part in PARTS), "bptt / this")
DEPTH_HEAD = ("rule", "depth", "inputs kB", "peak kB", "inputs kB per unit", "peak kB per unit")
CLASSES = 101
DEPTHS = (4, 8, 16)
SIZE, WIDTH = 32, 16  # of the frames and of the units of the chains


def memory(model: str, size: int, batch: int, lengths: Sequence[int], path: str | None) -> None:
    """Measure peaks beyond the parameters, the frames and all that stays between clips; updates at a clip's end."""
    network = build_model(model, (size, size, 3), CLASSES)
    results = measured(network, batch, lengths)
    exact = {result["T"]: result["peak"] for result in results if result["rule"] == "bptt"}
    rows = [
        (
            *(result["rule"], str(result["T"])),
            *(f"{result[part] / 1e6:.1f}" for part in PARTS),
            f"{exact[result['T']] / result['peak']:.1f}",
        )
        for result in _by_rule(results)
    ]
    print_table(HEAD, rows)
    print(f"\nEach unit's turn, in MB:\n\n{aligned(('unit', 'saved', 'scratch', 'messages'), table(network, batch))}")
    print(
        f"\n{model}, of depth D = {network.depth}, batches of {batch} frames of {size}×{size}, float32."
        "\npeak: measured (by tracemalloc, or by the pool of a GPU), beyond the parameters and the frames,"
        "\nwhich bptt stores as well. Counted:"
        "\nsaved, messages, inputs (those that Delayed keeps), waiting (gradients that wait for the rest of their sum)."
        "\nscratch: the rest."
    )
    chains = of_chains(DEPTHS, batch)
    print(f"\n{aligned(DEPTH_HEAD, [_depth_row(result) for result in _by_rule(chains)])}")
    print(
        f"\nChains of 3×3 convolutions with {WIDTH} channels on {SIZE}×{SIZE} pixels, clips of 4D frames, batches of"
        f" {batch}.\nper unit: divided by the depth D."
    )
    write_json(path, {"lengths": results, "depths": chains})


def of_chains(depths: Sequence[int], batch: int) -> list[dict[str, Any]]:
    """Measure each rule on chains of these depths, on clips of 4D frames, which every rule fills."""
    return [
        {"depth": depth, **result}
        for depth in depths
        for result in measured(chain(SIZE, WIDTH, depth), batch, [4 * depth])
    ]


def measured(network: Network, batch: int, lengths: Sequence[int], only: str = "") -> list[dict[str, Any]]:
    """Measure each rule on each length: a dictionary with the rule, T, and the bytes that `of_clip` counts.

    only: the name of a rule, to measure no other.
    """
    random = numpy.random.default_rng(0)
    frame = random.normal(size=(batch, *network.input_shape)).astype(numpy.float32)
    labels = numpy.arange(batch) % 10
    return [
        {"rule": name, "T": length, **of_clip(rule, [frame] * length, [labels] * length)}
        for length in lengths
        for name, rule in rules(network).items()
        if only in ("", name)
    ]


def rules(network: Network) -> dict[str, Rule]:
    """The rules by their names in the tables."""
    loss = SoftmaxCrossEntropy()
    stream: dict[str, Any] = {"update_every": "clip", "boundary": "stream"}
    return {
        "Sideways": Sideways(network, loss, **stream),
        "Delayed, n = 1": Delayed(network, loss, **stream),
        "Delayed, n = 2D-1": Delayed(network, loss, learn_every=2 * network.depth - 1, **stream),
        "backprop": Backprop(network, loss, update_every="clip"),
        "bptt": BPTT(network, loss),
    }


def _by_rule(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results in the order of the tables: rule by rule, each by its growing size."""
    order = list(dict.fromkeys(result["rule"] for result in results))
    return sorted(results, key=lambda result: order.index(result["rule"]))


def _depth_row(result: dict[str, Any]) -> tuple[str, ...]:
    sizes = result["inputs"] / 1e3, result["peak"] / 1e3
    each = (size / result["depth"] for size in sizes)
    return result["rule"], str(result["depth"]), *(f"{size:.0f}" for size in (*sizes, *each))
