"""The claims: verdicts follow from numbers by their rules; each experiment runs, tiny, and reports what it measured."""

import json
from dataclasses import replace

import numpy as np
import pytest

import sideways.training
from sideways.backend import to_host
from sideways.claims import (
    CLAIMS,
    aligned,
    appearance,
    check_claims,
    future,
    recognition,
    remedies,
    smooth,
    speed,
    stable,
    temporal,
)
from sideways.claims.claim import OURS, Bench, Claim, Finding, Runs, recipe
from sideways.claims.verdict import HOLDS, IN_PART, NOT_HERE, NOT_RUN, at_chance, clearly_above, judged, spread
from sideways.cli import main
from sideways.config import build_network, build_task
from sideways.errors import DivergedError, InputError
from sideways.rules import Backprop, NoisyBackprop, Sideways
from sideways.rules.noisy import mean_gradients, squared

DEEPER = list(aligned.CASES)[-1]


class Tiny(Bench):
    """Three clips of each run, two samples, one seed."""

    def train(self, arms, seeds, group=""):
        def shrunk(c):
            every = {name: min(getattr(c, name), 1) for name in ("evaluate_every", "cosine_every")}
            often = 18 if c.checkpoint_every else 0
            small = replace(c, clips=3, batch=2, evaluation_clips=1, checkpoint_every=often, **every)
            return replace(small, model_options=c.model_options | {"width": 2}) if c.model.startswith("vgg5") else small

        return super().train({arm: shrunk(config) for arm, config in arms.items()}, seeds[:1], group)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Run one experiment, without the pictures of its single runs."""
    monkeypatch.setattr(sideways.training, "plot_run", lambda *arguments: None)
    monkeypatch.setattr(sideways.training, "plot_confusion", lambda *arguments: None)
    measure = aligned.measure
    for module in (aligned, remedies):
        monkeypatch.setattr(module, "measure", lambda config, network, batches: measure(config, network, 2))
    monkeypatch.setattr(aligned, "CASES", {case: aligned.CASES[case] for case in (aligned.FIRST, DEEPER)})
    return lambda name: CLAIMS[name].run(Tiny(tmp_path, "quick"))


def results(tmp_path):
    """arm's folder → its results."""
    return {path.parent.parent.name: json.loads(path.read_text()) for path in tmp_path.rglob("results.json")}


# Verdicts, from made-up numbers


def test_the_first_check_decides_whether_a_claim_holds_and_the_others_whether_in_part():
    yes, no = at_chance("it", [0.25], 0.25, 100), at_chance("it", [0.9], 0.25, 100)
    assert judged(yes, yes).word == HOLDS
    assert judged(yes, no).word == IN_PART
    assert judged(no, yes).word == NOT_HERE
    assert "NO: it within three standard errors of chance" in judged(yes, no).why


def test_at_chance_means_within_three_standard_errors_of_all_samples_together():
    error = (0.25 * 0.75 / (5 * 640)) ** 0.5
    assert at_chance("it", [0.25 + 2.9 * error] * 5, 0.25, 640).true
    assert not at_chance("it", [0.25 + 3.1 * error] * 5, 0.25, 640).true


def test_clearly_above_needs_two_standard_errors_of_the_difference():
    assert clearly_above("a", [0.9, 0.92], "b", [0.8, 0.82], 10_000).true
    assert not clearly_above("a", [0.7, 0.99], "b", [0.7, 0.9], 10_000).true
    assert not clearly_above("a", [0.7], "b", [0.5], 12).true


def accuracies(**changed):
    values = {
        temporal.SKIP: [0.99, 0.98],
        temporal.ADD: [0.95, 0.96],
        temporal.CHAIN: [0.25, 0.26],
        temporal.SHORTCUT: [0.24, 0.25],
        temporal.BPTT: [1.0, 1.0],
    }
    return values | {getattr(temporal, name): value for name, value in changed.items()}


def test_temporal_holds_only_at_the_stated_accuracies():
    pan = {temporal.SKIP: [0.9, 0.92], temporal.CHAIN: [0.25, 0.24]}
    assert temporal.verdict(accuracies(), pan, 640, 1280).word == HOLDS
    assert temporal.verdict(accuracies(SKIP=[0.96, 0.97]), pan, 640, 1280).word == NOT_HERE
    assert temporal.verdict(accuracies(CHAIN=[0.31, 0.32]), pan, 640, 1280).word == IN_PART
    assert temporal.verdict(accuracies(BPTT=[0.98, 0.98]), pan, 640, 1280).word == IN_PART
    assert temporal.verdict(accuracies(), pan | {temporal.SKIP: [0.26, 0.25]}, 640, 1280).word == IN_PART


