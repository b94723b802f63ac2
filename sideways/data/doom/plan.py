"""The plan of a map of Doom: its walls, and the squares of floor that no wall enters. Lengths are in Doom's units.

A player is 32 units wide and 56 units high, and walks up a step of 24 units.
"""

from __future__ import annotations

from pathlib import Path

import numpy

HEIGHT, STEP = 56, 24  # a player's height, and the highest step that a player walks up
BATCHES, BATCH = 60, 64  # of points that are drawn to find a place
NO_SIDE = 0xFFFF  # the number of the second side of a line that has one side
LINE = numpy.dtype([(name, "<u2") for name in ("start", "end", "flags", "special", "tag", "right", "left")])
SIDE = numpy.dtype([("offsets", "<i2", 2), ("textures", "S8", 3), ("sector", "<u2")])
SECTOR = numpy.dtype([("floor", "<i2"), ("ceiling", "<i2"), ("textures", "S8", 2), ("others", "<i2", 3)])
VERTEX = numpy.dtype([("x", "<i2"), ("y", "<i2")])
LUMPS = {"LINEDEFS": LINE, "SIDEDEFS": SIDE, "VERTEXES": VERTEX, "SECTORS": SECTOR}  # tables of a map
ENTRY = numpy.dtype([("position", "<u4"), ("bytes", "<u4"), ("name", "S8")])


class Plan:
    """The walls and borders of a map.

    Walls are the lines that end a walk on the level: those with one side, those that the map calls impassable, those
    with a high step or a low ceiling, and also those that do something when they are crossed, such as doors.
    """

    def __init__(self, wad: Path, name: str):
        lines, sides, vertices, sectors = (read_lump(wad, name, lump) for lump in LUMPS)
        points = numpy.stack([vertices["x"], vertices["y"]], axis=1).astype(float)
        ends = numpy.stack([points[lines["start"]], points[lines["end"]]], axis=1)  # (lines, 2, 2)
        has_two_sides = lines["left"] != NO_SIDE
        right = sides["sector"][lines["right"]]
        left = numpy.where(has_two_sides, sides["sector"][numpy.where(has_two_sides, lines["left"], 0)], right)
        floors, ceilings = (sectors[part][numpy.stack([right, left])].astype(int) for part in ("floor", "ceiling"))
        is_wall = ~has_two_sides | (lines["flags"] & 1 > 0) | (lines["special"] > 0)
        is_wall |= (numpy.ptp(floors, axis=0) > STEP) | (ceilings.min(axis=0) - floors.max(axis=0) < HEIGHT)
        self.walls = ends[is_wall]
        borders = right != left  # lines inside a sector are no border of it, and others are borders of two
        self.borders = numpy.concatenate([ends[borders | ~has_two_sides], ends[borders]])
        self.sector = numpy.concatenate([right[borders | ~has_two_sides], left[borders]])
        self.room = sectors["ceiling"].astype(int) - sectors["floor"]  # (sectors,)
        self.low, self.high = points.min(axis=0), points.max(axis=0)  # (x, y)

    def is_inside(self, point: numpy.ndarray) -> bool:
        """Say whether a point (x, y) lies on a floor, under a ceiling that is high enough for a player.

        A ray from a point to the right crosses the borders of the point's own sector an odd number of times.
        """
        (x1, y1), (x2, y2) = self.borders.transpose(1, 2, 0)
        passes = (y1 > point[1]) != (y2 > point[1])
        with numpy.errstate(divide="ignore", invalid="ignore"):
            at = x1 + (point[1] - y1) / (y2 - y1) * (x2 - x1)
        crossings = numpy.bincount(self.sector[passes & (at > point[0])], minlength=len(self.room))
        return bool((self.room[crossings % 2 == 1] >= HEIGHT).any())

    def is_free(self, centre: numpy.ndarray, heading: float, half: float) -> bool:
        """Say whether no wall enters the square around `centre` with sides 2 × `half`, turned by `heading` degrees.

        A wall enters the square if a part of it, from 0 ≤ t₀ to t₁ ≤ 1 along the wall, lies between both pairs of
        opposite sides.
        """
        ends = (self.walls - centre) @ numpy.stack(axes(heading), axis=1)  # (walls, 2, 2), seen from the square
        start, step = ends[:, 0], ends[:, 1] - ends[:, 0]
        step = numpy.where(numpy.abs(step) < 1e-9, 1e-9, step)
        one, other = (-half - start) / step, (half - start) / step
        enters = numpy.maximum(numpy.minimum(one, other).max(axis=1), 0)
        return not (enters < numpy.minimum(numpy.maximum(one, other).min(axis=1), 1)).any()

    def clearance(self, points: numpy.ndarray) -> numpy.ndarray:
        """The distance from each point (x, y) of (n, 2) to the nearest wall, (n,)."""
        start, along = self.walls[:, 0], self.walls[:, 1] - self.walls[:, 0]
        way = points[:, None] - start  # (n, walls, 2)
        part = (way * along).sum(axis=2) / numpy.maximum((along**2).sum(axis=1), 1e-9)
        return numpy.hypot(*numpy.moveaxis(way - numpy.clip(part, 0, 1)[..., None] * along, 2, 0)).min(axis=1)

    def draw(self, generator: numpy.random.Generator, half: float) -> tuple[numpy.ndarray, float] | None:
        """Draw a place: a point (x, y), each part of the floor equally likely, and a heading in degrees.

        The square around the place with sides 2 × `half` is free. Returns None if there seems to be no such place.
        Most points are too near to a wall; that is found out for many points at once, some 20 times as fast.
        """
        for _ in range(BATCHES):
            points = generator.uniform(self.low, self.high, (BATCH, 2))
            headings = generator.uniform(0, 360, BATCH)
            for i in numpy.flatnonzero(self.clearance(points) > half):
                if self.is_free(points[i], headings[i], half) and self.is_inside(points[i]):
                    return points[i], float(headings[i])
        return None


def axes(heading: float) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The unit vectors (x, y) that point forward and to the left of a player with this heading in degrees."""
    angle = numpy.deg2rad(heading)
    return numpy.array([numpy.cos(angle), numpy.sin(angle)]), numpy.array([-numpy.sin(angle), numpy.cos(angle)])


def read_lump(wad: Path, name: str, lump: str) -> numpy.ndarray:
    """Read a table of a map from a file of Doom's, which is a sequence of tables, listed in a directory."""
    content, entries = _directory(wad)
    first = int(numpy.flatnonzero(entries["name"] == name.upper().encode())[0]) + 1
    tables = entries[first : first + 10]  # a map's tables follow its name
    entry = tables[tables["name"] == lump.encode()][0]
    start = int(entry["position"])
    return content[start : start + int(entry["bytes"])].copy().view(LUMPS[lump])


def map_names(wad: Path) -> list[str]:
    """The names of the maps in a file of Doom's, such as map01."""
    names = _directory(wad)[1]["name"]
    return [names[i - 1].decode().lower() for i in numpy.flatnonzero(names == b"THINGS")]  # a map's first table


def _directory(wad: Path) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The bytes of a file of Doom's, and its directory."""
    content = numpy.memmap(wad, numpy.uint8, "r")
    count, position = content[4:12].view("<u4")
    return content, content[position : position + count * ENTRY.itemsize].view(ENTRY)
