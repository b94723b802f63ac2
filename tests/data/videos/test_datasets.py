"""Official lists in all their forms: odd names, line ends, spellings, missing files; and lists that are refused."""

import os

import pytest

from sideways import InputError
from sideways.data.videos.datasets import open_set, splits_of


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
    """UCF101 lists with CRLF, blanks at line ends, empty lines, a byte-order mark, and a class spelt in two ways."""
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
    videos = open_set(f"ucf101:{ucf}", 1)
    assert videos.classes == ("ApplyEyeMakeup", "HandstandPushups")
    assert [(v.label, v.path is not None) for v in videos.train] == [(0, True), (1, True), (0, False)]
    assert [(v.label, v.path.name) for v in videos.test] == [(1, "v_HandStandPushups_g01_c01.avi")]
    assert videos.unlisted == 1
    assert videos.missing == {"ApplyEyeMakeup/v_ApplyEyeMakeup_g09_c01.avi": "no such file"}


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
    ],
)
def test_a_wrong_line_of_ucf101_is_refused_with_its_number(ucf, name, text, words):
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
    (tmp_path / "._wave_test_split1.txt").write_bytes(
        b"\0\5\x16\7"
    )  # macOS leaves a file like this one beside every file
    videos = open_set(f"hmdb51:{tmp_path}")
    assert videos.classes == ("brush_hair", "wave")
    assert labels(videos.train) == [(f"brush_hair/{ODD}", 0, True), ("wave/w1.avi", 1, True)]
    assert labels(videos.test) == [
        ("brush_hair/second one.avi", 0, True),
        ("wave/w2.avi", 1, True),
        ("wave/w3.avi", 1, False),
    ]
    assert videos.unlisted == 0  # a video that the list says to leave out is listed, too
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
    videos = open_set(f"kinetics600:{tmp_path}")
    assert videos.classes == ("air drumming", LABEL)
    assert labels(videos.train) == [(f"{LABEL}/{clips[0][2]}", 1, True), (f"air drumming/{clips[1][2]}", 0, True)]
    assert [video.path is not None for video in videos.test] == [True, False]


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
    videos = open_set(f"folder:{tmp_path}")
    assert videos.classes == ("a", "b")
    assert [(video.name, video.label) for video in (*videos.train, *videos.test)] == [
        ("train/a/1.mp4", 0),
        ("train/b/2.AVI", 1),
        ("test/b/3.mov", 1),
    ]
    touch(tmp_path / "test" / "c" / "5.mp4")
    with pytest.raises(InputError, match="class 'c' is not in train/"):
        open_set(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("data", "split", "words"),
    [
        ("ucf101", 1, "write KIND:FOLDER, with one of ucf101, hmdb51, kinetics600, folder"),
        ("imagenet:{here}", 1, "write KIND:FOLDER"),
        ("ucf101:{here}/gone", 1, "there is no folder"),
        ("ucf101:{here}", 4, r"there is no split 4; choose 1 … 3"),
        ("ucf101:{here}", 1, "the lists of UCF101 are not there; looked for classInd.txt in"),
        ("hmdb51:{here}", 1, r"the split files of HMDB51 are not there; looked for \*_test_split1.txt"),
        ("kinetics600:{here}", 1, "no train.csv or val.csv with labels"),
        ("folder:{here}", 1, "there is neither"),
    ],
)
def test_missing_folders_and_lists_are_refused_with_a_list_of_where_they_were_looked_for(tmp_path, data, split, words):
    with pytest.raises(InputError, match=words):
        open_set(data.format(here=tmp_path), split)


def test_a_folder_without_classes_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="train: looked for a folder of videos for each class; there is none"):
        open_set(f"folder:{tmp_path}")


def test_the_numbers_of_splits():
    assert [len(splits_of(f"{kind}:x")) for kind in ("ucf101", "hmdb51", "kinetics600", "folder")] == [3, 3, 1, 1]


def test_a_part_without_a_video_is_refused_only_by_code_that_needs_one(ucf):
    write(ucf / "ucfTrainTestlist" / "testlist01.txt", "ApplyEyeMakeup/v_gone.avi\n")
    videos = open_set(f"ucf101:{ucf}")
    videos.require("train", "train")
    with pytest.raises(
        InputError, match=r"nothing usable to evaluate on: none of 1 listed videos is there, such as Apply"
    ):
        videos.require("test", "evaluate")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_folder_or_lists_of_one_part_alone_are_read(tmp_path, part):
    touch(tmp_path / "folder" / part / "a" / "1.mp4")
    videos = open_set(f"folder:{tmp_path / 'folder'}")
    assert videos.classes == ("a",) and labels((*videos.train, *videos.test)) == [(f"{part}/a/1.mp4", 0, True)]
    name = {"train": "train", "test": "val"}[part]
    write(tmp_path / "k" / f"{name}.csv", f"label,youtube_id,time_start,time_end,split\na,x,0,10,{name}\n")
    touch(tmp_path / "k" / "x_000000_000010.mp4")
    videos = open_set(f"kinetics600:{tmp_path / 'k'}")
    assert videos.classes == ("a",) and labels((*videos.train, *videos.test)) == [("a/x_000000_000010", 0, True)]


