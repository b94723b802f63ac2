"""Build the parts of a run that a `Config` names: the task, the network, and the rule with loss and optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from sideways.data import TASKS, FramesAhead, Task, make_task
from sideways.errors import InputError
from sideways.learning_rates import Constant, Cosine, Step, WarmUp
from sideways.losses import LogMeanSquaredError, Loss, MeanSquaredError, SoftmaxCrossEntropy
from sideways.models import build_model
from sideways.network import Network
from sideways.optimizers import SGD, Adam, Optimizer, RMSProp
from sideways.rules import BPTT, Backprop, Delayed, Sideways
from sideways.rules.graphed import GraphedSideways
from sideways.rules.noisy import NoisyBackprop
from sideways.training.config import Config
from sideways.training.parameters import start_from
from sideways.validation import check_options, check_type

RULES = {"sideways": Sideways, "delayed": Delayed, "backprop": Backprop, "bptt": BPTT, "noisy": NoisyBackprop}
TICKING = ("sideways", "delayed")  # every unit runs forward and backward at every tick
LOSSES: dict[str, Callable[[], Loss]] = {"squared": MeanSquaredError, "log-squared": LogMeanSquaredError}  # of frames
OPTIMIZERS = {"sgd": SGD, "adam": Adam, "rmsprop": RMSProp}
SCHEDULES = {"constant": Constant, "step": Step, "cosine": Cosine}


def build_task(config: Config) -> Task:
    """Build the task that a config names. Raises `InputError` for settings that do not suit the task."""
    options = dict(config.task_options)
    if config.task == "stream":
        if config.boundary != "stream" or config.batch != 1:
            raise InputError("a live stream has one sample and no clips: choose --boundary stream --batch 1")
        return make_task("stream", seed=config.seed, **options, horizon=config.horizon)
    if config.horizon and config.task in TASKS:
        length = options.get("length", inspect.signature(TASKS[config.task]).parameters["length"].default)
        if not isinstance(length, int):
            raise InputError(f"task_options.length is a number of frames, not {length!r}")
        options["length"] = length + config.horizon
    task = make_task(config.task, seed=config.seed, **options)
    if config.distinct_clips and task.count("train") is not None:
        raise InputError(f"task {config.task!r} has a set of clips of its own: leave out distinct_clips")
    task.distinct = config.distinct_clips
    if config.evaluation_clips == 0 and task.count("test") is None:
        raise InputError(f"task {config.task!r} has no end: evaluation_clips must be at least 1")
    return FramesAhead(task, config.horizon) if config.horizon else task


def build_network(config: Config, frame_shape: tuple[int, ...], classes: int) -> Network:
    """Build the network that a config names, for frames of shape (H, W, C) and a number of classes."""
    width = None if config.horizon else classes
    network = build_model(config.model, frame_shape, width, config.seed, config.dtype, **config.model_options)
    if config.init:
        start_from(network, config.init)
    return network


def build_rule(
    config: Config, task: Task, network: Network, rules: Mapping[str, Callable[..., Any]] = RULES, **more
) -> Any:
    """Build the rule that a config names, with its loss and optimizer, for clips of a task.

    rules: the classes to choose from. more: arguments of the class that no config holds (a mailbox).
    Raises `InputError` for clips that are too short, and for settings that do not suit the rule.
    """
    whole_clips = config.boundary == "flush" or config.cosine_every > 0  # every clip must train every unit
    if config.rule in TICKING and whole_clips and task.length < 2 * network.depth - 1:
        remedy = "no --cosine-every" if config.boundary == "stream" else "--boundary stream"
        raise InputError(
            f"clips of {task.length} frames train no bottom unit of {config.model}, depth {network.depth}: "
            f"at least {2 * network.depth - 1} are needed (--set task_options.length=…), or {remedy}"
        )
    if config.rule in (*TICKING, "bptt") and task.length < network.depth:
        raise InputError(
            f"clips of {task.length} frames never reach the top of {config.model}, depth {network.depth}: at least "
            f"{network.depth} are needed (--set task_options.length=…)"
        )
    if config.cosine_every and config.rule not in TICKING:
        raise InputError(
            f"cosine_every compares pseudo-gradients, which rule {config.rule!r} does not make: choose 'sideways' or "
            "'delayed', or leave out cosine_every"
        )
    if config.cuda_graph:
        rules = {**rules, "sideways": GraphedSideways}
    return make_rule(config, network, build_optimizer(config, config.clips * task.length), rules, **more)


def make_rule(
    config: Config,
    network: Network,
    optimizer: Optimizer | None = None,
    rules: Mapping[str, Callable[..., Any]] = RULES,
    **more,
) -> Any:
    """Build the rule that a config names, for clips of any length. Without an optimizer the rule can only evaluate."""
    if config.rule not in rules:
        raise InputError(f"unknown rule {config.rule!r}: choose one of {', '.join(rules)}")
    options: dict[str, Any] = {"update_every": config.update_every}
    if config.rule in TICKING:
        options["boundary"] = config.boundary
    elif config.boundary != "flush":
        raise InputError(f"rule {config.rule!r} trains on clips: boundary 'flush', not {config.boundary!r}")
    if config.rule == "delayed":
        options["learn_every"] = config.learn_every
    elif config.learn_every != 1:
        raise InputError(f"rule {config.rule!r} learns from every loss: learn_every is for rule 'delayed'")
    if config.rule in (*TICKING, "bptt"):
        default = 0 if config.horizon else None  # the horizon is counted from the newest frame
        options["target_delay"] = default if config.target_delay is None else config.target_delay
    elif config.target_delay:
        raise InputError(f"rule {config.rule!r} answers every frame at once: leave out target_delay")
    return rules[config.rule](network, _loss(config), optimizer, **options, **more)


def _loss(config: Config) -> Loss:
    """Build the loss of a config: the cross-entropy of classes, or an error of frames."""
    if config.loss not in LOSSES:
        raise InputError(f"unknown loss {config.loss!r}: choose one of {', '.join(LOSSES)}")
    if not config.horizon and config.loss != "squared":
        raise InputError(f"loss {config.loss!r} is for predictors of frames: it needs a horizon of at least 1")
    return LOSSES[config.loss]() if config.horizon else SoftmaxCrossEntropy(config.label_smoothing)


def build_optimizer(config: Config, ticks: int) -> Optimizer:
    """Build the optimizer that a config names, for a run of so many ticks. Raises `InputError` for wrong settings."""
    options = dict(config.optimizer)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise InputError(f"unknown optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}")
    check_options(f"optimizer {name!r}", OPTIMIZERS[name], options, besides=("schedule", "rates"))
    return OPTIMIZERS[name](**options, schedule=_schedule(config, ticks), rates=config.rates)


def _schedule(config: Config, ticks: int) -> Callable[[int], float]:
    """Build the learning-rate schedule of a run of `ticks` ticks. The option `warm_up` (ticks) suits any schedule."""
    options = dict(config.schedule)
    name, warm_up = options.pop("name", "constant"), options.pop("warm_up", 0)
    if not isinstance(name, str) or name not in SCHEDULES:
        raise InputError(f"unknown schedule {name!r}: choose one of {', '.join(SCHEDULES)}")
    if name == "cosine":
        options.setdefault("ticks", ticks)
    check_options(f"schedule {name!r}", SCHEDULES[name], options)
    check_type("schedule: warm_up", warm_up, int)
    schedule = SCHEDULES[name](**options)
    return WarmUp(warm_up, schedule) if warm_up else schedule


def option(task: type[Task], options: Mapping[str, Any], name: str) -> Any:
    """The value of a task's option: the entry of `options`, or else the default in the task's class."""
    return options.get(name, inspect.signature(task).parameters[name].default)
