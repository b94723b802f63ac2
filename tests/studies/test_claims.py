"""Claims: each experiment runs on tiny networks and reports its measurements; the command keeps and prints them."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import sideways.training.run
from sideways.commands.main import main
from sideways.data.videos.make import make
from sideways.errors import DivergedError
from sideways.models import build_model
from sideways.studies.claims import aligned, claim, exact, future, recognition, sign_law, speed
from sideways.studies.claims.check import CLAIMS, check_claims
from sideways.studies.claims.claim import OURS, ArmResults, Claim, Finding, Lab, recipe
from sideways.studies.claims.verdict import HOLDS, IN_PART, NOT_HERE, NOT_RUN, at_chance, judged, spread
from sideways.training.build import build_network, build_task
from sideways.training.report import frames_ahead
from sideways.training.several import try_many

pytestmark = pytest.mark.xdist_group("claims")  # the runs that these tests share

*_, DEEPER, ON_VIDEO = aligned.CASES


class Tiny(Lab):
    """A lab whose runs have three clips of two samples, and one seed (three for the claim about their spread)."""

    def train(self, arms, seeds, group=""):
        def shrunk(c):
            every = {name: min(getattr(c, name), 1) for name in ("evaluate_every", "cosine_every")}
            often = 18 if c.checkpoint_every else 0
            task = {key: min(value, 18) if key == "length" else value for key, value in c.task_options.items()}
            small = replace(c, clips=3, batch=2, evaluation_clips=1, checkpoint_every=often, task_options=task, **every)
            return replace(small, model_options=c.model_options | {"width": 2}) if c.model.startswith("vgg5") else small

        return super().train(
            {arm: shrunk(config) for arm, config in arms.items()},
            seeds[: 3 if self.directory.name == "stable" else 1],
            group,
        )


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A function like `try_many` that makes each run once, and later copies what it has written."""
    folder, results = tmp_path_factory.mktemp("runs"), {}

    def train(jobs, processes, title):
        keys = [json.dumps(config.to_tables(), sort_keys=True) for config, _ in jobs]
        missing = {key: config for key, (config, _) in zip(keys, jobs, strict=True) if key not in results}
        new = [(config, folder / str(len(results) + i)) for i, config in enumerate(missing.values())]
        results.update(zip(missing, try_many(new, processes, title), strict=True))
        for key, (_, path) in zip(keys, jobs, strict=True):
            shutil.copytree(results[key].directory, path)
        return [replace(results[key], directory=str(path)) for key, (_, path) in zip(keys, jobs, strict=True)]

    return train


@pytest.fixture
def tiny(tmp_path, monkeypatch, kept):
    """A function that runs one experiment without plotting its single runs."""
    monkeypatch.setattr(claim, "try_many", kept)
    monkeypatch.setattr(frames_ahead, "plot_prediction", lambda path, *arguments: path.touch())

    monkeypatch.setattr(sideways.training.run, "plot_run", lambda *arguments: None)
    monkeypatch.setattr(sideways.training.run, "plot_confusion", lambda *arguments: None)
    measure = aligned.measure
    monkeypatch.setattr(aligned, "measure", lambda config, network, _, *kind: measure(config, network, 2, *kind))
    monkeypatch.setattr(aligned, "CASES", {case: aligned.CASES[case] for case in (aligned.FIRST, DEEPER, ON_VIDEO)})
    few = (exact.BARE, "pan", "pan, add", "bands, chain of 5", "bands, chain of 8")
    monkeypatch.setattr(exact, "SETTINGS", {name: exact.SETTINGS[name] for name in few})
    monkeypatch.setattr(exact, "DEPTHS", (5, 8))

    def run(name, **more):
        (tmp_path / name).mkdir()
        return CLAIMS[name].run(Tiny(tmp_path / name, "quick", **more))

    return run


def results(tmp_path):
    """The results of each arm, by the name of its folder."""
    return {path.parent.parent.name: json.loads(path.read_text()) for path in tmp_path.rglob("results.json")}


# Runs that diverge, and runs that claims share


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
    monkeypatch.setattr(claim, "try_many", lambda jobs, *_: [DivergedError("loss is inf")] * len(jobs))
    if name == "smooth":  # Without a run of Sideways there are no units to list.
        with pytest.raises(DivergedError):
            tiny(name)
    else:
        assert tiny(name).verdict.word == NOT_HERE


@pytest.mark.parametrize("arm", [0, 1])
@pytest.mark.parametrize("name", ["temporal", "smooth", "aligned", "future", "exact"])
def test_a_single_arm_that_diverged_ends_no_claim(tiny, kept, monkeypatch, name, arm):
    def all_but_one(jobs, processes, title):
        results = kept(jobs, processes, title)
        return [*results[:arm], DivergedError("loss is inf"), *results[arm + 1 :]]

    monkeypatch.setattr(claim, "try_many", all_but_one)
    assert tiny(name).verdict.word in (HOLDS, IN_PART, NOT_HERE)


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
    listed = [row[key] for row in finding.rows for key in row if key.startswith(column.split(",")[0])]
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
    assert waves[:1] == [future.SKIP] and {*future.ARMS, future.REPEAT, future.EXTRAPOLATION} == set(waves)
    ratio = {row["prediction"]: float(row["PSNR dB"]) for row in finding.rows if row["frames"].startswith("waves")}
    assert ratio[future.REPEAT] > max(ratio[arm] for arm in future.ARMS)  # three clips teach nothing
    assert (tmp_path / "future" / "prediction-waves.mp4").stat().st_size > 0


