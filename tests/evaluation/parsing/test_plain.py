"""Short answers without what no reader would call a mistake, and which option an answer names."""

from __future__ import annotations

import random
import string

import pytest

from mminstruct.evaluation.parsing.plain import option, plain, says


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" The Red  circle. ", "red circle"),
        ("Two", "2"),
        ("twenty-one", "twenty-one"),
        ("−3", "-3"),
        ('"Yes!"', "yes"),
        ("“Rye bread”.", "rye bread"),
        ("a", "a"),
        ("A cat", "cat"),
        ("theatre", "theatre"),
        ("3.50", "3.50"),
        ("7:30 p.m.", "7:30 p.m"),
        ("", ""),
        ("the", "the"),
        ("l’été", "l'été"),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_case_blanks_and_a_final_stop_never_count() -> None:
    draw = random.Random(0)
    words = ["the", "a", "one", "Two", "−4", "X", "straße", "3.5", "l’eau"]
    for _ in range(1000):
        text = " ".join(draw.choices(words, k=draw.randrange(1, 5)))
        varied = f"  {text.title() if 'ß' not in text and '’' not in text else text}  ".replace(
            " ", draw.choice("  \n\t")
        )
        assert plain(varied) == plain(text) == plain(f"{text}.") == plain(f'"{text}"'), text


def test_says_looks_for_whole_words() -> None:
    assert says("There are THREE circles.", "3") and says("It is light blue", "Light Blue")
    assert not says("It is reddish", "red") and not says("13", "3") and not says("anything", "")


LABELS, OPTIONS = ["A", "B", "C"], ["red", "A cat", "blue"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", "A cat"),
        ("B.", "A cat"),
        ("(C)", "blue"),
        (" C) blue", "blue"),
        ("The answer is (A).", "red"),
        ("Answer: B", "A cat"),
        ("the cat.", "A cat"),
        ("Red", "red"),
        ("A cat", "A cat"),
        ("A blue one", None),
        ("D", None),
        ("Because", None),
        ("", None),
        ("b", None),
    ],
)
def test_option(text: str, expected: str | None) -> None:
    assert option(text, LABELS, OPTIONS) == expected


def test_option_reads_any_labels() -> None:
    assert option("2) red", ["1", "2"], ["blue", "red"]) == "red"
    for label in string.ascii_lowercase[:3]:
        assert option(f"({label})", ["a", "b", "c"], OPTIONS) == OPTIONS["abc".index(label)]
