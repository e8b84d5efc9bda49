"""MME: what each script reads out of an answer, the sums over tasks, and the folders and files it is given as."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.parsing.yes_no import first_letters, first_letters_or_one, only_one
from mminstruct.evaluation.scorers import Item, metric
from mminstruct.evaluation.scorers.mme import TASKS

from .files import score, write_lines


@pytest.mark.parametrize(
    ("text", "official", "lmms_eval", "vlmevalkit"),
    [
        ("Yes", "yes", "yes", "yes"),
        ("no", "no", "no", "no"),
        ("No.", "no", "no", "no"),
        ("not", "no", "no", None),
        ("none", "no", "no", None),
        ("Know", "no", "no", None),
        ("    yes", None, "yes", "yes"),
        ("  no", "no", "no", "no"),
        ("y", None, "yes", None),
        ("N", None, "no", None),
        ("N.", None, "no", None),
        (".yes", "yes", "yes", "yes"),
        ("It is not", None, None, None),
        ("The answer is yes.", None, None, "yes"),
        ("Yes, there is no", "yes", "yes", None),
        ("a yes", None, None, "yes"),
        ("no yes", "no", "no", None),
        ("", None, None, None),
        (".", None, None, None),
    ],
)
def test_what_is_read(text: str, official: str | None, lmms_eval: str | None, vlmevalkit: str | None) -> None:
    assert (first_letters(text), first_letters_or_one(text), only_one(text)) == (official, lmms_eval, vlmevalkit)


def slow_official(text: str) -> str:
    text = text.lower()
    if text in ["yes", "no"]:
        return text
    if any(text[:4][start : start + 3] == "yes" for start in range(2)):
        return "yes"
    return "no" if any(text[:4][start : start + 2] == "no" for start in range(3)) else "other"


def slow_lmms_eval(text: str) -> str:
    text = "".join(character for character in text.lower().strip() if character != ".")
    if len(text) == 1:
        return "yes" if text == "y" else "no" if text == "n" else "other"
    return slow_official(text)


def slow_score(lines: list[tuple[str, str]], parse: object, pairs: list[str]) -> float:
    """acc + acc+ of (right answer, text) of one task; `pairs` names the image of each line."""
    assert callable(parse)
    right = [parse(text) == gold for gold, text in lines]
    by_pair: dict[str, int] = {}
    for name, each in zip(pairs, right, strict=True):
        by_pair[name] = by_pair.get(name, 0) + each
    return 100 * sum(right) / len(right) + 100 * sum(count == 2 for count in by_pair.values()) / len(by_pair)


def test_scores_equal_the_slow_ones() -> None:
    draw = random.Random(0)
    pieces = ["Yes", "no", " ", "n", "y", ".", "know", "maybe", "é", "\n", "NO"]
    for _ in range(1000):
        lines, items, images = [], [], []
        for number in range(2 * draw.randrange(1, 5)):
            gold = draw.choice(["yes", "no"])
            text = "".join(draw.choice(pieces) for _ in range(draw.randrange(0, 4)))
            image = str(number // 2)
            lines.append((gold, text))
            images.append(image)
            items.append(Item(id=str(number), answers=(gold,), kind="OCR", cluster=image, group=f"OCR {number // 2}"))
        texts = [text for _, text in lines]
        found = metric("mme").variant("official").score(items, texts)
        assert found.score == pytest.approx(slow_score(lines, slow_official, images))
        assert found.figures["perception"] == found.score and found.figures["cognition"] is None
        found = metric("mme").variant("lmms-eval").score(items, texts)
        assert found.score == pytest.approx(slow_score(lines, slow_lmms_eval, images))


QUESTIONS = {
    "existence": [("0001.jpg", "Is there a dog?", "Yes", "Yes"), ("0001.jpg", "Is there a cat?", "No", "yes")],
    "OCR": [
        ("0002.jpg", 'Is the word "A.B"?', "Yes", "yes."),
        ("0002.jpg", "Is the word  C?", "No", "No"),
        ("0003.jpg", "Is it D?", "Yes", "    Yes"),
        ("0003.jpg", "Is it E?", "No", "I do not know"),
    ],
    "code_reasoning": [("0020.png", "Is it 7?", "Yes", "y"), ("0020.png", "Is it 8?", "No", "n")],
}
ENDING = " Please answer yes or no."


def results(folder: Path, with_answers: bool = True) -> Path:
    folder.mkdir()
    for task, lines in QUESTIONS.items():
        rows = ["\t".join([image, text + ENDING, gold, *([said] * with_answers)]) for image, text, gold, said in lines]
        (folder / f"{task}.txt").write_text("\n".join(rows) + "\n")
    return folder


EXPECTED = {
    "score": 50.0 + 0.0 + 50.0 + 50.0 + 0.0,
    # existence: one of two, no pair. OCR: two of four, one of two pairs; four blanks hide a yes. "y" is neither.
    "existence": 50.0,
    "OCR acc": 50.0,
    "OCR acc+": 50.0,
    "OCR": 100.0,
    "perception": 150.0,
    "cognition": 0.0,
    "code_reasoning": 0.0,
}


def test_a_results_folder(tmp_path: Path) -> None:
    folder = results(tmp_path / "results")
    found = score("mme", folder, folder)
    figures = found["figures"] | {"score": found["score"]}
    assert {name: figures[name] for name in EXPECTED} == pytest.approx(EXPECTED)
    assert found["n"] == 8 and found["unparsed"] == 4
    # lmms-eval: the blanks go, y and n count; "I do not know" is still neither.
    found = score("mme.lmms-eval", folder, folder)["figures"]
    assert (found["perception"], found["cognition"]) == pytest.approx((50 + 75 + 50, 200))
    found = score("mme.vlmevalkit", folder, folder)["figures"]
    assert (found["perception"], found["reasoning"]) == pytest.approx((50 + 75 + 50, 0))
    without = results(tmp_path / "questions", with_answers=False)
    assert score("mme", without, folder)["score"] == pytest.approx(EXPECTED["score"])


def test_the_benchmark_with_llavas_file(tmp_path: Path) -> None:
    release, lines = tmp_path / "MME_Benchmark_release_version", []
    for task, questions in QUESTIONS.items():
        folder = release / task / "questions_answers_YN" if task == "existence" else release / task
        folder.mkdir(parents=True)
        for image, text, gold, said in questions:
            with (folder / image).with_suffix(".txt").open("a") as stream:
                stream.write(f"{text} {ENDING}\t{gold}\t\r\n")  # some have two blanks before the ending
            name = f"{task}/images/{image}" if task == "existence" else f"{task}/{image}"
            prompt = f"{text}\nAnswer the question using a single word or phrase."
            lines.append({"question_id": name, "prompt": prompt, "text": said, "answer_id": "x", "metadata": {}})
    predicted = write_lines(tmp_path / "llava.jsonl", lines[::-1])
    found = score("mme", release, predicted)
    figures = found["figures"] | {"score": found["score"]}
    assert {name: figures[name] for name in EXPECTED} == pytest.approx(EXPECTED)
    assert score("mme", release, results(tmp_path / "results"))["score"] == found["score"]


def test_official_pairs_are_lines_and_not_names(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    rows = [("a.jpg", "q1", "Yes", "Yes"), ("b.jpg", "q1", "Yes", "no"), ("a.jpg", "q2", "No", "no")]
    rows.append(("b.jpg", "q2", "No", "No"))
    (folder / "count.txt").write_text("".join("\t".join(row) + "\n" for row in rows))
    assert score("mme", folder, folder)["figures"]["count acc+"] == 50.0
    assert score("mme.lmms-eval", folder, folder)["figures"]["count acc+"] == 50.0
    rows[3] = ("b.jpg", "q2", "No", "yes")
    (folder / "count.txt").write_text("".join("\t".join(row) + "\n" for row in rows))
    assert score("mme", folder, folder)["figures"]["count acc+"] == 0.0
    assert score("mme.lmms-eval", folder, folder)["figures"]["count acc+"] == 50.0


def test_a_table_of_vlmevalkit(tmp_path: Path) -> None:
    table = tmp_path / "MME.tsv"
    table.write_text(
        "index\timage_path\tquestion\tanswer\tcategory\tprediction\n"
        "0\tOCR/a.jpg\tq1\tYes\tOCR\tThe answer is yes\n1\tOCR/a.jpg\tq2\tNo\tOCR\tno\n"
    )
    assert score("mme.vlmevalkit", table, table)["score"] == 200.0


def test_all_tasks_make_2800(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    for task in TASKS:
        (folder / f"{task}.txt").write_text("a.jpg\tq1\tYes\tYes\na.jpg\tq2\tNo\tNo")
    found = score("mme", folder, folder)
    assert (found["score"], found["figures"]["perception"], found["figures"]["cognition"]) == (2800.0, 2000.0, 800.0)
    assert metric("mme").best == 2800.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tq\tYes\tYes\n", r"results: count has 1 questions; MME has two for each image"),
        ("a\tq\tYes\n\na\tq\tmaybe\n", r"count.txt:3: the right answer is 'maybe'; it must be yes or no"),
        ("a\tq\n", r"count.txt:1 has 2 columns and not 4"),
        ("a\tq\tYes\tYes\tand\n", r"count.txt:1 has 5 columns and not 4"),
    ],
)
def test_wrong_lines_are_refused(content: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "count.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        score("mme", folder, folder)


def test_wrong_paths_are_refused(tmp_path: Path) -> None:
    folder = results(tmp_path / "results")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty has none of the tasks' files"):
        score("mme", tmp_path / "empty", folder)
    lines = write_lines(tmp_path / "a.jsonl", [{"question_id": "1", "text": "Yes"}])
    with pytest.raises(DataError, match=r"a.jsonl:1 is no answer of LLaVA's to MME"):
        score("mme", folder, lines)
    with pytest.raises(DataError, match=r"a.jsonl is no folder"):
        score("mme", lines, folder)
    release = tmp_path / "release"
    (release / "count").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds questions and no answers"):
        score("mme", folder, release)
    (release / "count" / "1.txt").write_text("question only\n")
    with pytest.raises(DataError, match=r"1.txt:1 has 1 columns and not 2"):
        score("mme", release, folder)