def test_future_wants_four_decibels_over_repeating_and_eight_over_the_chain():
    waves = {future.SKIP: [26.0], future.REPEAT: [21.9], future.CHAIN: [17.0]}
    real = {future.SKIP: [30.0], future.REPEAT: [29.0], future.CHAIN: [20.0]}
    assert future.verdict(waves, real).word == HOLDS
    assert future.verdict(waves | {future.REPEAT: [22.1]}, real).word == NOT_HERE
    assert future.verdict(waves | {future.CHAIN: [18.1]}, real).word == IN_PART
    assert future.verdict(waves, real | {future.REPEAT: [30.5]}).word == IN_PART


def test_the_other_verdicts_follow_their_rules():
    steady, shaky = ({"over seeds": x, "over time": x, "diverged": x} for x in (0.1, 0.2))
    assert stable.verdict(shaky, steady).word == HOLDS
    assert stable.verdict(steady, shaky).word == NOT_HERE
    assert stable.verdict(shaky | {"over time": 0.11}, steady).word == IN_PART
    assert appearance.converged([0.5], [0.5], [0.9], [0.92]).word == HOLDS
    assert appearance.converged([0.5], [0.5], [0.8], [0.92]).word == NOT_HERE
    arms = appearance.SIDEWAYS, appearance.BACKPROP, appearance.NOISY
    assert appearance.regularised(dict(zip(arms, ([0.9], [0.8], [0.85]), strict=True)), 640).word == HOLDS
    assert appearance.regularised(dict(zip(arms, ([0.9], [0.8], [0.95]), strict=True)), 640).word == IN_PART
    cases = {case: [0.9] for case in [*map(str, smooth.STRIDES), smooth.SHUFFLED]}
    falling = {str(stride): 0.9 - 0.2 * i for i, stride in enumerate(smooth.STRIDES)}
    assert smooth.verdict(cases | {smooth.SHUFFLED: [0.5]}, cases, falling).word == HOLDS
    assert smooth.verdict(cases, cases, falling).word == IN_PART
    assert smooth.verdict(cases | {"1": [0.5]}, cases, falling).word == NOT_HERE
    assert aligned.verdict([0.5, 0.1], [(1, 0.5)]).word == HOLDS
    assert aligned.verdict([0.5, -0.1], [(-1, -0.1)]).word == NOT_HERE
    assert aligned.verdict([0.5, 0.1], [(-1, 0.5)]).word == IN_PART
    ranks = (1, 2, 4)
    assert speed.parallel_verdict(ranks, {"sideways": [1, 1.9, 3.6], "backprop": [1, 1, 1]}, []).word == HOLDS
    assert speed.parallel_verdict(ranks, {"sideways": [1, 1.9, 3.0], "backprop": [1, 1, 1]}, []).word == NOT_HERE
    assert speed.parallel_verdict(ranks, {"sideways": [1, 1.9, 3.6], "backprop": [1, 1, 1]}, [1, 1.2]).word == IN_PART
    assert speed.memory_verdict((16, 64), {"Sideways": [10, 10], "bptt": [25, 80]}).word == HOLDS
    assert speed.memory_verdict((16, 64), {"Sideways": [10, 12], "bptt": [25, 80]}).word == NOT_HERE
    arms = {recognition.SKIP: [0.9, 0.92], recognition.CHAIN: [0.3, 0.25]}
    assert recognition.verdict({"ucf101:x": arms}, {"ucf101:x": 100}, True).word == HOLDS
    assert recognition.verdict({"ucf101:x": arms}, {"ucf101:x": 100}, False).word == IN_PART
    assert recognition.verdict({"ucf101:x": arms}, {"ucf101:x": 1}, True).word == NOT_HERE
    accuracy = {remedies.PLAIN: [0.3, 0.4], remedies.DELAYED: [0.97, 0.99], remedies.EXACT: [1.0, 1.0]}
    ratios = {remedies.PLAIN: [26.0], remedies.DELAYED: [27.0]}
    assert remedies.verdict(accuracy, ratios, 640).word == HOLDS
    assert remedies.verdict(accuracy, ratios | {remedies.DELAYED: [20.0]}, 640).word == IN_PART


def test_a_diverged_run_counts_as_chance_and_is_counted(tmp_path):
    bench = Tiny(tmp_path)
    wild = recipe("bands-chain", optimizer={"name": "sgd", "learning_rate": 1e38}, schedule={"name": "constant"})
    runs = bench.train({"wild": wild, "tame": recipe("bands-chain")}, range(1, 2))
    assert (runs["wild"].diverged, runs["tame"].diverged) == (1, 0)
    finished = runs["tame"].finished[0]
    assert Runs([DivergedError("x"), finished]).accuracies == [finished.accuracy, 0.25]


