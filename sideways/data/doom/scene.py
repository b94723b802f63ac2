"""Clips of a map of Doom, in a worker process: the same place is shown once in every class of motion.

A worker makes blocks. A block is a pure function of (seed, map, number, settings): before each block the game is given
the block's own seed and starts the map anew, whatever it has shown before.

How a place gives no class away. A place is a point p on the floor and a heading, drawn without regard to the class,
with a free square around it. With positions o₀ … o_{T-1} along a path, counted from its middle, the clip of a class
shows

    p + o_t · forward + J · left         walking forward, or backward with the positions in reverse order
    p + J · forward + o_t · left         to the left or to the right
    p + J · forward + J' · left          turning, through headings h + a_t, or standing still

Each J is one of the positions o, drawn once per clip. Over the ticks, each frame is therefore seen from a position and
a heading with the same distribution in all classes, to within half a step: on some floors a player starts late. A place
is taken only if the measured motion agrees with the class in all seven clips, if all seven show something, and if every
motion is seen: in a dark hall a walk may change next to nothing. Whether a place is taken depends on no class. The
clips of a place are made in random order, since what one of them picks up is gone in the next. The view does not bob.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy

from sideways.data.doom.plan import Plan, axes

CLASSES = ("forward", "back", "left", "right", "turn left", "turn right", "still")
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (0, 0), (0, 0), (0, 0))  # (forward, left) of each class
TURNS = (0, 0, 0, 0, 1, -1, 0)  # counter-clockwise
SPEED = 8.0  # units per tic; a player's walk is 8.3
TURN = 2.0  # degrees per tic
FRICTION = 0.90625  # of the speed that is left after a tic without a command
PUSH = 1 / 32  # units per tic that a command of 1 adds to the speed
STRONGEST = 50  # command, a running player's
RUN_UP = 7  # tics before the first frame and after the last, in which the player reaches the speed or comes to rest
PAUSE = 24  # tics without a command after each clip
MARGIN = 20.0  # units that a square is wider than the paths in it to each side: half a player, and a little more
BLANK = 8.0  # grey levels of 255: a clip whose pixels have a smaller standard deviation shows too little
SEEN = 0.05  # a motion that changes frames by a smaller share of their variance, from one to the next, is not seen
ATTEMPTS = 300  # free squares to try for a place
STRETCH = 700  # frames of a wandering player in one map
ROOM = 50.0  # units to each side of the place where a walk begins
LINES, COLUMNS = 120, 160  # pixels of the game's screen
TICS_PER_SECOND = 35
# Maps 1 to 3, 9 and 24 are narrow; in maps 16 and 27 next to no walk is seen.
LEARNT_FROM = tuple(f"map{i:02d}" for i in (*range(4, 9), *range(10, 16), *range(17, 21)))
HELD_OUT = tuple(f"map{i:02d}" for i in (21, 22, 23, 25, 26, 28, 29))


@dataclass(frozen=True)
class Settings:
    """The look of clips: `length` frames of size × size pixels, `tics` tics of the game apart, in grey or in colour."""

    length: int = 12
    size: int = 32
    grey: bool = True
    tics: int = 2

    @property
    def channels(self) -> int:
        return 1 if self.grey else 3

    @property
    def offsets(self) -> numpy.ndarray:
        """The positions of the frames along a path, in units from its middle, (T,)."""
        return SPEED * self.tics * (numpy.arange(self.length) - (self.length - 1) / 2)

    @property
    def reach(self) -> float:
        """Half a side of the square that the paths of a place need, in units."""
        return float(self.offsets[-1]) + commands(0.0, SPEED)[1] + MARGIN


class NoPlaceError(Exception):
    """A map has no place for clips with these settings."""


def commands(speed: float, wanted: float) -> tuple[list[int], float]:
    """The commands that change a player's speed in RUN_UP tics, and the way in units that the player goes in them."""
    given, way = [], 0.0
    for _ in range(RUN_UP):
        command = round((wanted - speed * FRICTION) / PUSH)
        given.append(max(-STRONGEST, min(STRONGEST, command)))
        speed = speed * FRICTION + PUSH * given[-1]
        way += speed
    return given, way


CRUISE = round(SPEED * (1 - FRICTION) / PUSH)  # the command that holds the speed


