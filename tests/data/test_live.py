"""Live streams: every frame has the frame `horizon` later as its target, and dropped frames are counted."""

import contextlib
import os
import re
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from sideways import InputError
from sideways.commands.main import main
from sideways.data import LiveStream, write_video
from sideways.training.checkpoint import find, listed
from tests.data.conftest import LOSSLESS

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def film(tmp_path):
    """A film of 30 frames of 16×24 at 60 per second; frame t has the brightness 8 t."""
    frames = np.broadcast_to(8 * np.arange(30, dtype=np.uint8)[:, None, None, None], (30, 16, 24, 3))
    write_video(tmp_path / "film.avi", np.ascontiguousarray(frames), fps=60, **LOSSLESS)
    return tmp_path / "film.avi"


@pytest.fixture
def open_stream(film):
    """A function that makes a stream of the film, in frames of 8×8 pixels; the stream ends with the test."""
    with contextlib.ExitStack() as streams:
        yield lambda **options: streams.enter_context(
            contextlib.closing(LiveStream(data=f"stream:{film}", size=8, **options))
        )


def shown(frame, stream):
    """The number t of a frame of the film, from its brightness."""
    return round(float((np.asarray(frame).mean() * stream.deviation + stream.mean) * 255 / 8))


@pytest.mark.parametrize("horizon", [1, 3])
def test_each_frame_has_the_one_some_ticks_later_as_its_target_across_clips_and_the_end_of_the_file(
    open_stream, horizon
):
    stream = open_stream(horizon=horizon, length=7, live=False)
    pairs = []
    for index in range(6):
        clip = stream.clip("train", index, 1)
        pairs += [(shown(f, stream), shown(t, stream)) for f, t in zip(clip.frames, clip.targets, strict=True)]
        assert clip.frames[0].shape == (1, 8, 8, 3) and clip.frames[0].dtype == np.float32
    assert pairs == [(n % 30, (n + horizon) % 30) for n in range(42)]
    assert (stream.taken, stream.dropped) == (42 + horizon, 0)


