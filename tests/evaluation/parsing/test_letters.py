"""Letters are read as the published programs read them: quirks by hand, and slow re-statements on random texts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from mminstruct.evaluation.parsing.letters import (
    VIDEO_MME_PHRASES,
    VIDEO_MME_PHRASES_CORRECTED,
    VLMEVALKIT_PHRASES,
    first_letter_after,
    lettered,
    lmms_eval_letter,
    mmmu_letter,
    mmmu_letter_loose,
    mmmu_pro_letter,
    random_letter,
    vlmevalkit_letter,
    vlmevalkit_letter_2024,
    vlmevalkit_letter_2025,
)

from ..texts import options, texts

FOUR = {"A": "a red cat", "B": "a dog", "C": "nothing", "D": "two dogs"}
MANY = 1000


@pytest.mark.parametrize(
    ("response", "strict", "loose"),
    [
        ("B", "B", "B"),
        ("(B)", "B", "B"),
        ("B.", "B", "B"),
        ("A.!", None, "A"),  # marks are taken off one kind after the other, the full stop before the exclamation mark
        ("DNA is it", None, "A"),
        ("B. dog", None, "B"),
        ("(A) or (C)", "C", "C"),
        ("A or C", "C", "C"),
        ("(A) not C", "A", "A"),
        ("I would say that A dog", "A", "A"),
        ("I am sure it shows a DOG here", "B", "B"),
        ("a dog", None, None),  # the text of an option counts in answers of more than five words only
        ("there are two dogs and a dog in it", "B", "B"),
        ("", None, None),
        ("b", None, None),
    ],
)
def test_mmmu_and_its_loose_copy(response: str, strict: str | None, loose: str | None) -> None:
    assert mmmu_letter(response, FOUR) == strict
    assert mmmu_letter_loose(response, FOUR) == loose


def slow_mmmu(response: str, choices: Mapping[str, str], loose: bool) -> str | None:
    """The official function, step by step, without its random choice."""
    for char in [",", ".", "!", "?", ";", ":", "'"]:
        while response.startswith(char):
            response = response[1:]
        while response.endswith(char):
            response = response[:-1]
    response = " " + response + " "
    candidates, how = [], ""
    for choice in choices:
        if "(" + choice + ")" in response:
            candidates.append(choice)
            how = "brackets"
    if not candidates:
        for choice in choices:
            if (choice + " " if loose else " " + choice + " ") in response:
                candidates.append(choice)
    if not candidates and loose:
        candidates += [choice for choice in choices if choice + "." in response]
    if not candidates and len(response.split()) > 5:
        for choice in choices:
            if choices[choice].lower() in response.lower():
                candidates.append(choice)
                how = "text"
    best, best_place = None, -2
    for candidate in candidates:
        if how == "brackets":
            place = response.rfind(f"({candidate})")
        elif how == "text":
            place = response.lower().rfind(choices[candidate].lower())
        else:
            place = response.rfind(f" {candidate} ")
        if place > best_place:
            best, best_place = candidate, place
    return best


def test_mmmu_equals_a_slow_restatement() -> None:
    read = set()
    for text, choices in zip(texts("mmmu", MANY), options("mmmu", MANY), strict=True):
        assert mmmu_letter(text, choices) == slow_mmmu(text, choices, loose=False), text
        assert mmmu_letter_loose(text, choices) == slow_mmmu(text, choices, loose=True), text
        read.add(mmmu_letter(text, choices))
    assert {None, "A", "B", "C", "D"} <= read


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("Answer: (H)", "H"),
        ("I think B.\nAnswer: C", "C"),
        ("Answer: A\nAnswer: D", "D"),
        ("Answer: Invalid", "I"),
        ("Answer: A or B", "B"),  # two letters: on to the loose form, where only "A " has a blank behind ... and " B "
        ("I'm sorry, I can't help with that.", "I"),
        ("no idea", None),
    ],
)
def test_mmmu_pro_reads_what_follows_the_last_answer(response: str, expected: str | None) -> None:
    ten = lettered([f"option {number}" for number in range(10)])
    assert mmmu_pro_letter(response, ten) == expected


def test_mmmu_pro_equals_a_slow_restatement() -> None:
    for text, choices in zip(texts("pro", MANY), options("pro", MANY, 2, 10), strict=True):
        place, expected = text.rfind("Answer:"), None
        if place != -1:
            inside = [choice for choice in choices if text.find(choice, place + 7) != -1]
            expected = inside[0] if len(inside) == 1 else None
        assert mmmu_pro_letter(text, choices) == (expected or slow_mmmu(text, choices, loose=True)), text


@pytest.mark.parametrize(
    ("answer", "now", "before"),
    [
        ("B", "B", "B"),
        ("(B)", "B", "B"),
        ("B. a dog", "B", "B"),
        ("B is what I see here in it", None, "B"),  # not among the last five words
        ("the answer is B because of the big ears it has", "B", "B"),
        ("the answer is a dog of the kind that I like the most", "A", "B"),  # "answer is a": an article is read as A
        ("A or B", None, None),
        ("Z", "Z", "Z"),
        ("Cannot determine the answer", "Z", "Z"),
        ("it is a dog", "B", "B"),
        ("it is a dog " + "or so " * 20, None, "B"),  # more than twice as long as all options
        ("Failed to obtain answer via API: A", None, None),
        ("", None, None),
    ],
)
def test_vlmevalkit_now_and_before(answer: str, now: str | None, before: str | None) -> None:
    assert vlmevalkit_letter(answer, FOUR) == now
    assert vlmevalkit_letter_2024(answer, FOUR) == before


def slow_vlmevalkit(answer: str, choices: Mapping[str, str], now: bool) -> str | None:
    """can_infer_option, then can_infer_text, as one reads them."""

    def option() -> str | None:
        if "Failed to obtain answer via API" in answer:
            return None
        if re.search("Sorry, I can't help with images of people yet\\.|I can't process this file\\.", answer):
            return "Z"
        if "I'm sorry, but without the image provided" in answer or "Cannot determine the answer" in answer:
            return "Z"
        splits = re.sub(r"[.()\[\],:;!*#{}]", " ", answer).split()
        inside = [choice for choice in choices if splits.count(choice)]
        if len(inside) == 1:
            if not now or splits.index(inside[0]) > len(splits) - 5:
                return inside[0]
        elif not inside and "Z" in splits:
            return "Z"
        if now:
            match = re.search(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", answer)
            if match and match.group(1).upper() in choices:
                return match.group(1).upper()
        return None

    found = option()
    if found:
        return found
    if now and len(answer) > 2 * len("".join(choices.values())):
        return None
    inside = [choice for choice, text in choices.items() if answer.lower().count(text.lower())]
    return inside[0] if len(inside) == 1 else None


def test_vlmevalkit_equals_a_slow_restatement() -> None:
    for text, choices in zip(texts("kit", 2 * MANY), options("kit", 2 * MANY), strict=True):
        assert vlmevalkit_letter(text, choices) == slow_vlmevalkit(text, choices, now=True), text
        assert vlmevalkit_letter_2024(text, choices) == slow_vlmevalkit(text, choices, now=False), text
        if not re.search(r"(?i)answer\s+is", text):
            assert vlmevalkit_letter_2025(text, choices) == vlmevalkit_letter(text, choices), text


def test_vlmevalkit_read_answer_is_from_2026_on() -> None:
    text, choices = "The answer is B, I think, and the reason is plain to see", {"A": "a cat", "B": "a dog"}
    assert (vlmevalkit_letter(text, choices), vlmevalkit_letter_2025(text, choices)) == ("B", None)
    assert vlmevalkit_letter_2024(text, choices) == "B"


@pytest.mark.parametrize(
    ("text", "official", "corrected", "vlmevalkit"),
    [
        ("C", "C", "C", "C"),
        ("(C) yes", "C", "C", "C"),
        ("The best answer is C.", "C", "C", "C"),
        ("Best answer: C", "B", "C", "B"),
        ("Answer: C", "A", "A", "C"),
        ("The best option is C", "C", "C", "C"),  # "The" and "best" hold no capital of A to D
        ("Because of a Dog", "B", "B", "B"),
        ("no letter", None, None, None),
        ("", None, None, None),
    ],
)
def test_video_mme_takes_the_first_capital(
    text: str, official: str | None, corrected: str | None, vlmevalkit: str | None
) -> None:
    assert first_letter_after(text, VIDEO_MME_PHRASES) == official
    assert first_letter_after(text, VIDEO_MME_PHRASES_CORRECTED) == corrected
    assert first_letter_after(text, VLMEVALKIT_PHRASES) == vlmevalkit


def test_video_mme_equals_a_slow_restatement() -> None:
    phrases = [
        "The best answer is",
        "The correct answer is",
        "The answer is",
        "The answer",
        "The best option is" + "The correct option is",
        "Best answer:" + "Best option:",
    ]
    for text in texts("videomme", MANY):
        found = text.strip()
        for phrase in phrases:
            found = "".join(found.split(phrase))
        match = None if len(found.split()) > 10 and not re.search("[ABCD]", found) else re.search(r"[ABCD]", found)
        assert first_letter_after(text, VIDEO_MME_PHRASES) == (match[0] if match else None), text


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("The correct answer is (B).", "B"),
        ("Answer: C", "C"),
        ("(A) is wrong, (C) is right", "C"),
        ("the answer is B, not (A)", "A"),  # every letter behind the phrase is a candidate, and the last one wins
        ("A cat, so the answer is B.", "A"),  # a letter alone at the start beats one at the end and one after a phrase
        ("I see C", "C"),
        ("BAD", "D"),  # nothing else is found: the last place of any letter
        ("none", ""),
        ("", ""),
    ],
)
def test_lmms_eval_takes_the_surest_form(response: str, expected: str) -> None:
    assert (lmms_eval_letter(response, "ABCD") or "") == expected


def slow_lmms_eval(response: str, letters: str) -> str | None:
    """All candidates in the order of the source, then the sort that it does."""
    phrases = ["i choose", "i select", "i pick", "my answer is", "my choice is"]
    for what in [
        "answer",
        "correct answer",
        "best answer",
        "correct option",
        "best option",
        "choice",
        "correct choice",
    ]:
        phrases += [f"the {what} is", f"{what} is"]
    phrases += ["옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"]
    if not response.strip():
        return None
    text = response.strip()
    for char in [",", ".", "!", "?", ";", ":", "'", '"']:
        text = text.strip(char)
    text = " " + text + " "
    found = []
    for before, behind, rank in [("(", ")", 6), ("", ".", 5), ("", ":", 4), ("", ")", 3), ("", " ", 2)]:
        for ch in letters:
            if before + ch + behind in text:
                found.append((ch, text.rindex(before + ch + behind), rank))
    for phrase in phrases:
        if phrase in text.lower():
            start = text.lower().index(phrase) + len(phrase)
            found += [(ch, text.index(ch, start), 7) for ch in letters if ch in text[start:]]
    core = text.strip()
    for ch in letters:
        if re.match(re.escape(ch) + r"(?![^\W\d_])", core):
            found.append((ch, 0, 10))
    for ch in letters:
        if core and core[-1] == ch and (len(core) == 1 or not core[-2].isalpha()):
            found.append((ch, len(text) - 1, 9))
    if not found:
        found = [(ch, text.rindex(ch), 0) for ch in letters if ch in text]
    found.sort(key=lambda candidate: (candidate[2], candidate[1]), reverse=True)
    return found[0][0] if found else None


def test_lmms_eval_equals_a_slow_restatement() -> None:
    for text in texts("lmms", 2 * MANY):
        assert lmms_eval_letter(text, "ABCD") == slow_lmms_eval(text, "ABCD"), text


def test_the_random_letter_depends_on_the_question_alone_and_takes_every_option() -> None:
    assert {random_letter(f"q{number}", "ABCD") for number in range(60)} == set("ABCD")
    assert [random_letter(name, "ABC") for name in "xyz"] == [random_letter(name, "ABC") for name in "xyz"]
