"""The official lists as they are: odd names, line ends, spellings, missing files; and what is refused."""

import pytest

from sideways import InputError
from sideways.data.datasets import open_set, splits_of


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def labels(videos):
    return [(video.name, video.label, video.path is not None) for video in videos]


@pytest.fixture
def ucf(tmp_path):
    """Lists with CRLF, blanks at the ends, empty lines and a byte-order mark; the class that is spelt in two ways."""
    lists = tmp_path / "ucfTrainTestlist"
    write(lists / "classInd.txt", b"\xef\xbb\xbf1 ApplyEyeMakeup\r\n2 HandstandPushups \r\n\r\n")
    write(
        lists / "trainlist01.txt",
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g08_c01.avi 2 \r\n"
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g09_c01.avi 1\r\n",
    )
    write(lists / "testlist01.txt", "HandstandPushups/v_HandstandPushups_g01_c01.avi\n\n")
    for name in ("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01", "HandStandPushups/v_HandStandPushups_g08_c01"):
        touch(tmp_path / "UCF-101" / f"{name}.avi")
    touch(tmp_path / "UCF-101" / "HandStandPushups" / "v_HandStandPushups_g01_c01.avi")
    touch(tmp_path / "UCF-101" / "ApplyEyeMakeup" / "not_listed.avi")
    touch(tmp_path / "UCF-101" / "ApplyEyeMakeup" / ".hidden.avi")
    return tmp_path


def test_ucf101_is_found_whatever_the_line_ends_and_the_spelling_of_handstand_pushups(ucf):
    found = open_set(f"ucf101:{ucf}", 1)
    assert found.classes == ("ApplyEyeMakeup", "HandstandPushups")
    assert [(v.label, v.path is not None) for v in found.train] == [(0, True), (1, True), (0, False)]
    assert [(v.label, v.path.name) for v in found.test] == [(1, "v_HandStandPushups_g01_c01.avi")]
    assert found.unlisted == 1
    assert found.missing == {"ApplyEyeMakeup/v_ApplyEyeMakeup_g09_c01.avi": "no such file"}


def test_ucf101_with_lists_and_classes_in_one_folder(ucf):
    for path in [*(ucf / "UCF-101").iterdir(), *(ucf / "ucfTrainTestlist").iterdir()]:
        path.rename(ucf / path.name)
    (ucf / "UCF-101").rmdir()
    (ucf / "ucfTrainTestlist").rmdir()
    assert [video.path is not None for video in open_set(f"ucf101:{ucf}").train] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("classInd.txt", "1 A\n3 B\n", "classInd.txt, line 2: expected '2 ClassName', not '3 B'"),
        ("trainlist01.txt", "ApplyEyeMakeup/v_x.avi 2\n", "trainlist01.txt, line 1: expected"),
        ("trainlist01.txt", "\nNoClass/v_x.avi 1\n", "trainlist01.txt, line 2: expected"),
        ("testlist01.txt", "Apply EyeMakeup\n", "testlist01.txt, line 1: expected"),
        ("testlist01.txt", "ApplyEyeMakeup/v_gone.avi\n", "nothing usable to test on: none of 1 listed videos"),
    ],
)
def test_a_wrong_line_of_ucf101_is_refused_with_its_place(ucf, name, text, words):
    write(ucf / "ucfTrainTestlist" / name, text)
    with pytest.raises(InputError, match=words):
        open_set(f"ucf101:{ucf}")


ODD = "#123_Me&You;_It's_(a)_trap!_brush_hair_f_cm_np1_ba_bad_0.avi"


def test_hmdb51_names_with_odd_characters_and_blanks_at_the_ends(tmp_path):
    write(tmp_path / "brush_hair_test_split1.txt", f"{ODD} 1 \r\nsecond one.avi 2\nunused.avi 0\n")
    write(tmp_path / "wave_test_split1.txt", "w1.avi 1\nw2.avi 2\nw3.avi 2")
    for name in (ODD, "second one.avi", "unused.avi"):
        touch(tmp_path / "hmdb51_org" / "brush_hair" / name)
    for name in ("w1.avi", "W2.AVI"):
        touch(tmp_path / "hmdb51_org" / "wave" / name)
    found = open_set(f"hmdb51:{tmp_path}")
    assert found.classes == ("brush_hair", "wave")
    assert labels(found.train) == [(f"brush_hair/{ODD}", 0, True), ("wave/w1.avi", 1, True)]
    assert labels(found.test) == [
        ("brush_hair/second one.avi", 0, True),
        ("wave/w2.avi", 1, True),
        ("wave/w3.avi", 1, False),
    ]
    assert found.unlisted == 0  # what the list says to leave out is listed
    write(tmp_path / "wave_test_split1.txt", "w1.avi 3\n")
    with pytest.raises(InputError, match=r"wave_test_split1\.txt, line 1: expected"):
        open_set(f"hmdb51:{tmp_path}")


