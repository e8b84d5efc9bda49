"""Posters: blocks of text in many faces, colours, sizes and angles, in six languages; every line's place is known.

poster(seed, number) ──▶ Poster(blocks from top to bottom) ──draw──▶ picture
                                                           └lines──▶ text and quad of each line
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from mminstruct.data_builders.worlds.lettering import Align, Block, Color, Face, Family, printed
from mminstruct.data_builders.worlds.poster_texts import LANGUAGES, Texts
from mminstruct.evidence.ocr import TextLine

SIZES = ((384, 512), (480, 640), (512, 512), (640, 480), (600, 800), (720, 540))
# ground, letters, second colour of letters
STYLES: dict[str, tuple[Color, Color, Color]] = {
    "white": ((255, 255, 255), (20, 20, 20), (168, 28, 36)),
    "cream": ((250, 240, 216), (60, 36, 20), (120, 30, 60)),
    "yellow": ((250, 214, 70), (24, 24, 24), (116, 20, 20)),
    "light blue": ((206, 228, 244), (16, 40, 84), (110, 20, 70)),
    "light green": ((214, 236, 206), (18, 60, 30), (96, 40, 10)),
    "dark blue": ((18, 34, 78), (255, 255, 255), (250, 214, 100)),
    "dark red": ((110, 18, 26), (255, 246, 226), (250, 214, 100)),
    "dark green": ((14, 60, 44), (240, 250, 240), (250, 220, 120)),
    "black": ((16, 16, 18), (245, 245, 245), (120, 210, 250)),
}
LEAST_SIZE = 11


@dataclass(frozen=True)
class Poster:
    """
    Attributes:
        blocks: from top to bottom, each a paragraph.
        facts: what is announced: `title`, `date`, `time`, `place`, `price` (in euros, 0 for none), as it is printed.
    """

    id: str
    language: str
    style: str
    size: tuple[int, int]
    bars: tuple[tuple[int, int, int, int], ...]
    blocks: tuple[Block, ...]
    facts: dict[str, str] = field(hash=False)

    def draw(self, lettered: bool = True) -> Image.Image:
        ground, _, second = STYLES[self.style]
        return printed(self.size, ground, self.blocks if lettered else (), [(bar, second) for bar in self.bars])

    def lines(self) -> list[TextLine]:
        return [line for block in self.blocks for line in block.lines()]

    def caption(self) -> str:
        turned = any(block.angle for block in self.blocks)
        return f"A {self.style} poster with text in {LANGUAGES[self.language].name}{', part of it aslant' * turned}."


def poster(seed: int, number: int, languages: Sequence[str] = tuple(LANGUAGES)) -> Poster:
    """The poster of a seed and a number, the same everywhere."""
    chance = random.Random(f"posters/{seed}/{number}")
    language = languages[number % len(languages)]
    texts = LANGUAGES[language]
    width, height = chance.choice(SIZES)
    style = chance.choice(sorted(STYLES))
    facts = _facts(texts, chance)
    base = chance.uniform(0.8, 1.1) * min(width, height) / 22
    stacked = _blocks(texts, facts, style, width, base, chance)
    while sum(block.height for block in stacked) + sum(_gaps(stacked)) > height - 2 * _margin(height):
        base *= 0.94
        if base < LEAST_SIZE:  # the longest text goes before letters become too small to read
            stacked.remove(max((one for one in stacked[1:] if not one.angle), key=lambda one: one.height))
            continue
        stacked = [_smaller(block, width) for block in stacked]
    return Poster(
        f"posters/{seed}/{number}",
        language,
        style,
        (width, height),
        _bars(width, height, chance),
        _placed(stacked, width, height),
        {name: value for name, value in facts.items() if name == "price" or _is_on(value, stacked)},
    )


def _facts(texts: Texts, chance: random.Random) -> dict[str, str]:
    day, month, year = chance.randint(1, 28), chance.choice(texts.months.split()), chance.randint(2024, 2029)
    return {
        "title": chance.choice(texts.titles),
        "date": texts.date.format(day=day, month=month, year=year),
        "time": f"{chance.randint(9, 21)}:{chance.choice((0, 15, 30, 45)):02d}",
        "place": chance.choice(texts.places),
        "price": str(chance.choice((0, 4, 5, 8, 9, 12, 15, 18, 24))),
    }


def _blocks(
    texts: Texts, facts: dict[str, str], style: str, width: int, base: float, chance: random.Random
) -> list[Block]:
    """Title, when and where, what for, how much; not yet placed."""
    _, first, second = STYLES[style]
    room = width - 2 * _margin(width)
    align: Align = chance.choice(("left", "centre", "centre", "right"))
    families: list[Family] = ["sans", "serif", "mono"]
    family, other = chance.choice(families[:2]), chance.choice(families)

    def block(text: str, size: float, color: Color, own: Family, **style_of: bool) -> Block:
        face = Face(own, max(LEAST_SIZE, round(size)), **style_of)
        while max(map(face.advance, text.split())) > room:
            face = replace(face, size=face.size - 1)
        return Block(tuple(face.wrapped(text, room)), face, color, align=align)

    title = facts["title"].upper() if chance.random() < 0.25 and texts.name != "Greek" else facts["title"]
    facts["title"] = title
    price = texts.price.format(price=facts["price"]) if facts["price"] != "0" else texts.free
    bodies = chance.sample(texts.bodies, chance.randint(1, 3))
    when = f"{facts['date']} {texts.at} {facts['time']}"
    found = [
        block(title, base * chance.uniform(1.9, 2.5), second, family, bold=True),
        block(when, base * 1.2, first, other, bold=chance.random() < 0.5),
        block(facts["place"], base * 1.2, first, other, italic=chance.random() < 0.5),
        block(" ".join(bodies), base * 0.85, first, family, italic=chance.random() < 0.2),
        block(price, base, second, other, bold=True),
    ]
    if chance.random() < 0.6:
        badge = block(chance.choice(texts.badges), base * 1.15, second, family, bold=True)
        angle = chance.choice((-1, 1)) * chance.uniform(12, 24)
        found.insert(chance.randint(1, len(found)), replace(badge, angle=angle, align="centre"))
    return found


def _smaller(block: Block, width: int) -> Block:
    face = replace(block.face, size=max(LEAST_SIZE, min(block.face.size - 1, round(block.face.size * 0.94))))
    rows = face.wrapped(" ".join(block.rows), width - 2 * _margin(width))
    return replace(block, face=face, rows=tuple(rows))


def _gaps(blocks: Sequence[Block]) -> list[int]:
    """The least air between blocks that follow one another: more than a line of the larger letters."""
    pairs = itertools.pairwise(blocks)
    return [round(1.2 * max(one.face.height, other.face.height)) for one, other in pairs]


def _placed(stacked: list[Block], width: int, height: int) -> tuple[Block, ...]:
    """One below the other; room that is left is shared by the gaps."""
    left_over = height - 2 * _margin(height) - sum(block.height for block in stacked) - sum(_gaps(stacked))
    extra = left_over // (len(stacked) + 1)
    top = _margin(height) + extra
    found = []
    for block, gap in zip(stacked, [*_gaps(stacked), 0], strict=True):
        share = {"left": 0.0, "centre": 0.5, "right": 1.0}[block.align]
        left = _margin(width) + round(share * (width - 2 * _margin(width) - block.size[0]))
        found.append(replace(block, left=left, top=top))
        top += block.height + gap + extra
    return tuple(found)


def _bars(width: int, height: int, chance: random.Random) -> tuple[tuple[int, int, int, int], ...]:
    """A frame, lines at top and bottom, or nothing, all within the margin."""
    thick = max(2, min(width, height) // 90)
    near = min(_margin(width), _margin(height)) // 3
    right, bottom = width - near - 1, height - near - 1
    level = [(near, near, right, near + thick), (near, bottom - thick, right, bottom)]
    upright = [(near, near, near + thick, bottom), (right - thick, near, right, bottom)]
    return tuple(chance.choice(([], level, [*level, *upright])))


def _margin(edge: int) -> int:
    return edge // 16


def _is_on(text: str, blocks: Sequence[Block]) -> bool:
    return any(text in " ".join(block.rows) for block in blocks)
