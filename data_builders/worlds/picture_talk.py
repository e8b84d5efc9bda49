"""Dialogues about pictures of which only captions are known, with each picture's tag where it is shown or produced.

captions ──dialogue──▶ "Human: <img0>...</img0> What does it show?\\n\\nAssistant: It shows ...\\n\\nHuman: ..."

All that is said follows from the captions: what one says, what two have in common, which of them names something.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Sequence

from mminstruct.building.words import content_words
from mminstruct.data_builders.worlds.scenes import COLORS, NUMBERS, SHAPES, listed
from mminstruct.data_builders.worlds.slides import a_or_an

Exchange = tuple[str, str]  # what the human says, and the assistant

_NAME = re.compile(rf"\b({'|'.join(COLORS)}) ({'|'.join(SHAPES)})\b")
# By whether the caption is of the worlds, and so a noun with all that belongs to it; others may be sentences or titles.
_TELLS = {
    True: ("It shows {}.", "I see {}.", "This is {}."),
    False: ('I would call it "{}".', 'It can be said in a few words: "{}".', 'My caption for it is "{}".'),
}
_WISHES = {
    True: ("Please make me a picture of {}.", "Could you draw {}?", "I would like to see {}."),
    False: ('Please make me a picture for the words "{}".', 'Which picture comes to your mind for "{}"? Show me.'),
}
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def tagged(number: int, caption: str) -> str:
    return f"<img{number}>{caption}</img{number}>"


def dialogue(captions: Sequence[str], rng: random.Random) -> str:
    """A dialogue in which every picture has its place once; the human shows some, the assistant produces others."""
    exchanges: list[Exchange] = []
    shown: list[int] = []
    while len(shown) < len(captions):
        new = len(shown)
        left = len(captions) - new
        if new == 0:
            makers: list[Callable[[Sequence[str], int, random.Random], Exchange]] = [_show, _show, _produce]
        else:
            makers = [_show, _produce, _another, _another]
        if left >= 2 and rng.random() < 0.4:
            count = rng.randint(2, min(left, 4))
            exchanges.append(_compare(captions, range(new, new + count), rng))
        else:
            count = 1
            exchanges.append(rng.choice(makers)(captions, new, rng))
        shown += range(new, new + count)
        asked = [question for question, _ in exchanges]
        follow_ups = [one for one in _follow_ups(captions, shown, count, rng) if one[0] not in asked]
        if follow_ups and rng.random() < 0.6:
            exchanges.append(rng.choice(follow_ups))
    if len(exchanges) == 1:
        exchanges += (_follow_ups(captions, shown, 1, rng) or [("Thank you, that helps.", "You are welcome.")])[:1]
    return "\n\n".join(f"Human: {asked}\n\nAssistant: {answered}" for asked, answered in exchanges)


def _show(captions: Sequence[str], new: int, rng: random.Random) -> Exchange:
    """The human shows a picture."""
    tag = tagged(new, captions[new])
    if new == 0:
        asked = rng.choice(
            [
                f"{tag} What does this picture show?",
                f"Have a look at this: {tag} Can you describe it?",
                f"I found this picture. {tag} What is there to see?",
            ]
        )
    else:
        asked = rng.choice([f"And what about this one? {tag}", f"Here is another one. {tag} Please describe it, too."])
    return asked, rng.choice(_TELLS[_is_noun(captions[new])]).format(_what(captions[new]))


def _produce(captions: Sequence[str], new: int, rng: random.Random) -> Exchange:
    """The human asks for a picture, and the assistant makes it."""
    wanted, tag = _what(captions[new]), tagged(new, captions[new])
    asked = rng.choice(_WISHES[_is_noun(captions[new])]).format(wanted)
    answered = rng.choice(
        ["Here it is: {}", "Certainly. {}", "With pleasure. {} I hope that it is what you had in mind."]
    )
    return asked, answered.format(tag)


def _another(captions: Sequence[str], new: int, rng: random.Random) -> Exchange:
    """The human asks for one that is like the last, and the assistant says in what it is."""
    tag, common = tagged(new, captions[new]), _common([captions[new - 1], captions[new]])
    asked = rng.choice(["Do you have another one like that?", "Can you show me one more of this kind?"])
    if common is None:
        return asked, rng.choice([f"Here is one: {tag}", f"This may do: {tag}"])
    answered = rng.choice(
        [f"Here is one: {tag} Both {common}.", f"{tag} It goes with the last one, since both {common}."]
    )
    return asked, answered


def _compare(captions: Sequence[str], new: Sequence[int], rng: random.Random) -> Exchange:
    """The human shows several pictures at once."""
    tags = listed([tagged(number, captions[number]) for number in new])
    count = NUMBERS[len(new)]
    same = "both" if len(new) == 2 else f"all {count}"
    asked = rng.choice(
        [f"Here are {count} pictures: {tags} What do they have in common?", f"{tags} What is the same in {same}?"]
    )
    common = _common([captions[number] for number in new])
    if common is None:
        return asked, rng.choice(["Nothing that I could name.", "I cannot see anything that they share."])
    return asked, f"{same.capitalize()} {common}."


def _follow_ups(captions: Sequence[str], shown: Sequence[int], last: int, rng: random.Random) -> list[Exchange]:
    """What can be asked without a further picture: of the last one, or of all so far."""
    found: list[Exchange] = []
    names = [" ".join(name) for name in _NAME.findall(captions[shown[-1]])]
    it = "it" if last == 1 else "the last one"
    drawn = re.fullmatch(r"A picture of (.+) on a [a-z ]+ background\.", captions[shown[-1]])
    if drawn and len(re.split(", | and ", drawn[1])) == len(names):  # shapes are all that there is
        found.append(
            (
                f"How many shapes are there in {it}?",
                f"There are {NUMBERS[len(names)]}: {listed([a_or_an(name) for name in names])}.",
            )
        )
        colors = sorted({name.split()[0] for name in names})
        found.append((f"Which colours do the shapes in {it} have?", f"{listed(colors).capitalize()}."))
    title = re.search(r'titled "(.+?)"', captions[shown[-1]])
    if title:
        asked = "What is the title of this slide?" if last == 1 else "What is the title of the last one?"
        found.append((asked, f'The title is "{title[1]}".'))
    if len(shown) >= 2:
        for number in shown:
            others = [captions[other] for other in shown if other != number]
            own = [" ".join(name) for name in _NAME.findall(captions[number])]
            own = [name for name in own if not any(name in other for other in others)]
            if own and number < len(_ORDINALS):
                name = rng.choice(own)
                asked = rng.choice(
                    [f"In which of the pictures so far is there {a_or_an(name)}?", f"Where did I see {a_or_an(name)}?"]
                )
                found.append((asked, f"In the {_ORDINALS[number]} one."))
    return found


def _is_noun(caption: str) -> bool:
    return caption.startswith(("A picture of ", "A slide titled "))


def _what(caption: str) -> str:
    """What a caption says, as it stands within a sentence."""
    told = caption.strip().rstrip(".")
    told = re.sub(r"^(A|An) (picture|photo|image|drawing) (of|with) ", "", told)
    first = told.split(" ", 1)[0]
    return told if first.isupper() and len(first) > 1 else told[:1].lower() + told[1:]


def _common(captions: Sequence[str]) -> str | None:
    """What is true of all pictures, as it follows on `both` or `all three`; None where there is nothing."""
    titles = {found[1] for caption in captions if (found := re.search(r'titled "(.+?)"', caption))}
    if len(titles) == 1 and all("titled" in caption for caption in captions):
        return f'are slides about "{titles.pop()}"'
    named = [[" ".join(name) for name in _NAME.findall(caption)] for caption in captions]
    if all(named):
        for kind in (lambda name: name, lambda name: name.split()[1], lambda name: f"{name.split()[0]} shape"):
            sets = [{kind(name) for name in names} for names in named]
            shared = sorted(set.intersection(*sets))
            if shared:
                return f"have {listed([a_or_an(name) for name in shared])} in them"
    grounds = [re.search(r"on a ([a-z ]+) background", caption) for caption in captions]
    if all(grounds) and len({ground[1] for ground in grounds if ground}) == 1:
        return f"have a {grounds[0][1]} background" if grounds[0] else None
    words = [_words(caption) for caption in captions]
    stems = set.intersection(*(set(found) for found in words))
    shared = [word for stem, word in words[0].items() if stem in stems]
    return f"have to do with {listed(shared[:3])}" if shared else None


def _words(caption: str) -> dict[str, str]:
    """Stem to word of a caption's content words, in their order."""
    found: dict[str, str] = {}
    for word in re.findall(r"[^\W\d_]{3,}", caption.lower()):
        for stem in itertools.islice(content_words(word), 1):
            found.setdefault(stem, word)
    return found
