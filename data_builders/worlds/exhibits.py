"""Exhibits: scenes as pictures of an invented museum, with a title, an artist, a year and more that no picture shows.

exhibit(seed, number) ──▶ Exhibit ──caption──▶ a title, a technique and a year: what a label says
                                  ├─passage──▶ a catalogue's text, that tells four or five of six facts
                                  └─facts────▶ {"artist": "Mara Quint", "year": "1974", ...}

Titles and names share words, so whoever looks for an exhibit by words finds others that are near and wrong.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mminstruct.data_builders.worlds.scenes import Scene, listed, scene

FIRST = (
    *("Quiet", "Lantern", "Copper", "Winter", "Salt", "Distant", "Paper", "Hollow", "Northern", "Amber", "Second"),
    *("Broken", "Slow", "Glass", "Harbour", "Morning", "Silent", "Iron", "River", "Open", "Narrow", "Late", "Velvet"),
    *("Wandering", "Granite", "Upper", "Borrowed", "Thin", "Market", "Hidden", "Summer", "Cedar", "Grey", "Long"),
    *("Painted", "Echoing", "Lower", "Garden", "Folded", "Moonlit"),
)
SECOND = (
    *("Hill", "Bridge", "Signal", "Orchard", "Window", "Tide", "Station", "Letter", "Field", "Tower", "Song", "Path"),
    *("Meadow", "Door", "Island", "Compass", "Road", "Evening", "Wall", "Mill", "Valley", "Chapter", "Bay", "Shadow"),
    *("Room", "Fountain", "Clock", "Coast", "Forest", "Square", "Ladder", "Harvest", "Sail", "Stair", "Ferry", "Moor"),
    *("Lake", "Cabin", "Terrace", "Kite"),
)
GIVEN = (
    *("Mara", "Edvin", "Ilse", "Tomas", "Noor", "Henrik", "Paola", "Yusuf", "Greta", "Amos", "Lucia", "Viktor"),
    *("Hana", "Oskar", "Leila", "Bruno", "Agnes", "Rafael", "Sunniva", "Dmitri", "Odile", "Marek", "Teresa", "Kwame"),
)
FAMILY = (
    *("Quint", "Halvorsen", "Brandt", "Okafor", "Sorel", "Lindqvist", "Moreau", "Castellan", "Petrov", "Ashdown"),
    *("Varga", "Ferreira", "Nakata", "Holm", "Duarte", "Keller", "Rowan", "Aydin", "Salgado", "Thorne", "Weiss"),
    *("Marchetti", "Adeyemi", "Novak", "Eklund", "Pascal", "Greenaway", "Ibarra", "Sato", "Olsen", "Lavigne", "Dorn"),
)
CITIES = (
    *("Lisbon", "Trieste", "Bergen", "Ghent", "Riga", "Porto", "Krakow", "Valencia", "Dublin", "Graz", "Turku"),
    *("Bologna", "Leipzig", "Aarhus", "Lyon", "Split"),
)
TECHNIQUES = (
    *("screen print", "linocut", "gouache on board", "paper cut", "woodcut", "lithograph", "collage", "poster"),
    *("relief on steel", "tempera panel", "stencil print", "watercolour"),
)
ROOMS = (
    *("the north gallery", "the reading room", "the long hall", "the east wing", "the print cabinet", "the upper wing"),
    *("the garden room", "the rotunda", "the west stair", "the blue salon"),
)
TITLES = len(FIRST) * len(SECOND)


@dataclass(frozen=True)
class Fact:
    """How one kind of fact is told and asked. `{subject}` is what the exhibit is called, `{value}` the fact."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]


