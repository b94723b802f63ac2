"""People at a shelf, seen from the ceiling, drawn with NumPy: five actions that pass through the same poses.

Reaching out and drawing back show the same poses in opposite order. Searching is the pose in which reaching ends.
Examining and looking are the poses in which it begins: a hand before the chest, with or without a product, or hanging
down. The videos of every action last 1 to 4 s, so that no length tells an action.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy

ACTIONS = ("reach", "retract", "search", "examine", "look")
VIDEOS_OF_EACH = (3, 3, 1, 1, 1)  # videos of each action that a person makes
SECONDS = (1.0, 4.0)  # the shortest and the longest video
WITH_PRODUCT = {"reach": 0.25, "retract": 0.7}  # the share of videos in which the hand holds a product
SHELF = 15  # lines of the picture, at its top
HEAD, SHOULDER, LIMB, UPPER_ARM, FOREARM, HAND = 3.6, 3.2, 1.7, 8.0, 8.5, 1.9  # radii and lengths in pixels
Point = numpy.ndarray  # (line, column)


@dataclass(frozen=True)
class Person:
    """A person: place, size, colours and the preferred hand (0: the left one, 1: the right one)."""

    place: Point
    size: float
    shirt: numpy.ndarray
    sleeves: numpy.ndarray
    skin: numpy.ndarray
    hair: numpy.ndarray
    hand: int

    @classmethod
    def drawn(cls, generator: numpy.random.Generator, lines: int, columns: int) -> Person:
        """Choose a person at random, for pictures of this size."""
        place = numpy.array([0.45 * lines, 0.5 * columns]) + generator.normal(0, (1.5, 4.0))
        size = generator.uniform(0.9, 1.12)
        shirt = generator.uniform(20, 240, 3)
        skin = generator.uniform(0.4, 1.0) * numpy.array([235.0, 185.0, 150.0])
        sleeves = shirt if generator.random() < 0.6 else skin
        hair = generator.uniform(0.1, 0.7) * numpy.array([230.0, 200.0, 150.0])
        return cls(place, size, shirt, sleeves, skin, hair, int(generator.random() < 0.8))


@dataclass(frozen=True)
class Product:
    """Something to hold: half its length and its radius in pixels, and its colour."""

    length: float
    radius: float
    colour: numpy.ndarray


@dataclass(frozen=True)
class Pose:
    """One moment of an action, as seen from the body.

    hands: the left and the right one, pixels ahead of the shoulders and to the right of the middle.
    lean: pixels that the shoulders are ahead of their place. bow: pixels that the head is ahead of the shoulders.
    aside: pixels that the body is to the right of the person's place.
    turn, look: angles of the body, and of the head against the body, in radians, to the right.
    holding: the number of the hand that holds a product, or None.
    """

    hands: tuple[Point, Point]
    lean: float = 0.0
    turn: float = 0.0
    look: float = 0.0
    bow: float = 1.0
    holding: int | None = None
    aside: float = 0.0


def frames_of_action(
    label: int, generator: numpy.random.Generator, person: Person, shop: numpy.ndarray, rate: float
) -> Iterator[numpy.ndarray]:
    """Yield frames (H, W, 3) uint8 of this person, who does this action in this shop (H, W, 3)."""
    place = person.place + generator.normal(0, (0.8, 4.0))
    product = Product(generator.uniform(1.2, 2.6), generator.uniform(1.0, 1.8), generator.uniform(0, 255, 3))
    light = generator.normal(1, 0.04)
    count = round(generator.uniform(*SECONDS) * rate)
    for pose in poses(label, person, count, rate, generator):
        picture = render(shop, person, place, pose, product) * light + generator.normal(0, 3, shop.shape)
        yield numpy.clip(picture, 0, 255).astype(numpy.uint8)


def shop_of(generator: numpy.random.Generator, lines: int, columns: int) -> numpy.ndarray:
    """Make a floor of tiles and a shelf of products, (lines, columns, 3) float64."""
    tiles = generator.uniform(0.85, 1.0, (-(-lines // 10), -(-columns // 10)))
    shop = numpy.kron(tiles, numpy.ones((10, 10)))[:lines, :columns, None] * numpy.array([170.0, 165.0, 158.0])
    shop[:SHELF] = generator.uniform(60, 200, 3)
    for top in range(1, SHELF - 3, 5):
        column = 0
        while column < columns:
            width = int(generator.integers(2, 6))
            shop[top : top + 4, column : column + width - 1] = generator.uniform(0, 255, 3)
            column += width
    return shop


# The actions ---------------------------------------------------------------------------------------------------------


def poses(label: int, person: Person, count: int, rate: float, generator: numpy.random.Generator) -> Iterator[Pose]:
    """Yield the poses of one video of `count` frames of this action."""
    action = ACTIONS[label]
    hand = person.hand if generator.random() < 0.8 else 1 - person.hand
    side = (-1, 1)[hand]
    mirror = numpy.array([1.0, -1.0])  # from the place of one hand to that of the other
    at_hip, at_chest = numpy.array([1.0, 9.0 * side]), numpy.array([6.0, 2.0 * side])
    in_shelf = numpy.array([generator.uniform(12.5, 15.0), side * generator.uniform(0, 8)])
    turn = generator.normal(0, 0.15)
    from_chest = generator.random() < 0.45
    holds_product = generator.random() < WITH_PRODUCT.get(action, float(action == "examine"))
    start = at_chest if from_chest or holds_product else at_hip
    resting = mirror * (at_chest if generator.random() < 0.3 else at_hip)
    both_hold = action == "examine" and generator.random() < 0.6
    delay, duration = generator.uniform(0, 0.15), generator.uniform(0.6, 0.9)  # of the movement; 1: the whole video
    lean = generator.uniform(2, 4)
    pace, width, phase = generator.uniform(0.3, 1.4), generator.uniform(0.5, 2.0), generator.uniform(0, 2 * numpy.pi)
    walk = generator.normal(0, 6) if action == "look" and generator.random() < 0.35 else 0.0  # pixels per second
    tremor = _tremor(generator, count, 5, rate)
    for i in range(count):
        beat = phase + 2 * numpy.pi * pace * i / rate
        circle = width * numpy.array([0.6 * numpy.cos(beat), numpy.sin(beat)])
        time = {"reach": i / count, "retract": 1 - (i + 1) / count}.get(action)
        extension = float(action == "search") if time is None else _smooth((time - delay) / duration)
        acting = (1 - extension) * start + extension * in_shelf + 0.3 * tremor[i, 0]
        other = mirror * at_chest if both_hold else resting + 0.3 * tremor[i, 1]
        if action in ("search", "examine"):
            acting, other = acting + circle, other + circle * both_hold
        yield Pose(
            (other, acting) if hand else (acting, other),
            lean=extension * lean + 0.2 * tremor[i, 2],
            turn=turn + 0.03 * tremor[i, 3] - 0.2 * side * extension,
            look=0.1 * tremor[i, 4] + (0.5 * numpy.sin(0.5 * beat) if action == "look" else 0),
            bow=2.2 if action == "examine" else 1.0,
            holding=hand if holds_product else None,
            aside=walk * i / rate,
        )


def _smooth(time: float) -> float:
    """Go from 0 to 1 while the time does, slowly at both ends."""
    x = min(max(time, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def _tremor(generator: numpy.random.Generator, count: int, channels: int, rate: float) -> numpy.ndarray:
    """Random motion of variance about 1 that changes within a second, (count, channels)."""
    kernel = numpy.hanning(round(rate) + 2)[1:-1]
    kernel /= numpy.sqrt((kernel**2).sum())
    steps = generator.normal(0, 1, (count + len(kernel), channels))
    return numpy.stack([numpy.convolve(steps[:, k], kernel, "valid")[:count] for k in range(channels)], axis=-1)


# The pictures --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Body:
    """A body in the picture: the places of its parts, and steps of a pixel ahead and to the right, as the body sees it.

    shoulders, arms: the left one and the right one. An arm is the places of its elbow and of its hand.
    """

    ahead: Point
    right: Point
    hips: Point
    shoulders: tuple[Point, Point]
    arms: tuple[tuple[Point, Point], tuple[Point, Point]]
    head: Point
    face: Point

    @classmethod
    def of(cls, person: Person, place: Point, pose: Pose) -> Body:
        """Place the parts of this person, who stands at `place` in this pose."""
        size = person.size
        ahead = numpy.array([-numpy.cos(pose.turn), numpy.sin(pose.turn)])
        right = numpy.array([numpy.sin(pose.turn), numpy.cos(pose.turn)])
        chest = place + size * pose.lean * ahead + numpy.array([0.0, pose.aside])
        shoulders = chest - 6.5 * size * right, chest + 6.5 * size * right
        arms = []
        for side, shoulder, (forward, aside) in zip((-1, 1), shoulders, pose.hands, strict=True):
            hand = chest + size * (forward * ahead + aside * right)
            arms.append(_arm(shoulder, hand, size, 0.4 * side * right - 0.1 * ahead))
        head = chest + size * pose.bow * ahead
        look = pose.turn + pose.look
        return cls(
            ahead=ahead,
            right=right,
            hips=place + numpy.array([2.0 * size, pose.aside]),
            shoulders=shoulders,
            arms=(arms[0], arms[1]),
            head=head,
            face=head + 1.2 * numpy.array([-numpy.cos(look), numpy.sin(look)]),
        )


def render(shop: numpy.ndarray, person: Person, place: Point, pose: Pose, product: Product) -> numpy.ndarray:
    """Paint a person into the shop, (H, W, 3) float64, from the lowest part to the highest."""
    picture, size, body = shop.copy(), person.size, Body.of(person, place, pose)
    left, right = body.shoulders
    shade = 0.75 * shop.mean((0, 1))
    _paint(picture, body.hips + 2, (left + right) / 2 + 2, 8.0 * size, shade, edge=3.0, strength=0.35)
    _paint(picture, body.hips, body.hips, 4.5 * size, person.shirt * 0.6)
    for number, (shoulder, (elbow, hand)) in enumerate(zip(body.shoulders, body.arms, strict=True)):
        _paint(picture, shoulder, elbow, LIMB * size, person.sleeves)
        _paint(picture, elbow, hand, LIMB * size, person.sleeves * 0.95)
        if pose.holding == number:
            middle, half = hand + 1.5 * body.ahead, product.length * body.right
            _paint(picture, middle - half, middle + half, product.radius, product.colour)
        _paint(picture, hand, hand, HAND * size, person.skin)
    _paint(picture, left, right, SHOULDER * size, person.shirt)
    _paint(picture, body.face, body.face, HEAD * size, person.skin)
    _paint(picture, body.head, body.head, HEAD * size, person.hair)
    return picture


def _arm(shoulder: Point, hand: Point, size: float, outwards: Point) -> tuple[Point, Point]:
    """Return (elbow, hand). A hand that is wanted too far away, or too near, is put where the arm can reach.

    outwards: the side to which the elbow bends.
    """
    upper, fore = UPPER_ARM * size, FOREARM * size
    reach = numpy.clip(numpy.hypot(*(hand - shoulder)), abs(upper - fore) + 1.0, upper + fore - 0.1)
    along = (hand - shoulder) / max(numpy.hypot(*(hand - shoulder)), 1e-9)
    forward = (upper**2 - fore**2 + reach**2) / (2 * reach)
    aside = outwards - (outwards @ along) * along
    bend = numpy.sqrt(max(upper**2 - forward**2, 0.0))
    return shoulder + forward * along + bend * aside / max(numpy.hypot(*aside), 1e-9), shoulder + reach * along


def _paint(
    picture: numpy.ndarray,
    start: Point,
    end: Point,
    radius: float,
    colour: numpy.ndarray,
    edge: float = 1.0,
    strength: float = 1.0,
) -> None:
    """Paint all pixels that are nearer than `radius` to the line from start to end.

    edge: pixels in which the colour fades. strength: of the colour, 1 covers what was there.
    """
    margin = radius + edge
    top, left = numpy.maximum(numpy.floor(numpy.minimum(start, end) - margin), 0).astype(int)
    bottom, right = numpy.ceil(numpy.maximum(start, end) + margin).astype(int)
    part = picture[top : max(bottom, top), left : max(right, left)]
    lines, columns = numpy.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
    step = end - start
    y, x = lines - start[0], columns - start[1]
    along = numpy.clip((y * step[0] + x * step[1]) / max(step @ step, 1e-9), 0, 1)
    distance = numpy.hypot(y - along * step[0], x - along * step[1])
    cover = strength * numpy.clip((radius - distance) / edge + 0.5, 0, 1)[..., None]
    part += cover * (colour - part)
