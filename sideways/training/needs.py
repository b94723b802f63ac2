"""The memory that a run will need, estimated from its settings alone, so that a run too large is refused at once.

The estimate counts the arrays that certainly exist at the same time, and is therefore a little too low: a run that fits
is never refused. `memory.py` measures what a run does need.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from sideways.backend import Shape, on_device
from sideways.data import Task
from sideways.layers import Conv2D, Layer, Sequential
from sideways.layers.conv import Im2col
from sideways.models import model_units
from sideways.network import Unit
from sideways.network.marks import Marks
from sideways.network.schedule import path_lengths
from sideways.network.shapes import infer_shapes
from sideways.network.sizes import BYTES, check_fits, parameter_counts
from sideways.training.build import TICKING, build_optimizer
from sideways.training.config import Config

PARAMETERS = "the parameters need"
FRAMES = "the frames of a clip need"
REMEDY = "a smaller --batch, fewer or smaller frames (task_options) or a narrower model (model_options)"


def check_memory(config: Config, task: Task, ranks: int = 1) -> None:
    """Raise `InputError`, naming the largest part of the run, if the run does not fit into the free memory.

    ranks: the number of processes that share the run. Each builds all parameters, and at best has an equal part of the
    rest.
    """
    for parts in sorted(needs(config, task), key=lambda parts: -sum(parts.values())):
        shared = {name: nbytes if name == PARAMETERS else nbytes // ranks for name, nbytes in parts.items()}
        if on_device():  # where the frames stay on the host
            frames = {FRAMES: shared.pop(FRAMES)}
            check_fits("the frames of this run", frames, REMEDY, on_host=True)
        check_fits("the arrays of this run", shared, REMEDY)


def needs(config: Config, task: Task) -> list[dict[str, int]]:
    """Estimate the bytes of a run by kind: while a clip is made, and during a tick.

    Raises `InputError` for a model that does not suit the task, and for an unknown optimizer.
    """
    classes = None if config.horizon else len(task.classes)
    units = model_units(config.model, task.frame_shape, classes, **config.model_options)
    shapes = infer_shapes(units, task.frame_shape)
    parameters = parameter_counts(units)
    updated = sum(count for name, count in parameters.items() if config.rates.get(name, 1.0))
    remembered = len(build_optimizer(config, config.clips * task.length).remembered)
    itemsize = BYTES.get(config.dtype, min(BYTES.values()))
    at_all_times = {
        PARAMETERS: itemsize * sum(parameters.values()),
        "the memory of the optimizer needs": itemsize * remembered * updated,
    }
    in_a_tick = {
        "the gradients of the parameters need": itemsize * sum(parameters.values()),
        "the activations need": itemsize * config.batch * _kept(config, units, task.length),
        "the windows of a convolution need": itemsize * max(_windows(unit, shapes, config.batch) for unit in units),
    }
    base = task.base
    ticks = base.length + (config.horizon if base.live else 0)
    pixels = ticks * config.batch * math.prod(task.frame_shape)
    return [
        at_all_times | {FRAMES: base.bytes_to_make * pixels},
        at_all_times | in_a_tick | {FRAMES: base.bytes_to_keep * pixels},
    ]


def _kept(config: Config, units: list[Unit], ticks: int) -> int:
    """Count the numbers of one sample that lie between units, or wait for the gradient, at the same time.

    sideways          the activations of this tick and of the one before, and a gradient for each input
    delayed           as many activations of each unit as the consumer that keeps most of them keeps
    backprop, noisy   the activations of one frame
    bptt              the activations of all ticks; also where sideways is compared with it
    """
    outputs = {unit.name: math.prod(unit.output_shape) for unit in units}
    if config.rule == "bptt" or config.cosine_every:
        return ticks * sum(outputs.values())
    if config.rule not in TICKING:
        return sum(outputs.values())
    consumers = {unit.name: [c.name for c in units if unit.name in c.inputs] for unit in units}
    copies = {name: 2 if consumers[name] else 1 for name in outputs}
    if config.rule == "delayed":
        lengths = path_lengths(consumers)
        marks = Marks(lengths, max(entry[-1] for entry in lengths.values()), config.learn_every)
        copies = {name: max([copies[name], *map(marks.most_kept, consumers[name])]) for name in outputs}
    activations = sum(copies[name] * outputs[name] for name in outputs)
    sources = [[outputs[j] for j in unit.inputs if j in outputs] for unit in units]
    return activations + sum(max(sizes, default=0) for sizes in sources)  # added inputs share one gradient


def _windows(unit: Unit, shapes: dict[str, Shape], batch: int) -> int:
    """Count the numbers of the matrices of windows that the convolutions of a unit keep until the backward pass."""
    chains = [(unit.body, unit.merged_shape), *((layers, shapes[j]) for j, layers in unit.adapters.items())]
    return sum(
        batch * math.prod(algorithm.joined.output(shape)) * math.prod(algorithm.joined.kernel) * layer.inputs
        for chain, merged_shape in chains
        for layer, shape in _layers(chain, merged_shape)
        if isinstance(layer, Conv2D) and layer.kernel != (1, 1)
        if isinstance(algorithm := layer.algorithm((batch, *shape)), Im2col)
    )


def _layers(chain: Sequential, shape: Shape) -> Iterator[tuple[Layer, Shape]]:
    """Yield each layer of a chain, and of the chains in it, with the shape of its input."""
    for layer in chain.layers:
        if isinstance(layer, Sequential):
            yield from _layers(layer, shape)
        else:
            yield layer, shape
        shape = layer.output_shape(shape)