FACTS = {
    "artist": Fact(
        ("{subject} was made by {value}.", "{subject} is by {value}.", "{value} is credited with {subject}."),
        ("Who made {subject}?", "Which artist is {subject} by?", "Whose work is {subject}?"),
    ),
    "year": Fact(
        ("{subject} was made in {value}.", "{subject} dates from {value}.", "{subject} was finished in {value}."),
        ("In which year was {subject} made?", "From which year is {subject}?", "When was {subject} finished?"),
    ),
    "city": Fact(
        ("{subject} was first shown in {value}.", "The first exhibition of {subject} was in {value}."),
        ("In which city was {subject} first shown?", "Where was the first exhibition of {subject}?"),
    ),
    "technique": Fact(
        ("{subject} is a {value}.", "The technique of {subject} is that of a {value}."),
        ("What kind of work is {subject}?", "By which technique was {subject} made?"),
    ),
    "room": Fact(
        ("{subject} hangs in {value}.", "Visitors find {subject} in {value}."),
        ("Where in the museum does {subject} hang?", "In which part of the museum is {subject} found?"),
    ),
    "donor": Fact(
        ("{subject} was given to the museum by {value}.", "The museum owes {subject} to {value}."),
        ("Who gave {subject} to the museum?", "To whom does the museum owe {subject}?"),
    ),
}


@dataclass(frozen=True)
class Exhibit:
    """`facts` are all there are, in the order of `FACTS`; `told` are the kinds of which the passage speaks."""

    number: int
    scene: Scene
    title: str
    facts: dict[str, str]
    told: tuple[str, ...]
    passage: str

    @property
    def name(self) -> str:
        return f"“{self.title}”"

    @property
    def caption(self) -> str:
        """A label: it names the picture and does not describe it."""
        return f"{self.name}, {self.facts['technique']}, {self.facts['year']}"

    def statement(self, kind: str, value: str, subject: str, chance: random.Random) -> str:
        """A sentence that tells a fact, true if `value` is."""
        return _sentence(chance.choice(FACTS[kind].statements).format(subject=subject, value=value))

    def question(self, kind: str, subject: str, chance: random.Random) -> str:
        return chance.choice(FACTS[kind].questions).format(subject=subject)


def value_of(kind: str, chance: random.Random) -> str:
    """A value that a fact of this kind could have."""
    if kind in ("artist", "donor"):
        return f"{chance.choice(GIVEN)} {chance.choice(FAMILY)}"
    if kind == "year":
        return str(chance.randint(1901, 1999))
    return chance.choice({"city": CITIES, "technique": TECHNIQUES, "room": ROOMS}[kind])


def other_value(kind: str, value: str, chance: random.Random) -> str:
    """Another one."""
    while True:
        found = value_of(kind, chance)
        if found != value:
            return found


def exhibit(seed: int, number: int) -> Exhibit:
    """The exhibit of a seed and a number, the same everywhere; no two of a seed have one title."""
    chance = random.Random(f"exhibits/{seed}/{number}")
    place = (number * 739 + seed * 97) % TITLES  # 739 shares no factor with 1600, so every title comes once in a round
    series = number // TITLES
    title = f"{FIRST[place // len(SECOND)]} {SECOND[place % len(SECOND)]}{f' No. {series + 1}' if series else ''}"
    facts = {kind: value_of(kind, chance) for kind in FACTS}
    told = tuple(sorted(chance.sample(list(FACTS), chance.randint(4, 5)), key=list(FACTS).index))
    drawn = scene(seed, number)
    return Exhibit(number, drawn, title, facts, told, _passage(drawn, title, facts, told, chance))


def _passage(drawn: Scene, title: str, facts: dict[str, str], told: tuple[str, ...], chance: random.Random) -> str:
    """A title and what is to be seen first, so that a picture finds its passage; then the facts in any order."""
    things = listed([f"a{'n' * (thing.color[0] in 'aeiou')} {thing.name}" for thing in drawn.things])
    shows = chance.choice(("It shows {things} on a {ground} background.", "On a {ground} ground one sees {things}."))
    opening = chance.choice(
        ("“{title}” is exhibit {number} of the collection.", "The catalogue calls this work “{title}”.")
    )
    first = opening.format(title=title, number=drawn.id.rpartition("/")[2])
    sentences = [first, shows.format(things=things, ground=drawn.ground)]
    kinds = list(told)
    chance.shuffle(kinds)
    for place, kind in enumerate(kinds):
        subject = f"“{title}”" if place == 0 else chance.choice(("it", "the work", "the picture"))
        sentence = chance.choice(FACTS[kind].statements).format(subject=subject, value=facts[kind])
        sentences.append(_sentence(sentence))
    sentences.insert(chance.randint(2, len(sentences)), drawn.captions()[2])
    return " ".join(sentences)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
