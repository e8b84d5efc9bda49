"""Clips: shapes that enter, leave, cross, stop, bounce and change colour, in one to three scenes; all of it is known.

clip(seed, number) ──▶ Clip(shots of movers, with a place and a colour for each frame) ──draw──▶ frames [120, 160]
                                                                                      └events──▶ what happens when

The movers of a shot have a lane each, a row or a column of the picture, so they never touch. Names (colour and shape)
are those of the first frame; no two in a clip are alike, nor like what another turns into. Times are seconds from the
clip's start: the frame's number by `RATE`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image, ImageDraw

from mminstruct.data_builders.worlds.scenes import COLORS, SHAPES

WIDTH, HEIGHT, RATE = 160, 120, 10
SIZE = (WIDTH, HEIGHT)
# Any two differ by more than what a cut is found by, 27 (`mminstruct.media.cuts`).
GROUNDS = {"white": (255, 255, 255), "grey": (150, 150, 150), "pink": (250, 222, 226), "light green": (206, 240, 206)}

Kind = Literal["enters", "stops", "leaves", "goes", "bounces", "changes"]
Point = tuple[int, int]


@dataclass(frozen=True)
class Event:
    """What happens at one frame.

    Attributes:
        kind: `enters`: the first frame that shows something of it; `stops`: the first at its last place; `leaves`: the
            first nearer to the edge that it goes out at; `goes`: the first that shows nothing of it; `bounces`: it
            touches the edge; `changes`: the first in the new colour.
        frame: of the clip.
        detail: the side of the picture, or the new colour; empty for `stops`.
    """

    kind: Kind
    name: str
    frame: int
    detail: str = ""

    @property
    def time(self) -> float:
        return self.frame / RATE


@dataclass(frozen=True)
class Mover:
    """A shape; `centres` and `colors` are those of each frame of its shot, `side` is an even number of pixels."""

    shape: str
    side: int
    manner: str
    centres: tuple[Point, ...]
    colors: tuple[str, ...]
    events: tuple[Event, ...]

    @property
    def name(self) -> str:
        return f"{self.colors[0]} {self.shape}"

    def place(self, frame: int) -> str:
        """Where it is: `at the top left`, `in the middle`."""
        x, y = self.centres[frame]
        words = [third(y, HEIGHT, ("top", "bottom")), third(x, WIDTH, ("left", "right"))]
        return f"at the {' '.join(filter(None, words))}" if any(words) else "in the middle"

    def box(self, frame: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) in pixels of the picture, beyond its edges too."""
        (x, y), half = self.centres[frame], self.side // 2
        return x - half, y - half, x + half, y + half

    def whole(self, frame: int) -> bool:
        """Whether all of it is within the picture."""
        left, top, right, bottom = self.box(frame)
        return left >= 0 and top >= 0 and right < WIDTH and bottom < HEIGHT

    def seen(self, frame: int) -> bool:
        """Whether any of it is within the picture."""
        left, top, right, bottom = self.box(frame)
        return right >= 0 and bottom >= 0 and left < WIDTH and top < HEIGHT


@dataclass(frozen=True)
class Shot:
    """One scene: frames from `first` on, `length` of them, on one ground."""

    first: int
    length: int
    ground: str
    rows: bool
    movers: tuple[Mover, ...]


@dataclass(frozen=True)
class Clip:
    id: str
    shots: tuple[Shot, ...]

    @property
    def length(self) -> int:
        return sum(shot.length for shot in self.shots)

    @property
    def seconds(self) -> float:
        return self.length / RATE

    def movers(self) -> list[Mover]:
        return [mover for shot in self.shots for mover in shot.movers]

    def events(self) -> list[Event]:
        """All of them, by time."""
        found = [event for mover in self.movers() for event in mover.events]
        return sorted(found, key=lambda event: (event.frame, event.name, event.kind))

    def draw(self, frame: int) -> Image.Image:
        shot = next(shot for shot in self.shots if frame < shot.first + shot.length)
        picture = Image.new("RGB", SIZE, GROUNDS[shot.ground])
        pen = ImageDraw.Draw(picture)
        for mover in shot.movers:
            local = frame - shot.first
            left, top, right, bottom = box = mover.box(local)
            (x, y), fill = mover.centres[local], COLORS[mover.colors[local]]
            if mover.shape == "circle":
                pen.ellipse(box, fill=fill)
            elif mover.shape == "square":
                pen.rectangle(box, fill=fill)
            elif mover.shape == "triangle":
                pen.polygon([(x, top), (right, bottom), (left, bottom)], fill=fill)
            else:
                pen.polygon([(x, top), (right, y), (x, bottom), (left, y)], fill=fill)
        return picture

    def frames(self) -> list[Image.Image]:
        return [self.draw(frame) for frame in range(self.length)]


