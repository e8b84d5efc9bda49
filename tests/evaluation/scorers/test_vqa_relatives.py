"""VizWiz, TextVQA and OK-VQA: what they do differently from VQA, by hand and against slow re-statements."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import metric
from mminstruct.evaluation.scorers.textvqa import question_of_prompt
from mminstruct.evaluation.scorers.vizwiz import average_precision, f1, official

from .files import score, write_json, write_lines
from .test_vqa import slow_evalai, slow_leave_equal_out, slow_leave_one_out, slow_normal

# --- VizWiz -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "golds", "expected"),
    [
        ("Black.", ["black"] * 10, 1.0),
        ("black", ["Black"] * 10, 0.0),  # golds stand as they are
        ("a black", ["a black"] * 10, 0.0),  # the article of the prediction goes, that of the gold stays
        ("two", ["two"] * 5 + ["2"] * 5, 1.0),
        ("dont", ["don't"] * 10, 0.0),  # a typographic apostrophe
        ("dont", ["don’t"] * 10, 1.0),
        ("don't", ["don't"] * 10, 1.0),
        ("cant", ["can't"] * 10, 1.0),  # one of the few entries with a straight one
        ("weve", ["we've"] * 10, 1.0),
        ("unanswerable", ["unanswerable"] * 3 + ["dog"] * 7, 0.9),
    ],
)
def test_vizwiz_leaves_the_golds_as_they_are(prediction: str, golds: list[str], expected: float) -> None:
    assert official(prediction, golds) == pytest.approx(expected)


STRAIGHT = ("aint", "arent", "cant", "couldve", "couldnt", "weve", "wheres", "whove")


def slow_vizwiz(text: str) -> str:
    """`slow_normal`, with apostrophes as VizWiz's table has them; for texts without apostrophes of their own."""
    words = slow_normal(text.replace("\n", " ").replace("\t", " ").strip()).split()
    plain = {written.replace("'", ""): written for written in STRAIGHT}
    return " ".join(word if word.replace("'", "") in plain else word.replace("'", "’") for word in words)


def test_vizwiz_equals_the_slow_one() -> None:
    draw = random.Random(0)
    pieces = ["Red", "the", " ", "dont", "cant", "12", ".", ",", "\n", "é", "theyre", "!", "None"]
    pool = ["".join(draw.choice(pieces) for _ in range(draw.randrange(0, 4))) for _ in range(40)]
    pool += [slow_vizwiz(text) for text in pool]
    for _ in range(1000):
        golds, prediction = [draw.choice(pool[:: draw.randrange(3, 30)]) for _ in range(10)], draw.choice(pool)
        if draw.random() < 0.5:
            golds[: draw.randrange(1, 6)] = [slow_vizwiz(prediction)] * 3
            golds = golds[:10]
        expected = slow_leave_one_out(slow_vizwiz(prediction), golds)
        assert official(prediction, golds) == pytest.approx(expected, abs=1e-12)


def slow_average_precision(positive: list[bool], scores: list[float]) -> float:
    """Every distinct score a threshold: precision at it times the recall that it adds."""
    area, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = [at for at, value in enumerate(scores) if value >= threshold]
        hits = sum(positive[at] for at in found)
        recall = hits / sum(positive)
        area += (recall - before) * hits / len(found)
        before = recall
    return area


def test_average_precision_equals_the_definition() -> None:
    assert average_precision([True, False, True], [0.9, 0.8, 0.7]) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([False, True], [0.5, 0.5]) == 0.5
    assert average_precision([False], [0.5]) is None and f1([False], [False]) is None
    assert f1([True, False, True], [True, True, False]) == 0.5
    draw = random.Random(1)
    for _ in range(1000):
        size = draw.randrange(1, 12)
        positive = [draw.random() < 0.5 for _ in range(size)]
        scores = [draw.choice([0.0, 0.1, 0.5, 0.5001, 1.0]) for _ in range(size)]
        if any(positive):
            assert average_precision(positive, scores) == pytest.approx(slow_average_precision(positive, scores))