def test_the_same_run_is_made_once(tmp_path):
    bench = Tiny(tmp_path)
    first = bench.train({"one": recipe("bands-chain")}, range(1, 2))["one"].finished[0]
    again = bench.train({"another name": recipe("bands-chain")}, range(1, 2))["another name"].finished[0]
    assert first is again and len(results(tmp_path)) == 1


# The machinery, tiny


@pytest.mark.parametrize("name", ["temporal", "stable", "converges", "regularises", "smooth"])
def test_each_arm_of_a_claim_has_a_row_with_what_its_runs_measured(tiny, tmp_path, name):
    found = tiny(name)
    told = results(tmp_path)
    column = next(key for key in found.rows[0] if key.startswith(("held-out accuracy", "accuracy, ")))
    listed = [row[key] for row in found.rows for key in row if key.startswith(column.split(",")[0])]
    assert sorted(listed) == sorted(spread([accuracy(path)]) for path in tmp_path.rglob("results.json"))
    assert len(told) >= 2 and found.verdict.word in (HOLDS, IN_PART, NOT_HERE)
    assert all(picture.stat().st_size > 10_000 for picture in found.pictures) and found.pictures


def accuracy(path):
    return json.loads(path.read_text())["accuracy"]


def test_future_compares_networks_with_what_needs_no_learning_and_keeps_a_video(tiny, tmp_path):
    found = tiny("future")
    waves = [row["prediction"] for row in found.rows if row["frames"].startswith("waves")]
    assert waves[:1] == [future.SKIP] and {*future.ARMS, future.REPEAT, future.EXTRAPOLATION} == set(waves)
    ratio = {row["prediction"]: float(row["PSNR dB"]) for row in found.rows if row["frames"].startswith("waves")}
    assert ratio[future.REPEAT] > max(ratio[arm] for arm in future.ARMS)  # three clips teach nothing
    assert (tmp_path / "prediction-waves.mp4").stat().st_size > 0


def test_aligned_has_a_row_for_each_unit_below_the_merge(tiny):
    found = tiny("aligned")
    assert [row["unit"] for row in found.rows] == [f"conv{i}" for i in (1, 2, 3, 1, 2, 3, 4)]
    assert all(-1 <= float(row["cosine of the means"]) <= 1 for row in found.rows)


def test_remedies_puts_accuracy_memory_and_cost_of_each_in_one_table(tiny):
    found = tiny("remedies")
    rows = {row["remedy"]: row for row in found.rows}
    assert list(rows) == list(remedies.DIRECTION)
    megabytes = {arm: float(row["MB of activations"]) for arm, row in rows.items()}
    assert megabytes[remedies.PLAIN] <= megabytes[remedies.DELAYED] <= megabytes[remedies.EXACT]
    assert "What to choose" in found.notes


def test_memory_is_measured_as_the_bench_does(tiny):
    found = tiny("memory")
    assert found.verdict.word == HOLDS
    assert [row["rule"] for row in found.rows] == ["Sideways", "backprop", "bptt"]


def test_a_frame_changes_parameters_at_once_and_its_loss_the_bottom_unit_after_2d_minus_1_ticks():
    for depth in (1, 2, 5):
        assert speed.first_updates(depth) == {"first": 1, "top": depth, "bottom": 2 * depth - 1}


def test_what_the_displacement_predicts():
    assert aligned.opponent(1.0) == pytest.approx(-aligned.opponent(-1.0)) and aligned.opponent(0.0) == 0
    config = recipe("waves-skip", model_options={"skip": ["conv1>conv4"]})
    task = build_task(config)
    network = build_network(config, task.frame_shape, 4)
    found = aligned.predictions(network, "conv4", 1.0)
    assert [found[unit].sign for unit in ("conv1", "conv2", "conv3")] == [None, -1, 0]
    assert found["conv2"].ratios == pytest.approx((-1.0,))  # Δ = -2, seen as +2
    raw = recipe("waves-skip", model_options={"skip": ["frame>conv4"]})
    found = aligned.predictions(build_network(raw, task.frame_shape, 4), "conv4", 1.0)
    assert [found[unit].sign for unit in ("conv1", "conv2", "conv3")] == [-1, -1, 1]  # Δ = -3, seen as 3, 1, -1


# The command


