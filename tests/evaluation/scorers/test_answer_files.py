"""What holds for all metrics of short answers: any subset has figures, and answers come in many files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.answer_files import answers, texts_by_id
from mminstruct.evaluation.scorers import Item, metric

from .files import write_json, write_lines

METRICS = ("vqa", "vizwiz", "textvqa", "okvqa", "gqa", "anls", "chartqa", "ocrbench", "ocrvqa", "pope", "mme")


@pytest.mark.parametrize("name", METRICS)
def test_figures_are_defined_for_any_subset(name: str) -> None:
    items = [Item(id=str(number), answers=("yes", "no")[number % 2 :], kind="OCR") for number in range(3)]
    for variant in metric(name).variants:
        verdicts = variant.judge_all(items, ["Yes", None, "the answer: no"])
        assert len(verdicts) == 3 and not verdicts[1].parsed and verdicts[1].score == 0.0
        for size in range(4):
            figures = variant.total(items[:size], verdicts[:size])
            assert next(iter(figures)) == "score"
            assert all(value is None or isinstance(value, float) for value in figures.values())
        assert variant.total([], [])["score"] in (None, 0.0)


@pytest.mark.parametrize("name", METRICS)
def test_the_perfect_answer_is_the_best_there_is(name: str) -> None:
    items = [
        Item(id=str(number), answers=(("yes", "no")[number % 2],) * 10, kind="OCR", group=str(number // 2))
        for number in range(4)
    ]
    texts = [item.answers[0] for item in items]
    expected = {"ocrbench": 4.0, "mme": 200.0}.get(name, 1.0)
    for variant in metric(name).variants:
        if variant.name in ("unanswerability", "mistral", "mistral-anywhere"):
            continue  # the first does not read the text, the others ask for "answer:" or a sentence
        assert variant.score(items, texts).score == pytest.approx(expected), variant.name


def test_files_of_all_kinds_hold_the_same(tmp_path: Path) -> None:
    expected = {"1": "a b", "2": "é"}
    rows = [{"question_id": 1, "answer": "a b"}, {"question_id": "2", "answer": "é"}]
    assert texts_by_id(write_json(tmp_path / "array.json", rows)) == expected
    assert texts_by_id(write_lines(tmp_path / "lines.jsonl", rows)) == expected
    pretty = tmp_path / "pretty.json"
    pretty.write_bytes(b"\xef\xbb\xbf[\r\n" + b",\r\n".join(str(row).replace("'", '"').encode() for row in rows) + b"]")
    assert texts_by_id(pretty) == expected
    table = tmp_path / "table.tsv"
    table.write_text("index\tanswer\tprediction\n1\tgold\ta b\n2\tgold\té\n", encoding="utf-8")
    assert texts_by_id(table) == expected
    llava = [{"question_id": row["question_id"], "prompt": "?", "text": row["answer"]} for row in rows]
    assert texts_by_id(write_lines(tmp_path / "llava.jsonl", llava)) == expected


def test_what_a_record_lacks_is_said(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes(b'[{"question_id": 1, "answer": "\xe9"}]')
    with pytest.raises(DataError, match=r"latin.json is not UTF-8 text"):
        answers(tmp_path / "latin.json")
    with pytest.raises(DataError, match=r"lines.jsonl:2: prediction: Input should be a valid string, and is None"):
        answers(write_lines(tmp_path / "lines.jsonl", [{"prediction": "x"}, {"prediction": None}]))
    with pytest.raises(DataError, match=r"entry 0: the id is True; give a number or a text"):
        answers(write_json(tmp_path / "id.json", [{"id": True, "answer": "x"}]))
