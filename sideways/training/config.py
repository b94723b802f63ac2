"""The settings of a run: read from a recipe, changed by options, written as config.json."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from sideways.backend import PRECISIONS, default_backend
from sideways.errors import InputError
from sideways.validation import check_numbers, check_type, shown

MOST_THREADS = 1024
MOST_WORKERS = 1024
OWNERS = {  # options of models and tasks that follow from other settings
    "input_shape": "it follows from the task's frames",
    "classes": "they follow from the task",
    "seed": "set `seed` at the top level of the recipe",
    "dtype": "set `dtype` at the top level of the recipe",
}


@dataclass
class Config:
    """All that is needed to repeat a run. The tables `optimizer` and `schedule` hold a `name` and its options.

    clips: how many batches of clips to train on; batch: samples in each. A tick is one frame of all samples.
    learn_every: for rule `delayed`: the loss of one tick in this many is learnt from.
    evaluation_clips: batches of held-out clips for each evaluation (0: all clips of a data set); evaluate_every: clips
        between evaluations while training (0: only at the end).
    distinct_clips: how many different batches of training clips a made task has (0: a new one each time).
    horizon: 0 to classify; h ≥ 1 to predict the frame h ticks ahead.
    loss: of predicted frames, `"squared"` or `"log-squared"` (`LogMeanSquaredError`); classes have the cross-entropy.
    workers: processes that decode videos or play Doom ahead of the tick; they change nothing but the speed.
    checkpoint_every: ticks between checkpoints (0: only one at the end); keep_checkpoints: how many are kept.
    init: a file of `sideways export` with the parameters to start from; a top of another shape starts afresh.
    cosine_every: clips between measurements of each unit's cosine to the exact gradient (0: never).
    rates: unit → factor on its learning rate (0 freezes it).
    cuda_graph: give the ticks to the GPU as CUDA graphs (see `GraphedSideways`).
    precision: of products on a GPU, `"float32"` or `"tf32"` (see `use_backend`).
    """

    model: str = "vgg5-skip"
    rule: str = "sideways"
    task: str = "waves"
    clips: int = 250
    batch: int = 32
    update_every: int | str = "clip"
    learn_every: int = 1
    boundary: str = "flush"
    target_delay: int | None = None
    label_smoothing: float = 0.0
    evaluation_clips: int = 20
    evaluate_every: int = 0
    distinct_clips: int = 0
    horizon: int = 0
    loss: str = "squared"
    workers: int = 1
    checkpoint_every: int = 0
    keep_checkpoints: int = 3
    init: str = ""
    cosine_every: int = 0
    seed: int = 1
    dtype: str = "float32"
    backend: str = default_backend()
    precision: str = "float32"
    cuda_graph: bool = False
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
            check_numbers(name, getattr(self, name))
        for table, keys in (("model_options", OWNERS), ("task_options", ("seed",))):
            for key in keys:
                if key in getattr(self, table):
                    raise InputError(f"{table} has no option {key!r}: {OWNERS[key]}")
        for name in ("clips", "batch", "learn_every", "threads", "keep_checkpoints"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")
        for name, most in (("threads", MOST_THREADS), ("workers", MOST_WORKERS)):
            if (value := getattr(self, name)) > most:
                raise InputError(f"{name} must be at most {most}, not {value}")
        counts = ("evaluation_clips", "evaluate_every", "checkpoint_every", "cosine_every", "distinct_clips")
        for name in (*counts, "horizon", "workers"):
            if (value := getattr(self, name)) < 0:
                raise InputError(f"{name} must be a whole number of at least 0, not {value!r}")
        if self.precision not in PRECISIONS:
            raise InputError(f"unknown precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}")
        if self.precision == "tf32" and (self.backend == "numpy" or self.dtype != "float32"):
            raise InputError(f"precision 'tf32' rounds float32 on a GPU; backend {self.backend}, dtype {self.dtype}")
        if self.cuda_graph and self.backend == "numpy":
            raise InputError("cuda_graph needs a GPU: --backend cupy")
        if self.cuda_graph and self.rule != "sideways":
            raise InputError(f"cuda_graph goes with rule 'sideways', not {self.rule!r}")
        if self.seed < 0:
            raise InputError(f"seed must be a whole number of at least 0, not {self.seed!r}")

    @classmethod
    def from_tables(cls, tables: dict[str, Any], source: str) -> Config:
        """Make a config from the tables of a recipe. source: the name of the tables in error messages."""
        known = {entry.name: entry for entry in dataclasses.fields(cls)}
        for key, value in tables.items():
            if key not in known:
                raise InputError(f"{source} has no setting {key!r}; settings are {', '.join(known)}")
            is_table = known[key].default is dataclasses.MISSING
            if is_table != isinstance(value, dict):
                raise InputError(
                    f"{source}: {key} must be {'a table' if is_table else 'a single value'}, not {shown(value)}"
                )
        return cls(**tables)

    def on(self, backend: str) -> Config:
        """Return these settings for another backend; for NumPy, without those of a GPU."""
        of_gpu: dict[str, Any] = {"precision": "float32", "cuda_graph": False} if backend == "numpy" else {}
        return dataclasses.replace(self, backend=backend, **of_gpu)

    def to_tables(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
