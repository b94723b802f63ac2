"""Data that lies at another path on each host: the variable SIDEWAYS_DATA."""

from pathlib import Path

import pytest

from sideways.data.places import VARIABLE, located, places
from sideways.data.videos.datasets import open_set
from sideways.errors import InputError


@pytest.mark.parametrize(
    ("value", "path", "expected"),
    [
        ("", "/data/ucf", ["/data/ucf"]),
        ("/data=/scratch", "/data/ucf", ["/scratch/ucf", "/data/ucf"]),
        ("/data=/scratch", "/data", ["/scratch", "/data"]),
        ("/data=/scratch", "/database/ucf", ["/database/ucf"]),  # a folder of another name
        ("/data=/a:/data/ucf=/b:/else=/c", "/data/ucf", ["/a/ucf", "/b", "/data/ucf"]),
        ("videos=/scratch", "videos/ucf", ["/scratch/ucf", "videos/ucf"]),
    ],
)
def test_a_path_is_looked_for_where_the_variable_says_and_then_at_itself(monkeypatch, value, path, expected):
    monkeypatch.setenv(VARIABLE, value)
    assert places(path) == [Path(place) for place in expected]


def test_the_first_place_with_a_file_is_taken_and_without_any_the_path_itself(monkeypatch, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "film").touch()
    monkeypatch.setenv(VARIABLE, f"/films={tmp_path}/a:/films={tmp_path}/b")
    assert located("/films/film") == tmp_path / "b" / "film"
    assert located("/films/gone") == Path("/films/gone")


@pytest.mark.parametrize("value", ["/data", "=/data", "/data=", "/a=/b:/c"])
def test_a_variable_that_is_no_map_is_refused(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(InputError, match="write FROM=TO, such as /data=/scratch/video"):
        places("/data/ucf")


def test_a_data_set_is_read_from_the_place_on_this_host(monkeypatch, tmp_path):
    for part in ("train", "test"):
        (tmp_path / "here" / "set" / part / "waves").mkdir(parents=True)
        (tmp_path / "here" / "set" / part / "waves" / "film.avi").touch()
    monkeypatch.setenv(VARIABLE, f"/nowhere={tmp_path}/here")
    videos = open_set("folder:/nowhere/set")
    assert videos.root == tmp_path / "here" / "set" and not videos.missing
    with pytest.raises(InputError, match=f"there is no folder {tmp_path}/here/gone or /nowhere/gone"):
        open_set("folder:/nowhere/gone")