def test_aligned_has_a_row_for_each_unit_below_the_merge(tiny):
    finding = tiny("aligned")
    assert [row["unit"] for row in finding.rows] == [f"conv{i}" for i in (1, 2, 3, 1, 2, 3, 4, 1, 2, 3)]
    for column in ("cosine of the means", "displacement undone"):
        assert all(-1 <= float(row[column]) <= 1 for row in finding.rows)
    assert [row["predicted sign"] for row in finding.rows[-3:]] == ["open"] * 3  # the law is on waves


def test_exact_puts_accuracy_loss_time_and_memory_of_each_rule_in_one_table(tiny):
    finding = tiny("exact")
    rows = {(row["task"], row["rule"]): row for row in finding.rows}
    assert len(rows) == len(finding.rows) == 5 * len(exact.SETTINGS) + len(exact.CHEAPER) + len(exact.stale_arms(1))
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
    def fails(lab):
        raise ZeroDivisionError("no ticks")

    def holds(lab):
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
    out = f"--quick --out {tmp_path / 'claims'}`, on "
    assert f"`sideways claims smooth {out}" in text and f"`sideways claims stable {out}" in text
    assert "fails" in (tmp_path / "claims" / "smooth" / "error.txt").read_text()


def holds(lab):
    assert [path.name for path in lab.directory.iterdir()] == ["finding.json"]
    (lab.directory / "picture.png").touch()
    return Finding(judged(at_chance("it", [0.25], 0.25, 10)), "0.250", "nothing", [{"arm": "a"}], "")


def test_a_claim_that_is_checked_again_is_replaced_and_others_stay_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setitem(CLAIMS, "stable", Claim("It holds.", OURS, holds))
    monkeypatch.setitem(CLAIMS, "temporal", Claim("It holds, too.", OURS, holds))
    check_claims(["temporal"], tmp_path, "quick")
    for _ in range(2):
        check_claims(["stable"], tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert f"`sideways claims temporal --quick --out {tmp_path}`" in text and f"claims stable --out {tmp_path}`" in text
    assert text.index("## temporal") < text.index("## stable") and text.count(f"**{HOLDS}**") == 2


def test_a_folder_of_something_else_is_not_replaced(tmp_path, capsys):
    (tmp_path / "stable").mkdir()
    (tmp_path / "stable" / "thesis.tex").touch()
    assert main(["claims", "temporal", "stable", "--quick", "--out", str(tmp_path)]) == 2
    assert "stable was not written by `sideways claims`" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["stable", "thesis.tex"]  # nothing was begun


def test_a_damaged_finding_is_refused_before_anything_runs(tmp_path, capsys):
    (tmp_path / "future").mkdir()
    (tmp_path / "future" / "finding.json").write_text("{")
    assert main(["claims", "temporal", "--quick", "--out", str(tmp_path)]) == 2
    assert "finding.json is damaged" in capsys.readouterr().err and not (tmp_path / "temporal").exists()


def test_ctrl_c_keeps_the_findings_and_names_the_command_for_the_rest(tmp_path, monkeypatch, capsys):
    def stops(lab):
        raise KeyboardInterrupt

    monkeypatch.setitem(CLAIMS, "temporal", Claim("It holds.", OURS, holds))
    monkeypatch.setitem(CLAIMS, "stable", Claim("It stops.", OURS, stops))
    assert main(["claims", "temporal", "stable", "smooth", "--quick", "--out", str(tmp_path)]) == 130
    rest = f"to go on: sideways claims stable smooth --quick --out {tmp_path}"
    assert rest in capsys.readouterr().err
    text = (tmp_path / "report.md").read_text()
    assert f"**{HOLDS}**" in text and f"**{NOT_RUN}**" in text and "the run was stopped before its end" in text


def test_data_that_is_not_there_is_refused_before_anything_runs(tmp_path, capsys):
    out = tmp_path / "claims"
    for data in ("nosuch", "ucf101:/nowhere"):
        assert main(["claims", "all", "--quick", "--data", data, "--out", str(out)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["claims", "stable", "--data", "ucf101:/nowhere", "--out", str(out)]) == 2
    assert "--data is for recognition" in capsys.readouterr().err and not out.exists()


def test_stable_with_a_single_seed_says_what_it_needs(tmp_path):
    finding = check_claims(["stable"], tmp_path, "quick", seeds=1)["stable"]
    assert finding.verdict.word == NOT_RUN and "--seeds must be at least 3" in finding.what


def test_a_made_set_is_not_real_even_if_the_user_names_it(tmp_path):
    make("ucf101", tmp_path / "made", "motion", groups=3, each=1)
    data = f"ucf101:{tmp_path / 'made'}"
    recognition.check_data([data])
    assert not recognition.is_real(data)
    (tmp_path / "made" / "made.txt").unlink()
    assert recognition.is_real(data)


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
