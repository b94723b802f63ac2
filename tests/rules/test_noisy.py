"""Noisy backpropagation: its noise is as long as the error of Sideways, unit by unit."""

from dataclasses import replace

import numpy as np
import pytest

import sideways
from sideways.backend import to_host
from sideways.errors import InputError
from sideways.rules import Backprop, Sideways
from sideways.rules.diagnostics import mean_gradients
from sideways.rules.noisy import NoisyBackprop, squared
from sideways.studies.claims.claim import recipe
from sideways.training.build import build_network, build_task


def test_the_noise_of_noisy_backprop_is_as_long_as_sideways_error():
    config = replace(recipe("bands-few-noisy"), batch=2, model_options={"width": 2})
    task = build_task(config)
    network = build_network(config, task.frame_shape, 4)
    clip = task.clip("train", 0, 2)
    loss = sideways.SoftmaxCrossEntropy()
    pairs = list(zip(clip.frames, clip.targets, strict=True))
    pseudo = mean_gradients(Sideways(build_network(config, task.frame_shape, 4), loss), pairs)

    def change(kind):
        """The parameters before minus those after one clip of SGD with rate 1: the mean gradient of each unit."""
        own = build_network(config, task.frame_shape, 4)
        rule = kind(own, loss, sideways.SGD(1.0), update_every="clip")
        for frame, target in pairs:
            rule.tick(frame, target)
        rule.end_clip()
        return {n: {k: to_host(network.parameters[n][k] - a) for k, a in own.parameters[n].items()} for n in own.units}

    exact, noisy = change(Backprop), change(NoisyBackprop)
    for name in network.units:
        noise = {key: noisy[name][key] - exact[name][key] for key in exact[name]}
        error = {key: to_host(pseudo[name][key]) - exact[name][key] for key in exact[name]}
        assert squared(noise) == pytest.approx(squared(error), rel=1e-3)
        assert squared(noise) > 0
    with pytest.raises(InputError, match="update_every='clip'"):
        NoisyBackprop(network, loss, update_every=1)


def test_noisy_backprop_evaluates_without_an_optimizer_and_trains_units_without_parameters():
    for optimizer in (None, sideways.SGD(0.1)):
        network = sideways.Network(
            [
                sideways.Unit("still", [sideways.Tanh()]),
                sideways.Unit("top", [sideways.Flatten(), sideways.Dense(4, 2)], ["still"]),
            ],
            (2, 2, 1),
        )
        before = to_host(network.parameters["top"]["1.weight"]).copy()
        rule = NoisyBackprop(network, sideways.SoftmaxCrossEntropy(), optimizer)
        for t in range(3):
            rule.tick(np.full((2, 2, 2, 1), t, np.float32), [0, 1])
        rule.end_clip()
        assert np.array_equal(before, to_host(network.parameters["top"]["1.weight"])) == (optimizer is None)
