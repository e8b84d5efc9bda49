"""Open answers of MMMU are read with the official quirks: by hand, and a slow re-statement on random texts."""

from __future__ import annotations

import random
import re

import pytest

from mminstruct.evaluation.parsing.mmmu_open import candidates, matches

from ..texts import texts


@pytest.mark.parametrize(
    ("response", "golds", "right"),
    [
        ("30", ["30"], True),
        ("The answer is 30.", ["30"], True),
        ("x = 1,200", ["1200"], True),
        ("3.14159", ["3.14"], True),  # rounded to two decimals
        ("36 watts", ["36"], True),
        ("12 apples", ["2 apples"], True),  # contained in the text
        ("apples", ["2 apples"], False),
        ("The result is hepatitis", ["Hepatitis"], True),
        ("hepatitis\nso nothing", ["hepatitis"], False),  # only the rests after "so " and the like count
        ("x", ["x"], True),
        ("xylem", ["x"], False),  # one character counts only with a blank beside it
        ("x y", ["x"], True),
        ("x = 5. So y = 7", ["5"], False),  # the last line's shortest rest, after the last "="
        ("nan", ["nan"], False),
        ("1e3", ["1000"], True),
        ("", ["30"], False),
        ("24", ["24", "25"], True),
        ("25", ["24", "25"], True),
    ],
)
def test_quirks_of_open_answers(response: str, golds: list[str], right: bool) -> None:
    assert matches(candidates(response), golds) is right


def slow(response: str, golds: list[str]) -> bool:
    """parse_open_response and eval_open in one, in the order of the source."""

    def normal(string: str) -> list[str | float]:
        string = string.strip()
        try:
            float(string.replace(",", ""))
        except ValueError:
            string = string.lower()
            return [" " + string, string + " "] if len(string) == 1 else [string]
        return [round(float(string.replace(",", "")), 2)]

    response = response.strip().strip(".").lower()
    subs = re.split(r"\.\s(?=[A-Z])|\n", response)
    indicators = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "]
    keys = []
    for index, sub in enumerate(subs):
        if index == len(subs) - 1:
            indicators.append("=")
        shortest = None
        for indicator in indicators:
            if indicator in sub:
                tail = sub[sub.rindex(indicator) + len(indicator) :].strip()
                if not shortest or len(tail) < len(shortest):
                    shortest = tail
        if shortest and shortest.strip() not in [":", ",", ".", "!", "?", ";", "'"]:
            keys.append(shortest)
    keys = keys or [response]
    found = list(keys)
    for key in keys:
        found += re.findall(r"-?\b\d{1,3}(?:,\d{3})+\b", key)
        found += re.findall(r"-?\d+(?:\.\d+)?[eE][+-]?\d+", key)
        found += re.findall(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])", key)
    norm_answers = [value for gold in golds for value in normal(gold)]
    for text in found:
        for pred in normal(text):
            if isinstance(pred, str):
                if any(isinstance(answer, str) and answer in pred for answer in norm_answers):
                    return True
            elif any(answer == pred for answer in norm_answers):
                return True
    return False


def test_open_answers_equal_a_slow_restatement() -> None:
    chance, results = random.Random(5), []
    golds = ["1200", "3.5", "cat", "a", "1,200", "-2", "a big cat", "nan", "1000", "0.5", "Dog", "5", "3", "b"]
    for text in texts("open", 1500):
        gold = chance.sample(golds, chance.randint(1, 3))
        results.append(matches(candidates(text), gold))
        assert results[-1] == slow(text, gold), (text, gold)
    assert 100 < sum(results) < 1400