def vizwiz_rows() -> list[dict[str, Any]]:
    votes = [["black"] * 9 + ["Black."], ["unanswerable"] * 10, ["the dog"] * 10]
    kinds, answerable = ["other", "unanswerable", "other"], [1, 0, 1]
    return [
        {
            "image": f"VizWiz_val_{number:08}.jpg",
            "question": "What is this?",
            "answers": [{"answer": vote, "answer_confidence": "yes"} for vote in votes[number]],
            "answer_type": kinds[number],
            "answerable": answerable[number],
        }
        for number in range(3)
    ]


def test_the_files_of_vizwiz(tmp_path: Path) -> None:
    rows = vizwiz_rows()
    gold = write_json(tmp_path / "val.json", rows)
    texts = ["Black", "unanswerable", "dog"]
    predicted = write_json(
        tmp_path / "results.json",
        [{"image": row["image"], "answer": text} for row, text in zip(rows, texts, strict=True)][::-1],
    )
    # nine of ten black; ten of ten; "the dog" is never met by "dog".
    assert score("vizwiz", gold, predicted)["score"] == pytest.approx(2 / 3)
    assert score("vizwiz", gold, predicted)["figures"] == pytest.approx(
        {"perAnswerType other": 0.5, "perAnswerType unanswerable": 1.0}
    )
    assert score("vizwiz.evalai", gold, predicted)["score"] == 1.0
    assert score("vizwiz.vlmevalkit", gold, predicted)["score"] == 1.0
    # Ten equal records, once normalised, leave nobody to agree with.
    assert score("vizwiz.open-flamingo", gold, predicted)["score"] == 0.0


def test_answerability_of_vizwiz(tmp_path: Path) -> None:
    rows = vizwiz_rows()
    gold = write_json(tmp_path / "val.json", rows)
    shares = [0.9, 0.4, 0.2]
    both = [
        {"image": row["image"], "answer": "unanswerable", "answerable": share}
        for row, share in zip(rows, shares, strict=True)
    ]
    found = score("vizwiz", gold, write_json(tmp_path / "both.json", both))
    # Unanswerable by falling 1 - share: the third (wrong), the second (right), the first.
    assert found["score"] == pytest.approx(1 / 3)
    assert found["figures"]["average_precision"] == pytest.approx(0.5)
    assert found["figures"]["f1_score"] == pytest.approx(2 / 3)
    alone = [{"image": line["image"], "answerable": line["answerable"]} for line in both]
    found = score("vizwiz.unanswerability", gold, write_json(tmp_path / "alone.json", alone))
    assert found["score"] == pytest.approx(0.5) and found["unparsed"] == 0
    assert score("vizwiz", gold, tmp_path / "alone.json")["missing"] == 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"answer": "x"}], r"predicted.json: entry 0: image: Field required"),
        ([{"image": "a"}], r"entry 0 has neither 'answer' nor 'answerable'"),
        (
            [{"image": "a", "answer": "x", "answerable": "maybe"}],
            r"entry 0: answerable: Input should be a valid n",
        ),
        ([], r"predicted.json holds no answers"),
        ([{"image": "a", "answer": "x"}], r"has the id 'a', which the gold file lacks"),
    ],
)
def test_vizwiz_refuses(lines: Any, message: str, tmp_path: Path) -> None:
    gold = write_json(tmp_path / "val.json", vizwiz_rows())
    with pytest.raises(DataError, match=message):
        score("vizwiz", gold, write_json(tmp_path / "predicted.json", lines))


def test_facts_of_vizwiz_are_checked(tmp_path: Path) -> None:
    gold = write_lines(tmp_path / "gold.jsonl", [{"id": "1", "answers": ["x"], "facts": {"answerable": "perhaps"}}])
    predicted = write_lines(tmp_path / "predicted.jsonl", [{"id": "1", "prediction": "x"}])
    with pytest.raises(DataError, match="the facts of '1': answerable"):
        score("vizwiz", gold, predicted)


# --- TextVQA ----------------------------------------------------------------------------------------------------------


