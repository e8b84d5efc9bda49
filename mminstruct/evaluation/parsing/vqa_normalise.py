"""The text normalisation of the official VQA scorer, with its quirks, as steps that the variants combine.

    str ── one_line ──▶ str ── punctuation ──▶ str ── digits_articles_contractions ──▶ str

Facts from GT-Vision-Lab/VQA `vqaEval.py` (`processPunctuation`, `processDigitArticle`) and facebookresearch/mmf
`EvalAIAnswerProcessor` (`word_tokenize`); a published score depends on the quirks, so they are kept and said here:

- A punctuation mark is deleted when anywhere in the text it stands next to a blank, and so are all marks when the text
  holds digit-comma-digit; otherwise each becomes a blank. ' : $ % & * # ~ are no punctuation marks.
- A full stop is deleted unless a digit follows ("2." -> "2", "U.S.A." -> "USA", ".5" stays): the look-behind of the
  official expression, `(?!<=\\d)`, is a misspelling that never applies. And `re.UNICODE` (32) is given as the count, so
  that only the first 32 are deleted.
- VLMEvalKit's copy mended the look-behind (vlmeval/smp/misc.py at 4e85dcd), so that its full stop stays after a digit
  too and "2." is no longer "2"; the count of 32 it kept.
- Contractions get their apostrophe back ("dont" -> "don't"); "somebody'd" alone loses it, and the keys with a capital I
  can never apply because the text is lower case by then.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType

MARKS = ';/[]"{}()=+\\_-><@`,?!'
ARTICLES = frozenset({"a", "an", "the"})
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = MappingProxyType({"none": "0"} | {word: str(value) for value, word in enumerate(_NUMBER_WORDS)})
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
FULL_STOP_BETWEEN_NO_DIGITS = re.compile(r"(?<!\d)\.(?!\d)")
_MOST_FULL_STOPS = int(re.UNICODE)
_REMEMBERED = 1 << 16  # texts: ten annotators say the same few things

# "as written:as it should be", the official table without its capital-I keys and its identity entries ("let's",
# "she's"): neither changes anything.
_CONTRACTIONS = """
aint:ain't arent:aren't cant:can't couldve:could've couldnt:couldn't couldn'tve:couldn't've couldnt've:couldn't've
didnt:didn't doesnt:doesn't dont:don't hadnt:hadn't hadnt've:hadn't've hadn'tve:hadn't've hasnt:hasn't havent:haven't
hed:he'd hed've:he'd've he'dve:he'd've hes:he's howd:how'd howll:how'll hows:how's isnt:isn't itd:it'd itd've:it'd've
it'dve:it'd've itll:it'll maam:ma'am mightnt:mightn't mightnt've:mightn't've mightn'tve:mightn't've mightve:might've
mustnt:mustn't mustve:must've neednt:needn't notve:not've oclock:o'clock oughtnt:oughtn't ow's'at:'ow's'at
'ows'at:'ow's'at 'ow'sat:'ow's'at shant:shan't shed've:she'd've she'dve:she'd've shouldve:should've shouldnt:shouldn't
shouldnt've:shouldn't've shouldn'tve:shouldn't've somebody'd:somebodyd somebodyd've:somebody'd've
somebody'dve:somebody'd've somebodyll:somebody'll somebodys:somebody's someoned:someone'd someoned've:someone'd've
someone'dve:someone'd've someonell:someone'll someones:someone's somethingd:something'd somethingd've:something'd've
something'dve:something'd've somethingll:something'll thats:that's thered:there'd thered've:there'd've
there'dve:there'd've therere:there're theres:there's theyd:they'd theyd've:they'd've they'dve:they'd've theyll:they'll
theyre:they're theyve:they've twas:'twas wasnt:wasn't wed've:we'd've we'dve:we'd've weve:we've werent:weren't
whatll:what'll whatre:what're whats:what's whatve:what've whens:when's whered:where'd wheres:where's whereve:where've
whod:who'd whod've:who'd've who'dve:who'd've wholl:who'll whos:who's whove:who've whyll:why'll whyre:why're whys:why's
wont:won't wouldve:would've wouldnt:wouldn't wouldnt've:wouldn't've wouldn'tve:wouldn't've yall:y'all yall'll:y'all'll
y'allll:y'all'll yall'd've:y'all'd've y'alld've:y'all'd've y'all'dve:y'all'd've youd:you'd youd've:you'd've
you'dve:you'd've youll:you'll youre:you're youve:you've
"""
CONTRACTIONS = MappingProxyType(dict(pair.split(":") for pair in _CONTRACTIONS.split()))

# VizWiz's copy of the table has a typographic apostrophe nearly everywhere, on both sides. A normalised "dont" is
# therefore no gold "don't" there.
_STRAIGHT_KEYS = frozenset({"couldn'tve", "hadn'tve"})
_STRAIGHT_VALUES = frozenset({"aint", "arent", "cant", "couldve", "couldnt", "weve", "wheres", "whove"})
TYPOGRAPHIC_CONTRACTIONS = MappingProxyType(
    {
        written if written in _STRAIGHT_KEYS else written.replace("'", "’"): meant
        if written in _STRAIGHT_VALUES
        else meant.replace("'", "’")
        for written, meant in CONTRACTIONS.items()
    }
)


def one_line(text: str) -> str:
    """Line ends and tabs become blanks; blanks around the text go."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def tokenise(text: str) -> str:
    """mmf's first step: lower case, commas and question marks deleted, a blank before 's."""
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()


def punctuation(text: str, full_stop: re.Pattern[str] = _FULL_STOP) -> str:
    """Punctuation marks deleted or made blanks, full stops deleted; see the module's text."""
    number_with_comma = _DIGIT_COMMA_DIGIT.search(text) is not None
    clean = text
    for mark in MARKS:
        if mark in text:
            beside_blank = f"{mark} " in text or f" {mark}" in text  # in the text as it came, not as cleaned so far
            clean = clean.replace(mark, "" if beside_blank or number_with_comma else " ")
    return full_stop.sub("", clean, count=_MOST_FULL_STOPS)


def digits_articles_contractions(text: str, contractions: Mapping[str, str] = CONTRACTIONS) -> str:
    """Lower case; number words to digits, articles dropped, contractions mended; words joined by one blank."""
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(contractions.get(word, word) for word in words if word not in ARTICLES)


@functools.lru_cache(maxsize=_REMEMBERED)
def official(text: str) -> str:
    """The steps of the official scorer, in its order."""
    return digits_articles_contractions(punctuation(one_line(text)))


@functools.lru_cache(maxsize=_REMEMBERED)
def evalai(text: str) -> str:
    """The steps of the EvalAI server and of mmf's `EvalAIAnswerProcessor`."""
    return digits_articles_contractions(punctuation(one_line(tokenise(text))))


@functools.lru_cache(maxsize=_REMEMBERED)
def vizwiz(text: str) -> str:
    """The steps of VizWiz's official scorer: the official ones with its own table of contractions."""
    return digits_articles_contractions(punctuation(one_line(text)), TYPOGRAPHIC_CONTRACTIONS)


@functools.lru_cache(maxsize=_REMEMBERED)
def vlmevalkit(text: str) -> str:
    """The steps of VLMEvalKit since it mended the look-behind; those before are `official`."""
    return digits_articles_contractions(punctuation(one_line(text), FULL_STOP_BETWEEN_NO_DIGITS))
