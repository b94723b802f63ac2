"""On `Pan`, a network that sees one frame at a time is at chance; on a leaky pan, the network finds the leak."""

import numpy
import pytest
from leaky_pan import Leaky

from sideways import Adam, Backprop, Cosine, SoftmaxCrossEntropy
from sideways.data import Source
from sideways.data.pan import Pan
from sideways.models import build_model
from sideways.training.evaluation import evaluate
from sideways.training.metrics import standard_error

# The frames of a clip are alike: many clips, and few frames of each. With three of them the leak is not always found.
CLIPS, FRAMES, BATCH, HELD_OUT = 200, 6, 32, 20


def per_frame_accuracy(task):
    """Train a network on single frames; return its held-out accuracy, from mean probabilities over each clip."""
    network = build_model("vgg5", task.frame_shape, len(task.classes), seed=1)
    rule = Backprop(network, SoftmaxCrossEntropy(), Adam(5e-3, schedule=Cosine(CLIPS * FRAMES)))
    source = Source(task, BATCH)
    for index in range(CLIPS):
        frames, targets = source.clip("train", index)
        for t in numpy.random.default_rng(index).choice(task.length, FRAMES, replace=False):
            rule.tick(frames[t], targets[t])
        rule.end_clip()
    return evaluate(rule, source, HELD_OUT).metrics["accuracy"]


def test_a_network_that_sees_one_frame_at_a_time_is_at_chance_on_pan():
    error = standard_error(0.25, HELD_OUT * BATCH)  # only whole clips are independent samples
    assert per_frame_accuracy(Pan(seed=1)) == pytest.approx(0.25, abs=4 * error)


def test_the_same_network_finds_the_leak_where_clips_start_at_whole_pixels():
    assert per_frame_accuracy(Leaky(seed=1, speed=0.5, lines=72)) > 0.36