def textvqa(rows: list[tuple[int, str, str, list[str]]]) -> dict[str, Any]:
    return {
        "dataset_type": "val",
        "dataset_version": "0.5.1",
        "data": [
            {"question_id": number, "image_id": image, "question": question, "answers": votes, "set_name": "val"}
            for number, image, question, votes in rows
        ],
    }


ROWS = [
    (34602, "003a8ae2ef43b901", "What is the brand?", ["Nokia"] * 10),
    (34603, "003a8ae2ef43b901", "What year?", ["12"] * 3 + ["13"] * 7),
    (34604, "00a1", "What year?", ["1,000-2,000"] * 10),
]


def test_the_files_of_textvqa(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "TextVQA_0.5.1_val.json", textvqa(ROWS))
    texts = ["nokia.", "12.", "1000 2000"]
    lines = [{"question_id": row[0], "answer": text} for row, text in zip(ROWS, texts, strict=True)]
    predicted = write_json(tmp_path / "predicted.json", lines)
    assert score("textvqa", gold, predicted)["score"] == pytest.approx((1.0 + 0.9 + 1.0) / 3)
    # VLMEvalKit: the full stop after 12 stays; digit-comma-digit deletes every mark of the gold, "10002000".
    assert score("textvqa.vlmevalkit", gold, predicted)["score"] == pytest.approx(1 / 3)
    assert score("textvqa.vlmevalkit-2024", gold, predicted)["score"] == pytest.approx(1.9 / 3)
    # GT-Vision-Lab: unanimous golds stand as they are.
    assert score("textvqa.official-2021", gold, predicted)["score"] == pytest.approx(0.9 / 3)
    tail = "\nReference OCR token: A, B\nAnswer the question using a single word or phrase."
    llava = [
        {
            "question_id": row[1],
            "prompt": row[2] + tail,
            "text": text,
            "answer_id": "x",
            "model_id": "m",
            "metadata": {},
        }
        for row, text in zip(ROWS, texts, strict=True)
    ]
    found = score("textvqa", gold, write_lines(tmp_path / "llava.jsonl", llava[::-1]))
    assert found["score"] == pytest.approx(2.9 / 3) and found["n"] == 3
    found = score("textvqa", gold, write_lines(tmp_path / "some.jsonl", llava[1:]))
    assert found["score"] == pytest.approx(1.9 / 2) and found["n"] == 2


def test_two_questions_of_one_wording_are_one_for_llava(tmp_path: Path) -> None:
    rows = [(1, "i", "What?", ["a"] * 10), (2, "i", "what?", ["b"] * 10)]
    gold = write_json(tmp_path / "gold.json", textvqa(rows))
    line = {"question_id": "i", "prompt": "What?\nAnswer the question using a single word or phrase."}
    predicted = write_lines(tmp_path / "llava.jsonl", [line | {"text": "b"}, line | {"text": "b"}])
    assert score("textvqa", gold, predicted)["score"] == 1.0, "both are judged by the last one's answers"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("What IS it?\nReference OCR token: A\nAnswer", "what is it?"),
        ("Reference OCR token: A\nWhat IS it?\nAnswer", "what is it?"),
        ("OCR tokens: A. Question: What\nis it? Short answer:", "what\nis it?"),
        ("What?\nAnswer", "what?"),
        ("What?", None),
        ("OCR tokens: A", None),
        ("a\nb\nc", None),
    ],
)
def test_question_of_a_prompt(prompt: str, expected: str | None) -> None:
    assert question_of_prompt(prompt) == expected


