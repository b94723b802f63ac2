"""Claims: each experiment runs on tiny networks and reports its measurements."""

import hashlib
import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from matplotlib.figure import Figure

import sideways.training.run
from sideways.errors import DivergedError
from sideways.models import build_model
from sideways.studies.claims import aligned, claim, exact, future, recognition, sign_law, speed
from sideways.studies.claims.check import CLAIMS
from sideways.studies.claims.claim import SKIP, ArmResults, Lab, recipe
from sideways.studies.claims.verdict import HOLDS, IN_PART, NOT_HERE, spread
from sideways.training.build import build_network, build_task
from sideways.training.report import frames_ahead
from sideways.training.several import try_many

pytestmark = pytest.mark.xdist_group("claims")  # the runs that these tests share

*_, DEEPER, ON_VIDEO = aligned.CASES
DOOM = {"maps": ["map12"], "held_out_maps": ["map26"], "places": 1, "held_out_places": 1, "size": 16, "length": 9}


class Tiny(Lab):
    """A lab whose runs have two short clips of two samples, and one seed (three for the claim about their spread)."""

    def train_groups(self, groups):
        def shrunk(c):
            every = {name: min(getattr(c, name), 1) for name in ("evaluate_every", "cosine_every")}
            often = 18 if c.checkpoint_every else 0
            longest = 18 if often or c.horizon else 2 * (c.model_options.get("middle", 2) + 4)  # there and back
            task = {key: min(value, longest) if key == "length" else value for key, value in c.task_options.items()}
            task |= DOOM if c.task == "doom" else {}
            small = replace(c, clips=2, batch=2, evaluation_clips=1, checkpoint_every=often, task_options=task, **every)
            return replace(small, model_options=c.model_options | {"width": 2}) if c.model.startswith("vgg5") else small

        count = 3 if self.directory.name == "stable" else 1
        return super().train_groups(
            {
                group: ({arm: shrunk(config) for arm, config in arms.items()}, seeds[:count])
                for group, (arms, seeds) in groups.items()
            }
        )


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A function like `try_many` that makes each run once, and later copies what it has written."""
    folder, results = tmp_path_factory.mktemp("runs"), {}

    def train(jobs, processes, title, report):
        keys = [json.dumps(config.to_tables(), sort_keys=True) for config, _ in jobs]
        missing = {key: config for key, (config, _) in zip(keys, jobs, strict=True) if key not in results}
        new = [(config, folder / str(len(results) + i)) for i, config in enumerate(missing.values())]
        results.update(zip(missing, try_many(new, processes, title, report), strict=True))
        for key, (_, path) in zip(keys, jobs, strict=True):
            shutil.copytree(results[key].directory, path)
        return [replace(results[key], directory=str(path)) for key, (_, path) in zip(keys, jobs, strict=True)]

    return train


@pytest.fixture(scope="module")
def measured():
    """A function like `aligned.measure` that takes two batches, and measures each network once."""
    results, measure = {}, aligned.measure

    def measure_once(config, network, clips, *kind):
        arrays = [array.tobytes() for part in network.parameters.values() for array in part.values()]
        key = (json.dumps(config.to_tables()), hashlib.sha256(b"".join(arrays)).digest(), kind)
        if key not in results:
            results[key] = measure(config, network, clips[:2], *kind)
        return results[key]

    return measure_once


@pytest.fixture
def quickly(monkeypatch):
    """Let runs draw nothing."""
    monkeypatch.setattr(sideways.training.run, "plot_run", lambda *arguments: None)
    monkeypatch.setattr(sideways.training.run, "plot_confusion", lambda *arguments: None)


@pytest.fixture
def tiny(tmp_path, monkeypatch, quickly, kept, measured):
    """A function that runs one experiment without plotting its single runs."""
    monkeypatch.setattr(claim, "try_many", kept)
    monkeypatch.setattr(frames_ahead, "plot_prediction", lambda path, *arguments: path.touch())
    monkeypatch.setattr(aligned, "measure", measured)
    monkeypatch.setattr(aligned, "CASES", {case: aligned.CASES[case] for case in (aligned.FIRST, DEEPER, ON_VIDEO)})
    few = (exact.BARE, "pan", "pan, add", "bands, chain of 5", "bands, chain of 8")
    monkeypatch.setattr(exact, "SETTINGS", {name: exact.SETTINGS[name] for name in few})
    monkeypatch.setattr(exact, "DEPTHS", (5, 8))
    measure = exact.megabytes_of_run  # only where the table is looked at: on the pan
    monkeypatch.setattr(
        exact, "megabytes_of_run", lambda run, show: measure(run, show) if "pan" in run.parent.parent.name else 1.0
    )

    def run(name, **more):
        (tmp_path / name).mkdir()
        return CLAIMS[name].run(Tiny(tmp_path / name, "quick", **more))

    return run


def results(tmp_path):
    """The results of each arm, by the name of its folder."""
    return {path.parent.parent.name: json.loads(path.read_text()) for path in tmp_path.rglob("results.json")}


# Runs that diverge, and runs that claims share


def sketch(figure, path, **options):
    """Write an empty file instead of a figure, which must have panels: drawing takes longer than all else."""
    assert figure.axes
    path.touch()


@pytest.mark.usefixtures("quickly")
def test_a_claim_shares_the_finished_runs_of_one_that_was_checked_before_a_stop(tmp_path, monkeypatch):
    first, chain = Tiny(tmp_path / "first"), recipe("bands-chain")
    (finished,) = first.train({"chain": chain}, range(1, 2))["chain"].finished
    first.directory.rename(tmp_path / "moved")
    results = claim.finished_runs(tmp_path / "moved")
    finished = replace(finished, directory=str(tmp_path / "moved" / "runs" / "chain" / "seed-1"))
    monkeypatch.setattr(claim, "try_many", lambda jobs, *_, **__: [DivergedError("run again")] * len(jobs))
    second = Tiny(tmp_path / "second", results=results)
    assert second.train({"it": replace(chain, summary="other words")}, range(1, 2))["it"].finished == [finished]
    assert second.train({"it": replace(chain, rule="delayed")}, range(1, 2))["it"].diverged == 1


@pytest.mark.usefixtures("quickly")
def test_a_diverged_run_counts_as_chance_and_is_counted(tmp_path):
    lab = Tiny(tmp_path)
    wild = recipe("bands-chain", optimizer={"name": "sgd", "learning_rate": 1e38}, schedule={"name": "constant"})
    runs = lab.train({"wild": wild, "tame": recipe("bands-chain")}, range(1, 2))
    assert (runs["wild"].diverged, runs["tame"].diverged) == (1, 0)
    finished = runs["tame"].finished[0]
    assert runs["wild"].accuracies == [0.25]
    assert ArmResults([DivergedError("x"), finished], lambda: 0.25).accuracies == [finished.accuracy, 0.25]


@pytest.mark.parametrize(
    "name", ["temporal", "stable", "converges", "regularises", "smooth", "aligned", "future", "exact"]
)
def test_a_claim_whose_runs_all_diverged_does_not_hold(tiny, monkeypatch, name):
    monkeypatch.setattr(claim, "try_many", lambda jobs, *_, report: [DivergedError("loss is inf")] * len(jobs))
    if name not in ("temporal", "exact"):  # whose figures, of points, groups and lines without values, are drawn
        monkeypatch.setattr(Figure, "savefig", sketch)
    if name == "smooth":  # Without a run of Sideways there are no units to list.
        with pytest.raises(DivergedError):
            tiny(name)
    else:
        assert tiny(name).verdict.word == NOT_HERE


@pytest.mark.parametrize("arm", [0, 1])
@pytest.mark.parametrize("name", ["temporal", "smooth", "aligned", "future", "exact"])
def test_a_single_arm_that_diverged_ends_no_claim(tiny, kept, monkeypatch, name, arm):
    def all_but_one(jobs, processes, title, report):
        results = kept(jobs, processes, title, report)
        return [*results[:arm], DivergedError("loss is inf"), *results[arm + 1 :]]

    monkeypatch.setattr(claim, "try_many", all_but_one)
    monkeypatch.setattr(claim, "_work", lambda config: 0)  # the jobs come in the order of the arms
    if (name, arm) != ("smooth", 0):  # whose figure, of lines with gaps, is drawn
        monkeypatch.setattr(Figure, "savefig", sketch)
    assert tiny(name).verdict.word in (HOLDS, IN_PART, NOT_HERE)


@pytest.mark.usefixtures("quickly")
def test_the_same_run_is_made_once(tmp_path):
    lab = Tiny(tmp_path)
    first = lab.train({"one": recipe("bands-chain")}, range(1, 2))["one"].finished[0]
    again = lab.train({"another name": recipe("bands-chain")}, range(1, 2))["another name"].finished[0]
    assert first is again and len(results(tmp_path)) == 1


# Each experiment, tiny


@pytest.mark.parametrize("name", ["temporal", "stable", "converges", "regularises", "smooth"])
def test_each_arm_of_a_claim_has_a_row_with_what_its_runs_measured(tiny, tmp_path, name):
    finding = tiny(name)
    column = next(key for key in finding.rows[0] if key.startswith(("held-out accuracy", "accuracy, ")))
    listed = [row[key] for row in finding.rows for key in row if key.startswith(column.split(",")[0]) and row[key]]
    runs = {path.parent.parent for path in tmp_path.rglob("results.json")}  # an arm's folder: a run for each seed
    assert sorted(listed) == sorted(
        spread([accuracy(path) for path in sorted(arm.rglob("results.json"))]) for arm in runs
    )
    assert len(results(tmp_path)) >= 2 and finding.verdict.word in (HOLDS, IN_PART, NOT_HERE)
    assert all(picture.stat().st_size > 10_000 for picture in finding.pictures) and finding.pictures


def accuracy(path):
    return json.loads(path.read_text())["accuracy"]


def test_future_compares_networks_with_what_needs_no_learning_and_keeps_a_video(tiny, tmp_path):
    finding = tiny("future")
    waves = [row["prediction"] for row in finding.rows if row["frames"].startswith("waves")]
    assert waves == [future.GATED, future.DELAYED, future.CHAIN, *future.BASELINES]
    ratio = {row["prediction"]: float(row["PSNR dB"]) for row in finding.rows if row["frames"].startswith("waves")}
    # Two clips teach next to nothing; but a gated predictor begins with repeating.
    assert ratio[future.REPEAT] > ratio[future.CHAIN]
    assert all(ratio[arm] > ratio[future.REPEAT] - 1 for arm in (future.GATED, future.DELAYED))
    videos = [row for row in finding.rows if row["frames"].startswith("of these")]
    judged = [future.GATED, future.DELAYED, future.REPEAT]
    assert [row["prediction"] for row in videos] == judged * (len(videos) // 3) and len(videos) >= 3
    assert (tmp_path / "future" / "prediction-waves.mp4").stat().st_size > 0


def test_recognition_runs_on_clips_of_doom_and_on_video_files(tiny, tmp_path):
    finding = tiny("recognition")
    doom = [row["arm"] for row in finding.rows if "Doom" in row["data"]]
    made = [row["arm"] for row in finding.rows if "made" in row["data"]]
    assert doom == [recognition.CHAIN, recognition.SKIP, recognition.DELAYED] and made == [recognition.CHAIN, SKIP]
    assert all(0 <= float(row["held-out accuracy"]) <= 1 for row in finding.rows)
    assert finding.exact is not None and finding.verdict.word in (HOLDS, IN_PART, NOT_HERE)
    clips = tmp_path / "recognition" / "clips"
    assert list(clips.rglob("map12-*.block")) and list(clips.rglob("*.frames"))


def test_without_vizdoom_recognition_says_that_its_main_part_was_not_run(tiny, monkeypatch):
    monkeypatch.setattr(recognition, "has_doom", lambda: False)
    finding = tiny("recognition")
    assert "not run: pip install vizdoom" in finding.what and all("made" in row["data"] for row in finding.rows)
    assert not next(check for check in finding.verdict.checks if check.rule == "on clips of Doom").true


def test_aligned_has_a_row_for_each_unit_below_the_merge(tiny):
    finding = tiny("aligned")
    assert [row["unit"] for row in finding.rows] == [f"conv{i}" for i in (1, 2, 3, 1, 2, 3, 4, 1, 2, 3)]
    for column in ("cosine of the means", "displacement undone"):
        assert all(-1 <= float(row[column]) <= 1 for row in finding.rows)
    assert [row["predicted sign"] for row in finding.rows[-3:]] == ["open"] * 3  # the law is on waves


def test_exact_puts_accuracy_loss_time_and_memory_of_each_rule_in_one_table(tiny):
    finding = tiny("exact")
    rows = {(row["task"], row["rule"]): row for row in finding.rows}
    assert len(rows) == len(finding.rows) == 4 * len(exact.SETTINGS) + len(exact.CHEAPER) + len(exact.stale_arms(1))
    assert all(float(row[column]) >= 0 for row in rows.values() for column in list(row)[5:])
    megabytes = {arm: float(rows["pan", arm]["MB of activations"]) for task, arm in rows if task == "pan"}
    assert megabytes[exact.PLAIN] <= megabytes[exact.DELAYED] <= megabytes[exact.EXACT]


def test_memory_of_sideways_is_flat_in_the_claim_too(tiny, monkeypatch):
    monkeypatch.setattr(speed, "build_model", partial(build_model, width=8))
    finding = tiny("memory")
    assert finding.verdict.word == HOLDS
    rules = [row["rule"] for row in finding.rows]
    assert (rules[0], rules[-2:], len(rules)) == ("Sideways", ["backprop", "bptt"], 5)


def test_a_frame_changes_parameters_at_once_and_its_loss_the_bottom_unit_after_2d_minus_1_ticks():
    for depth in (1, 2, 5):
        assert speed.first_updates(depth) == {"first": 1, "top": depth, "bottom": 2 * depth - 1}


def test_the_displacement_predicts_the_sign_of_a_cosine():
    assert sign_law.opponent(1.0) == pytest.approx(-sign_law.opponent(-1.0)) and sign_law.opponent(0.0) == 0
    config = recipe("waves-skip", model_options={"skip": ["conv1>conv4"]})
    task = build_task(config)
    network = build_network(config, task.frame_shape, 4)
    predicted = sign_law.predictions(network, "conv4", 1.0)
    assert [predicted[unit].sign for unit in ("conv1", "conv2", "conv3")] == [None, -1, 0]
    assert predicted["conv2"].ratios == pytest.approx((-1.0,))  # Δ = -2, seen as +2
    raw = recipe("waves-skip", model_options={"skip": ["frame>conv4"]})
    predicted = sign_law.predictions(build_network(raw, task.frame_shape, 4), "conv4", 1.0)
    assert [predicted[unit].sign for unit in ("conv1", "conv2", "conv3")] == [-1, -1, 1]  # Δ = -3, seen as 3, 1, -1


# Task options that the experiments use


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
