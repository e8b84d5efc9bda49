"""NExT-QA's choices: the official numbers and figures, and texts by the loose parser."""

from __future__ import annotations

from pathlib import Path

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import Item, scorer

from ..parsing.test_letters import slow_mmmu
from ..texts import options, texts
from .files import score, write_json

HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
ROWS = [
    "4010069381,369,640,480,how do they play,0,6,CH,roll it,tap their feet,strum,hit,pat",
    '4882821564,2697,640,480,"why, then",2,1,CW,share,approach,unwrap it,play,gesture',
    "2834146886,1881,496,370,what then,2,8,TN,drink,shake,smell,wag,touch",
    "2834146886,1881,496,370,what before,1,9,TP,drink,shake,smell,wag,touch",
    "8547321641,327,640,362,how many,4,7,DC,kitchen,four,two,three,one",
]
IDS = ["4010069381_6", "4882821564_1", "2834146886_8", "2834146886_9", "8547321641_7"]


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    path = tmp_path / "val.csv"
    path.write_text("\r\n".join([HEADER, *ROWS]) + "\r\n", encoding="utf-8-sig", newline="")
    return path


def test_the_official_files(gold: Path, tmp_path: Path) -> None:
    said = dict(zip(IDS, [0, 1, 2, 0, 4], strict=True))
    results = {name: {"prediction": number, "answer": 0} for name, number in said.items()}
    found = score("next-qa", gold, write_json(tmp_path / "HGA-val.json", results))
    assert found["score"] == pytest.approx(3 / 5)
    assert found["figures"] == {
        "Acc_C": 0.5,
        "Acc_D": 1.0,
        "Acc_T": 0.5,
        "Bef&Aft": 0.5,
        "Cnt": 1.0,
        "How": 1.0,
        "Why": 0.0,
    }
    assert score("next-qa", gold, write_json(tmp_path / "numbers.json", said)) == found
    alone = score("next-qa", tmp_path / "HGA-val.json", tmp_path / "HGA-val.json")
    assert alone["score"] == pytest.approx(2 / 5) and alone["figures"] == {}  # its answers are all 0
    letters = {name: f"({letter})" for name, letter in zip(IDS, "ABCAE", strict=True)}
    assert score("next-qa.letters", gold, write_json(tmp_path / "letters.json", letters))["score"] == pytest.approx(
        3 / 5
    )
    more = results | {"5840177726_3": {"prediction": 1, "answer": 0}}  # the script goes through the CSV's questions
    assert score("next-qa", gold, write_json(tmp_path / "more.json", more)) == found
    with pytest.raises(DataError, match=r"has the id '5840177726_3', which the gold file lacks"):
        score("next-qa", gold, write_json(tmp_path / "x.json", {"5840177726_3": 1}))
    with pytest.raises(DataError, match=r"lacks the id '8547321641_7'"):
        score("next-qa", gold, write_json(tmp_path / "x.json", dict(list(said.items())[:4])))
    with pytest.raises(DataError, match=r"'4010069381_6': prediction: Field required"):
        score("next-qa", gold, write_json(tmp_path / "x.json", {IDS[0]: {"answer": 1}}))


def test_wrong_gold_files(tmp_path: Path) -> None:
    path, predicted = tmp_path / "val.csv", write_json(tmp_path / "p.json", {"1_1": 1})
    path.write_text(HEADER + "\n" + ROWS[0].replace(",0,6,CH", ",play,6,CH"), encoding="utf-8")
    with pytest.raises(DataError, match=r"val.csv:2: answer 'play' is no option's number"):
        score("next-qa", path, predicted)
    path.write_text("video,qid\n1,1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"val.csv:2: answer: Field required"):
        score("next-qa", path, predicted)


@pytest.mark.parametrize(("text", "right"), [("1", 1), (" 1 ", 1), ("1.0", 0), ("B", 0), ("5", 0), ("-1", 0), ("", 0)])
def test_official_predictions_are_numbers(text: str, right: int) -> None:
    item = Item("1", answers=("B",), choices=tuple("vwxyz"))
    assert scorer("next-qa.official").score([item], [text]).score == right


def test_texts_equal_a_slow_restatement() -> None:
    for text, choices in zip(texts("nextqa", 1000), options("nextqa", 1000, 5, 5), strict=True):
        item = Item("1", answers=("B",), choices=tuple(choices.values()))
        expected = slow_mmmu(text, choices, loose=True)
        found = scorer("next-qa.letters").score([item], [text]).verdicts[0]
        guessed = scorer("next-qa.lmms-eval").score([item], [text]).verdicts[0]
        assert found.answer == expected and guessed.parsed == (expected is not None)
        assert guessed.answer in "ABCDE" and (expected is None or guessed.answer == expected)