class Game:
    """A game of Doom without window, sound and monsters, whose frames are (H, W, C) uint8."""

    def __init__(self, settings: Settings):
        import vizdoom  # imported here, in the worker alone

        self.settings = settings
        self.wad = Path(vizdoom.__file__).with_name("freedoom2.wad")
        self.game = game = vizdoom.DoomGame()
        game.set_doom_game_path(str(self.wad))
        game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
        game.set_screen_format(vizdoom.ScreenFormat.GRAY8 if settings.grey else vizdoom.ScreenFormat.RGB24)
        for part in ("window_visible", "sound_enabled"):
            getattr(game, f"set_{part}")(False)
        for part in ("hud", "weapon", "crosshair", "messages", "screen_flashes"):
            getattr(game, f"set_render_{part}")(False)
        button, variable = vizdoom.Button, vizdoom.GameVariable
        game.set_available_buttons(
            [
                button.MOVE_FORWARD_BACKWARD_DELTA,
                button.MOVE_LEFT_RIGHT_DELTA,
                button.TURN_LEFT_RIGHT_DELTA,
                button.USE,
            ]
        )
        game.set_available_game_variables(
            [variable.POSITION_X, variable.POSITION_Y, variable.POSITION_Z, variable.ANGLE]
        )
        game.set_mode(vizdoom.Mode.PLAYER)
        game.set_episode_timeout(0)
        game.add_game_args("-nomonsters +movebob 0 +stillbob 0")
        game.set_doom_map("map01")
        game.init()

    def start(self, name: str, seed: int) -> None:
        """Start a map anew."""
        self.game.set_seed(seed)
        self.game.set_doom_map(name)
        self.game.new_episode()
        self.game.send_game_command("god")
        self.act(tics=PAUSE)

    def act(self, forward: int = 0, left: int = 0, turn: float = 0.0, tics: int = 1, use: bool = False) -> None:
        """Give the same commands for a number of tics. turn: degrees per tic, counter-clockwise."""
        self.game.make_action([forward, -left, -turn, use], tics)

    def pose(self) -> numpy.ndarray:
        """The player's measured x, y, z (units) and heading (degrees), (4,)."""
        return numpy.array(self.game.get_state().game_variables, float)

    def frame(self) -> numpy.ndarray:
        """The screen, scaled to (size, size, C) uint8."""
        return scaled(self.game.get_state().screen_buffer, self.settings.size)

    def put(self, point: numpy.ndarray, heading: float) -> None:
        """Put the player on the floor at a point (x, y), at rest."""
        self.game.send_game_command(f"warp {round(float(point[0]))} {round(float(point[1]))}")
        self.act()
        self.act(turn=heading - self.pose()[3], tics=1)
        self.act(tics=2)

    # Clips

    def clip(
        self, label: int, place: numpy.ndarray, heading: float, generator: numpy.random.Generator
    ) -> tuple[numpy.ndarray, numpy.ndarray] | None:
        """Show a class at a place: frames (T, H, W, C) uint8, poses (T, 4). None if the measured motion is another."""
        offsets, (ahead, aside) = self.settings.offsets, DIRECTIONS[label]
        run_up, way = commands(0.0, SPEED)
        along = numpy.array([ahead, aside], float)
        across = numpy.where(along == 0, generator.choice(offsets, 2), 0.0)  # J
        start = across - along * (offsets[-1] + way)
        sweep = TURN * self.settings.tics * (self.settings.length - 1)
        first = heading - TURNS[label] * sweep / 2
        self.put(place + start @ numpy.stack(axes(heading)), first)
        for command in run_up:
            self.act(ahead * command, aside * command)
        frames, poses = [], []
        for t in range(self.settings.length):
            if t:
                self.act(ahead * CRUISE, aside * CRUISE, TURNS[label] * TURN, self.settings.tics)
            frames.append(self.frame())
            poses.append(self.pose())
        for command in commands(SPEED, 0.0)[0]:
            self.act(ahead * command, aside * command)
        self.act(tics=PAUSE)
        shown, measured = numpy.stack(frames), numpy.array(poses)
        moves = CLASSES[label] != "still"
        if not agrees(measured, label, self.settings.tics) or shown.std() < BLANK or (moves and change(shown) < SEEN):
            return None
        return shown, measured

    def place(self, plan: Plan, generator: numpy.random.Generator) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Find a place, and show every class there: frames (classes, T, H, W, C) uint8, poses (classes, T, 4)."""
        for _ in range(ATTEMPTS):
            drawn = plan.draw(generator, self.settings.reach)
            if drawn is None:
                break
            clips = {}
            for label in generator.permutation(len(CLASSES)).tolist():
                clip = self.clip(label, *drawn, generator)
                if clip is None:
                    break
                clips[label] = clip
            else:
                ordered = [clips[label] for label in range(len(CLASSES))]
                return numpy.stack([frames for frames, _ in ordered]), numpy.stack([poses for _, poses in ordered])
        raise NoPlaceError

    def block(self, seed: int, name: str, number: int, places: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Make a block: frames (places, classes, T, H, W, C) uint8, poses (places, classes, T, 4) float64."""
        generator = numpy.random.default_rng([seed, *name.encode(), number])
        self.start(name, int(generator.integers(1, 2**31)))
        plan = Plan(self.wad, name)
        made = [self.place(plan, generator) for _ in range(places)]
        return numpy.stack([frames for frames, _ in made]), numpy.stack([poses for _, poses in made])

    # A stream

    def wander(self, seed: int, maps: list[str]) -> Iterator[numpy.ndarray]:
        """Yield the frames (H, W, C) uint8 of a player who wanders through the maps, without end.

        A pure function of the seed, the maps and the settings. The player runs, turns at random, and turns away from
        what is in the way; after STRETCH frames the walk goes on elsewhere.
        """
        generator = numpy.random.default_rng([seed, len(CLASSES)])
        plans: dict[str, Plan] = {}
        while True:
            name = maps[int(generator.integers(len(maps)))]
            if name not in plans:
                plans[name] = Plan(self.wad, name)
            self.start(name, int(generator.integers(1, 2**31)))
            if (drawn := plans[name].draw(generator, ROOM)) is not None:
                self.put(*drawn)
            yield from self._walk(generator)

    def _walk(self, generator: numpy.random.Generator) -> Iterator[numpy.ndarray]:
        turn, away, before = 0.0, 0.0, self.pose()  # degrees per tic; away: from what is in the way, 0 where nothing is
        for _ in range(STRETCH):
            turn = 0.8 * turn + generator.normal(0, 1.5)
            self.act(forward=STRONGEST, turn=away or turn, tics=self.settings.tics)
            if self.game.is_episode_finished():
                return
            yield self.frame()
            pose = self.pose()
            if numpy.hypot(*(pose - before)[:2]) < self.settings.tics:  # something is in the way, perhaps a door
                self.act(use=True)
                away = away or 10.0 * generator.choice([-1, 1])  # to the same side until the player moves again
            else:
                away = 0.0
            before = pose


