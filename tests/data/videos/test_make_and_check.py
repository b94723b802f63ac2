"""Small data sets in the layouts of large ones: all files are found again, and broken ones are named."""

import json

import imageio_ffmpeg
import pytest

from sideways.commands.main import main
from sideways.data import probe
from sideways.data.videos.check import check
from sideways.data.videos.datasets import open_set, splits_of
from sideways.data.videos.make import make
from sideways.training.options import FOR_VIDEOS


@pytest.fixture(scope="module", params=["ucf101", "hmdb51", "kinetics600"])
def small(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / request.param
    make(request.param, out, groups=3, each=1)
    return request.param, out


def test_a_made_set_is_read_by_its_official_lists_and_every_file_is_usable(small):
    kind, out = small
    for split in splits_of(f"{kind}:{out}"):
        videos = open_set(f"{kind}:{out}", split)
        assert len(videos.classes) == 4 and not videos.missing and videos.unlisted == 0
        assert len(videos.train) == 8 and len(videos.test) == 4
        assert not {video.path for video in videos.train} & {video.path for video in videos.test}
        assert sorted(video.label for video in videos.test) == [0, 1, 2, 3]


def test_made_videos_have_the_size_and_the_rate_of_the_real_ones(small):
    kind, out = small
    info = probe(open_set(f"{kind}:{out}").train[0].path)
    assert (info.width, info.height, info.duration) == (320, 240, 2.0)
    assert info.fps == {"ucf101": 25, "hmdb51": 30, "kinetics600": 25}[kind]


def test_check_tells_missing_unreadable_and_too_short_files_apart(small, tmp_path, capsys):
    kind, out = small
    train = [video.path for video in open_set(f"{kind}:{out}").train]
    contents = {path: path.read_bytes() for path in train[:4]}
    try:
        train[0].unlink()
        train[1].write_bytes(b"")
        train[2].write_bytes(b"no video at all" * 100)
        frames = imageio_ffmpeg.write_frames(str(train[3]), (320, 240), fps=25, macro_block_size=1)
        frames.send(None)
        for _ in range(10):
            frames.send(bytes(320 * 240 * 3))
        frames.close()
        report = check(f"{kind}:{out}", [1], 40, 25.0, 2)
        (split,) = report["splits"]
        bad = {entry["video"]: (entry["state"], entry["why"]) for entry in split["train"]["bad"]}
        assert sorted(state for state, _ in bad.values()) == ["missing", "too short", "unreadable", "unreadable"]
        assert {why for _, why in bad.values()} == {
            "no such file",
            "the file is empty",
            "ffmpeg finds no video in this file",
            "0.40 s, 40 frames at 25 per second take 1.60 s",
        }
        total = [sum(c[s] for c in split["train"]["classes"].values()) for s in ("usable", "missing", "unreadable")]
        assert total == [4, 1, 2] and split["test"]["bad"] == []
        assert main(["data", "check", f"{kind}:{out}", "--length", "40", "--json", str(tmp_path / "r.json")]) == 0
        output = capsys.readouterr().out
        assert "7 of 8 listed videos are there" in output and "(the file is empty)" in output
        assert json.loads((tmp_path / "r.json").read_text())["splits"][0] == split
    finally:
        for path, content in contents.items():
            path.write_bytes(content)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["data", "make", "ucf101", "{full}"], "exists already and is not empty")],
)
def test_make_does_not_write_into_a_folder_that_is_not_empty(tmp_path, capsys, arguments, words):
    (tmp_path / "file").touch()
    assert main([part.format(full=tmp_path) for part in arguments]) == 2
    assert words in capsys.readouterr().err


def test_check_shows_the_test_list_of_kinetics600_and_demands_nothing(tmp_path, capsys):
    head = "label,youtube_id,time_start,time_end,split\n"
    (tmp_path / "val.csv").write_text(f"{head}juggling,v,0,10,val\n")
    (tmp_path / "test.csv").write_text(f"{head}juggling,x,0,10,test\n,y,0,10,test\n")
    (tmp_path / "y_000000_000010.mp4").write_bytes(b"")
    assert main(["data", "check", f"kinetics600:{tmp_path}"]) == 0
    output = capsys.readouterr().out
    assert "split 1, test.csv" in output and "(no label)" in output and "1 of 2 listed videos are there" in output
    assert "missing: juggling/v_000000_000010" in output and "0 of 0 listed videos are there" in output


def test_the_command_that_makes_a_set_names_the_one_that_trains_on_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sideways.data.videos.make.make", lambda *_: None)
    for what, flipped in (("actions", True), ("motion", False), ("appearance", True)):
        assert main(["data", "make", "ucf101", str(tmp_path), "--what", what]) == 0
        command = capsys.readouterr().out.splitlines()[-1].split()
        assert command[:3] == ["sideways", "train", FOR_VIDEOS] and ("task_options.flip=true" in command) == flipped
