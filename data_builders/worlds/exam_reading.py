"""Questions of an examination about what is written: posters, receipts and forms, posters in six languages, slides."""

from __future__ import annotations

import random
from collections.abc import Callable

from mminstruct.data_builders.worlds import posters, receipts, slides
from mminstruct.data_builders.worlds.exam import Form, Make, Question, near_numbers
from mminstruct.data_builders.worlds.poster_texts import LANGUAGES
from mminstruct.data_builders.worlds.posters import Poster
from mminstruct.data_builders.worlds.receipts import Page, money
from mminstruct.data_builders.worlds.scenes import SHAPES
from mminstruct.data_builders.worlds.slides import TOPICS, Slide

# --- posters ----------------------------------------------------------------------------------------------------------

ASKED: dict[str, dict[str, str]] = {
    "en": {
        "title": "What is the title of the event?",
        "time": "At what time does the event begin?",
        "date": "On which date is the event?",
        "place": "Where is the event?",
        "price": "How many euros is the admission?",
    },
    "de": {
        "time": "Um wie viel Uhr beginnt die Veranstaltung?",
        "date": "An welchem Tag ist die Veranstaltung?",
        "place": "Wo ist die Veranstaltung?",
        "price": "Wie viel Euro kostet der Eintritt?",
    },
    "fr": {
        "time": "À quelle heure commence l'événement ?",
        "date": "Quelle est la date de l'événement ?",
        "place": "Où l'événement a-t-il lieu ?",
        "price": "Combien d'euros coûte l'entrée ?",
    },
    "es": {
        "time": "¿A qué hora empieza el evento?",
        "date": "¿Cuál es la fecha del evento?",
        "place": "¿Dónde es el evento?",
        "price": "¿Cuántos euros cuesta la entrada?",
    },
    "ru": {
        "time": "Во сколько начинается мероприятие?",
        "date": "Какого числа проходит мероприятие?",
        "place": "Где проходит мероприятие?",
        "price": "Сколько евро стоит вход?",
    },
    "el": {
        "time": "Τι ώρα αρχίζει η εκδήλωση;",
        "date": "Ποια είναι η ημερομηνία της εκδήλωσης;",
        "place": "Πού γίνεται η εκδήλωση;",
        "price": "Πόσα ευρώ κοστίζει η είσοδος;",
    },
}
# A poster that says where one goes when it rains names two places.
RAIN = {"en": "bad weather", "de": "Wetter", "fr": "pluie", "es": "llueve", "ru": "погоду", "el": "βροχής"}
PRICES = ("4", "5", "8", "9", "12", "15", "18", "24")


