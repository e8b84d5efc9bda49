"""Which option an answer names, as the published programs read it: one function for each program's rule.

    "The answer is (B).", {"A": "cat", "B": "dog"} ── mmmu_letter, vlmevalkit_letter, ... ──▶ "B", or None

None says that the rule finds nothing. What happens then (wrong, a random option, left out) is the metric's business.
The quirks are the programs' own and move published scores, so they are kept; each function names them.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Mapping, Sequence

NOT_AN_OPTION = "Z"
"""What VLMEvalKit reads out of a refusal, or of an answer that says Z: an answer, and never a right one."""


def lettered(texts: Sequence[str]) -> dict[str, str]:
    """The options by their letters, "A" first."""
    return dict(zip(string.ascii_uppercase, texts, strict=False))


def random_letter(name: str, options: Sequence[str]) -> str:
    """The random option of a question, the same in any order of questions: seeded with the question's name."""
    return random.Random(f"fallback/{name}").choice(list(options))


# --- MMMU and its copies ----------------------------------------------------------------------------------------------

_ENDS = ",.!?;:'"
_MANY_WORDS = 5


def mmmu_letter(response: str, options: Mapping[str, str]) -> str | None:
    """MMMU, eval_utils.py, `parse_multi_choice_response`, without its random choice.

    In this order: letters in parentheses, letters between blanks, and, in answers of more than five words, the text of
    an option (upper and lower case alike). Of several, the one that comes last in the text. Marks at the ends of the
    answer are taken off, each kind once and in a fixed order, so "A.!" keeps its full stop and is not read.
    """
    return _mmmu(response, options, (lambda letter: f" {letter} ",))


def mmmu_letter_loose(response: str, options: Mapping[str, str]) -> str | None:
    """The copy in lmms-eval and MMMU-Pro: no blank is needed before a letter ("DNA is" -> A), and "A." is read too.

    Which of several letters comes last is still asked with a blank on both sides; where none has them, the first
    option wins.
    """
    return _mmmu(response, options, (lambda letter: f"{letter} ", lambda letter: f"{letter}."))


def mmmu_pro_letter(response: str, options: Mapping[str, str]) -> str | None:
    """MMMU-Pro, evaluate.py: what follows the last "Answer:" if it holds exactly one of the letters, else as above.

    A letter counts anywhere in that rest, also within a word: "Answer: Invalid" names I.
    """
    _, found, rest = response.rpartition("Answer:")
    if found:
        named = [letter for letter in options if letter in rest.strip()]
        if len(named) == 1:
            return named[0]
    return mmmu_letter_loose(response, options)


def _mmmu(response: str, options: Mapping[str, str], forms: Sequence[Callable[[str], str]]) -> str | None:
    for mark in _ENDS:
        response = response.strip(mark)
    response = f" {response} "
    named = [letter for letter in options if f"({letter})" in response]
    if named:
        return max(named, key=lambda letter: response.rfind(f"({letter})"))
    for form in forms:
        named = [letter for letter in options if form(letter) in response]
        if named:
            return max(named, key=lambda letter: response.rfind(f" {letter} "))
    if len(response.split()) <= _MANY_WORDS:
        return None
    lower = response.lower()
    named = [letter for letter, text in options.items() if text.lower() in lower]
    return max(named, key=lambda letter: lower.rfind(options[letter].lower()), default=None)


# --- VLMEvalKit -------------------------------------------------------------------------------------------------------

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_NO_REPLY = "Failed to obtain answer via API"
_TO_BLANKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_WORDS = 5
_ANSWER_IS = re.compile(r"answer\s+is\s+\**([ABCD])", re.IGNORECASE)


def vlmevalkit_letter(answer: str, options: Mapping[str, str]) -> str | None:
    """VLMEvalKit, vlmeval/utils/matching_util.py, `can_infer` (2026), without a judge.

    The only letter that stands as a word of its own, if it is among the last five words at its first mention; "Z" for
    a refusal; the letter after "answer is"; the only option whose text is in the answer, unless the answer is more than
    twice as long as all options together.
    """
    found = _vlmevalkit_word(answer, options, near_the_end=True)
    if found is None and _NO_REPLY not in answer:
        said = _ANSWER_IS.search(answer)
        found = said[1].upper() if said and said[1].upper() in options else None
    if found is not None:
        return found
    if len(answer.lower()) > 2 * sum(len(text) for text in options.values()):
        return None
    return _vlmevalkit_text(answer, options)


def vlmevalkit_letter_2025(answer: str, options: Mapping[str, str]) -> str | None:
    """The same before, without the letter after "answer is" (its packages until May 2026 at least)."""
    found = _vlmevalkit_word(answer, options, near_the_end=True)
    if found is not None or len(answer.lower()) > 2 * sum(len(text) for text in options.values()):
        return found
    return _vlmevalkit_text(answer, options)


