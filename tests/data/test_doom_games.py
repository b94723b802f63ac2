"""The game Doom: no game outlives a run, runs can be resumed, and plans and screens are read rightly."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sideways import InputError
from sideways.data import make_task
from sideways.data.doom.blocks import Maker, Request
from sideways.data.doom.plan import ENTRY, LUMPS, NO_SIDE, Plan
from sideways.data.doom.process import GameProcess
from sideways.data.doom.scene import COLUMNS, LINES, SPEED, Game, Settings, agrees, commands, scaled

pytestmark = pytest.mark.xdist_group("doom")


# Processes that hang, crash or stay


@pytest.mark.parametrize(
    ("module", "patience", "words"),
    [
        ("import time; time.sleep(1000)", 1.0, "ViZDoom has sent nothing for 1 s"),
        ("raise OSError('no screen')", 60.0, "no screen"),
    ],
)
def test_a_game_that_hangs_or_crashes_ends_the_run_with_a_line(tmp_path, monkeypatch, module, patience, words):
    (tmp_path / "vizdoom.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr("sideways.data.doom.process.PATIENCE", patience)
    with closing(Maker(Settings(), 1, None)) as maker, pytest.raises(InputError, match=words):
        maker.block(Request(0, "map12", 0, 1))


def group(leader):
    """The processes of a group that still run."""
    members = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # the process has ended
            continue
        if int(process_group) == leader and state != "Z":
            members.add(stat.parent.name)
    return members


def test_a_closed_task_leaves_no_process_no_shared_memory_and_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process = GameProcess(Settings(length=3, size=16))
    process.block([0, "map12", 0, 1])
    assert len(group(process.process.pid)) == 2  # the worker and its game
    shared = process.shared_memory()
    assert len(shared) == 3 and all(part.exists() for part in shared)
    process.end()
    assert not group(process.process.pid) and not any(part.exists() for part in shared)
    assert not Path(process.folder.name).exists() and not list(tmp_path.iterdir())


def test_a_game_ends_with_the_process_that_started_it():
    program = """
