"""Questions about what posters, receipts and forms say, with true answers; and noisy readings of known text.

Poster | Page ──known──▶ facts ──known_pairs──▶ (question, answer), ...
lines both engines agree on    ──read_pairs───▶ (question, answer), ...
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mminstruct.data_builders.worlds.poster_texts import LANGUAGES
from mminstruct.data_builders.worlds.posters import Poster
from mminstruct.data_builders.worlds.receipts import Page, money
from mminstruct.evidence.ocr import TextLine

Pair = tuple[str, str]

# What engines take for one another.
CONFUSED = {
    "O": "0", "0": "O", "l": "1", "1": "l", "I": "l", "S": "5", "5": "S", "B": "8", "8": "B", "e": "c", "c": "e",
    "m": "rn", "u": "v", "t": "f", "h": "b", "é": "e", "è": "e", "ü": "u", "ö": "o", "ä": "a", "ñ": "n", "ß": "B",
    "о": "o", "а": "a", "и": "н", "ш": "щ", "ο": "o", "α": "a", "ν": "v", ".": ",", ",": ".", ":": ".",
}  # fmt: skip


def noisy(lines: Sequence[TextLine], chance: random.Random, rate: float) -> list[TextLine]:
    """A reading as a poor engine might give it: letters confused, spaces lost at `rate`, now and then a line missed."""
    found = []
    for line in lines:
        if len(lines) > 2 and chance.random() < rate:
            continue
        letters = []
        for letter in line.text:
            if letter == " " and chance.random() < rate:
                continue
            letters.append(CONFUSED[letter] if letter in CONFUSED and chance.random() < 2 * rate else letter)
        found.append(replace(line, text="".join(letters)))
    return found


def known(source: Poster | Page) -> dict[str, Any]:
    """What a world knows of a picture, for the record."""
    if isinstance(source, Poster):
        return {"kind": "poster", "language": source.language, **source.facts}
    items = [{"name": item.name, "count": item.count, "price": item.price} for item in source.items]
    return {"kind": source.kind, **source.facts, **({"items": items} if items else {})}


def known_pairs(facts: dict[str, Any], chance: random.Random) -> list[Pair]:
    """All that is asked about a picture of a world, in no order."""
    return {"poster": _poster_pairs, "receipt": _receipt_pairs, "form": _form_pairs}[facts["kind"]](facts, chance)


def _poster_pairs(facts: dict[str, Any], chance: random.Random) -> list[Pair]:
    found = [
        (
            chance.choice(
                ("Which language is this poster written in?", "Which language do I need to understand this?")
            ),
            f"The poster is written in {LANGUAGES[facts['language']].name}.",
        )
    ]
    if title := facts.get("title"):
        asked = chance.choice(("What is this poster for?", "What is being announced here?", "Which event is it about?"))
        found.append((asked, f'The poster announces "{title}".'))
    if "date" in facts and "time" in facts:
        asked = chance.choice(
            (
                "When does it take place?",
                "I would like to go. When should I be there?",
                "What should I put in my diary?",
            )
        )
        found.append((asked, f'The date on the poster is "{facts["date"]}", and it begins at {facts["time"]}.'))
        hour, minute = map(int, facts["time"].split(":"))
        ours = chance.randint(max(0, hour - 3), min(23, hour + 3)) * 60 + chance.choice((5, 20, 40, 50))
        start = hour * 60 + minute
        told = (
            f"Yes, you have {_minutes(start - ours)} left before it begins at {facts['time']}."
            if ours < start
            else f"No, it begins at {facts['time']}, so you would be {_minutes(ours - start)} late."
        )
        found.append((f"I can be there at {ours // 60}:{ours % 60:02d} that day. Will I see the beginning?", told))
    if place := facts.get("place"):
        asked = chance.choice(
            ("Where do I have to go?", "Where is it held?", "Which place should I look for on a map?")
        )
        found.append((asked, f'According to the poster it takes place at "{place}".'))
    if price := int(facts.get("price", 0)):
        count = chance.randint(2, 5)
        found.append(
            (
                f"How much do {count} tickets cost together?",
                f"One ticket costs {price} euros, so {count} of them cost {count * price} euros.",
            )
        )
        have = chance.choice((5, 10, 15, 20, 30))
        found.append(
            (
                f"I have {have} euros with me. Is that enough to get in?",
                f"Yes, admission is {price} euros."
                if have >= price
                else f"No, admission is {price} euros, so {price - have} more would be needed.",
            )
        )
    elif "price" in facts:
        found.append(("Do I have to pay to get in?", "No, the poster says that admission is free."))
    return found


def _minutes(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    parts = [f"{count} {unit}{'s' * (count > 1)}" for count, unit in ((hours, "hour"), (rest, "minute")) if count]
    return " and ".join(parts)


def _receipt_pairs(facts: dict[str, Any], chance: random.Random) -> list[Pair]:
    items: list[dict[str, Any]] = facts["items"]
    amounts = {item["name"]: item["count"] * item["price"] for item in items}
    total = sum(amounts.values())
    found = [
        (
            chance.choice(("How much was spent?", "What did this purchase come to?", "What was the bill?")),
            f"The purchase came to {money(total)} euros, paid {'in cash' if facts['paid'] == 'cash' else 'by card'}.",
        ),
        (
            chance.choice(("Which shop is this from?", "Where was this bought?")),
            f"It was bought at {facts['shop']}, {facts['address']}.",
        ),
        (
            chance.choice(("When was this bought?", "I need the date for my accounts. What is it?")),
            f"The receipt is dated {facts['date']}, {facts['time']}.",
        ),
        (
            "How many different articles are on the receipt?",
            f"There are {len(items)}: {', '.join(amounts)}.",
        ),
        (
            chance.choice(("How much tax is in the price?", "How much of this went to the tax office?")),
            f"The receipt says that {facts['tax']} euros of the total are tax.",
        ),
    ]
    highest = max(amounts.values())
    if list(amounts.values()).count(highest) == 1:
        first = max(amounts, key=lambda name: amounts[name])
        found.append(
            ("What took up the largest part of the bill?", f"The largest amount is {money(highest)} euros for {first}.")
        )
    away = chance.choice(sorted(amounts))
    found.append(
        (
            f"What would the total be without this: {away}?",
            f"That accounts for {money(amounts[away])} euros, so {money(total - amounts[away])} euros would remain.",
        )
    )
    several = [item for item in items if item["count"] > 1]
    if several:
        one = chance.choice(several)
        found.append(
            (
                f"What does a single one of these cost: {one['name']}?",
                f"One costs {money(one['price'])} euros; {one['count']} were bought for {money(amounts[one['name']])}.",
            )
        )
    if "change" in facts:
        found.append(
            (
                "How much money was given back?",
                f"{facts['given']} euros were given for a bill of {money(total)}, so {facts['change']} came back.",
            )
        )
    return found


# Ways to ask for a field of a form, and the answer.
_FIELDS: dict[str, tuple[tuple[str, ...], str]] = {
    "Name": (("Whose form is this?", "Who has filled this in?"), "The name on the form is {}."),
    "Sender": (("Who is sending the parcel?", "To whom does it go back if nobody opens?"), "The sender is {}."),
    "Recipient": (("Who is going to receive the parcel?", "Whose parcel is it?"), "It is addressed to {}."),
    "Street": (("At which house should it be delivered?", "Where in town do I take it?"), "The address is {}."),
    "Town": (("Which town is named?", "Where is this person at home?"), "The town on the form is {}."),
    "Date of birth": (("In which year was this person born?",), "The date of birth is {}, so the year is {year}."),
    "Arrival": (("When will the guests come?", "From which day on is the room needed?"), "Their arrival is on {}."),
    "Nights": (("How long is the stay?", "For how long is the room taken?"), "The room is booked for {} nights."),
    "Guests": (("For how many people should the room be made ready?",), "The number of guests is {}."),
    "Weight": (("How heavy is the parcel?", "What does it weigh?"), "Its weight is given as {}."),
    "Phone": (("How can I reach this person?", "Which number should I call?"), "The phone number on the form is {}."),
    "Card number": (("Which number is on the card?", "What do I enter as the card number?"), "The card number is {}."),
}


def _form_pairs(facts: dict[str, Any], chance: random.Random) -> list[Pair]:
    asked = chance.choice(("What kind of form is this?", "What is this paper for?", "What is the heading of the form?"))
    found = [(asked, f'It is headed "{facts["title"]}".')]
    for label, (ways, told) in _FIELDS.items():
        if label in facts and not (label == "Town" and "Recipient" in facts):
            found.append((chance.choice(ways), told.format(facts[label], year=facts[label].split(".")[-1])))
    if "Recipient" in facts:
        whole = f"{facts['Recipient']}, {facts['Street']}, {facts['Town']}"
        found.append(("Write the label for me: to whom does the parcel go, and where?", f"It goes to {whole}."))
    if "Nights" in facts:
        rate = chance.randint(8, 30) * 5
        told = f"{facts['Nights']} nights at {rate} euros come to {int(facts['Nights']) * rate} euros."
        found.append((f"A night costs {rate} euros. What will the stay cost?", told))
    if "Weight" in facts:
        limit = chance.randint(2, 20)
        fits = float(facts["Weight"].split()[0]) <= limit
        told = f"{'Yes' if fits else 'No'}, it weighs {facts['Weight']}."
        found.append((f"The scale takes {limit} kg at most. Can I weigh the parcel on it?", told))
    return found


_AMOUNT = re.compile(r"(?<![\d.,])\d{1,6}[.,]\d{2}(?![\d.,])")
_CONTACT = re.compile(r"(?:https?://|www\.)\S+|\b[\w.-]+@[\w-]+\.[\w.]+\b|\+?\d[\d ()/-]{7,}\d")
_WORD = re.compile(r"[^\W\d_]{4,}")


def read_pairs(agreed: Sequence[str], readings: Sequence[str], chance: random.Random) -> list[Pair]:
    """Of lines that two engines read alike: what follows from them, whatever the picture is.

    That a word is not there is said only where neither reading has it.
    """
    text = "\n".join(agreed)
    words = sorted({word.casefold(): word for word in _WORD.findall(text)}.items())
    found: list[Pair] = []
    for _, word in chance.sample(words, min(2, len(words))):
        line = next(line for line in agreed if word in line)
        found.append((f'Is the word "{word}" anywhere in the picture?', f'Yes, in the line "{line}".'))
    all_read = " ".join(readings).casefold()
    absent = [word for word in ("refund", "breakfast", "warranty", "library", "garden") if word not in all_read]
    if absent and words:
        found.append((f'Does the picture mention the word "{chance.choice(absent)}"?', "No, I cannot find it there."))
    amounts = sorted({float(match.replace(",", ".")): match for match in _AMOUNT.findall(text)}.items())
    if len(amounts) > 1:
        found.append(
            ("What is the largest amount that can be read?", f"Of what can be read clearly, it is {amounts[-1][1]}.")
        )
    contacts = sorted(set(_CONTACT.findall(text)))
    if len(contacts) == 1:
        found.append(("Is there an address or a number to turn to?", f"Yes, the picture gives {contacts[0].strip()}."))
    return found
