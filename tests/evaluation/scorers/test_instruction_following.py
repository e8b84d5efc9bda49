"""Instructions are checked as IFEval checks them: hand-written cases, a re-statement, and its files in miniature."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.parsing.instructions import (
    Instruction,
    can_check,
    follows,
    follows_loosely,
    sentences,
)

from .files import score, write_lines


def check(name: str, text: str, **kwargs: Any) -> bool:
    return follows(text, Instruction(id=name, kwargs=kwargs))


@pytest.mark.parametrize(
    ("name", "kwargs", "good", "bad"),
    [
        ("keywords:existence", {"keywords": ["cat", "d.g"]}, "Cats and DUGS", "cats"),
        ("keywords:frequency", {"keyword": "an", "relation": "at least", "frequency": 3}, "banana an", "an an"),
        ("keywords:forbidden_words", {"forbidden_words": ["red"]}, "Fred is bored", "a RED one"),
        ("keywords:letter_frequency", {"letter": "A", "let_relation": "less than", "let_frequency": 2}, "bat", "Aha a"),
        ("length_constraints:number_words", {"relation": "less than", "num_words": 4}, "it is red", "it's red now"),
        ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2}, "A b. C d!", "At 3.5 m."),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na *** b\n***", "a *** *** b"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Cats"},
            "a\n\n'cats, they\n\n",
            "a\n\n\n\ncats",
        ),
        ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b]", "[a"),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "x\np. s. y", "PS: y"),
        ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "x\nP.P.S. y", "P.S. y"),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "** a\n* b"),
        ("detectable_format:constrained_response", {}, "So: My answer is no.", "my answer is no."),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and ** **"),
        (
            "detectable_format:multiple_sections",
            {"section_spliter": "Part", "num_sections": 2},
            "Part 1 Part2",
            "Part 1",
        ),
        ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
        ("detectable_format:title", {}, "<<x>>", "<< >>"),
        ("combination:two_responses", {}, "a\n******\nb", "a******a"),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Say it. "}, " say it. Yes", "I say it."),
        ("startend:end_checker", {"end_phrase": "The End"}, 'x the end" ', "the end."),
        ("startend:quotation", {}, ' "a" ', '"'),
        ("change_case:english_capital", {}, "A CAT 1", "A Cat"),
        ("change_case:english_lowercase", {}, "a cat.", "1."),
        (
            "change_case:capital_word_frequency",
            {"capital_relation": "at least", "capital_frequency": 2},
            "I AM",
            "I am",
        ),
        ("punctuation:no_comma", {}, "a; b", "a, b"),
        ("sentences:max_words", {"num_words": 3}, "A b c. D.", "A b. C d e f."),
        ("sentences:min_words", {"num_words": 2}, "A b c. D e", "A b. C."),
        ("sentences:max_count", {"num_sentences": 2}, "A. Mr. B c.", "A. B. C."),
        ("sentences:start", {"start": "the"}, "The a. the b.", "The a. A b."),
        ("sentences:end", {"end": "s"}, 'Cats. "Dogs!"', "Cats. Dog."),
        ("words:include", {"words": ["red", "C++"]}, "Red C++ code", "Fred C++"),
        ("words:exclude", {"words": ["red"]}, "Fred", "red"),
        ("numbers:at_least", {"count": 2}, "3,500 and 1.5", "12.5 is one"),
        ("numbers:none", {}, "three", "3"),
    ],
)
def test_an_instruction_is_followed_or_not(name: str, kwargs: dict[str, Any], good: str, bad: str) -> None:
    assert can_check(Instruction(id=name, kwargs=kwargs))
    assert check(name, good, **kwargs) and not check(name, bad, **kwargs)
    assert not check(name, " \n", **kwargs), "an empty answer follows nothing"


def test_loose_forgives_first_line_last_line_and_asterisks() -> None:
    quoted = Instruction(id="startend:quotation")
    for text in ('Sure:\n"a"', '"a"\nBye', 'Sure:\n"a"\nBye', '*"a"*', 'Sure\n**"a"**\nBye'):
        assert follows_loosely(text, quoted) and not follows(text, quoted), text
    assert not follows_loosely('Sure: "a"', quoted)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three?", 3),
        ('He said "no." Then left.', 2),
        ("Dr. Smith paid $3.50, e.g. twice.", 1),
        ("Wait... what?!", 2),
        ("- a\n- b", 2),
        ("head\n\nbody", 2),
        ("这是。那是！", 2),
        ("", 0),
        ("...", 0),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert len(sentences(text)) == count


def slow_paragraphs(text: str, wanted: int) -> bool:
    """IFEval's rule step by step: empty parts at both ends do not count, one inside refuses."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    count = len(parts)
    for place, part in enumerate(parts):
        if not part.strip():
            if place not in (0, len(parts) - 1):
                return False
            count -= 1
    return count == wanted