LABEL = 'playing "drums", loud'


@pytest.mark.parametrize(
    "tree", ["{split}/{label}/{clip}.mp4", "{split}/{clip}.webm", "{plain}/{clip}.mkv", "{clip}.AVI"]
)
@pytest.mark.parametrize("csv", ["{}.csv", "kinetics_600_{}.csv", "annotations/{}.csv"])
def test_kinetics600_in_any_tree_with_labels_with_commas_and_quotes(tmp_path, tree, csv):
    quoted = '"playing ""drums"", loud"'
    head = "label,youtube_id,time_start,time_end,split\r\n"
    write(tmp_path / csv.format("train"), f"{head}{quoted},-aB_c-1,3,13,train\r\nair drumming,abc,10.0,20.0,train\r\n")
    write(tmp_path / csv.format("val"), f"{head}air drumming,--x,0,10,val\r\nair drumming,gone,0,10,val\r\n")
    write(tmp_path / csv.format("test"), "youtube_id,time_start,time_end,split\r\nq,0,10,test\r\n")
    clips = [("train", LABEL, "-aB_c-1_000003_000013"), ("train", "air drumming", "abc_000010_000020")]
    clips.append(("val", "air drumming", "--x_000000_000010"))
    for split, label, clip in clips:
        touch(tmp_path / tree.format(split=split, label=label, plain=label.replace(" ", "_"), clip=clip))
    found = open_set(f"kinetics600:{tmp_path}")
    assert found.classes == ("air drumming", LABEL)
    assert labels(found.train) == [(f"{LABEL}/{clips[0][2]}", 1, True), (f"air drumming/{clips[1][2]}", 0, True)]
    assert [video.path is not None for video in found.test] == [True, False]


def test_ids_of_kinetics600_that_differ_by_the_case_of_a_letter_are_two_clips(tmp_path):
    head = "label,youtube_id,time_start,time_end,split\n"
    write(tmp_path / "train.csv", f"{head}juggling,aBc,0,10,train\njuggling,abc,0,10,train\njuggling,ABC,0,10,train\n")
    write(tmp_path / "val.csv", f"{head}juggling,v,0,10,val\n")
    for clip in ("aBc", "abc", "v"):
        touch(tmp_path / "juggling" / f"{clip}_000000_000010.mp4")
    paths = [video.path.stem if video.path else None for video in open_set(f"kinetics600:{tmp_path}").train]
    assert paths == ["aBc_000000_000010", "abc_000000_000010", None]


def test_a_wrong_row_of_kinetics600_is_refused_with_its_line(tmp_path):
    write(tmp_path / "train.csv", "label,youtube_id,time_start,time_end,split\na,b,c,d,train\n")
    write(tmp_path / "val.csv", "label,youtube_id,time_start,time_end,split\n")
    with pytest.raises(InputError, match=r"train.csv, line 2: id or times"):
        open_set(f"kinetics600:{tmp_path}")


def test_a_folder_of_classes(tmp_path):
    for name in ("train/a/1.mp4", "train/b/2.AVI", "train/b/notes.txt", "test/b/3.mov", "test/.x/4.mp4"):
        touch(tmp_path / name)
    found = open_set(f"folder:{tmp_path}")
    assert found.classes == ("a", "b")
    assert [(video.name, video.label) for video in (*found.train, *found.test)] == [
        ("train/a/1.mp4", 0),
        ("train/b/2.AVI", 1),
        ("test/b/3.mov", 1),
    ]
    touch(tmp_path / "test" / "c" / "5.mp4")
    with pytest.raises(InputError, match="class 'c' is not in train/"):
        open_set(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("place", "split", "words"),
    [
        ("ucf101", 1, "write KIND:FOLDER, with one of ucf101, hmdb51, kinetics600, folder"),
        ("imagenet:{here}", 1, "write KIND:FOLDER"),
        ("ucf101:{here}/gone", 1, "there is no folder"),
        ("ucf101:{here}", 4, r"there is no split 4; choose 1 … 3"),
        ("ucf101:{here}", 1, "the lists of UCF101 are not there; looked for classInd.txt in"),
        ("hmdb51:{here}", 1, r"the split files of HMDB51 are not there; looked for \*_test_split1.txt"),
        ("kinetics600:{here}", 1, "no train.csv and val.csv"),
        ("folder:{here}", 1, "there is no train/"),
    ],
)
def test_what_is_not_there_is_refused_with_what_was_looked_for(tmp_path, place, split, words):
    with pytest.raises(InputError, match=words):
        open_set(place.format(here=tmp_path), split)


def test_the_numbers_of_splits():
    assert [len(splits_of(f"{kind}:x")) for kind in ("ucf101", "hmdb51", "kinetics600", "folder")] == [3, 3, 1, 1]