from sideways.data.doom.process import GameProcess
from sideways.data.doom.scene import Settings
process = GameProcess(Settings(length=3, size=16))
process.block([0, "map12", 0, 1])
print(process.process.pid, flush=True)
input()
"""
    starter = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    leader = int(starter.stdout.readline())
    assert len(group(leader)) == 2
    starter.send_signal(signal.SIGKILL)
    starter.communicate()
    deadline = time.monotonic() + 20
    while group(leader):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Runs and streams

QUICK = ["--set", 'task_options.maps=["map12"]', "--set", 'task_options.held_out_maps=["map26"]', "--batch", "4"]
QUICK += ["--set", "task_options.places=2", "--set", "task_options.held_out_places=1", "--set", "task_options.size=8"]
QUICK += ["--set", "task_options.length=9", "--clips", "4"]
STREAM = ["--data", "stream:doom", "--set", "task_options.live=false", "--set", "task_options.size=8", "--clips", "2"]
STREAM += ["--set", "task_options.length=12", "--evaluation-clips", "1"]


def parameters(run):
    with numpy.load(run / "parameters.npz") as arrays:
        return {key: array.tobytes() for key, array in arrays.items()}


@pytest.mark.parametrize(
    ("recipe", "options", "resumed"), [("doom-skip", QUICK, -3), ("stream-predictor-skip", STREAM, -2)]
)
def test_a_resumed_run_ends_with_the_same_bits(command, tmp_path, undrawn, recipe, options, resumed):
    options = [*options, "--checkpoint-every", "7", "--set", "keep_checkpoints=100"]
    assert command("train", recipe, *options, "--name", "run")[0] == 0
    run = tmp_path / "runs" / "run"
    expected = parameters(run), (run / "metrics.jsonl").read_bytes()
    checkpoint = sorted((run / "checkpoints").iterdir())[resumed]
    assert command("train", "--resume", str(checkpoint), "--workers", "0")[0] == 0
    assert (parameters(run), (run / "metrics.jsonl").read_bytes()) == expected


def test_a_stream_of_doom_is_the_same_for_the_same_seed_and_its_targets_come_later():
    clips = []
    for seed in (1, 1, 2):
        stream = make_task("stream", seed, data="stream:doom", horizon=3, size=16, length=10, live=False)
        with closing(stream):
            clip = stream.clip("train", 0, 1)
            pairs = [
                (numpy.asarray(frame), numpy.asarray(target))
                for frame, target in zip(clip.frames, clip.targets, strict=True)
            ]
        clips.append(numpy.array(pairs))
    assert clips[0].shape == (10, 2, 1, 16, 16, 3)
    numpy.testing.assert_array_equal(clips[0], clips[1])
    assert not numpy.array_equal(clips[0], clips[2])
    numpy.testing.assert_array_equal(clips[0][3:, 0], clips[0][:-3, 1])
    assert (numpy.abs(numpy.diff(clips[0][:, 0], axis=0)).mean(axis=(1, 2, 3, 4)) > 0).all()


# Parts


@given(st.integers(0, 6), st.floats(0, 359.9), st.integers(1, 5), st.data())
def test_measured_poses_agree_with_their_own_class_alone(label, heading, tics, data):
    steps = numpy.arange(6)[:, None]
    direction = numpy.exp(1j * numpy.radians(heading)) * ((1, -1, 1j, -1j, 0, 0, 0)[label])
    place = SPEED * tics * steps * direction
    turn = 2 * tics * steps * (0, 0, 0, 0, 1, -1, 0)[label]
    poses = numpy.hstack([place.real, place.imag, 0 * steps, (heading + turn) % 360])
    other = data.draw(st.integers(0, 6).filter(lambda other: other != label))
    assert agrees(poses, label, tics) and not agrees(poses, other, tics)
    t, part = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 1))
    poses[t, part] += 0.3 * SPEED * tics  # a bump
    assert not agrees(poses, label, tics)


def test_the_run_up_brings_a_player_to_the_speed():
    given, way = commands(0.0, SPEED)
    speed = position = 0.0
    for command in given:  # in the units of the game: a command of 32 adds one unit per tic, and 29/32 is kept
        speed = speed * 29 / 32 + command / 32
        position += speed
    assert speed == pytest.approx(SPEED, abs=0.05) and position == pytest.approx(way)


@settings(max_examples=20)
@given(st.integers(1, 120), st.sampled_from([1, 3]), st.integers(0, 2**32))
def test_each_pixel_of_a_scaled_screen_is_the_mean_of_its_area(size, channels, seed):
    screen = numpy.random.default_rng(seed).integers(0, 256, (LINES, COLUMNS, channels), numpy.uint8)
    row, column = seed % size, seed // 7 % size
    middle = screen[:, 20:140]
    fine = numpy.repeat(middle, size, axis=0)[row * LINES : (row + 1) * LINES].mean(axis=0)  # (LINES, channels)
    expected = numpy.repeat(fine, size, axis=0)[column * LINES : (column + 1) * LINES].mean(axis=0)
    given = screen[..., 0] if channels == 1 else screen
    numpy.testing.assert_allclose(scaled(given, size)[row, column], expected, atol=0.51)


def room(path, width, height, pillar):
    """Write a map of one room of this size, with a pillar (x1, y1, x2, y2) in it."""
    x1, y1, x2, y2 = pillar
    corners = [(0, 0), (0, height), (width, height), (width, 0), (x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    tables = {
        name: numpy.zeros(size, LUMPS[name]) for name, size in (("LINEDEFS", 8), ("SIDEDEFS", 8), ("VERTEXES", 8))
    }
    tables["VERTEXES"]["x"], tables["VERTEXES"]["y"] = numpy.array(corners).T
    tables["LINEDEFS"]["start"], tables["LINEDEFS"]["left"] = range(8), NO_SIDE
    tables["LINEDEFS"]["end"], tables["LINEDEFS"]["right"] = (1, 2, 3, 0, 5, 6, 7, 4), range(8)
    tables["SECTORS"] = numpy.zeros(1, LUMPS["SECTORS"])
    tables["SECTORS"]["ceiling"] = 128
    lumps = {"MAP01": b"", "THINGS": b"", **{name: table.tobytes() for name, table in tables.items()}}
    directory, body = numpy.zeros(len(lumps), ENTRY), b""
    for entry, (name, content) in zip(directory, lumps.items(), strict=True):
        entry["position"], entry["bytes"], entry["name"] = 12 + len(body), len(content), name
        body += content
    header = b"PWAD" + numpy.array([len(lumps), 12 + len(body)], "<u4").tobytes()
    path.write_bytes(header + body + directory.tobytes())
    return Plan(path, "map01"), numpy.array(corners, float)


sides = st.integers(100, 900)
parts = st.floats(-0.1, 1.1)


@settings(max_examples=30)
@given(sides, sides, st.integers(10, 40), parts, parts, st.floats(0, 360), st.floats(5, 200))
def test_a_square_is_free_if_no_point_of_a_wall_lies_in_it(tmp_path_factory, width, height, side, x, y, heading, half):
    path = tmp_path_factory.getbasetemp() / "room.wad"
    pillar = (width // 3, height // 3, width // 3 + side, height // 3 + side)
    plan, corners = room(path, width, height, pillar)
    point = numpy.array([x * width, y * height])
    in_room, in_pillar = 0 < x < 1 and 0 < y < 1, (pillar[:2] < point).all() and (point < pillar[2:]).all()
    walls = [numpy.linspace(corners[i], corners[4 * (i // 4) + (i + 1) % 4], 3000) for i in range(8)]
    seen = (numpy.concatenate(walls) - point) @ [1, 1j] * numpy.exp(-1j * numpy.radians(heading))
    if abs(seen).min() > 0.5:
        assert plan.is_inside(point) == (in_room and not in_pillar)
    nearest = numpy.maximum(abs(seen.real), abs(seen.imag)).min()  # half a side of the square that touches a wall
    if abs(nearest - half) > 1:
        assert plan.is_free(point, heading, half) == (nearest > half)
    assert plan.clearance(point[None])[0] == pytest.approx(abs(seen).min(), abs=0.5)


# The walk of a stream


class Corner(Game):
    """A game without ViZDoom, in which the player cannot move until heading 90 degrees away from where they began."""

    def __init__(self):
        self.settings, self.heading, self.x, self.turns, self.game = Settings(), 0.0, 0.0, [], self

    def is_episode_finished(self):
        return False

    def frame(self):
        return None

    def pose(self):
        return numpy.array([self.x, 0, 0, self.heading])

    def act(self, forward=0, turn=0.0, tics=1, use=False):
        if forward:
            self.turns.append(turn)
            self.heading += turn * tics
            self.x += 30.0 * (self.x > 0 or abs(self.heading) > 90)


@given(st.integers(0, 99))
@settings(max_examples=20)
def test_a_wandering_player_turns_to_one_side_until_nothing_is_in_the_way(seed):
    game = Corner()
    for _ in zip(range(20), game._walk(numpy.random.default_rng(seed)), strict=False):
        pass
    stuck = next(n for n, turn in enumerate(game.turns) if n and abs(turn) != 10) - 1  # frames of turning away
    assert 4 <= stuck <= 6 and len(set(game.turns[1 : stuck + 1])) == 1
    assert all(abs(turn) != 10 for turn in game.turns[stuck + 1 :])  # free: the turns are random again
