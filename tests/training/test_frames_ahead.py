"""Predicted frames: PSNR and SSIM, the two baselines that need no training, roll-outs, and figures."""

import copy
import json
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from sideways import Backprop, MeanSquaredError, Sideways, to_host
from sideways.commands.main import main
from sideways.commands.predict_video import EvenSample
from sideways.data import FramesAhead, probe, shipped_clips, write_video
from sideways.data.task import Task
from sideways.models import build_model
from sideways.training.metrics import psnr, ssim
from sideways.training.report.block_matching import continued
from sideways.training.report.frames_ahead import SHOWN, ahead, roll_out
from sideways.training.report.scores import age, scored

SPAN = (-2.0, 2.0)
PREDICTORS = ["predictor", "predictor-skip", "predictor-gated"]


def frames_of(seed, t=4, size=16, channels=1):
    """Random frames (T, H, W, C)."""
    return np.random.default_rng(seed).uniform(*SPAN, (t, size, size, channels)).astype(np.float32)


@given(st.integers(0, 1000), st.floats(0.01, 0.5), st.sampled_from([1, 3]))
def test_psnr_is_that_of_the_mean_squared_error_of_the_luminance(seed, noise, channels):
    truth = frames_of(seed, channels=channels) * (1 - noise)
    guess = truth + noise * frames_of(seed + 1, channels=channels)
    weights = np.array([0.299, 0.587, 0.114]) if channels == 3 else np.array([1.0])
    error = (((truth - guess) @ weights) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(psnr(truth, guess, SPAN), 10 * np.log10(4.0**2 / error), rtol=1e-3)


def test_equal_frames_are_as_similar_as_can_be_and_noise_is_not():
    truth = frames_of(0)
    np.testing.assert_allclose(ssim(truth, truth, SPAN), 1)
    assert (ssim(truth, frames_of(1), SPAN) < 0.3).all()
    assert np.isnan(ssim(truth[:, :8, :8], truth[:, :8, :8], SPAN)).all()


class Fading(Task):
    """Frames that change by the same amount at every tick: linear extrapolation is exact, whatever its age."""

    frame_shape, classes, span = (16, 16, 1), ("fading",), (-4.0, 4.0)

    def samples(self, split, generators):
        first = np.stack([generator.uniform(-1, 1, self.frame_shape) for generator in generators])
        slope = np.stack([generator.uniform(-0.1, 0.1, self.frame_shape) for generator in generators])
        times = np.arange(self.length)[None, :, None, None, None]
        return first[:, None] + times * slope[:, None], np.zeros(len(generators), int)

    def labels(self, generators):
        return np.zeros(len(generators), int)


@settings(max_examples=30)
@given(
    st.tuples(st.integers(-3, 3), st.integers(-3, 3)), st.integers(1, 2), st.sampled_from([1, 3]), st.integers(0, 99)
)
def test_block_matching_is_exact_in_the_interior_of_a_texture_that_is_shifted(step, horizon, channels, seed):
    texture = frames_of(seed, t=1, size=64, channels=channels)[0]

    def at(tick):  # 32×32 pixels of the texture, which moves on by `step` at each tick
        y, x = (16 - tick * pixels for pixels in step)
        return texture[y : y + 32, x : x + 32]

    guess = continued(at(0)[None], at(1)[None], horizon)[0]
    inside = slice(8, 24)  # all blocks but those at the border
    np.testing.assert_array_equal(guess[inside, inside], at(1 + horizon)[inside, inside])


def test_block_matching_gives_each_block_its_own_motion_and_repeats_what_stands_still():
    random = np.random.default_rng(0)
    still, moving = random.normal(size=(2, 16, 8, 1))
    earlier = np.concatenate([still, moving], axis=1)[None]
    newest = np.concatenate([still, np.roll(moving, 2, axis=0)], axis=1)[None]
    guess = continued(earlier, newest, 2)[0]
    np.testing.assert_array_equal(guess[:, :8], still)
    np.testing.assert_array_equal(guess[8:16, 8:], np.roll(moving, 6, axis=0)[8:16])
    flat = np.ones((1, 16, 16, 1))
    np.testing.assert_array_equal(continued(flat, flat, 3), flat)


@pytest.mark.parametrize("model", PREDICTORS)
def test_each_guess_is_given_from_the_newest_frame_and_from_what_the_top_has_seen(model):
    task = FramesAhead(Fading(0, 16), 2)
    rule = Sideways(build_model(model, task.frame_shape, None), MeanSquaredError(), target_delay=0)
    old = age(rule)
    rows = {(row["prediction"], row["newest frame, ticks old"]): row for row in scored(rule, task, 2, 2, 2).table()}
    assert rows.keys() == {
        ("network", str(old)),
        *((name, str(ticks)) for name in ("repeat", "linear extrapolation", "block matching") for ticks in (0, old)),
    }
    assert float(rows["linear extrapolation", "0"]["PSNR dB"]) > 80  # exact but for float32
    assert float(rows["linear extrapolation", str(old)]["PSNR dB"]) > 80
    # A frame repeated for n ticks is wrong by n slopes: the PSNRs differ by 20 log10 of the ratio of the times.
    difference = float(rows["repeat", "0"]["PSNR dB"]) - float(rows["repeat", str(old)]["PSNR dB"])
    assert difference == pytest.approx(20 * np.log10((2 + old) / 2), abs=0.02)


class TwoFilms(Fading):
    """Samples with an odd number show a film that stands still, samples with an even one a film that fades."""

    def samples(self, split, generators):
        frames, labels = super().samples(split, generators)
        frames[1::2] = frames[1::2, :1]
        return frames, labels

    def titles(self, split, index, batch, part=slice(None)):
        return ["fading", "still"] * (batch // 2)


def test_the_scores_of_each_video_stand_apart_and_the_one_with_the_smallest_gain_comes_first():
    task = FramesAhead(TwoFilms(0, 10), 2)
    rule = Sideways(build_model("predictor", task.frame_shape, None), MeanSquaredError(), target_delay=0)
    frames = scored(rule, task, 2, 4, 2)
    fading, still = (frames.by_video[title] for title in ("fading", "still"))
    assert still["repeat", 0][0] == 100 > fading["repeat", 0][0]  # equal frames count as 100 dB, not as infinite
    assert [row["video"] for row in frames.table_by_video()] == ["still", "fading"]
    (first, second), gains = frames.table_by_video(), frames.gains()
    assert float(first["difference"]) == pytest.approx(gains["still"], abs=0.006) and gains["still"] < gains["fading"]
    assert first["frames"] == second["frames"] == str(2 * 2 * (task.length - 4))
    for name, (ratio, similarity) in frames.means.items():
        for mean, of_videos in zip((ratio, similarity), zip(fading[name], still[name], strict=True), strict=True):
            assert mean == pytest.approx(np.mean(of_videos))


def test_the_age_of_what_the_top_sees_is_the_shortest_way_to_it():
    shape = (16, 16, 1)
    chain, skip, gated = (build_model(f"predictor{end}", shape, None) for end in ("", "-skip", "-gated"))
    assert age(Sideways(gated, MeanSquaredError())) == 0
    assert age(Sideways(chain, MeanSquaredError())) == chain.latency
    assert 0 <= age(Sideways(skip, MeanSquaredError())) < skip.latency
    assert age(Backprop(chain, MeanSquaredError())) == 0


@settings(max_examples=10)
@given(st.sampled_from(PREDICTORS), st.integers(1, 3), st.integers(1, 6), st.booleans(), st.integers())
def test_a_roll_out_is_a_stream_that_ends_in_its_own_guesses(model, horizon, steps, ticking, seed):
    network = build_model(model, (8, 8, 1), None, seed=abs(seed))
    rule = (Sideways if ticking else Backprop)(network, MeanSquaredError())
    rule = copy.deepcopy(rule)
    frames = [frames_of(t, t=2, size=8) for t in range(network.depth + horizon)]
    rolled = roll_out(rule, frames, steps, horizon)
    assert rolled.shape == (steps, 2, 8, 8, 1)
    naive = list(frames)  # run the whole stream again for each new frame
    for _ in range(steps):
        outputs = rule.evaluate(np.stack(naive)).outputs
        naive.append(to_host(outputs[-horizon]))
    np.testing.assert_array_equal(rolled, np.stack(naive[len(frames) :]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    arguments = ["--clips", "6", "--batch", "4", "--evaluation-clips", "1", "--runs", str(runs), "--name", "ahead"]
    assert main(["train", "waves-predictor-skip", *arguments]) == 0
    return runs / "ahead"


def test_a_run_that_predicts_shows_truth_prediction_and_error_and_the_two_other_guesses(run):
    report = (run / "report.md").read_text()
    for row in ("network", "repeat", "linear extrapolation"):
        assert re.search(rf"\| {row} \| \d \| \d+\.\d\d \| -?0\.\d+ \|", report), report
    assert "the frame 2 ticks ahead" in report
    for name in ("prediction", "roll-out", "loss"):
        assert f"![{name}](plots/{name}.png)" in report
        assert imread(run / "plots" / f"{name}.png").std() > 0.05
    video = probe(run / "prediction.mp4")
    assert video.width == 3 * video.height and video.frames >= 4
    assert json.loads((run / "results.json").read_text())["accuracy"] is None


def test_predict_writes_the_same_of_any_video_and_rolls_out(run, tmp_path, capsys):
    video = shipped_clips()["carphone"]
    assert main(["predict", str(run), video, "--out", str(tmp_path / "a"), "--seconds", "1"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\d+ frames, 2 ticks ahead: PSNR \d+\.\d\d dB\nthe newest frame repeated: PSNR \d+", out)
    assert main(["predict", str(run), video, "--out", str(tmp_path / "b"), "--seconds", "1", "--roll-out", "5"]) == 0
    assert "5 frames, rolled out for 5 frames" in capsys.readouterr().out
    for folder in ("a", "b"):
        assert sorted(p.name for p in (tmp_path / folder).iterdir()) == ["prediction.mp4", "prediction.png"]
    assert probe(tmp_path / "b" / "prediction.mp4").frames == 5
    assert main(["predict", str(run), video, "--out", str(tmp_path / "c"), "--seconds", "0.1"]) == 2
    assert not (tmp_path / "c").exists() and "are needed" in capsys.readouterr().err


@given(st.integers(1, 400))
def test_a_few_of_many_are_evenly_spread_however_many_come(count):
    sample = EvenSample()
    for number in range(count):
        sample.add(number)
    assert sample.kept == sample.numbers == list(range(0, count, sample.step))
    assert min(count, 2 * SHOWN) <= len(sample.kept) <= 4 * SHOWN or count <= 4 * SHOWN


@settings(max_examples=10)
@given(st.sampled_from(PREDICTORS), st.integers(1, 3), st.booleans(), st.integers(1, 6))
def test_a_film_that_comes_frame_by_frame_is_predicted_as_a_clip_is(model, horizon, ticking, more):
    network = build_model(model, (8, 8, 1), None, seed=more)
    rule = (Sideways if ticking else Backprop)(network, MeanSquaredError())
    frames = [frames_of(t, t=1, size=8) for t in range(network.depth + horizon + more)]
    evaluation = rule.evaluate(np.stack(frames))
    predictions = list(ahead(rule, iter(frames), horizon))
    assert len(predictions) == len(evaluation.outputs) - horizon
    for t, (truth, guess, newest) in enumerate(predictions, evaluation.first_tick + horizon):
        np.testing.assert_array_equal(truth, frames[t])
        np.testing.assert_array_equal(guess, to_host(evaluation.outputs[t - horizon - evaluation.first_tick]))
        np.testing.assert_array_equal(newest, frames[t - horizon])


@pytest.mark.usefixtures("undrawn")
def test_predict_keeps_no_more_of_a_film_ten_times_as_long(tmp_path, monkeypatch):
    # The frames must be large and no figure may be drawn: Python's own memory varies by up to 1 MB and would hide a
    # film of small frames, and matplotlib needs 9 MB that Python frees sooner or later. The short film has more frames
    # than the figure's sample keeps.
    monkeypatch.setattr("sideways.commands.predict_video.plot_prediction", lambda *a: None)
    arguments = ["--set", "task_options.size=64", "--clips", "1", "--batch", "1", "--evaluation-clips", "1"]
    assert main(["train", "waves-predictor-skip", *arguments, "--runs", str(tmp_path), "--name", "large"]) == 0
    peaks = []
    for frames in (60, 600):
        film = tmp_path / f"{frames}.avi"
        ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], (64, 64, 3))  # is soon encoded
        write_video(film, (np.roll(ramp, t, axis=0) for t in range(frames)), codec="mpeg4", bitrate=None, quality=None)
        tracemalloc.start()
        assert main(["predict", str(tmp_path / "large"), str(film), "--out", str(tmp_path / f"{frames}")]) == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert probe(tmp_path / str(frames) / "prediction.mp4").frames == frames - 5
    assert peaks[1] < peaks[0] + 600 * 64 * 64  # bytes: a quarter of the size of 600 frames


def test_evaluate_of_a_predictor_prints_its_guesses_beside_the_others(run, capsys):
    assert main(["evaluate", str(run)]) == 0
    out = capsys.readouterr().out
    head, *rows = out[out.index("prediction") :].splitlines()
    assert re.split(r" {2,}", head) == ["prediction", "newest frame, ticks old", "PSNR dB", "SSIM", "held-out frames"]
    assert [re.split(r" {2,}", row)[0] for row in rows[:3]] == ["network", "repeat", "linear extrapolation"]
    assert re.search(r"\d+ of \d+$", rows[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seconds", "nan"], "--seconds must be a time, not nan"),
        (["--seconds", "-1"], "--seconds must be a time, not -1"),
        (["--roll-out", "0"], "--roll-out must be at least 1 frame, not 0"),
        (["--roll-out", "-3"], "--roll-out must be at least 1 frame, not -3"),
        (["--out", "{file}"], "File exists"),
    ],
)
def test_predict_refuses_what_makes_no_sense_in_a_line(run, tmp_path, capsys, options, words):
    (tmp_path / "file").touch()
    options = [option.format(file=tmp_path / "file") for option in options]
    assert main(["predict", str(run), shipped_clips()["carphone"], *options]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.usefixtures("undrawn")
def test_a_run_on_a_stream_is_evaluated_on_videos(tmp_path, capsys):
    options = ["--data", f"stream:{shipped_clips()['carphone']}", "--clips", "1", "--evaluation-clips", "1"]
    options += ["--set", "task_options.live=false", "--set", "task_options.length=9", "--set", "task_options.size=16"]
    assert main(["train", "stream-predictor-skip", *options, "--runs", str(tmp_path), "--name", "live"]) == 0
    assert main(["evaluate", str(tmp_path / "live")]) == 2
    assert "of which nothing is held out: --data folder:DIR" in capsys.readouterr().err
    (tmp_path / "test" / "any").mkdir(parents=True)
    (tmp_path / "test" / "any" / "film.mp4").symlink_to(shipped_clips()["carphone"])
    assert main(["evaluate", str(tmp_path / "live"), "--data", f"folder:{tmp_path}"]) == 0
    assert "on 1 of 1 held-out clips or videos" in capsys.readouterr().out
