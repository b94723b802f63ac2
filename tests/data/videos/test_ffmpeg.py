"""Video files: every frame with the right pixels, when it is asked for; and files that are no videos."""

import subprocess
import tracemalloc

import imageio_ffmpeg
import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sideways import InputError
from sideways.data import probe, read_frames, shipped_clips, write_video
from sideways.data.videos import processes

LUMA = numpy.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def all_frames(path, **options):
    return numpy.stack(list(read_frames(path, **options)))


def ffmpeg(*arguments):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(("height", "width", "fps"), [(48, 64, 25), (33, 47, 12.5), (17, 16, 30), (64, 31, 7)])
def test_a_lossless_file_gives_back_every_pixel_of_every_frame(lossless, noise, height, width, fps):
    frames = noise(11, height, width)
    path = lossless(frames, fps=fps)
    info = probe(path)
    assert (info.height, info.width, info.fps, info.frames) == (height, width, fps, 11)
    assert info.duration == pytest.approx(11 / fps, abs=0.01)
    numpy.testing.assert_array_equal(all_frames(path), frames)


@pytest.mark.parametrize(
    ("name", "options"), [("a.mp4", {}), ("a.avi", {"codec": "mpeg4"}), ("a.webm", {"codec": "libvpx-vp9"})]
)
def test_usual_formats_keep_the_frames_in_order_and_close_to_what_was_written(tmp_path, name, options):
    t, y, x = numpy.ogrid[:20, :48, :64]
    waves = numpy.sin(x / 10 - t / 2) + numpy.sin(y / 8 + t / 3)
    frames = numpy.stack([127 + 60 * waves, 127 - 60 * waves, 127 + 30 * waves], axis=-1).astype(numpy.uint8)
    write_video(tmp_path / name, frames, fps=20, **options)
    read = all_frames(tmp_path / name)
    assert read.shape == frames.shape
    distance = numpy.abs(read[:, None].astype(float) - frames[None]).mean(axis=(2, 3, 4))  # read × written
    assert distance.argmin(axis=1).tolist() == list(range(20))
    assert distance.diagonal().max() < 10  # neighbours differ by 18


@pytest.mark.parametrize(
    "name", ["two words.avi", "#1.avi", "100%d.avi", "-y.avi", "a:b.avi", "pipe:1.avi", "it's&(1);!.avi", "日本é.avi"]
)
def test_any_file_name_is_only_a_name(tmp_path, monkeypatch, lossless, noise, name):
    monkeypatch.chdir(tmp_path)
    frames = noise(3, 16, 16)
    write_video(name, frames, codec="ffv1", pix_fmt_out="bgr0")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    numpy.testing.assert_array_equal(all_frames(name), frames)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stride=st.integers(1, 6), start=st.integers(0, 19), count=st.none() | st.integers(1, 25))
def test_stride_start_and_count_are_a_slice(lossless, noise, stride, start, count):
    frames = noise(20, 16, 24)
    numpy.testing.assert_array_equal(
        all_frames(lossless(frames), stride=stride, start=start, count=count), frames[start::stride][:count]
    )


