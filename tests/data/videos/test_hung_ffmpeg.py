"""An ffmpeg that hangs is ended, also with the process that started it; one that is missing is a line.

The tests that need another ffmpeg run a process of their own: scikit-video takes its path when it is first used.
"""

import os
import signal
import subprocess
import sys
import time

import imageio_ffmpeg
import pytest
from command_line import refused

from sideways.data.videos.processes import TimedPipe

HANGS_ALWAYS = "exec sleep 1000"
HANGS_WHEN_IT_DECODES = """
case "$*" in *"-loglevel quiet"*) echo $$ > {pid}; exec sleep 1000;; *) exec {ffmpeg} "$@";; esac
"""
PROGRAM = """
import sys
from sideways.commands.main import main
from sideways.data.videos import processes
processes.SILENCE = float(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def with_ffmpeg(tmp_path):
    """A function that starts a command in a process of its own, with a shell script in the place of ffmpeg."""
    started = []

    def start(script, silence, *arguments):
        program = tmp_path / "ffmpeg"
        program.write_text(f"#!/bin/sh\n{script.format(pid=tmp_path / 'pid', ffmpeg=imageio_ffmpeg.get_ffmpeg_exe())}")
        program.chmod(0o755)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(silence), *map(str, arguments)],
            env=os.environ | {"IMAGEIO_FFMPEG_EXE": str(program)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this did not happen in time"
        time.sleep(0.05)


def runs(pid):
    """Whether a process exists and has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_video_on_which_ffmpeg_hangs_is_unreadable_and_the_check_goes_on(with_ffmpeg, folder, tmp_path):
    kept = {folder / split / "a" / "0.avi" for split in ("train", "test")}
    for path in set(folder.rglob("*.avi")) - kept:
        path.unlink()
    check = with_ffmpeg(HANGS_WHEN_IT_DECODES, 3, "data", "check", f"folder:{folder}", "--processes", 2)
    out, errors = check.communicate(timeout=200)
    assert check.returncode == 0, errors
    assert out.count("ffmpeg has sent nothing for 3 s, and was ended") == 2
    assert not runs(int((tmp_path / "pid").read_text()))


def test_ffmpeg_ends_with_the_process_that_started_it(with_ffmpeg, folder, tmp_path):
    check = with_ffmpeg(HANGS_WHEN_IT_DECODES, 1000, "data", "check", f"folder:{folder}", "--processes", 1)
    pid = tmp_path / "pid"
    wait_for(lambda: pid.exists() and pid.read_text().strip(), 200)
    assert runs(int(pid.read_text()))
    check.send_signal(signal.SIGKILL)
    check.wait()
    wait_for(lambda: not runs(int(pid.read_text())), 20)


def test_an_ffmpeg_that_never_answers_is_a_line(with_ffmpeg, folder):
    check = with_ffmpeg(HANGS_ALWAYS, 0.5, "data", "check", f"folder:{folder}")
    out, errors = check.communicate(timeout=200)
    refused((check.returncode, out, errors), "ffmpeg does not work as ffmpeg: ")


@pytest.mark.parametrize("arguments", [("data", "check"), ("train", "videos-small-skip", "--data")], ids=" ".join)
def test_a_missing_ffmpeg_is_a_line_that_says_what_to_install(command, folder, monkeypatch, arguments):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    words = "IMAGEIO_FFMPEG_EXE names /nowhere/ffmpeg, which is no program: pip install imageio-ffmpeg, or install"
    refused(command(*arguments, f"folder:{folder}"), words)


def test_where_imageio_ffmpeg_finds_no_program_a_line_says_what_to_install(command, folder, monkeypatch):
    def nothing():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", nothing)
    refused(command("data", "check", f"folder:{folder}"), "videos need the program ffmpeg, and there is none: pip ")


def test_a_timed_pipe_gives_all_bytes_then_the_rest_and_gives_up_after_a_silence():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as output:
        pipe = TimedPipe(output, 0.2)
        os.write(writing, b"abcde")
        assert pipe.read(3) == b"abc"
        with pytest.raises(TimeoutError, match=r"ffmpeg has sent nothing for 0\.2 s"):
            pipe.read(3)
        os.write(writing, b"f")
        os.close(writing)
        assert pipe.read(3) == b"f"
        assert pipe.read(3) == b""
