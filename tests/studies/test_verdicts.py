"""Verdicts of the claims follow from numbers by their rules; the numbers here are made up."""

from dataclasses import replace
from functools import partial

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sideways.studies.claims import (
    aligned,
    appearance,
    exact,
    future,
    recognition,
    sign_law,
    smooth,
    speed,
    stable,
    temporal,
)
from sideways.studies.claims.verdict import HOLDS, IN_PART, NOT_HERE, all_of, at_chance, clearly_above, judged


def test_the_first_check_decides_whether_a_claim_holds_and_the_others_whether_in_part():
    yes, no = at_chance("it", [0.25], 0.25, 100), at_chance("it", [0.9], 0.25, 100)
    assert judged(yes, yes).word == HOLDS
    assert judged(yes, no).word == IN_PART
    assert judged(no, yes).word == NOT_HERE
    assert "NO: it within three standard errors of chance" in judged(yes, no).why


def test_all_of_holds_if_there_are_checks_and_all_hold():
    yes, no = at_chance("it", [0.25], 0.25, 100), at_chance("it", [0.9], 0.25, 100)
    assert all_of("both", [yes, yes]).true
    assert not all_of("both", [yes, no]).true
    assert not all_of("none", []).true


def test_at_chance_means_within_three_standard_errors_of_all_samples_together():
    error = (0.25 * 0.75 / (5 * 640)) ** 0.5
    assert at_chance("it", [0.25 + 2.9 * error] * 5, 0.25, 640).true
    assert not at_chance("it", [0.25 + 3.1 * error] * 5, 0.25, 640).true


def test_clearly_above_needs_two_standard_errors_of_the_difference():
    assert clearly_above("a", [0.9, 0.92], "b", [0.8, 0.82], 10_000).true
    assert not clearly_above("a", [0.7, 0.99], "b", [0.7, 0.9], 10_000).true
    assert not clearly_above("a", [0.7], "b", [0.5], 12).true
    assert clearly_above("a", [1.0] * 3, "b", [0.72] * 3, 12).true  # each seed has 12 clips of its own
    assert not clearly_above("a", [1.0] * 3, "b", [0.72] * 3, 12, fixed=True).true  # all seeds share 12 clips


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

    def word(waves, pan):
        return temporal.verdict(temporal.PAPERS, waves, pan, 640, 1280).word

    assert word(accuracies(), pan) == HOLDS
    assert word(accuracies(), pan | {temporal.ADD: [0.7, 0.9]}) == HOLDS
    assert word(accuracies(), pan | {temporal.ADD: [0.6, 0.9]}) == IN_PART
    assert word(accuracies(SKIP=[0.96, 0.97]), pan) == NOT_HERE
    assert word(accuracies(CHAIN=[0.31, 0.32]), pan) == IN_PART
    assert word(accuracies(SHORTCUT=[0.31, 0.32]), pan) == IN_PART
    assert word(accuracies(BPTT=[0.98, 0.98]), pan) == IN_PART
    assert word(accuracies(), pan | {temporal.SKIP: [0.26, 0.25]}) == IN_PART


def test_temporal_judges_the_exact_rule_by_its_own_arms():
    exact = {temporal.EXACT_SKIP: [0.99, 0.99], temporal.EXACT_ADD: [0.95, 0.95], temporal.EXACT_CHAIN: [0.25, 0.25]}
    papers = accuracies(SKIP=[0.3, 0.3], ADD=[0.3, 0.3], CHAIN=[0.9, 0.9])
    for worse in (None, *exact):
        waves = papers | exact | ({worse: [0.5, 0.5]} if worse else {})
        word = temporal.verdict(temporal.EXACT, waves, exact, 640, 1280).word
        assert word == (HOLDS if worse is None else NOT_HERE if worse == temporal.EXACT_SKIP else IN_PART)


