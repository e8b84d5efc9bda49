"""MMMU and MMMU-Pro: the official rules on hand-made cases and on their files in miniature."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import Item, scorer
from mminstruct.evaluation.scorers.mmmu import SUBJECTS

from ..parsing.test_letters import slow_mmmu
from ..texts import options, texts
from .files import score, write_json, write_lines

OPTIONS = {"A": "a red cat", "B": "a dog", "C": "nothing", "D": "two dogs"}


def choice(name: str, answer: str, response: str | None, **further: Any) -> dict[str, Any]:
    return {
        "id": name,
        "question_type": "multiple-choice",
        "answer": answer,
        "all_choices": list(OPTIONS),
        "index2ans": OPTIONS,
        "response": response,
    } | further


def short(name: str, answer: str | list[str], response: str, **further: Any) -> dict[str, Any]:
    return {"id": name, "question_type": "short-answer", "answer": answer, "response": response} | further


ART = [choice("validation_Art_1", "B", "(B)"), choice("validation_Art_2", "A", "B")]
MATH = [
    choice("validation_Math_1", "A", "DNA is it"),
    short("validation_Math_2", "30", "x = 30."),
    short("validation_Math_3", ["24", "25"], "The answer is 25"),
    choice("validation_Math_4", "C", "no idea"),
]


def folder(path: Path, name: str = "output.json", **subjects: list[Any]) -> Path:
    for subject, lines in subjects.items():
        (path / subject).mkdir(parents=True)
        write_json(path / subject / name, lines)
    return path


def test_the_folder_of_one_models_outputs_is_gold_and_predictions(tmp_path: Path) -> None:
    path = folder(tmp_path, Math=MATH, Art=ART)
    found = score("mmmu.no-guess", path, path)
    assert found["n"] == 6 and found["unparsed"] == 2 and found["score"] == pytest.approx(3 / 6)
    assert found["figures"] == {
        "Art": 0.5,
        "Math": 0.5,
        "Overall-Art and Design": 0.5,
        "Overall-Science": 0.5,
    }
    assert score("mmmu.lmms-eval-2025", path, path)["figures"]["Math"] <= 0.5  # DNA is: A; open ones score nothing
    assert score("mmmu.lmms-eval", path, path)["figures"]["Math"] >= 0.75


def test_the_sequence_of_random_options_is_the_authors_in_the_order_of_the_subjects(tmp_path: Path) -> None:
    art = [choice(f"validation_Art_{number}", "ABCD"[number % 4], "?") for number in range(40)]
    physics = [choice(f"validation_Physics_{number}", "ABCD"[number % 3], "no") for number in range(40)]
    path = folder(tmp_path, Physics=physics, Art=art)
    random.seed(42)  # as the official file does at import
    drawn = [random.choice(list("ABCD")) for _ in range(80)]
    right = sum(letter == line["answer"] for letter, line in zip(drawn, [*art, *physics], strict=True))
    assert score("mmmu.official-sequence", path, path)["score"] == pytest.approx(right / 80)


def test_official_random_options_do_not_depend_on_the_order() -> None:
    items = [Item(f"q{number}", answers=("A",), choices=tuple(OPTIONS.values())) for number in range(200)]
    official = scorer("mmmu.official")
    forward = official.score(items, ["?"] * 200)
    backward = official.score(items[::-1], ["?"] * 200)
    assert forward.verdicts == backward.verdicts[::-1] and forward.unparsed == 200
    assert 0.1 < (forward.score or 0) < 0.4


def test_official_equals_a_slow_restatement_on_random_responses() -> None:
    official = scorer("mmmu.no-guess")
    for text, choices in zip(texts("scorer", 1000), options("scorer", 1000), strict=True):
        item = Item("q", answers=("B",), choices=tuple(choices.values()))
        verdict = official.score([item], [text]).verdicts[0]
        expected = slow_mmmu(text, choices, loose=False)
        assert verdict.answer == expected and verdict.parsed == (expected is not None)
        assert verdict.score == float(expected == "B")


def test_eval_only_compares_letters_as_they_stand_and_parses_open_answers(tmp_path: Path) -> None:
    gold = write_json(
        tmp_path / "answer_dict_val.json",
        {
            "validation_Art_1": {"question_type": "multiple-choice", "ground_truth": "B"},
            "validation_Art_2": {"question_type": "multiple-choice", "ground_truth": "C"},
            "validation_Energy_and_Power_3": {"question_type": "short-answer", "ground_truth": ["24", "25"]},
            "validation_Math_1": {"question_type": "short-answer", "ground_truth": "1,200"},
        },
    )
    answers = {
        "validation_Art_1": "B",
        "validation_Art_2": "(C)",
        "validation_Energy_and_Power_3": "It is 25.",
    }
    predicted = write_json(tmp_path / "total_val_output.json", answers)
    found = score("mmmu", gold, predicted, "--variant", "eval-only")
    assert found["n"] == 3 and found["score"] == pytest.approx(2 / 3)  # only predicted questions count
    assert found["figures"]["Energy_and_Power"] == 1 and found["figures"]["Overall-Art and Design"] == 0.5
    assert score("mmmu.eval-only", gold, write_json(predicted, answers | {"validation_Math_1": 1200}))["score"] == 0.75
    with pytest.raises(DataError, match=r"question 'validation_Art_1' has no options in the gold file"):
        score("mmmu", gold, predicted)


def test_eval_only_takes_the_letters_of_parsed_output(tmp_path: Path) -> None:
    lines = [
        choice("validation_Art_1", "B", "no", parsed_pred="B", judge="Correct"),
        short("validation_Art_2", "30", "x = 30", parsed_pred=["30", 30.0], judge="Correct"),
    ]
    path = folder(tmp_path, "parsed_output.json", Art=lines)
    assert score("mmmu.eval-only", path, path)["score"] == 1
    assert score("mmmu.no-guess", path, path)["score"] == 0.5
    with pytest.raises(DataError, match=r"entry 0: parsed_pred is no letter"):
        score("mmmu.eval-only", *[folder(tmp_path / "other", Art=ART)] * 2)
    rows = score("mmmu", *[tmp_path / "other"] * 2, "--compare-variants")
    assert "eval-only" not in [row["variant"] for row in rows] and len(rows) == 6


def test_vlmevalkit_makes_open_questions_a_choice_of_two() -> None:
    item = Item("q", answers=("30",), kind="open")
    judged = scorer("mmmu.vlmevalkit").score([item] * 4, ["A", "B", "30", "the value is 30"]).verdicts
    assert [verdict.score for verdict in judged] == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"id": "x"}], r"output.json: entry 0: question_type: Field required"),
        ([choice("x", "A", "A", index2ans={"A": "1", "C": "2"})], r"index2ans has the letters A, C and not A, B, C"),
        ([choice("x", "A", None)], r"entry 0: the answer is no text"),
        ([ART[0], ART[0]], r"entry 1 has the id 'validation_Art_1', which an earlier one has too"),
        ([], r"the gold file holds no questions"),
    ],
)
def test_wrong_files(lines: list[Any], message: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "output.json", lines)
    with pytest.raises(DataError, match=message):
        score("mmmu", path, path)


def test_folders_without_outputs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no folder of a subject \(Accounting"):
        score("mmmu", tmp_path, tmp_path)
    (tmp_path / "Art").mkdir()
    with pytest.raises(DataError, match=r"Art has neither output.json nor parsed_output.json"):
        score("mmmu", tmp_path, tmp_path)
    assert len(SUBJECTS) == 30


# --- MMMU-Pro ---------------------------------------------------------------------------------------------------------


def result(number: int, response: Any, **further: Any) -> dict[str, Any]:
    return {
        "id": f"test_History_{number}",
        "options": str([f"option {place}" for place in range(10)]),
        "answer": "I",
        "subject": "History",
        "response": response,
    } | further


def test_mmmu_pro_files_of_results(tmp_path: Path) -> None:
    lines = [
        result(1, "Answer: (I)", pred_indexs="I"),
        result(2, "I'm sorry, I can't help with that.", pred_indexs="I"),
        result(3, "Answer: B", pred_indexs="B"),
        result(4, {"error": "timeout"}, pred_indexs="I"),
    ]
    path = write_lines(tmp_path / "gpt_standard_direct.jsonl", lines)
    assert score("mmmu-pro.no-guess", path, path)["score"] == 0.5
    recorded = score("mmmu-pro", path, path, "--variant", "official-recorded")
    assert recorded["score"] == 0.75 and recorded["figures"]["History"] == 0.75
    official = score("mmmu-pro", path, path)
    assert official["unparsed"] == 1 and official["score"] in (0.5, 0.75)
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(json.dumps(line) for line in lines).encode())
    assert score("mmmu-pro", path, path) == official
    with pytest.raises(DataError, match=r"jsonl:1 has no pred_indexs"):
        score("mmmu-pro.official-recorded", path, write_lines(tmp_path / "x.jsonl", [result(1, "A")]))
    with pytest.raises(DataError, match=r"jsonl:1: options is no list"):
        score("mmmu-pro", *[write_lines(tmp_path / "y.jsonl", [result(1, "A", options="A, B")])] * 2)


@pytest.mark.parametrize(("kind", "right"), [("Standard(4opts)", 1), ("Standard(10opts)", 0), ("Vision", 0)])
def test_first_published_files_of_mmmu_pro_hold_two_settings_in_a_line(kind: str, right: int, tmp_path: Path) -> None:
    line = {
        "id": "test_Art_Theory_113",
        "options": ["Mary Cameron", "Gavin Hamilton", "James Irvine", "Arthur Melville"],
        "answer": "C",
        "shuffled_options": ["James Irvine", "John Duncan", "Gavin Hamilton", "David Gauld", "Arthur Melville"],
        "shuffled_options_answer": "A",
        "type": kind,
        "response": "C. James Irvine",
    }
    path = write_lines(tmp_path / "results.jsonl", [line])
    found = score("mmmu-pro", path, path)
    assert found["score"] == right and found["unparsed"] == 0 and found["figures"]["Art_Theory"] == right


def test_real_responses_of_gpt_4o_as_its_published_file_records_them(tmp_path: Path) -> None:
    """From mmmu-pro/output/gpt-4o_vision_direct.jsonl (56eede8): the response, and pred_indexs beside it."""
    recorded = [
        ("Answer: A", "A"),
        ("Answer: (H)", "H"),
        ("I'm sorry, I can't help with that.", "I"),
        ("I'm sorry, but I can't show you the correct answer.", "I"),
        (
            "The options related to having a less stressful environment for children would likely be low-conflict "
            "environments.\n\nAnswer: C",
            "C",
        ),
        (
            "\\[\n\\approx 0.0666\n\\]\n\nTherefore, the expected realized compound yield is approximately 6.66%.\n\n"
            "Answer: G",
            "G",
        ),
        (
            "I'm unable to identify or diagnose conditions from images. However, the appearance may resemble "
            'radiographic features such as "bamboo spine," which is commonly associated with ankylosing '
            "spondylitis.\n\nAnswer: I",
            "I",
        ),
    ]
    lines = [result(number, response, answer=letter) for number, (response, letter) in enumerate(recorded)]
    path = write_lines(tmp_path / "results.jsonl", lines)
    found = score("mmmu-pro", path, path)
    assert found["score"] == 1 and found["unparsed"] == 0


def test_one_subjects_folder_and_the_first_published_outputs(tmp_path: Path) -> None:
    """MMMU-Benchmark/MMMU, example_outputs/blip2_flant5xxl/Electronics: five of its 30, called by "No"."""
    sums = ["75 + 13.3 cos(250t - 57.7\u00b0)V", "75 + 23.3 cos(250t - 57.7\u00b0)V"]
    halves = ["[(1 - e^{-s(T/2)}) / {s(1 - e^{-sT})}]", "[(2 - e^{-s(T)}) / {s(1 - e^{-sT})}]"]
    entries: list[dict[str, Any]] = [
        {"No": "11", "question_type": "open", "answer": "50", "response": "image 2>"},
        {"No": "58", "question_type": "open", "answer": "30", "response": "The power supplied by the"},
        {"No": "206", "question_type": "open", "answer": "-120", "response": "0"},
        {"No": "190", "question_type": "multiple-choice", "answer": "A", "response": "(A)"},
        {"No": "216", "question_type": "multiple-choice", "answer": "A", "response": "[(1 -"},
    ]
    for entry, choices in zip(entries[3:], (sums, halves), strict=True):
        entry |= {"all_choices": ["A", "B"], "index2ans": dict(zip("AB", choices, strict=True))}
    folder = tmp_path / "blip2_flant5xxl" / "Electronics"
    folder.mkdir(parents=True)
    write_json(folder / "output.json", entries)
    found = score("mmmu.no-guess", folder, folder)
    assert (found["score"], found["n"], found["unparsed"]) == (pytest.approx(1 / 5), 5, 1)
    assert found == score("mmmu.no-guess", folder.parent, folder / "output.json")