@pytest.mark.parametrize(
    ("gold", "line", "message"),
    [
        (textvqa([(1, "i", "q", ["x"] * 9)]), {}, r"gold.json: entry 0: answers: Tuple should have at least 10 items"),
        (textvqa(ROWS), {"question_id": "i", "prompt": "q", "text": "x"}, r"predicted.jsonl:1: no question is found"),
        (textvqa(ROWS), {"question_id": "i", "prompt": "q\nr", "text": "x"}, r"no question 'q' on the image 'i'"),
        (textvqa(ROWS), {"question_id": 34602, "answer": "x"}, r"lacks the ids '34603', '34604'"),
        (textvqa(ROWS), {"answer": "x"}, r"predicted.jsonl:1 has no question_id"),
    ],
)
def test_textvqa_refuses(gold: Any, line: Any, message: str, tmp_path: Path) -> None:
    paths = write_json(tmp_path / "gold.json", gold), write_lines(tmp_path / "predicted.jsonl", [line])
    with pytest.raises(DataError, match=message):
        score("textvqa", *paths)


def test_textvqa_equals_the_slow_one() -> None:
    draw = random.Random(2)
    pieces = ["Nokia", "'s", "12", ".", ",", "?", " ", "the", "é", "3,4", "-"]
    pool = ["".join(draw.choice(pieces) for _ in range(draw.randrange(0, 4))) for _ in range(50)]
    variant = metric("textvqa").variant("evalai")
    from mminstruct.evaluation.item import Item

    for _ in range(1000):
        golds, prediction = [draw.choice(pool[:: draw.randrange(5, 40)]) for _ in range(10)], draw.choice(pool)
        # As TextVQAAccuracyEvaluator has it: a table of scores of the answers that were given.
        cleaned = [slow_evalai(gold) for gold in golds]
        table = {gold: slow_leave_one_out(gold, cleaned) for gold in cleaned}
        found = variant.score([Item(id="1", answers=tuple(golds))], [prediction]).score
        assert found == pytest.approx(table.get(slow_evalai(prediction), 0.0), abs=1e-12)


# --- OK-VQA -----------------------------------------------------------------------------------------------------------


def test_the_files_of_okvqa(tmp_path: Path) -> None:
    stems = [["ride"] * 6 + ["surf"] * 4, ["Teddy bear"] * 10]
    rows = [
        {
            "image_id": number,
            "question_id": number * 10,
            "answer_type": "other",
            "question_type": "one",
            "confidence": 3,
            "answers": [
                {"answer_id": at + 1, "raw_answer": stem + "ing", "answer_confidence": "yes", "answer": stem}
                for at, stem in enumerate(stems[number])
            ],
        }
        for number in range(2)
    ]
    gold = write_json(tmp_path / "mscoco_val2014_annotations.json", {"annotations": rows})
    predicted = write_json(
        tmp_path / "results.json", [{"question_id": 0, "answer": "riding"}, {"question_id": 10, "answer": "teddy bear"}]
    )
    assert score("okvqa", gold, predicted)["score"] == 0.0  # nothing is stemmed; unanimous golds keep their case
    assert score("okvqa.evalai", gold, predicted)["score"] == 0.5
    assert score("okvqa.open-flamingo", gold, predicted)["score"] == 0.5
    stemmed = write_json(
        tmp_path / "stemmed.json", [{"question_id": 0, "answer": "ride"}, {"question_id": 10, "answer": "teddy bear"}]
    )
    assert score("okvqa.open-flamingo", gold, stemmed)["score"] == 1.0


def test_open_flamingo_equals_the_slow_one_on_files_without_ids(tmp_path: Path) -> None:
    draw = random.Random(5)
    words, rows, expected = ["red", "Red.", "the red", "two", "2"], [], []
    for number in range(200):
        votes = [{"answer": draw.choice(words), "answer_confidence": draw.choice(["yes", "no"])} for _ in range(10)]
        rows.append({"image": str(number), "question": "?", "answers": votes, "answer_type": "other"})
        cleaned = [vote | {"answer": slow_normal(vote["answer"])} for vote in votes]
        expected.append(slow_leave_equal_out("red", cleaned))
    gold = write_json(tmp_path / "val.json", rows)
    predicted = write_json(tmp_path / "predicted.json", [{"image": row["image"], "answer": "red"} for row in rows])
    assert score("vizwiz.open-flamingo", gold, predicted)["score"] == pytest.approx(sum(expected) / 200, abs=1e-12)