def test_future_holds_if_the_gated_predictor_beats_copying_extrapolation_and_the_chain():
    waves = {future.GATED: [40.0], future.CHAIN: [17.0], future.EXTRAPOLATION: [28.0], future.BLOCKS: [25.0]}
    real = {
        future.GATED: [34.8],
        future.REPEAT: [34.4],
        future.CHAIN: [20.0],
        future.EXTRAPOLATION: [31.9],
        future.BLOCKS: [34.0],
    }
    videos = {future.GATED: {"a": [30.0], "b": [39.8, 39.7]}, future.REPEAT: {"a": [29.0], "b": [40.0, 40.0]}}
    verdict = partial(future.verdict, future.GATED)
    assert verdict(waves, real, videos).word == HOLDS
    assert verdict(waves, real | {future.REPEAT: [34.6]}, videos).word == NOT_HERE
    for worse in ({future.EXTRAPOLATION: [32.1]}, {future.CHAIN: [32.1]}, {future.BLOCKS: [40.1]}):
        assert verdict(waves | worse, real, videos).word == IN_PART
    for worse in ({future.EXTRAPOLATION: [32.9]}, {future.CHAIN: [26.9]}, {future.BLOCKS: [34.9]}):
        assert verdict(waves, real | worse, videos).word == IN_PART
    too_far = {future.GATED: videos[future.GATED] | {"b": [39.7, 39.6]}, future.REPEAT: videos[future.REPEAT]}
    checks = verdict(waves, real, too_far).checks
    assert [check.true for check in checks] == [True] * 7 + [False] and "b" in checks[-1].rule
    nothing = {future.GATED: {}, future.REPEAT: {}}  # all runs diverged
    assert verdict(waves, real | {future.GATED: []}, nothing).word == NOT_HERE


