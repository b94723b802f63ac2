"""Short runs and how their results are compared: shared by the tests of training."""

import hashlib
import json
from dataclasses import replace

import numpy as np

from sideways.training.config import Config
from sideways.training.manifest import seal

TINY = Config(
    model="vgg5-skip",
    task="waves",
    clips=4,
    batch=4,
    evaluation_clips=2,
    model_options={"width": 4},
    task_options={"length": 9, "size": 8},
)
RUN = replace(  # TINY with checkpoints within clips, and evaluations between them
    TINY,
    clips=5,
    evaluate_every=2,
    checkpoint_every=7,
    keep_checkpoints=100,
    task_options={"size": 8, "length": 11},
)


def parameters(directory):
    """The arrays of a run's parameters.npz."""
    with np.load(directory / "parameters.npz") as arrays:
        return dict(arrays)


def same(one, other):
    """Whether two dictionaries of arrays are equal to the last bit."""
    return one.keys() == other.keys() and all(
        one[key].shape == other[key].shape and one[key].tobytes() == other[key].tobytes() for key in one
    )


def lines(directory, kind):
    """The lines of one kind in a run's metrics.jsonl."""
    metrics = (directory / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, metrics) if line["kind"] == kind]


MISSING = object()  # for `edit`: no such field


def edit(step, **fields):
    """Change fields of a checkpoint's meta.json, and all checksums to match, as somebody with bad intentions would."""
    path = step / "meta.json"
    meta = json.loads(path.read_text()) | fields
    path.write_bytes(seal({key: value for key, value in meta.items() if key != "sha256" and value is not MISSING}))


def replace_array(step, unit, key, array):
    """Replace an array of a unit in a checkpoint, or remove it (None), and change the checksums to match."""
    path = step / f"{unit}.npz"
    with np.load(path) as file:
        arrays = dict(file) | {key: array}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    files = json.loads((step / "meta.json").read_text())["files"]
    edit(step, files=files | {path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