def vlmevalkit_letter_2024(answer: str, options: Mapping[str, str]) -> str | None:
    """The same file before (commit 18fc37a): the letter may stand anywhere, and answers of any length are searched."""
    return _vlmevalkit_word(answer, options, near_the_end=False) or _vlmevalkit_text(answer, options)


def _refused(answer: str) -> bool:
    return any(words in answer for words in _REFUSALS)


def _vlmevalkit_word(answer: str, options: Mapping[str, str], near_the_end: bool) -> str | None:
    if _NO_REPLY in answer:
        return None
    if _refused(answer):
        return NOT_AN_OPTION
    words = answer.translate(_TO_BLANKS).split()
    named = [letter for letter in options if letter in words]
    if not named:
        return NOT_AN_OPTION if NOT_AN_OPTION in words else None
    if len(named) > 1 or (near_the_end and words.index(named[0]) <= len(words) - _LAST_WORDS):
        return None
    return named[0]


def _vlmevalkit_text(answer: str, options: Mapping[str, str]) -> str | None:
    lower = answer.lower()
    named = [letter for letter, text in options.items() if text.lower() in lower]
    return named[0] if len(named) == 1 else None


# --- Video-MME and its copies -----------------------------------------------------------------------------------------

# Both lists lack two commas, so that four of the phrases became two that nobody writes.
VIDEO_MME_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
)
VIDEO_MME_PHRASES_CORRECTED = (
    *VIDEO_MME_PHRASES[:4],
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
)
VLMEVALKIT_PHRASES = (*VIDEO_MME_PHRASES, "Answer:", "Option:")


def first_letter_after(text: str, phrases: Sequence[str], letters: str = "ABCD") -> str | None:
    """Video-MME, eval_your_results.py, `extract_characters_regex`: the first capital of `letters` anywhere in the text.

    The phrases are deleted first, in their order and wherever they stand. Capitals of other words count: "Because" is B
    and "I see a Dog" is D.
    """
    text = text.strip()
    for phrase in phrases:
        text = text.replace(phrase, "")
    return next((character for character in text if character in letters), None)


# --- lmms-eval --------------------------------------------------------------------------------------------------------

_LEADS = tuple(
    f"{start}{noun} is"
    for noun in ("answer", "correct answer", "best answer", "correct option", "best option", "choice", "correct choice")
    for start in ("the ", "")
)
_LEADS += ("i choose", "i select", "i pick", "my answer is", "my choice is")
_LEADS += ("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは")


def lmms_eval_letter(response: str, letters: Sequence[str]) -> str | None:
    """lmms-eval, tasks/_task_utils/mcq_extract.py, `extract_mcq_answer` (commit c228e27).

    Every letter found in one of the forms below is a candidate; the form decides, then the later place in the text,
    then the earlier letter: alone at the start (10), alone at the end (9), anywhere after a phrase such as "the answer
    is" (7), (A) (6), A. (5), A: (4), A) (3), A and a blank (2), anywhere (0, only where nothing else is found).
    """
    text = response.strip()
    if not text:
        return None
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    bare, text = text.strip(), f" {text} "
    found: list[tuple[int, int, str]] = []
    for rank, form in ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} ")):
        places = ((text.rfind(form.format(letter)), letter) for letter in letters)
        found += [(rank, place, letter) for place, letter in places if place >= 0]
    lower = text.lower()
    for lead in _LEADS:
        after = lower.find(lead)
        if after >= 0:
            places = ((text.find(letter, after + len(lead)), letter) for letter in letters)
            found += [(7, place, letter) for place, letter in places if place >= 0]
    for letter in letters:
        if bare.startswith(letter) and not bare[1:2].isalpha():
            found.append((10, 0, letter))
    for letter in letters:
        if bare.endswith(letter) and not bare[-2:-1].isalpha():
            found.append((9, len(text) - 1, letter))
    found = found or [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    # max keeps the first of equals, as a stable sort in falling order does.
    return max(found, key=lambda candidate: candidate[:2])[2] if found else None


def egoschema_letter(response: str, options: Mapping[str, str]) -> str | None:
    """lmms-eval, tasks/egoschema/utils.py (0.7.3): MMMU's parser, made loose, which takes the first of several.

    All forms count together: (A), A and a blank ("DNA is" -> A), A and a full stop. Of each form the last place in the
    text is asked for, and the form whose last place comes first wins; of two at one place the one listed first.
    """
    for mark in _ENDS:
        response = response.strip(mark)
    response = f" {response} "
    forms = [(form.format(letter), letter) for form in ("({})", "{} ", "{}.") for letter in options]
    named = [(response.rfind(form), letter) for form, letter in forms if form in response]
    if not named and len(response.split()) > _MANY_WORDS:
        lower = response.lower()
        named = [(lower.rfind(text.lower()), letter) for letter, text in options.items() if text.lower() in lower]
    return min(named, key=lambda found: found[0])[1] if named else None