def arm(deviation, over_time, failed=0, seeds=8):
    """Equal runs in two cells of the grid."""
    around = np.array([-1, 1] * (seeds // 2)) * deviation
    return [stable.Steadiness(list(0.8 + around), [over_time + 0.01 * k for k in range(seeds)], failed)] * 2


def test_stable_holds_if_deviations_are_clearly_smaller_and_no_more_runs_fail():
    assert stable.verdict(arm(0.1, 1.0), arm(0.02, 0.5)).word == HOLDS
    assert stable.verdict(arm(0.02, 1.0), arm(0.1, 0.5)).word == NOT_HERE
    assert stable.verdict(arm(0.1, 1.0), arm(0.098, 0.5)).word == NOT_HERE  # chance may explain it
    assert stable.verdict(arm(0.1, 0.5), arm(0.02, 1.0)).word == IN_PART
    assert stable.verdict(arm(0.1, 1.0, failed=1), arm(0.02, 0.5)).word == HOLDS  # what failed once counts
    diverged = [replace(one, over_time=one.over_time[:-1]) for one in arm(0.1, 1.0, failed=1)]
    assert stable.verdict(diverged, arm(0.02, 0.5)).word == HOLDS
    assert stable.verdict(arm(0.1, 1.0, failed=8), arm(0.02, 0.5)).word == NOT_HERE  # no cell in which both learnt
    one = arm(0.1, 1.0)[:1]
    assert stable.verdict([*one, *arm(0.1, 1.0, failed=8)[:1]], arm(0.02, 0.5)).word == HOLDS
    assert stable.verdict(arm(0.1, 1.0), [*arm(0.02, 0.5)[:1], *arm(0.02, 0.5, failed=2)[:1]]).word == IN_PART


@settings(max_examples=20)
@given(st.integers(3, 10), st.integers(0, 99))
def test_arms_that_differ_by_chance_alone_are_rarely_told_apart(seeds, seed):
    random = np.random.default_rng(seed)

    def drawn():
        return [stable.Steadiness(list(random.normal(0.8, 0.05, seeds)), list(random.normal(1, 0.1, seeds)), 0)] * 2

    pairs = [(drawn(), drawn()) for _ in range(40)]
    for measure in (stable.deviation, stable.mean_over_time):
        assert sum(stable.compared(*pair, measure)[2] < 1 for pair in pairs) <= 16  # of 40; expected: some 1 to 6


def stream(loss, slow_accuracy=0.98):
    """Results of Sideways and of backprop on a stream; loss: case → Sideways' losses."""
    one = smooth.STREAMS["waves"]
    exact = {case: [0.10, 0.11] for case in one.cases}
    accuracy = {case: [slow_accuracy] * 2 for case in one.cases}
    results = {smooth.SIDEWAYS: exact | loss, smooth.BACKPROP: exact}
    return smooth.Measured(one, {smooth.SIDEWAYS: accuracy, smooth.BACKPROP: {"0.5": [0.99, 0.98]}}, results, {})


def test_smooth_holds_if_the_gap_grows_with_the_speed_on_both_streams():
    def word(loss, *accuracy):
        measured = stream(loss, *accuracy)
        return smooth.verdict(smooth.SIDEWAYS, {"waves": measured, "video": measured}).word

    rough = {smooth.SHUFFLED: [0.5, 0.52], "8": [0.3, 0.31]}
    assert word(rough) == HOLDS
    assert word({}) == NOT_HERE
    assert word({case: [0.5, 0.52] for case in smooth.STREAMS["waves"].cases}) == NOT_HERE  # the gap does not grow
    assert word(rough | {smooth.SHUFFLED: [0.1, 0.9]}) == NOT_HERE  # chance
    assert word(rough | {smooth.SHUFFLED: []}) == NOT_HERE
    assert word(rough | {"8": [0.10, 0.11]}) == IN_PART
    assert word(rough, 0.9) == IN_PART
    one_of_two = {"waves": stream(rough), "video": stream({})}
    assert smooth.verdict(smooth.SIDEWAYS, one_of_two).word == NOT_HERE


def test_aligned_counts_clear_signs_and_those_that_compensation_turns():
    def unit(ratio, *cosines, undone=0.9):
        measured = list(cosines), [0.9] * len(cosines), [undone] * len(cosines)
        return aligned.Measured(sign_law.Prediction((ratio,)), *measured)

    units = [unit(0.5, 0.5, 0.6), unit(-0.9, -0.5, -0.6), unit(0.6, 0.7, 0.7)]
    assert aligned.verdict(units).word == NOT_HERE
    assert [check.true for check in aligned.verdict(units).checks] == [False, True, True, True]
    not_clear, not_predicted = unit(0.5, -0.1, 0.4), unit(0.0, 0.9, 0.9)
    assert aligned.counts([*units, not_clear, not_predicted]) == (3, 2, 1, 3)
    assert not unit(0.5, 0.05).clear and unit(0.5, 0.15).clear  # a single seed
    assert [check.true for check in aligned.verdict([unit(-1.0, -0.5, -0.6)] * 9).checks] == [False, True, False, True]
    assert [check.true for check in aligned.verdict([*units, unit(0.9, -0.5, -0.6)]).checks] == [
        False,
        False,
        True,
        True,
    ]
    still_negative = [unit(-0.9, -0.5, -0.6, undone=-0.1)]
    assert aligned.turned([*units, *still_negative, not_clear]) == (2, 1)
    assert [check.true for check in aligned.verdict([*units, *still_negative]).checks] == [False, True, True, False]
    assert aligned.verdict([unit(0.5, 0.5, 0.6)]).word == IN_PART and aligned.verdict([]).word == NOT_HERE


def test_the_other_verdicts_follow_their_rules():
    ours, exact, noisy = appearance.SIDEWAYS, appearance.BACKPROP, appearance.NOISY
    for loss, accuracy, word in ((0.5, 0.9, HOLDS), (0.5, 0.8, NOT_HERE), (0.7, 0.9, IN_PART)):
        assert appearance.converged(ours, {ours: [loss], exact: [0.5]}, {ours: [accuracy], exact: [0.92]}).word == word
    for of_noisy, word in ((0.85, HOLDS), (0.95, IN_PART)):
        held_out = {ours: [0.9], exact: [0.8], noisy: [of_noisy]}
        assert appearance.regularised(ours, held_out, 640).word == word
    ranks = (1, 2, 4)
    assert speed.parallel_verdict(ranks, {"sideways": [1, 1.9, 3.6], "backprop": [1, 1, 1]}, []).word == HOLDS
    assert speed.parallel_verdict(ranks, {"sideways": [1, 1.9, 3.0], "backprop": [1, 1, 1]}, []).word == NOT_HERE
    assert speed.parallel_verdict(ranks, {"sideways": [1, 1.9, 3.6], "backprop": [1, 1, 1]}, [1, 1.2]).word == IN_PART
    assert speed.memory_verdict((16, 64), {"Sideways": [10, 10], "bptt": [25, 80]}).word == HOLDS
    assert speed.memory_verdict((16, 64), {"Sideways": [10, 12], "bptt": [25, 80]}).word == NOT_HERE


def test_recognition_asks_for_a_wide_gap_in_doom_and_a_clear_one_elsewhere():
    arms = {recognition.SKIP: [0.7, 0.72], recognition.CHAIN: [0.3, 0.25], recognition.SINGLE: [0.14, 0.15]}
    both, samples = {"doom": arms, "ucf101:x": arms}, {"doom": 500, "ucf101:x": 100}

    def word(accuracies, samples=samples, real=("ucf101:x",)):
        return recognition.verdict(accuracies, samples, list(real)).word

    assert word(both) == HOLDS
    assert word(both, real=()) == IN_PART
    assert word({"ucf101:x": arms}) == IN_PART  # no clips of Doom
    assert word(both | {"doom": arms | {recognition.CHAIN: [0.5, 0.5]}}) == IN_PART
    assert word(both | {"doom": arms | {recognition.SINGLE: [0.5, 0.5]}}) == IN_PART
    assert word(both | {"doom": arms | {recognition.CHAIN: [0.71, 0.71]}}) == NOT_HERE
    assert word(both, samples | {"ucf101:x": 1}) == NOT_HERE


def test_recognition_asks_delayed_for_eighty_percent_and_for_the_accuracy_of_bptt():
    arms = {
        recognition.CHAIN: [0.3],
        recognition.DELAYED: [0.84],
        recognition.MARKED: [0.82],
        recognition.BPTT: [0.86],
    }

    def word(**changed):
        changes = {getattr(recognition, name): values for name, values in changed.items()}
        return recognition.exact_verdict({"doom": arms | changes}, {"doom": 500}).word

    assert word() == HOLDS
    assert word(DELAYED=[0.79]) == word(BPTT=[0.88]) == word(MARKED=[0.80]) == IN_PART
    assert word(CHAIN=[0.83]) == NOT_HERE
    assert recognition.exact_verdict({"ucf101:x": {recognition.CHAIN: [0.3]}}, {"ucf101:x": 100}) is None


def test_exact_asks_for_bptts_accuracy_on_every_task():
    near = {arm: [0.98, 0.99] for arm in (exact.DELAYED, exact.MARKED, exact.EXACT)}
    accuracy = {"pan": near | {exact.PLAIN: [0.6, 0.7]}, "bands": near | {exact.PLAIN: [0.99, 0.98]}}
    stale = {exact.PLAIN: [0.9], exact.DELAYED: [0.9], exact.MARKED: [0.99]}
    memory = {"pan": {exact.PLAIN: [8.0], exact.MARKED: [9.0]}}
    assert exact.verdict(accuracy, stale, memory, 640).word == HOLDS
    assert exact.verdict(accuracy, stale | {exact.DELAYED: [0.7]}, memory, 640).word == IN_PART
    assert exact.verdict(accuracy, stale, {"pan": {exact.PLAIN: [8.0], exact.MARKED: [11.0]}}, 640).word == IN_PART
    assert exact.verdict(accuracy, stale, memory | {"bands": {exact.PLAIN: [8.0]}}, 640).word == IN_PART
    worse = accuracy | {"bands": near | {exact.DELAYED: [0.95]}}
    assert exact.verdict(worse, stale, memory, 640).word == IN_PART
    no_better = accuracy | {"pan": near | {exact.PLAIN: [0.98, 0.97]}}
    assert exact.verdict(no_better, stale, memory, 640).word == NOT_HERE
