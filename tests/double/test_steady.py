"""Tests that nothing stalls in the steady state: they count transfers and waits, and find copies beside computing."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from graphs import cases, copied, equal, on_host
from hypothesis import given
from hypothesis import strategies as st

import sideways as sw
from double.clock import clock
from sideways.training.checkpoint import find
from sideways.training.config import Config
from sideways.training.log import RunLog
from sideways.training.prefetch import Prefetch
from sideways.training.run import train

RUN = Config(
    model="vgg5-skip",
    task="waves",
    clips=4,
    batch=4,
    evaluation_clips=2,
    evaluate_every=2,
    model_options={"width": 4},
    task_options={"length": 11, "size": 8},
)


def parameters(directory):
    with np.load(directory / "parameters.npz") as arrays:
        return dict(arrays)


OPTIMIZERS = [sw.SGD(0.05, momentum=0.5, clip_norm=1.0, weight_decay=1e-3), sw.Adam(1e-2)]


DELAYED = {"rule": "delayed", "learn_every": 3, "boundary": "stream"}


@given(
    cases(),
    st.sampled_from([sw.Sideways, sw.Delayed, partial(sw.Delayed, learn_every=3), sw.Backprop, sw.BPTT]),
    st.sampled_from(OPTIMIZERS),
    st.sampled_from([1, 3]),
)
def test_every_number_of_every_rule_is_numpys_to_the_last_bit(case, kind, optimizer, every):
    network, results = case.network, []
    for backend in ("numpy", "cupy"):
        sw.use_backend(backend)
        own = sw.Network(list(network.units.values()), network.input_shape, network.seed, network.dtype)
        rule = kind(own, case.loss, optimizer, "clip" if kind is sw.BPTT else every)
        prefetch, ticks = Prefetch(rule), []
        for _ in range(2):
            for _, frame, target in prefetch.pairs(case.frames, case.targets):
                ticks.append(on_host(rule.tick(frame, target, prefetch.fetch)))
            rule.end_clip()
        results.append((ticks, copied(own.parameters), copied(own.state)))
    (ticks, *trained), (others, *other_trained) = results
    assert all(map(equal, trained, other_trained))
    for one, other in zip(ticks, others, strict=True):
        assert equal(one.gradients, other.gradients)
        assert (one.loss is None) == (other.loss is None)
        assert one.loss is None or (one.loss == other.loss and np.array_equal(one.output, other.output))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"boundary": "stream", "update_every": 1},
        DELAYED,
        {"rule": "backprop"},
        {"rule": "bptt"},
        {"horizon": 2},
        {"horizon": 2, "loss": "log-squared", "update_every": 1},
    ],
    ids=["sideways", "stream", "delayed", "backprop", "bptt", "ahead", "gated"],
)
def test_a_run_its_losses_and_its_resumption_are_numpys_to_the_last_bit(tmp_path, changes):
    name = "predictor-gated" if "loss" in changes else "predictor-skip"
    model = {"model": name, "model_options": {}} if "horizon" in changes else {}
    config = replace(RUN, checkpoint_every=15, **model, **changes)
    for backend in ("numpy", "cupy"):
        train(replace(config, backend=backend), tmp_path / backend)
    first, second = parameters(tmp_path / "numpy"), parameters(tmp_path / "cupy")
    assert first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)
    metrics = (tmp_path / "numpy" / "metrics.jsonl").read_bytes()
    assert (tmp_path / "cupy" / "metrics.jsonl").read_bytes() == metrics
    checkpoint = sorted((tmp_path / "cupy" / "checkpoints").iterdir())[0]
    (tmp_path / "cupy" / "parameters.npz").unlink()
    train(replace(config, backend="cupy"), tmp_path / "cupy", resume=find(checkpoint))
    resumed = parameters(tmp_path / "cupy")
    assert all(np.array_equal(first[key], resumed[key]) for key in first)


@pytest.mark.parametrize("rule", ["sideways", "delayed", "backprop", "bptt"])
def test_a_tick_uploads_its_frame_and_target_and_the_host_neither_waits_nor_reads(tmp_path, monkeypatch, rule):
    seen = []

    def stop(log, *pending):  # called after each tick, and with `pending` by evaluations
        seen.extend([dict(clock.counts)] * (not pending))
        return False

    monkeypatch.setattr(RunLog, "stop_requested", stop)
    monkeypatch.setattr(clock, "advances", False)  # an infinitely slow device: every wait shows
    config = replace(RUN, rule=rule, backend="cupy", evaluate_every=0, task_options={"length": 12, "size": 8})
    train(config, tmp_path / "run")
    clips = [seen[12 * i : 12 * (i + 1)] for i in range(4)] if rule != "bptt" else []
    for clip in clips[1:]:
        for before, after in pairwise(clip[:-1]):  # after the last frame there is none to fetch
            moved = {key: after[key] - before.get(key, 0) for key in after}
            assert {key: moved.get(key, 0) for key in ("upload", "download", "synchronise", "pinned")} == {
                "upload": 2, "download": 0, "synchronise": 0, "pinned": 0
            }  # fmt: skip
    assert clips or len(seen) == 4


def test_the_next_frame_is_uploaded_beside_the_computing_of_this_one_and_each_tick_waits_for_its_own():
    network = sw.Network(
        [sw.Unit("a", [sw.Conv2D(1, 2, kernel=3), sw.ReLU()]), sw.Unit("b", [sw.Flatten(), sw.Dense(32, 3)], ["a"])],
        (4, 4, 1),
    )
    rule = sw.Sideways(network, sw.SoftmaxCrossEntropy(), sw.SGD(0.01), boundary="stream")
    frames, labels = np.random.default_rng(0).normal(size=(9, 2, 4, 4, 1)), np.zeros((9, 2), int)
    prefetch, ends = Prefetch(rule), []
    clock.journal = []
    for t, frame, target in prefetch.pairs(frames, labels):
        rule.tick(frame, target, prefetch.fetch)
        ends.append(clock.current.count)  # the number of works queued on the compute stream
        if 2 <= t < 8:
            *_, of_frame, of_target = (entry for entry in clock.journal if entry[0] == "an upload")
            for _, stream, _, known in (of_frame, of_target):
                assert stream is not clock.current
                assert ends[t - 2] <= known[clock.current.number] <= ends[t - 1]  # does not wait for tick t
            assert clock.current.known[of_frame[1].number] < of_frame[2]  # nor does tick t wait for it
    clock.journal = None
    sw.synchronise()  # pinned memory must outlive the copies from it