def agrees(poses: numpy.ndarray, label: int, tics: int) -> bool:
    """Say whether measured poses (T, 4) show the motion of a class from each frame to the next."""
    steps, turns = numpy.diff(poses[:, :3], axis=0), (numpy.diff(poses[:, 3]) + 180) % 360 - 180
    forward, left = (numpy.stack(v, axis=-1) for v in zip(*(axes(h) for h in poses[:-1, 3]), strict=True))
    moved = numpy.stack([(steps[:, :2] * forward.T).sum(axis=1), (steps[:, :2] * left.T).sum(axis=1)], axis=1)
    wanted = numpy.array(DIRECTIONS[label]) * SPEED * tics
    return bool(
        (numpy.abs(moved - wanted) < 0.1 * SPEED * tics).all()
        and (numpy.abs(turns - TURNS[label] * TURN * tics) < 0.1 * TURN * tics).all()
        and numpy.ptp(poses[:, 2]) <= 24
    )


def change(frames: numpy.ndarray) -> float:
    """The mean squared change of frames (T, H, W, C) uint8 from one to the next, as a share of their variance."""
    values = frames.astype(numpy.float32)
    variance = values.var(axis=(1, 2, 3)).mean()
    return float((numpy.diff(values, axis=0) ** 2).mean() / max(variance, 1.0))


def scaled(screen: numpy.ndarray, size: int) -> numpy.ndarray:
    """Scale a screen (120, 160) or (120, 160, 3) to (size, size, C) uint8: the square in its middle.

    Each pixel is the mean of the area that it covers.
    """
    left = (COLUMNS - LINES) // 2
    values = screen.reshape(LINES, COLUMNS, -1)[:, left : left + LINES].astype(numpy.float32)
    values = numpy.tensordot(shares(size, LINES), values, 1)  # (size, 120, C)
    values = numpy.tensordot(shares(size, LINES), values.swapaxes(0, 1), 1).swapaxes(0, 1)
    return numpy.rint(values).astype(numpy.uint8)


def shares(size: int, pixels: int) -> numpy.ndarray:
    """The shares of `pixels` pixels in each of `size` wider pixels over the same length, (size, pixels) float32."""
    edges = numpy.linspace(0, pixels, size + 1)
    start, end = numpy.arange(pixels), numpy.arange(1, pixels + 1)
    overlap = numpy.minimum(edges[1:, None], end) - numpy.maximum(edges[:-1, None], start)
    return (numpy.maximum(overlap, 0) * size / pixels).astype(numpy.float32)