def test_the_test_list_of_kinetics600_is_a_part_of_its_own(tmp_path):
    head = "label,youtube_id,time_start,time_end,split\n"
    for part, rows in (
        ("train", "a,t,0,10,train\n"),
        ("val", "a,v,0,10,val\n"),
        ("test", "a,x,0,10,\n,y,0,10,\nb,z,0,10,\n"),
    ):
        write(tmp_path / f"{part}.csv", head + rows)
    for clip in "tvxy":
        touch(tmp_path / f"{clip}_000000_000010.mp4")
    videos = open_set(f"kinetics600:{tmp_path}")
    assert videos.classes == ("a",) and len(videos.train) == len(videos.test) == 1 and videos.unlisted == 0
    assert labels(videos.spare) == [
        ("a/x_000000_000010", 0, True),
        ("test/y_000000_000010", -1, True),
        ("b/z_000000_000010", -1, False),
    ]


def test_links_to_folders_are_followed_and_links_that_lead_back_are_not(ucf, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (ucf / "UCF-101" / "HandStandPushups").rename(elsewhere / "H")
    (ucf / "UCF-101" / "HandStandPushups").symlink_to(elsewhere / "H")
    (elsewhere / "H" / "back").symlink_to(ucf / "UCF-101")
    (ucf / "UCF-101" / "same").symlink_to(".")
    videos = open_set(f"ucf101:{ucf}")
    assert [video.path is not None for video in (*videos.train, *videos.test)] == [True, True, False, True]


def test_a_folder_that_cannot_be_read_is_named(ucf, tmp_path, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if str(path).endswith(("ApplyEyeMakeup", "train/b")):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    videos = open_set(f"ucf101:{ucf}")
    assert videos.missing[str(ucf / "UCF-101" / "ApplyEyeMakeup")] == "cannot be read (Permission denied)"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_lists_in_other_encodings_are_read_and_names_can_always_be_printed(tmp_path, encoding):
    head = "label,youtube_id,time_start,time_end,split\n"
    for part in ("train", "val"):
        (tmp_path / f"{part}.csv").write_bytes(f"{head}caf\xe9,{part[0]},0,10,{part}\n".encode(encoding))
        touch(tmp_path / f"{part[0]}_000000_000010.mp4")
    videos = open_set(f"kinetics600:{tmp_path}")
    assert videos.classes == ("caf\\xe9" if encoding == "latin-1" else "caf\xe9",)
    videos.classes[0].encode(), videos.train[0].name.encode()  # bytes that are not UTF-8 are written like \xe9


def test_file_names_that_are_not_utf_8_are_found_and_can_be_printed(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    for part in ("train", "test"):
        touch(tmp_path / "folder" / part / name / f"{name}.mp4")
    videos = open_set(f"folder:{tmp_path / 'folder'}")
    assert videos.classes == ("caf\\xe9",) and videos.train[0].path.is_file()
    assert videos.train[0].name == "train/caf\\xe9/caf\\xe9.mp4"
    write(tmp_path / "h" / "a_test_split1.txt", b"caf\xe9.avi 1\nx.avi 2\n")
    touch(tmp_path / "h" / "a" / f"{name}.avi")
    assert labels(open_set(f"hmdb51:{tmp_path / 'h'}").train) == [("a/caf\\xe9.avi", 0, True)]


@pytest.mark.parametrize("name", ["train.csv", "classInd.txt"])
def test_a_folder_in_place_of_a_list_is_refused_in_a_line(tmp_path, name):
    (tmp_path / name).mkdir()
    kind = "kinetics600" if name == "train.csv" else "ucf101"
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(Is a directory\)"):
        open_set(f"{kind}:{tmp_path}")


def test_the_fingerprint_changes_with_names_classes_and_files(ucf):
    before = open_set(f"ucf101:{ucf}").fingerprint
    assert open_set(f"ucf101:{ucf}").fingerprint == before
    touch(ucf / "UCF-101" / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g09_c01.avi")
    now = open_set(f"ucf101:{ucf}").fingerprint
    assert now != before
    write(ucf / "ucfTrainTestlist" / "testlist01.txt", "HandstandPushups/v_HandstandPushups_g01_c02.avi\n")
    assert open_set(f"ucf101:{ucf}").fingerprint not in (before, now)