def slow_first_word(text: str, wanted: int, which: int, word: str) -> bool:
    parts = re.split(r"\n\n", text)
    count = len(parts) - sum(not part.strip() for part in parts)
    if which > count or not parts[which - 1].strip():
        return False
    first = ""
    for letter in parts[which - 1].strip().split()[0].lstrip("'").lstrip('"'):
        if letter in {".", ",", "?", "!", "'", '"'}:
            break
        first += letter.lower()
    return count == wanted and first == word.lower()


def slow_two_responses(text: str) -> bool:
    full = []
    parts = text.split("******")
    for place, part in enumerate(parts):
        if part.strip():
            full.append(part.strip())
        elif place not in (0, len(parts) - 1):
            return False
    return len(full) == 2 and full[0] != full[1]


def test_checks_equal_the_slow_ones() -> None:
    draw = random.Random(7)
    pieces = ["a", "b", " ", "\n", "\n\n", "***", "*", "******", "'", '"', ".", "-", "1", "é"]
    for _ in range(1500):
        text = "x" + "".join(draw.choice(pieces) for _ in range(draw.randrange(0, 10)))
        text = text[draw.randrange(2) :]
        if not text.strip():
            continue
        n, which, word = draw.randrange(1, 4), draw.randrange(1, 4), draw.choice(["a", "x", "B"])
        assert check("length_constraints:number_paragraphs", text, num_paragraphs=n) == slow_paragraphs(text, n), text
        kwargs = {"num_paragraphs": n, "nth_paragraph": which, "first_word": word}
        found = check("length_constraints:nth_paragraph_first_word", text, **kwargs)
        assert found == slow_first_word(text, n, which, word), (text, kwargs)
        assert check("combination:two_responses", text) == slow_two_responses(text), repr(text)


# --- the metric -------------------------------------------------------------------------------------------------------

PROMPTS = [
    {
        "key": 1,
        "prompt": "p",
        "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
        "kwargs": [{}, {}],
    },
    {
        "key": 2,
        "prompt": "q",
        "instruction_id_list": ["length_constraints:number_words"],
        "kwargs": [{"relation": "at least", "num_words": 2, "keywords": None}],
    },
    {
        "key": 3,
        "prompt": "r",
        "instruction_id_list": ["language:response_language", "punctuation:no_comma"],
        "kwargs": [{"language": "de"}, None],
    },
]
RESPONSES = [
    {"prompt": "p", "response": 'Here:\n"a b"'},
    {"prompt": "q", "response": "two words"},
    {"prompt": "r", "response": "a, b"},
]


def test_ifeval_in_miniature(tmp_path: Path) -> None:
    gold, given = write_lines(tmp_path / "input.jsonl", PROMPTS), write_lines(tmp_path / "r.jsonl", RESPONSES)
    found = score("instruction-following", gold, given)
    # Prompts: p no, q yes; r has an instruction that is not checked. Instructions: 1 of p's 2, q's 1, 0 of r's 1.
    assert found["score"] == 0.5 and found["figures"]["instruction-level"] == 0.5
    assert found["figures"]["punctuation"] == found["figures"]["punctuation:no_comma"] == 0.5
    assert found["figures"]["startend"] == 0.0 and found["figures"]["unchecked"] == 1
    loose = score("instruction-following", gold, given, "--variant", "loose")
    assert loose["score"] == 1.0 and loose["figures"]["instruction-level"] == 0.75


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction_id_list": ["punctuation:no_coma"], "kwargs": [{}]}, "Did you mean 'punctuation:no_comma'"),
        ({"kwargs": [{}]}, "has 2 instructions and 1 kwargs"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{}]}, r"input.jsonl:1: .* lacks 'keywords'"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": ["("]}]}, "cannot be checked"),
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": "ab"}]}, "a list of texts is needed"),
    ],
)
def test_wrong_prompts(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    gold = write_lines(tmp_path / "input.jsonl", [PROMPTS[0] | change])
    with pytest.raises(DataError, match=message):
        score("instruction-following", gold, write_lines(tmp_path / "r.jsonl", RESPONSES[:1]))


def test_own_files_carry_instructions_as_facts(tmp_path: Path) -> None:
    facts = {"instructions": [{"id": "punctuation:no_comma"}]}
    gold = write_lines(tmp_path / "g.jsonl", [{"id": "1", "answers": ["-"], "facts": facts}])
    assert (
        score("instruction-following", gold, write_lines(tmp_path / "p.jsonl", [{"id": 1, "prediction": "a"}]))["score"]
        == 1.0
    )
    wrong = json.loads(json.dumps(facts).replace('"id"', '"name"'))
    gold = write_lines(tmp_path / "g.jsonl", [{"id": "1", "answers": ["-"], "facts": wrong}])
    with pytest.raises(DataError, match=r"item 1: facts: instructions.0.id: Field required"):
        score("instruction-following", gold, tmp_path / "p.jsonl")
