"""Videos over three ranks: a run equals the run in one process, to the last bit; and a live stream."""

import json

import pytest

from sideways.commands.main import main
from sideways.data import shipped_clips
from sideways.data.videos.datasets import open_set
from sideways.data.videos.make import make
from tests.mpi.jobs import UNDRAWN, parameters, run, same

pytestmark = pytest.mark.xdist_group("ranks")  # one job at a time: ranks wait by spinning


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """A small UCF101 with a broken training file and a broken test file."""
    out = tmp_path_factory.mktemp("sets") / "ucf"
    make("ucf101", out, groups=3, each=1)
    for videos in (open_set(f"ucf101:{out}").train, open_set(f"ucf101:{out}").test):
        videos[1].path.write_bytes(b"")
    return out


@pytest.mark.parametrize("recipe", ["videos-small-skip", "videos-predictor-skip", "videos-predictor-gated"])
def test_a_run_on_videos_over_three_ranks_is_the_run_in_one_process(data_set, tmp_path, recipe):
    options = [recipe, "--data", f"ucf101:{data_set}", "--clips", "2", "--batch", "4", "--runs", str(tmp_path)]
    options += ["--set", "task_options.length=16", "--set", "model_options.width=4", "--evaluate-every", "1"]
    assert main(["train", *options, "--workers", "0", "--name", "alone"]) == 0
    code, _, errors = run(3, "-m", "sideways.mpi", *options, "--workers", "2", "--name", "ranks")
    assert code == 0, errors
    assert same(parameters(tmp_path / "alone"), parameters(tmp_path / "ranks"))
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("alone", "ranks")]
    assert metrics[0] == metrics[1]
    for name in ("alone", "ranks"):
        report = (tmp_path / name / "report.md").read_text()
        assert "2 could not be used" in report and "the file is empty" in report
    samples = [json.loads((tmp_path / name / "results.json").read_text())["samples"] for name in ("alone", "ranks")]
    assert samples == [3, 3]
    plots = [{path.name for path in (tmp_path / name / "plots").iterdir()} for name in ("alone", "ranks")]
    assert plots[0] == plots[1]


@pytest.mark.usefixtures("undrawn")
def test_replicas_decode_their_own_part_of_each_batch(data_set, tmp_path):
    options = [
        "videos-small-chain",
        "--data",
        f"ucf101:{data_set}",
        "--clips",
        "2",
        "--batch",
        "4",
        "--runs",
        str(tmp_path),
    ]
    options += ["--set", "task_options.length=16", "--set", "model_options={norm = false, width = 4}"]
    assert main(["train", *options, "--name", "alone"]) == 0
    code, _, errors = run(4, UNDRAWN, *options, "--replicas", "2", "--name", "ranks")
    assert code == 0, errors
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("alone", "ranks")]
    assert results[0]["samples"] == results[1]["samples"] == 3
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-5)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("live", [True, False])
def test_ranks_share_one_stream(tmp_path, live):
    options = ["stream-predictor-skip", "--data", f"stream:{shipped_clips()['carphone']}", "--clips", "2"]
    options += [
        "--evaluation-clips",
        "1",
        "--set",
        "task_options.size=16",
        "--set",
        f"task_options.live={str(live).lower()}",
        "--runs",
        str(tmp_path),
    ]
    code, _, errors = run(3, UNDRAWN, *options, "--name", "ranks")
    assert code == 0, errors
    assert "frames taken" in (tmp_path / "ranks" / "report.md").read_text()
    if not live:  # then both see all frames, so that the runs are equal
        assert main(["train", *options, "--name", "alone"]) == 0
        assert same(parameters(tmp_path / "alone"), parameters(tmp_path / "ranks"))