def test_claims_are_listed_with_their_source(capsys):
    assert main(["claims"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[: len(CLAIMS)]] == list(CLAIMS)
    assert "CVPR 2021" in out


def test_an_unknown_claim_is_refused_in_one_line(capsys):
    assert main(["claims", "magic"]) == 2
    assert "no claim is called 'magic'" in capsys.readouterr().err


def test_one_experiment_that_fails_loses_no_other_and_the_report_says_so(tmp_path, monkeypatch, capsys):
    def fails(bench):
        raise ZeroDivisionError("no ticks")

    def holds(bench):
        return Finding(judged(at_chance("it", [0.25], 0.25, 10)), "0.250", "nothing", [{"arm": "a|b", "x": "1"}], "")

    monkeypatch.setitem(CLAIMS, "smooth", Claim("It fails.", OURS, fails))
    monkeypatch.setitem(CLAIMS, "stable", Claim("It holds.", OURS, holds))
    arguments = ["claims", "smooth", "stable", "--quick", "--out", str(tmp_path / "claims")]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 1
    text = (tmp_path / "claims" / "report.md").read_text()
    assert f"**{NOT_RUN}**" in text and "ZeroDivisionError: no ticks" in text
    assert f"**{HOLDS}**" in text and "a\\|b" in text
    assert "`sideways claims smooth stable --quick`" in text
    assert "fails" in (tmp_path / "claims" / "smooth" / "error.txt").read_text()


def test_a_claim_is_replaced_and_others_of_the_folder_stay(tmp_path, monkeypatch):
    def run(bench):
        assert not any(bench.directory.iterdir())
        (bench.directory / "mine").touch()
        return Finding(judged(at_chance("it", [0.25], 0.25, 10)), "", "", [], "")

    monkeypatch.setitem(CLAIMS, "stable", Claim("It holds.", OURS, run))
    (tmp_path / "temporal").mkdir()
    for _ in range(2):
        check_claims(["stable"], tmp_path)
    assert (tmp_path / "temporal").is_dir() and (tmp_path / "stable" / "mine").exists()


# What the experiments brought


def test_the_noise_of_noisy_backprop_is_as_long_as_sideways_error(monkeypatch):
    config = replace(recipe("bands-few-noisy"), batch=2, model_options={"width": 2})
    task = build_task(config)
    network = build_network(config, task.frame_shape, 4)
    clip = task.clip("train", 0, 2)
    loss = sideways.SoftmaxCrossEntropy()
    pairs = list(zip(clip.frames, clip.targets, strict=True))
    pseudo = mean_gradients(Sideways(build_network(config, task.frame_shape, 4), loss), pairs)

    def change(kind):
        own = build_network(config, task.frame_shape, 4)
        rule = kind(own, loss, sideways.SGD(1.0), update_every="clip")
        for frame, target in pairs:
            rule.tick(frame, target)
        rule.end_clip()
        return {n: {k: to_host(network.parameters[n][k] - a) for k, a in own.parameters[n].items()} for n in own.units}

    exact, noisy = change(Backprop), change(NoisyBackprop)
    for name in network.units:
        noise = {key: noisy[name][key] - exact[name][key] for key in exact[name]}
        error = {key: pseudo[name][key] - exact[name][key] for key in exact[name]}
        assert squared(noise) == pytest.approx(squared(error), rel=1e-3)
        assert squared(noise) > 0
    with pytest.raises(InputError, match="update_every='clip'"):
        NoisyBackprop(network, loss, update_every=1)


def test_distinct_clips_come_again_and_held_out_ones_do_not():
    task = build_task(recipe("bands-few-chain"))
    assert np.array_equal(task.clip("train", 1, 2).frames, task.clip("train", 5, 2).frames)
    assert not np.array_equal(task.clip("train", 1, 2).frames, task.clip("train", 2, 2).frames)
    assert not np.array_equal(task.clip("test", 1, 2).frames, task.clip("test", 5, 2).frames)


def test_shuffled_waves_are_the_same_frames_in_another_order():
    still = build_task(recipe("bands-chain")).clip("train", 0, 3)
    mixed = build_task(recipe("bands-chain", task_options={"shuffled": True})).clip("train", 0, 3)
    assert np.array_equal(still.targets, mixed.targets)
    for k in range(3):
        one, other = (clip.frames[:, k].reshape(18, -1) for clip in (still, mixed))
        assert not np.array_equal(one, other)
        assert np.array_equal(one[np.lexsort(one.T)], other[np.lexsort(other.T)])


def test_a_band_of_wavelengths_is_what_its_class_says():
    task = build_task(recipe("bands-chain", task_options={"size": 48, "speed": 0.0}))
    clip = task.clip("train", 0, 32)
    for k, label in enumerate(clip.targets[0]):
        spectrum = np.abs(np.fft.fft2(clip.frames[0, k, :, :, 0] * np.outer(np.hanning(48), np.hanning(48)))) ** 2
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(48), np.fft.fftfreq(48)))
        low, high = 6 + 1.5 * label, 7.5 + 1.5 * label
        assert 1 / (high + 0.6) <= (spectrum * frequency).sum() / spectrum.sum() <= 1 / (low - 0.6)
