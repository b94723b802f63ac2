"""Short runs and how their results are compared: shared by the tests of training."""

import json
from dataclasses import replace

import numpy as np

from sideways.training.config import Config

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