@pytest.mark.parametrize(
    ("size", "expected"), [(16, (16, 22)), (66, (66, 90)), ((10, 50), (10, 50)), (None, (33, 45)), (1, (1, 1))]
)
def test_a_whole_number_is_the_shorter_side_and_a_pair_is_height_and_width(lossless, size, expected):
    frames = numpy.zeros((3, 33, 45, 3), numpy.uint8)
    frames[:, :, 23:, 0] = 200  # the right half is red
    read = all_frames(lossless(frames), size=size)
    assert read.shape == (3, *expected, 3)
    if expected[1] > 8:
        assert read[:, :, : expected[1] // 3].max() <= 12
        numpy.testing.assert_allclose(read[:, :, -expected[1] // 3 :, 0], 200, atol=12)


def test_the_shorter_side_of_a_film_higher_than_wide_is_its_width(lossless, noise):
    assert all_frames(lossless(noise(2, 60, 30)), size=10).shape == (2, 20, 10, 3)


def test_grey_is_the_luma_of_the_colours(lossless, noise):
    frames = noise(5, 32, 32)
    grey = all_frames(lossless(frames), grey=True)
    assert grey.shape == (5, 32, 32, 1)
    assert grey.dtype == numpy.uint8
    numpy.testing.assert_allclose(grey[..., 0], frames @ LUMA, atol=1.5)


def test_a_grey_file_has_three_equal_colours(tmp_path):
    ramp = numpy.tile(numpy.arange(0, 256, 8, dtype=numpy.uint8), (4, 32, 1))
    write_video(tmp_path / "grey.avi", ramp, pix_fmt_in="gray", codec="ffv1", pix_fmt_out="gray")
    assert all_frames(tmp_path / "grey.avi").shape == (4, 32, 32, 3)
    numpy.testing.assert_allclose(all_frames(tmp_path / "grey.avi"), ramp[..., None].repeat(3, -1), atol=1)
    numpy.testing.assert_array_equal(all_frames(tmp_path / "grey.avi", grey=True)[..., 0], ramp)


# Streaming


@pytest.fixture
def decoders(monkeypatch):
    """A list to which every decoder that `read_frames` starts is added."""
    started, start = [], processes.start

    def recorded(*arguments, **options):
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(processes, "start", recorded)
    return started


@pytest.fixture(scope="module")
def long_film(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.avi"
    frames = (numpy.full((120, 160, 3), t % 256, numpy.uint8) for t in range(600))
    write_video(path, frames, codec="ffv1", pix_fmt_out="bgr0")
    return path


def test_the_first_frame_comes_while_the_decoder_still_has_most_of_the_film_to_do(long_film, decoders):
    frames = read_frames(long_film)
    assert not decoders  # nothing happens before the first frame is asked for
    assert next(frames).tolist() == numpy.zeros((120, 160, 3)).tolist()
    assert decoders[0].poll() is None
    frames.close()


@pytest.mark.parametrize("ending", ["close", "drop", "error", "end"])
def test_no_decoder_is_left_however_the_reading_ends(long_film, decoders, ending):
    frames = read_frames(long_film, count=50)
    next(frames)
    if ending == "close":
        frames.close()
    elif ending == "drop":
        del frames
    elif ending == "error":
        with pytest.raises(KeyboardInterrupt):
            frames.throw(KeyboardInterrupt)
    else:
        assert sum(1 for _ in frames) == 49
    assert len(decoders) == 1
    assert decoders[0].returncode is not None  # ended and waited for, so no zombie is left
    assert ending == "end" or decoders[0].returncode != 0  # killed before it has decoded the rest
    assert all(pipe is None or pipe.closed for pipe in (decoders[0].stdin, decoders[0].stdout, decoders[0].stderr))


def test_reading_a_film_to_its_end_keeps_no_more_than_a_few_frames(long_film):
    tracemalloc.start()
    try:
        last = None
        for t, frame in enumerate(read_frames(long_film)):
            last = (t, int(frame[0, 0, 0]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert last == (599, 599 % 256)
    assert peak < 8 * 120 * 160 * 3


# Real files


@pytest.mark.parametrize(
    ("name", "frames", "height", "width", "fps"),
    [("bigbuckbunny", 132, 720, 1280, 25), ("bikes", 250, 272, 640, 25), ("carphone", 120, 144, 176, 29.97)],
)
def test_the_shipped_clips_are_read_whole(name, frames, height, width, fps):
    path = shipped_clips()[name]
    info = probe(path)
    assert (info.height, info.width, info.fps) == (height, width, fps)
    assert abs(info.frames - frames) <= 1  # a guess, from the duration
    first = next(read_frames(path))
    assert first.shape == (height, width, 3)
    small = all_frames(path, size=36, grey=True)
    assert small.shape == (frames, 36, round(36 * width / height), 1)
    assert small.std(axis=(1, 2, 3)).max() > 20  # there is something to see


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_a_film_with_a_rotation_tag_is_shown_upright(tmp_path, capfd, noise, degrees, turns):
    write_video(tmp_path / "lying.mp4", noise(4, 48, 64))
    ffmpeg("-display_rotation", degrees, "-i", tmp_path / "lying.mp4", "-c", "copy", tmp_path / "tagged.mp4")
    upright = numpy.rot90(all_frames(tmp_path / "lying.mp4"), turns, axes=(1, 2))
    info = probe(tmp_path / "tagged.mp4")
    assert (info.height, info.width) == upright.shape[1:3]
    numpy.testing.assert_array_equal(all_frames(tmp_path / "tagged.mp4"), upright)
    assert capfd.readouterr().err == ""


# Files that are no videos


@pytest.fixture
def broken(tmp_path, noise):
    """A function that writes a file of this kind, which is no video, and returns its path."""

    def make(kind):
        path = tmp_path / f"{kind}.mp4"
        if kind == "truncated":
            write_video(tmp_path / "whole.mp4", noise(20, 48, 64))
            path.write_bytes((tmp_path / "whole.mp4").read_bytes()[:5000])
        elif kind == "header":
            path = tmp_path / "header.avi"
            write_video(tmp_path / "whole.avi", noise(20, 48, 64), codec="ffv1", pix_fmt_out="bgr0")
            path.write_bytes((tmp_path / "whole.avi").read_bytes()[:6000])
        elif kind == "garbage":
            path.write_bytes(numpy.random.default_rng(0).bytes(20_000))
        elif kind == "text":
            path = tmp_path / "notes.txt"
            path.write_text("All work and no play.\n" * 50)
        elif kind == "text.mp4":
            path.write_text("All work and no play.\n" * 50)
        elif kind == "sound":
            ffmpeg("-f", "lavfi", "-i", "sine=duration=0.5", path)
        elif kind == "empty":
            path.touch()
        elif kind == "folder":
            path.mkdir()
        return path

    return make


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "the file is empty"),
        ("truncated", "ffmpeg finds no video"),
        ("garbage", "ffmpeg finds no video"),
        ("text", "ffmpeg finds no video"),
        ("text.mp4", "ffmpeg finds no video"),
        ("sound", "ffmpeg finds no video"),
        ("folder", "is a folder"),
        ("missing", "no such file"),
        ("header", "no frame could be decoded"),
    ],
)
def test_a_file_that_is_no_video_is_refused_in_one_line_that_names_the_file(broken, kind, words):
    path = broken(kind)
    with pytest.raises(InputError) as refusal:
        next(read_frames(path))
    assert str(refusal.value).startswith(f"{path}: ")
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_start_beyond_the_end_is_refused(lossless, noise):
    path = lossless(noise(5, 16, 16))
    with pytest.raises(InputError, match=r"no frame could be decoded from frame 5 on \(the header says 5 frames\)"):
        next(read_frames(path, start=5))


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"start": -1}, {"count": 0}, {"size": 0}, {"size": (0, 4)}])
def test_options_that_ask_for_nothing_are_refused(lossless, noise, wrong):
    with pytest.raises(InputError, match=r"stride ≥ 1|at least one pixel"):
        next(read_frames(lossless(noise(2, 16, 16)), **wrong))
