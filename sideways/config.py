"""All that is needed to repeat a run: one `Config`, read from a recipe, changed by options, written as config.json."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import numpy

from sideways.backend import default_backend, to_device
from sideways.data import TASKS, Ahead, Task, make_task
from sideways.door import check_options, check_type
from sideways.errors import InputError
from sideways.losses import MeanSquaredError, SoftmaxCrossEntropy
from sideways.models import build_model
from sideways.network import Network
from sideways.optimizers import SGD, Adam, Optimizer
from sideways.rules import BPTT, Backprop, Delayed, NoisyBackprop, Sideways
from sideways.schedules import Constant, Cosine, Step, WarmUp

RULES = {"sideways": Sideways, "delayed": Delayed, "backprop": Backprop, "bptt": BPTT, "noisy": NoisyBackprop}
TICKING = ("sideways", "delayed")  # every unit runs forward and backward at every tick
OPTIMIZERS = {"sgd": SGD, "adam": Adam}
EMPTY = numpy.empty(0)
MOST_THREADS = 1024
SCHEDULES = {"constant": Constant, "step": Step, "cosine": Cosine}


@dataclass
class Config:
    """One run. The tables `optimizer` and `schedule` hold a `name` and that class's own options.

    clips: how many batches of clips to train on; batch: samples in each. A tick is one frame of all samples.
    evaluation_clips: batches of held-out clips for each evaluation; evaluate_every: clips between evaluations while
        training (0: only at the end). 0 evaluation_clips: all there are, of a data set.
    distinct_clips: how many different batches of training clips a made task has (0: a new one each time).
    horizon: 0 to tell classes; h ≥ 1 to predict the frame h ticks ahead.
    workers: processes that decode videos ahead of the tick; they change nothing but the speed.
    checkpoint_every: ticks between checkpoints (0: only the one at the end); keep_checkpoints: how many stay.
    init: parameters to start from, a file of `sideways export`; the top starts afresh where its shape differs.
    cosine_every: clips between measurements of each unit's cosine to the exact gradient (0: never).
    rates: unit → factor on its learning rate (0 freezes it).
    """

    model: str = "vgg5-skip"
    rule: str = "sideways"
    task: str = "waves"
    clips: int = 250
    batch: int = 32
    update_every: int | str = "clip"
    boundary: str = "flush"
    target_delay: int | None = None
    label_smoothing: float = 0.0
    evaluation_clips: int = 20
    evaluate_every: int = 0
    distinct_clips: int = 0
    horizon: int = 0
    workers: int = 1
    checkpoint_every: int = 0
    keep_checkpoints: int = 3
    init: str = ""
    cosine_every: int = 0
    seed: int = 1
    dtype: str = "float32"
    backend: str = default_backend()
    threads: int = 1
    summary: str = ""
    model_options: dict[str, Any] = field(default_factory=dict)
    task_options: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=lambda: {"name": "adam", "learning_rate": 2e-3})
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "constant"})
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            check_type(name, getattr(self, name), hint)
        for table, given in (
            ("model_options", ("input_shape", "classes", "seed", "dtype")),
            ("task_options", ("seed",)),
        ):
            for key in given:
                if key in getattr(self, table):
                    raise InputError(f"{table} has no option {key!r}: the run as a whole says it")
        for name in ("clips", "batch", "threads", "keep_checkpoints"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.threads > MOST_THREADS:
            raise InputError(f"threads must be at most {MOST_THREADS}, not {self.threads}")
        counts = ("evaluation_clips", "evaluate_every", "checkpoint_every", "cosine_every", "distinct_clips")
        for name in (*counts, "horizon", "workers"):
            if (value := getattr(self, name)) < 0:
                raise InputError(f"{name} must be a whole number, or 0, not {value!r}")
        if self.seed < 0:
            raise InputError(f"seed must be a whole number of at least 0, not {self.seed!r}")

    @classmethod
    def from_tables(cls, tables: dict[str, Any], source: str) -> Config:
        """A config from a recipe's tables; `source` names them in errors."""
        known = {entry.name: entry for entry in dataclasses.fields(cls)}
        for key, value in tables.items():
            if key not in known:
                raise InputError(f"{source} has no setting {key!r}; settings are {', '.join(known)}")
            is_table = known[key].default is dataclasses.MISSING
            if is_table != isinstance(value, dict):
                raise InputError(
                    f"{source}: {key} must be {'a table' if is_table else 'a single value'}, not {value!r}"
                )
        return cls(**tables)

    def to_tables(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def build_task(config: Config) -> Task:
    """The task that a config names, or `InputError`."""
    options = dict(config.task_options)
    if config.task == "stream":
        if config.boundary != "stream" or config.batch != 1:
            raise InputError("a live stream has no clips and one sample: --boundary stream --batch 1")
        return make_task("stream", seed=config.seed, **options, horizon=config.horizon)
    if config.horizon and config.task in TASKS:
        length = options.get("length", inspect.signature(TASKS[config.task]).parameters["length"].default)
        if not isinstance(length, int):
            raise InputError(f"task_options.length is a number of frames, not {length!r}")
        options["length"] = length + config.horizon
    task = make_task(config.task, seed=config.seed, **options)
    if config.distinct_clips and task.count("train") is not None:
        raise InputError(f"task {config.task!r} has as many clips as it has videos: leave out distinct_clips")
    task.distinct = config.distinct_clips
    if config.evaluation_clips == 0 and task.count("test") is None:
        raise InputError(f"task {config.task!r} has no end: evaluation_clips must be at least 1")
    return Ahead(task, config.horizon) if config.horizon else task


def build_network(config: Config, frame_shape: tuple[int, ...], classes: int) -> Network:
    """The network that a config names, for frames (H, W, C) and this many classes, or `InputError`."""
    width = None if config.horizon else classes
    network = build_model(config.model, frame_shape, width, config.seed, config.dtype, **config.model_options)
    if config.init:
        start_from(network, config.init)
    return network


def start_from(network: Network, path: str) -> None:
    """Parameters and running statistics from a file of `sideways export`; where its top differs, the top stays new."""
    given = read_arrays(Path(path), f"--init {path}: not a file of parameters")
    for name, unit in network.units.items():
        own = unit.parameters | unit.state
        wrong = [key for key, array in own.items() if given.get(f"{name}/{key}", EMPTY).shape != array.shape]
        if wrong and unit is not network.top:
            there = given.get(f"{name}/{wrong[0]}")
            raise InputError(
                f"--init {path}: {name}/{wrong[0]} {'is missing' if there is None else f'has shape {there.shape}'}, "
                f"wanted is {own[wrong[0]].shape}; only the top, {network.top.name!r}, may differ"
            )
        if not wrong:
            for key, array in own.items():
                array[...] = to_device(given[f"{name}/{key}"], array.dtype)


def read_arrays(path: Path, else_: str) -> dict[str, numpy.ndarray]:
    """The arrays of an .npz, or `InputError` with these words and the reason."""
    try:
        with numpy.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # a damaged file makes NumPy, or a module that it reads with, raise whatever comes
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{else_} ({why})") from None


def build_rule(
    config: Config, task: Task, network: Network, rules: Mapping[str, Callable[..., Any]] = RULES, **more
) -> Any:
    """The `Rule` that a config names, with its loss and optimizer, for clips of this task, or `InputError`.

    rules: the classes to choose from. more: arguments for that class that no config holds (a mailbox).
    """
    whole = config.boundary == "flush" or config.cosine_every > 0  # gradients of all units in each clip by itself
    if config.rule in TICKING and whole and task.length < 2 * network.depth - 1:
        other = "no --cosine-every" if config.boundary == "stream" else "--boundary stream"
        raise InputError(
            f"clips of {task.length} frames train no bottom unit of {config.model}, depth {network.depth}: "
            f"at least {2 * network.depth - 1} are needed (--set task_options.length=…), or {other}"
        )
    if config.rule in (*TICKING, "bptt") and task.length < network.depth:
        raise InputError(
            f"clips of {task.length} frames never reach the top of {config.model}, depth {network.depth}: at least "
            f"{network.depth} are needed (--set task_options.length=…)"
        )
    if config.cosine_every and config.rule not in TICKING:
        raise InputError(
            f"cosine_every compares pseudo-gradients: rule 'sideways' makes them (and 'delayed'), not {config.rule!r}"
        )
    return make_rule(config, network, _optimizer(config, config.clips * task.length), rules, **more)


def make_rule(
    config: Config,
    network: Network,
    optimizer: Optimizer | None = None,
    rules: Mapping[str, Callable[..., Any]] = RULES,
    **more,
) -> Any:
    """The rule itself; without an optimizer it only evaluates."""
    if config.rule not in rules:
        raise InputError(f"unknown rule {config.rule!r}: choose one of {', '.join(rules)}")
    options: dict[str, Any] = {"update_every": config.update_every}
    if config.rule in TICKING:
        options["boundary"] = config.boundary
    elif config.boundary != "flush":
        raise InputError(f"rule {config.rule!r} trains on clips: boundary 'flush', not {config.boundary!r}")
    if config.rule in (*TICKING, "bptt"):
        ahead = 0 if config.horizon else None  # the frame ahead is counted from the newest frame
        options["target_delay"] = ahead if config.target_delay is None else config.target_delay
    elif config.target_delay:
        raise InputError(f"rule {config.rule!r} answers every frame at once: no target_delay {config.target_delay}")
    loss = MeanSquaredError() if config.horizon else SoftmaxCrossEntropy(config.label_smoothing)
    return rules[config.rule](network, loss, optimizer, **options, **more)


def _optimizer(config: Config, ticks: int) -> Optimizer:
    options = dict(config.optimizer)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise InputError(f"unknown optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}")
    check_options(f"optimizer {name!r}", OPTIMIZERS[name], options, besides=("schedule", "rates"))
    return OPTIMIZERS[name](**options, schedule=_schedule(config, ticks), rates=config.rates)


def _schedule(config: Config, ticks: int) -> Callable[[int], float]:
    """The schedule of a run of this many ticks; `warm_up` (ticks) goes before any of them."""
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
