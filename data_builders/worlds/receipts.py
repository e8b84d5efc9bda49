"""Receipts and forms: rows with names at the left and amounts at the right, sums that add up, fields with answers.

receipt(seed, number) ──▶ Receipt(cells, amounts in cents)  ──draw──▶ picture
form(seed, number)    ──▶ Form(cells, fields)               └lines──▶ text and quad of each cell
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from PIL import Image

from mminstruct.data_builders.worlds.lettering import Align, Block, Color, Face, Family, printed
from mminstruct.evidence.ocr import TextLine

SHOPS = (
    ("Corner Bakery", "bakery"),
    ("Green Valley Market", "grocery"),
    ("North Gate Books", "books"),
    ("Hill & Sons Hardware", "hardware"),
    ("Blue Door Cafe", "bakery"),
    ("Riverside Grocery", "grocery"),
    ("The Paper Mill", "books"),
    ("Miller's Tools", "hardware"),
)
GOODS = {
    "bakery": ("Rye bread", "Butter croissant", "Apple cake", "Espresso", "Black tea", "Cheese roll", "Oat cookie"),
    "grocery": ("Tomatoes 500 g", "Whole milk 1 l", "Brown eggs x6", "Olive oil", "Rice 1 kg", "Lemons", "Honey jar"),
    "books": ("Pocket atlas", "Notebook A5", "Fountain pen", "Crime novel", "Wall calendar", "Ink bottle", "Postcard"),
    "hardware": ("Claw hammer", "Steel screws", "Wood glue", "Paint brush", "Sandpaper", "Tape measure", "Door hinge"),
}
STREETS = ("12 Station Road", "4 Market Square", "88 Mill Lane", "31 Church Street", "7 Harbour View", "150 Long Acre")
TOWNS = ("Ashford", "Kilmore", "Westbury", "Oakham", "Dunbar", "Marlow")
PAPERS: tuple[Color, ...] = ((255, 255, 255), (250, 248, 240), (244, 244, 244), (252, 246, 230))
INKS: tuple[Color, ...] = ((20, 20, 20), (52, 52, 60), (40, 36, 80))
NAMES = (
    "Anna Keller",
    "David Moss",
    "Maria Lopez",
    "Ian Wright",
    "Sofia Rossi",
    "Paul Novak",
    "Lena Berg",
    "Omar Said",
)


@dataclass(frozen=True)
class Item:
    """`price` of one in cents."""

    name: str
    count: int
    price: int

    @property
    def amount(self) -> int:
        return self.count * self.price


@dataclass(frozen=True)
class Page:
    """A sheet with cells of one line each and ruled lines.

    Attributes:
        facts: the key fields as they are printed.
    """

    id: str
    kind: str
    size: tuple[int, int]
    paper: Color
    ink: Color
    rules: tuple[tuple[int, int, int, int], ...]
    blocks: tuple[Block, ...]
    facts: dict[str, str] = field(hash=False)
    items: tuple[Item, ...] = ()

    def draw(self, lettered: bool = True) -> Image.Image:
        blocks = self.blocks if lettered else ()
        return printed(self.size, self.paper, blocks, [(rule, self.ink) for rule in self.rules])

    def lines(self) -> list[TextLine]:
        return [line for block in self.blocks for line in block.lines()]

    def caption(self) -> str:
        heading = f" of {self.facts['shop']}" if self.items else f" with the heading {self.facts['title']}"
        return f"A printed {self.kind}{heading} on plain paper."


class _Sheet:
    """Collects cells from top to bottom."""

    def __init__(self, width: int, family: Family, size: int, ink: Color) -> None:
        self.width = width
        self.margin = width // 14
        self.face = Face(family, size)
        self.bold = Face(family, size, bold=True)
        self.ink = ink
        self.top = self.margin
        self.blocks: list[Block] = []
        self.rules: list[tuple[int, int, int, int]] = []

    def row(self, *cells: tuple[str, Align], face: Face | None = None, space: float = 1.35) -> None:
        """Cells side by side; no two of them touch."""
        face = face or self.face
        for words, align in cells:
            block = Block((words,), face, self.ink)
            left = {
                "left": self.margin,
                "centre": (self.width - block.size[0]) // 2,
                "right": self.width - self.margin - block.size[0],
            }[align]
            self.blocks.append(Block((words,), face, self.ink, left, self._level(face, words)))
        self.top += round(space * face.size)

    def at(self, words: str, left: int, face: Face | None = None) -> int:
        """One cell of the row that is not ended yet; where it ends."""
        face = face or self.face
        block = Block((words,), face, self.ink, left, self._level(face, words))
        self.blocks.append(block)
        return left + block.size[0]

    def rule(self) -> None:
        self.top += self.face.size // 3
        self.rules.append((self.margin, self.top, self.width - self.margin, self.top + 1))
        self.top += self.face.size // 2

    def _level(self, face: Face, words: str) -> int:
        """The top of a cell, so that all of a row stand on one baseline, accents or not."""
        return self.top + face.box(words)[1] - face.box("dp")[1]

    def page(self, id: str, kind: str, paper: Color, facts: dict[str, str], items: tuple[Item, ...] = ()) -> Page:
        size = (self.width, self.top + self.margin)
        return Page(id, kind, size, paper, self.ink, tuple(self.rules), tuple(self.blocks), facts, items)


def money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def receipt(seed: int, number: int) -> Page:
    """The receipt of a seed and a number, the same everywhere. Tax is within the prices, as in most of the world."""
    chance = random.Random(f"receipts/{seed}/{number}")
    families: tuple[Family, ...] = ("mono", "mono", "sans")
    family = chance.choice(families)
    sheet = _Sheet(chance.choice((384, 420, 480)), family, chance.choice((14, 15, 16)), chance.choice(INKS))
    shop, trade = chance.choice(SHOPS)
    names = chance.sample(GOODS[trade], chance.randint(2, 5))
    items = tuple(Item(name, chance.choice((1, 1, 1, 2, 3)), chance.randint(8, 260) * 5) for name in names)
    total = sum(item.amount for item in items)
    rate = chance.choice((7, 10, 20))
    tax = (total * rate + (100 + rate) // 2) // (100 + rate)
    note = next(value for value in (500, 1000, 2000, 5000, 10_000, 20_000) if value > total)
    cash = chance.random() < 0.6
    day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(2019, 2027)
    street, town = chance.choice(STREETS), chance.choice(TOWNS)
    facts = {
        "shop": shop,
        "address": f"{street}, {town}",
        "date": f"{year}-{month:02d}-{day:02d}",
        "time": f"{chance.randint(8, 20):02d}:{chance.randint(0, 59):02d}",
        "number": str(chance.randint(1000, 99_999)),
        "total": money(total),
        "tax": money(tax),
        "paid": "cash" if cash else "card",
    }
    sheet.row((shop, "centre"), face=Face(family, sheet.face.size + 6, bold=True), space=1.5)
    sheet.row((street, "centre"))
    sheet.row((town, "centre"))
    sheet.rule()
    sheet.row((f"Receipt {facts['number']}", "left"))
    sheet.row((facts["date"], "left"), (facts["time"], "right"))
    sheet.rule()
    for item in items:
        if item.count > 1:
            sheet.row((item.name, "left"))
            sheet.row((f"{item.count} x {money(item.price)}", "left"), (money(item.amount), "right"))
        else:
            sheet.row((item.name, "left"), (money(item.amount), "right"))
    sheet.rule()
    sheet.row(("TOTAL EUR", "left"), (money(total), "right"), face=Face(family, sheet.face.size + 3, bold=True))
    sheet.row((f"including tax {rate}%", "left"), (money(tax), "right"))
    if cash:
        facts |= {"given": money(note), "change": money(note - total)}
        sheet.row(("Cash", "left"), (money(note), "right"))
        sheet.row(("Change", "left"), (money(note - total), "right"))
    else:
        sheet.row(("Card", "left"), (money(total), "right"))
    sheet.rule()
    sheet.row((chance.choice(("Thank you!", "Please come again", "Goods can be returned within 14 days")), "centre"))
    return sheet.page(f"receipts/{seed}/{number}", "receipt", chance.choice(PAPERS), facts, items)


def form(seed: int, number: int) -> Page:
    """A form that somebody has filled in: a label, and its answer on a ruled line."""
    chance = random.Random(f"forms/{seed}/{number}")
    families: tuple[tuple[Family, Family], ...] = (("sans", "serif"), ("serif", "mono"), ("sans", "mono"))
    printed, filled = chance.choice(families)
    sheet = _Sheet(chance.choice((420, 480, 520)), printed, chance.choice((14, 15, 16)), chance.choice(INKS))
    name = chance.choice(NAMES)
    title, asked = chance.choice(
        (
            ("Library card", ("Name", "Date of birth", "Town", "Phone", "Card number")),
            ("Parcel slip", ("Sender", "Recipient", "Street", "Town", "Weight")),
            ("Room booking", ("Name", "Arrival", "Nights", "Guests", "Phone")),
        )
    )
    answers = {
        "Name": name,
        "Sender": name,
        "Recipient": chance.choice([other for other in NAMES if other != name]),
        "Street": chance.choice(STREETS),
        "Town": chance.choice(TOWNS),
        "Date of birth": f"{chance.randint(1, 28)}.{chance.randint(1, 12)}.{chance.randint(1950, 2012)}",
        "Arrival": f"{chance.randint(1, 28)}.{chance.randint(1, 12)}.{chance.randint(2025, 2029)}",
        "Nights": str(chance.randint(2, 14)),
        "Guests": str(chance.randint(1, 6)),
        "Weight": f"{chance.randint(3, 180) / 10:.1f} kg",
        "Phone": f"0{chance.randint(100, 999)} {chance.randint(10_000, 99_999)}",
        "Card number": f"{chance.choice('ABCDEFGH')}{chance.randint(100_000, 999_999)}",
    }
    sheet.row((title, "left"), face=Face(printed, sheet.face.size + 8, bold=True), space=2.2)
    column = max(sheet.bold.width(f"{label}:") for label in asked) + sheet.margin + sheet.face.size
    for label in asked:
        sheet.at(f"{label}:", sheet.margin, sheet.bold)
        sheet.at(answers[label], column, Face(filled, sheet.face.size))
        under = sheet.top + round(1.25 * sheet.face.size)
        sheet.rules.append((column, under, sheet.width - sheet.margin, under))
        sheet.top += 2 * sheet.face.size
    facts = {"title": title, **{label: answers[label] for label in asked}}
    return sheet.page(f"forms/{seed}/{number}", "form", chance.choice(PAPERS), facts)