def _poster(language: str, name: str) -> Make:
    def make(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
        found = posters.poster(seed, number, (language,))
        return _of_poster(found, name or target, chance)

    return make


def _of_poster(found: Poster, name: str, chance: random.Random) -> Question | None:
    written = " ".join(row for block in found.blocks for row in block.rows)
    if name not in found.facts or (found.facts["price"] == "0" and name == "price"):
        return None
    if name == "place" and RAIN[found.language] in written:
        return None
    right, texts = found.facts[name], LANGUAGES[found.language]
    if name == "price" and texts.price.format(price=right) not in written:
        return None
    answers = [right]
    answers += _otherwise(found, name)
    if name == "title":  # some are printed in capitals, which would single them out among the options
        right = next(title for title in texts.titles if title.upper() == right.upper())
        answers, pool = [right], list(texts.titles)
    elif name == "place":
        pool = list(texts.places)
    elif name == "price":
        pool = list(PRICES)
    elif name == "time":
        pool = [f"{hour}:{minute:02d}" for hour in range(9, 22) for minute in (0, 15, 30, 45)]
    else:
        months, years = texts.months.split(), range(2024, 2030)
        days = [(chance.randint(1, 28), chance.choice(months), chance.choice(years)) for _ in range(9)]
        pool = [texts.date.format(day=day, month=month, year=year) for day, month, year in days]
    wrong = sorted(set(pool) - {right})
    if len(wrong) < 3:
        return None
    text = ASKED[found.language][name]
    return Question(text, tuple(dict.fromkeys(answers)), tuple(chance.sample(wrong, 3)), (found.id,), (found.draw(),))


def _otherwise(found: Poster, name: str) -> list[str]:
    """Other ways in which people write a price, a time or a date."""
    right, texts = found.facts[name], LANGUAGES[found.language]
    if name == "price":
        unit = texts.price.format(price=right).split()[-1]
        return [f"{right} {unit}", f"€{right}", f"{right} €", f"{right} euros", f"{right} euro", f"{right} EUR"]
    if name == "time":
        hour, minute = right.split(":")
        half = f"{(int(hour) - 1) % 12 + 1}:{minute} {'pm' if int(hour) >= 12 else 'am'}"
        padded = [f"0{right}"] if len(hour) == 1 else []
        return [
            half,
            half.replace("m", ".m."),
            f"{right} Uhr",
            f"{hour}h{minute}",
            f"{hour} h {minute}",
            f"{right} h",
            *padded,
        ]
    if name == "date" and found.language == "en":
        day, month, year = right.split()
        return [f"{month} {day}, {year}", f"{month} {day} {year}", f"{day} {month}, {year}"]
    return []


# --- receipts and forms -----------------------------------------------------------------------------------------------


def _amounts(page: Page) -> list[str]:
    """All amounts that are printed at the right."""
    amounts = [money(item.amount) for item in page.items]
    return amounts + [page.facts[name] for name in ("total", "tax", "given", "change") if name in page.facts]


def total(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    page = receipts.receipt(seed, number)
    return _amount(page, "What is the total of the receipt?", page.facts["total"], chance)


def _amount(page: Page, text: str, right: str, chance: random.Random) -> Question | None:
    """Wrong options are other amounts of the same receipt."""
    wrong = sorted(set(_amounts(page)) - {right})
    if len(wrong) < 3:
        return None
    answers = (right, f"{right} EUR", f"€{right}", f"{right} €", f"{right} euros")
    return Question(text, answers, tuple(chance.sample(wrong, 3)), (page.id,), (page.draw(),))


def article(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    page = receipts.receipt(seed, number)
    item = chance.choice(page.items)
    if item.count > 1:  # one price and the amount of several would both be an answer
        return None
    return _amount(page, f'What does "{item.name}" cost on this receipt?', money(item.amount), chance)


def field(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    """Wrong options are what other forms have there."""
    page = receipts.form(seed, number)
    label = chance.choice([label for label in page.facts if label not in ("title", "Nights", "Guests")])
    others = (receipts.form(seed, number + step).facts.get(label) for step in range(1, 40))
    wrong = sorted({other for other in others if other is not None} - {page.facts[label], *page.facts.values()})
    if len(wrong) < 3:
        return None
    text = f'What is filled in at "{label}"?'
    return Question(text, (page.facts[label],), tuple(chance.sample(wrong, 3)), (page.id,), (page.draw(),))


# --- slides -----------------------------------------------------------------------------------------------------------

ORDER = ("first", "second", "third", "fourth")


def _slide(ask: Callable[[Slide, str, random.Random], tuple[str, str, list[str]] | None]) -> Make:
    def make(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
        found = slides.slide(seed, number)
        asked = ask(found, target, chance)
        if asked is None:
            return None
        text, right, wrong = asked
        return Question(text, (right,), tuple(wrong), (found.id,), (found.draw(),))

    return make


def _title(found: Slide, target: str, chance: random.Random) -> tuple[str, str, list[str]]:
    wrong = chance.sample(sorted(set(TOPICS) - {found.title}), 3)
    return "What is the title of the slide?", found.title, wrong


def _bullet(found: Slide, target: str, chance: random.Random) -> tuple[str, str, list[str]]:
    """Wrong options are first the slide's other points, then others of its topic."""
    bullets = found.texts("bullet")
    place = chance.randrange(len(bullets))
    more = [point for point in TOPICS[found.title][0] if point not in bullets]
    wrong = [*bullets[:place], *bullets[place + 1 :], *chance.sample(more, len(more))][:3]
    return f"What does the {ORDER[place]} bullet point say?", bullets[place], wrong


def _tallest(found: Slide, target: str, chance: random.Random) -> tuple[str, str, list[str]] | None:
    if len(found.bars) != 4:
        return None
    ranked = sorted(found.bars, key=lambda bar: bar.value, reverse=target == "tallest")
    return f"Which label has the {target} bar?", ranked[0].label, [bar.label for bar in ranked[1:]]


def _bar_value(found: Slide, target: str, chance: random.Random) -> tuple[str, str, list[str]] | None:
    if len(found.bars) < 3:
        return None
    bar = chance.choice(found.bars)
    others = [other.value for other in found.bars]
    return f'What is the value of the bar "{bar.label}"?', str(bar.value), list(near_numbers(bar.value, others, chance))


def _page(found: Slide, target: str, chance: random.Random) -> tuple[str, str, list[str]]:
    return "What is the page number of the slide?", str(found.page), list(near_numbers(found.page, (), chance, 1))


def _shape(found: Slide, target: str, chance: random.Random) -> tuple[str, str, list[str]] | None:
    if found.shape is None or found.shape.shape != target:
        return None
    return "Which shape is drawn on the slide?", target, [shape for shape in SHAPES if shape != target]


OCR = (
    Form("poster-title", _poster("en", "title")),
    Form("poster-time", _poster("en", "time")),
    Form("poster-place", _poster("en", "place")),
    Form("receipt-total", total),
    Form("receipt-item", article),
    Form("form-field", field),
)
IN_LANGUAGES = tuple(
    Form(texts.name.lower(), _poster(language, ""), ("time", "date", "place", "price"))
    for language, texts in LANGUAGES.items()
)
ON_SLIDES = (
    Form("title", _slide(_title)),
    Form("bullet", _slide(_bullet)),
    Form("tallest", _slide(_tallest), ("tallest", "shortest")),
    Form("value", _slide(_bar_value)),
    Form("page", _slide(_page)),
    Form("shape", _slide(_shape), SHAPES),
)