@dataclass
class _Path:
    """A mover that is being made: places along its lane, and what happens, in frames of the shot."""

    along: list[int]
    color: str
    colors: list[str]
    events: list[tuple[Kind, int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Lane:
    """What a manner of moving is made for: a lane of `long` pixels, a mover of `side`, `length` frames; chance."""

    chance: random.Random
    long: int
    side: int
    length: int
    sides: tuple[str, str]
    color: str
    other: str

    def path(self, along: list[int]) -> _Path:
        return _Path(along, self.color, [self.color] * self.length)

    def rest(self) -> int:
        """A place within the picture, with some air at the edges, that is plainly in one third of it."""
        margin = self.side // 2 + 6
        places = range(margin, self.long - margin)
        return self.chance.choice([one for one in places if clear(one, self.long)])

    def speed(self, distance: int) -> int:
        """Pixels a frame, so that there is time for the distance."""
        return max(self.chance.randint(5, 8), -(-distance // (self.length - 8)))

    def outside(self, far: bool) -> int:
        """The nearest place at which nothing of it is seen."""
        half = self.side // 2
        return self.long + half if far else -half - 1


def _stays(lane: _Lane) -> _Path:
    return lane.path([lane.rest()] * lane.length)


def _changes(lane: _Lane) -> _Path:
    path = _stays(lane)
    frame = lane.chance.randint(6, lane.length - 7)
    path.colors[frame:] = [lane.other] * (lane.length - frame)
    path.events.append(("changes", frame, lane.other))
    return path


def _moved(lane: _Lane, start: int, goal: int, begin: int, speed: int) -> list[int]:
    """Places of all frames: at `start`, from frame `begin` on towards `goal`, there at rest."""
    step = speed if goal > start else -speed
    along = [start] * begin
    while len(along) < lane.length:
        now = along[-1] if along else start
        along.append(goal if abs(goal - now) <= speed else now + step)
    return along


def _enters(lane: _Lane) -> _Path:
    far, goal = lane.chance.random() < 0.5, lane.rest()
    start = lane.outside(far)
    speed = lane.speed(abs(goal - start))
    steps = -(-abs(goal - start) // speed)
    begin = lane.chance.randint(1, lane.length - 4 - steps)
    path = lane.path(_moved(lane, start, goal, begin, speed))
    path.events = [("enters", begin, lane.sides[far]), ("stops", begin + steps - 1, "")]
    return path


def _leaves(lane: _Lane) -> _Path:
    far, start = lane.chance.random() < 0.5, lane.rest()
    goal = lane.outside(far)
    speed = lane.speed(abs(goal - start))
    steps = -(-abs(goal - start) // speed)
    begin = lane.chance.randint(4, lane.length - 3 - steps)
    path = lane.path(_moved(lane, start, goal, begin, speed))
    path.events = [("leaves", begin, lane.sides[far]), ("goes", begin + steps - 1, lane.sides[far])]
    return path


def _crosses(lane: _Lane) -> _Path:
    far = lane.chance.random() < 0.5
    start, goal = lane.outside(far), lane.outside(not far)
    speed = lane.chance.randint(-(-abs(goal - start) // (lane.length - 6)), 14)
    steps = -(-abs(goal - start) // speed)
    begin = lane.chance.randint(1, lane.length - 3 - steps)
    path = lane.path(_moved(lane, start, goal, begin, speed))
    path.events = [("enters", begin, lane.sides[far]), ("goes", begin + steps - 1, lane.sides[not far])]
    return path


def _stops(lane: _Lane) -> _Path:
    far = lane.chance.random() < 0.5
    low, high = lane.side // 2 + 6, lane.long - 1 - lane.side // 2 - 6
    start, goal = (high, low) if far else (low, high)
    speed = lane.chance.randint(3, 5)
    steps = min(-(-abs(goal - start) // speed), lane.chance.randint(8, lane.length - 5))
    goal = start + (-speed if far else speed) * min(steps, abs(goal - start) // speed)
    steps = abs(goal - start) // speed
    path = lane.path([start, *_moved(lane, start, goal, 0, speed)][: lane.length])
    path.events = [("stops", steps, "")]
    return path


def _bounces(lane: _Lane) -> _Path:
    """First to the nearer edge, then from edge to edge; it touches an edge in one frame, and turns."""
    half, speed = lane.side // 2, lane.chance.randint(5, 8)
    low, high = half, lane.long - 1 - half
    path = lane.path([lane.rest()])
    step = speed if path.along[0] > lane.long / 2 else -speed
    while len(path.along) < lane.length:
        now = min(max(path.along[-1] + step, low), high)
        if now in (low, high):
            if len(path.along) < lane.length - 2:  # so that it is seen to turn
                path.events.append(("bounces", len(path.along), lane.sides[now == high]))
            step = -step
        path.along.append(now)
    return path


MANNERS: dict[str, Callable[[_Lane], _Path]] = {
    "stays": _stays,
    "changes": _changes,
    "enters": _enters,
    "leaves": _leaves,
    "crosses": _crosses,
    "stops": _stops,
    "bounces": _bounces,
}


def clear(place: int, long: int) -> bool:
    """Whether it is plain in which third of `long` pixels a place is."""
    return all(abs(place - line) >= 5 for line in (long / 3, 2 * long / 3))


def third(place: int, long: int, names: tuple[str, str]) -> str:
    """The name of the first or of the last third, or nothing."""
    return names[0] if place < long / 3 else names[1] if place > 2 * long / 3 else ""


def clip(seed: int, number: int) -> Clip:
    """The clip of a seed and a number, the same everywhere: 60 to 99 frames."""
    chance = random.Random(f"clips/{seed}/{number}")
    shots = chance.choice((1, 2, 2, 3))
    lengths = [chance.randint(*{1: (60, 70), 2: (32, 46), 3: (28, 33)}[shots]) for _ in range(shots)]
    colors = _pairs(chance)
    grounds = chance.sample(sorted(GROUNDS), shots)
    made: list[Shot] = []
    for length, ground in zip(lengths, grounds, strict=True):
        made.append(_shot(chance, sum(shot.length for shot in made), length, ground, colors))
    return Clip(f"clips/{seed}/{number}", tuple(made))


def _pairs(chance: random.Random) -> Iterator[tuple[str, str, str]]:
    """(shape, colour, colour that it may turn into), no name twice."""
    names = [(shape, color) for shape in SHAPES for color in COLORS]
    chance.shuffle(names)
    while names:
        shape, color = names.pop()
        other = next((one for kind, one in names if kind == shape), "")
        if other:
            names.remove((shape, other))
        yield shape, color, other


def _shot(chance: random.Random, first: int, length: int, ground: str, names: Iterator[tuple[str, str, str]]) -> Shot:
    rows = chance.random() < 0.7
    count = chance.randint(2, 3)
    long, wide = (WIDTH, HEIGHT) if rows else (HEIGHT, WIDTH)
    sides = ("left", "right") if rows else ("top", "bottom")
    manners = chance.sample(sorted(MANNERS), count)
    if manners == ["stays"] * count:
        manners[0] = "enters"
    movers = []
    for place, manner in enumerate(manners):
        shape, color, other = next(names)
        side = 2 * chance.randint(9, 13)
        lane = _Lane(chance, long, side, length, sides, color, other)
        path = MANNERS[manner](lane)
        across = wide * (2 * place + 1) // (2 * count)
        centres = tuple((along, across) if rows else (across, along) for along in path.along)
        events = tuple(Event(kind, f"{color} {shape}", first + frame, detail) for kind, frame, detail in path.events)
        movers.append(Mover(shape, side, manner, centres, tuple(path.colors), events))
    return Shot(first, length, ground, rows, tuple(movers))