def test_frames_that_come_while_the_learner_is_busy_are_counted_as_dropped_and_the_newest_wait(open_stream):
    stream = open_stream(horizon=1, length=3)
    start = time.monotonic()
    first = [shown(frame, stream) for frame in stream.clip("train", 0, 1).frames]
    time.sleep(0.5)  # 30 frames at 60 per second
    second = [shown(frame, stream) for frame in stream.clip("train", 1, 1).frames]
    came = (time.monotonic() - start) * 60
    assert first == [0, 1, 2] and second[0] == 3
    assert 10 <= stream.dropped <= came
    assert stream.taken + stream.dropped <= came + 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "stream:/dev/no-camera"], "no such device"),
        (["--data", "stream:none.mp4"], "no such file"),
        (["--data", "stream:"], "a stream is named"),
        (["--data", "stream:{film}", "--batch", "2"], "one sample"),
        (["--data", "stream:{film}", "--boundary", "flush"], "--boundary stream"),
        (["--data", "stream:{film}", "--horizon", "0"], "horizon"),
    ],
)
def test_options_that_make_no_stream_are_refused_in_one_line_and_nothing_is_written(
    film, tmp_path, capsys, options, words
):
    options = [option.format(film=film) for option in options]
    assert main(["train", "stream-predictor-skip", *options, "--runs", str(tmp_path / "runs")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_run_reports_the_frames_it_took_and_dropped(film, tmp_path, capsys):
    options = ["--data", f"stream:{film}", "--clips", "3", "--evaluation-clips", "1", "--runs", str(tmp_path)]
    options += ["--set", "task_options.length=16", "--set", "task_options.size=16", "--name", "live"]
    assert main(["train", "stream-predictor-skip", *options]) == 0
    report = (tmp_path / "live" / "report.md").read_text()
    assert "frames taken" in report and "dropped (they came while the learner was busy)" in report
    assert "| repeat | 0 |" in report


@pytest.mark.parametrize("live", [True, False])
def test_a_stream_that_nobody_reads_any_more_leaves_no_process_and_no_thread(film, live):
    before = children()
    task = LiveStream(data=f"stream:{film}", horizon=1, size=8, length=3, live=live)
    with contextlib.closing(task):
        task.open()
        assert task.clip("train", 0, 1).frames[0].shape == (1, 8, 8, 3)
        ffmpeg = children() - before
        assert len(ffmpeg) == 1
    assert task.thread is None or not task.thread.is_alive()
    deadline = time.monotonic() + 20
    while ffmpeg & children():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children():
    """The ids of this process's child processes that still run."""
    running = set()
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread or process may end while this loop runs
            for pid in (task / "children").read_text().split():
                if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                    running.add(pid)
    return running


def test_a_stream_that_sends_nothing_ends_with_a_line(open_stream, monkeypatch):
    monkeypatch.setattr("sideways.data.live.LONGEST_SILENCE", 0.2)
    stream = open_stream(horizon=1, length=3)
    monkeypatch.setattr(LiveStream, "_decode", lambda self: (frame for frame in ()))
    with pytest.raises(InputError, match=r"has ended, or sent nothing for 0\.2 s"):
        stream.next_frame()


# Streams that are stopped and resumed, and streams that end

FILE = ["--set", "task_options.length=16", "--set", "task_options.size=16", "--set", "task_options.live=false"]
FILE += ["--clips", "5", "--evaluation-clips", "1", "--evaluate-every", "2", "--checkpoint-every", "7"]
FILE += ["--cosine-every", "3", "--set", "keep_checkpoints=100"]


def parameters(run):
    with np.load(run / "parameters.npz") as arrays:
        return {key: array.tobytes() for key, array in arrays.items()}


def test_a_run_on_a_file_as_a_stream_ends_with_the_same_bits_from_whichever_checkpoint_it_is_resumed(film, tmp_path):
    options = ["stream-predictor-skip", "--data", f"stream:{film}", *FILE, "--runs", str(tmp_path)]
    assert main(["train", *options, "--name", "whole"]) == 0
    expected = parameters(tmp_path / "whole"), (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    counts = re.search(r"\d+ frames taken, \d+ dropped", (tmp_path / "whole" / "report.md").read_text())[0]
    checkpoints = listed(tmp_path / "whole")
    assert len(checkpoints) == 12  # 80 ticks
    for checkpoint in checkpoints[::2]:
        assert main(["train", "--resume", str(checkpoint)]) == 0
        assert (parameters(tmp_path / "whole"), (tmp_path / "whole" / "metrics.jsonl").read_bytes()) == expected
        assert counts in (tmp_path / "whole" / "report.md").read_text()


def test_the_counters_of_a_live_stream_survive_a_resume(open_stream):
    stream = open_stream(horizon=1, length=3)
    stream.resume(6, 2, {"taken": 9, "dropped": 4})
    frame = stream.clip("train", 2, 1).frames[2]
    assert shown(frame, stream) == 0  # the stream is a new one, and this is its first frame
    assert (stream.taken, stream.given) == (11, 9) and stream.dropped >= 4
    assert stream.counters() == {"taken": 11, "dropped": stream.dropped}


@pytest.mark.parametrize("frames", [40, 75])
def test_the_end_of_a_stream_in_training_ends_the_run_with_its_report(film, tmp_path, capsys, monkeypatch, frames):
    decode = LiveStream._decode
    monkeypatch.setattr(LiveStream, "_decode", lambda self: (x for x in islice(decode(self), frames)))
    options = ["stream-predictor-skip", "--data", f"stream:{film}", *FILE, "--runs", str(tmp_path), "--name", "run"]
    assert main(["train", *options, "--evaluate-every", "0"]) == 0
    printed = capsys.readouterr()
    assert f"the stream has ended, or sent nothing for 30 s: training is over after {frames - 2} ticks" in printed.err
    assert "nothing to evaluate on" in printed.out
    report = (tmp_path / "run" / "report.md").read_text()
    assert f"{frames} frames taken" in report and "| held-out loss | there was nothing to evaluate on |" in report
    assert find(tmp_path / "run").name == f"step-{frames - 2:08d}"
    monkeypatch.undo()
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0  # with the whole stream this time
    assert find(tmp_path / "run").name == "step-00000080"


@pytest.mark.parametrize("data", ["/dev/null", "{notes}"])
def test_if_ffmpeg_fails_its_own_reason_is_printed_at_once_and_nothing_is_written(tmp_path, capsys, data):
    (tmp_path / "film.mp4").write_bytes(b"\0" * 5000)
    start = time.monotonic()
    options = ["--data", f"stream:{data.format(notes=tmp_path / 'film.mp4')}", "--runs", str(tmp_path / "runs")]
    assert main(["train", "stream-predictor-skip", *options]) == 2
    error = capsys.readouterr().err
    assert "ffmpeg" in error and len(error.splitlines()) == 1 and "sent nothing" not in error
    assert time.monotonic() - start < 15 and not (tmp_path / "runs").exists()
