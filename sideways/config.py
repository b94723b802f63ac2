"""All that is needed to repeat a run: one `Config`, read from a recipe, changed by options, written as config.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from sideways.backend import default_backend
from sideways.data import Task, make_task
from sideways.door import check_options, check_type
from sideways.errors import InputError
from sideways.losses import SoftmaxCrossEntropy
from sideways.models import build_model
from sideways.network import Network
from sideways.optimizers import SGD, Adam, Optimizer
from sideways.rules import BPTT, Backprop, Sideways
from sideways.schedules import Constant, Cosine, Step, WarmUp

RULES = {"sideways": Sideways, "backprop": Backprop, "bptt": BPTT}
OPTIMIZERS = {"sgd": SGD, "adam": Adam}
SCHEDULES = {"constant": Constant, "step": Step, "cosine": Cosine}


@dataclass
class Config:
    """One run. The tables `optimizer` and `schedule` hold a `name` and that class's own options.

    clips: how many batches of clips to train on; batch: samples in each. A tick is one frame of all samples.
    evaluation_clips: batches of held-out clips for each evaluation; evaluate_every: clips between evaluations while
        training (0: only at the end).
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
        for name in ("clips", "batch", "evaluation_clips", "threads"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.evaluate_every < 0:
            raise InputError(f"evaluate_every must be a number of clips, or 0 for never, not {self.evaluate_every!r}")
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
    return make_task(config.task, seed=config.seed, **config.task_options)


def build_network(config: Config, task: Task) -> Network:
    """The network that a config names, for this task, or `InputError`."""
    shape, classes = task.frame_shape, len(task.classes)
    return build_model(config.model, shape, classes, config.seed, config.dtype, **config.model_options)


def build_rule(
    config: Config, task: Task, network: Network, rules: Mapping[str, Callable[..., Any]] = RULES, **more
) -> Any:
    """The `Rule` that a config names, with its loss and optimizer, or `InputError`.

    rules: the classes to choose from. more: arguments for that class that no config holds (a mailbox).
    """
    if config.rule not in rules:
        raise InputError(f"unknown rule {config.rule!r}: choose one of {', '.join(rules)}")
    options: dict[str, Any] = {"update_every": config.update_every}
    if config.rule == "sideways":
        options["boundary"] = config.boundary
        if config.boundary == "flush" and task.length < 2 * network.depth - 1:
            raise InputError(
                f"clips of {task.length} frames train no bottom unit of {config.model}, depth {network.depth}: "
                f"at least {2 * network.depth - 1} are needed (--set task_options.length=…), or --boundary stream"
            )
    if config.rule in ("sideways", "bptt"):
        options["target_delay"] = config.target_delay
    loss = SoftmaxCrossEntropy(config.label_smoothing)
    return rules[config.rule](network, loss, _optimizer(config, config.clips * task.length), **options, **more)


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
