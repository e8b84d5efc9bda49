"""What is special in benchmarks of multiple choice: rotations, first tokens, other layouts, options, refusals."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import ConfigError, DataError, MminstructError
from mminstruct.evaluation.benchmark import Benchmark, load_benchmark
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.option_tables import all_rounds
from mminstruct.evaluation.results import run_benchmark
from tests.evaluation.answering import Table, last_shown
from tests.evaluation.miniatures import ai2d, math_vista, mmbench, mmmb, mmmu, science_qa, seed_bench
from tests.evaluation.miniatures.miniature import (
    base64_png,
    struct,
    write_json,
    write_lines,
    write_parquet,
    write_pictures,
    write_table,
)


def ids(benchmark: Benchmark) -> list[str]:
    return [item.id for item in benchmark.questions()]


# --- rotations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choices", [("a", "b"), ("a", "a", "b"), ("w", "x", "y", "z"), ("a", "", "c")])
def test_rotations_keep_the_right_option_at_its_letter(choices: tuple[str, ...]) -> None:
    """In each round each option stands once more to the left, and the letter is that of the same option."""
    texts = [choice for choice in choices if choice]
    for right in range(len(choices)):
        if not choices[right]:
            continue
        whole = all_rounds([Item("en/7", choices=choices, answers=("ABCD"[right],), group="en/7")])
        assert [item.id for item in whole] == [f"en/{7 + 1_000_000 * number}" for number in range(len(texts))]
        place = [number for number, choice in enumerate(choices) if choice].index(right)
        for number, item in enumerate(whole):
            assert item.choices == tuple(itertools.islice(itertools.cycle(texts), number, number + len(texts)))
            assert "ABCD".index(item.answers[0]) == (place - number) % len(texts)
            assert item.choices["ABCD".index(item.answers[0])] == choices[right] and item.group == "en/7"


def test_mmbench_one_wrong_rotation_is_a_wrong_question(tmp_path: Path) -> None:
    small = mmbench.write(tmp_path)
    loaded = load_benchmark("mmbench", small.options)
    result = run_benchmark(Table({**small.perfect, "1000007": "A"}), loaded, blank=False)
    assert result.scores["mmbench.exact-matching"].score == 0.5
    assert result.scores["mmbench.vanilla"].score == 1.0


def test_mmbench_takes_a_table_with_all_rounds_as_it_is(tmp_path: Path) -> None:
    first = mmbench.rows()[1] | {"image": base64_png(2)}
    later = first | {"index": "1000008", "A": "no", "B": "yes", "answer": "B", "image": "8"}
    other = mmbench.rows()[0] | {"index": "9"}
    file = write_table(tmp_path / "all.tsv", [first, other, later])
    items = load_benchmark("mmbench", [f"file={file}"]).questions()
    assert [item.id for item in items] == ["8", "1000008", "9"]
    assert items[1].images == items[0].images and items[1].answers == ("B",)


def test_one_pass_is_an_option(tmp_path: Path) -> None:
    assert ids(load_benchmark("mmbench", [*mmbench.write(tmp_path).options, "circular=false"])) == ["7", "8"]
    options = [*mmmb.write(tmp_path).options, "circular=false"]
    assert ids(load_benchmark("mmmb", options)) == ["cn/0", "en/0"]


def test_mmmb_is_the_mean_of_its_languages(tmp_path: Path) -> None:
    small = mmmb.write(tmp_path)
    result = run_benchmark(
        Table({**small.perfect, "en/0": "A"}), load_benchmark("mmmb", small.options), blank=False
    ).scores["mmmb.exact-matching"]
    assert result.figures == {"score": 0.5, "cn": 1.0, "en": 0.0}


# --- protocols --------------------------------------------------------------------------------------------------------


def test_first_token_chooses_among_the_letters(tmp_path: Path) -> None:
    loaded = load_benchmark("mmbench", [*mmbench.write(tmp_path).options, "protocol=first-token"])
    requests = {item.id: loaded.request(item) for item in loaded.questions()}
    assert requests["7"].choices == ("A", "B", "C") and requests["8"].choices == ("A", "B")


def test_seed_bench_asks_of_videos_where_their_frames_are(tmp_path: Path) -> None:
    small = seed_bench.write(tmp_path)
    loaded = load_benchmark("seed-bench", [*small.options, *small.more["llava-1.5"]])
    assert [item.images[0].name for item in loaded.questions()] == ["12_34", "10_v44.png", "12_34"]
    score = run_benchmark(Table(small.perfect), loaded, blank=False).scores["seed-bench.llava"]
    assert score.figures["image accuracy"] == 1.0 and score.figures["video accuracy"] == 0.0
    assert score.score == pytest.approx(2 / 3)


# --- other layouts of the same benchmarks -----------------------------------------------------------------------------


def test_ai2d_reads_vlmevalkits_table_and_json_lines_with_names_of_images(tmp_path: Path) -> None:
    row = {"index": "4", "question": "Which?", "A": "x", "B": "y", "answer": "B", "image": base64_png()}
    items = load_benchmark("ai2d", [f"file={write_table(tmp_path / 'AI2D_TEST.tsv', [row])}"]).questions()
    assert [(item.id, item.answers, item.choices) for item in items] == [("4", ("B",), ("x", "y"))]
    write_pictures(tmp_path / "pictures", "4.png")
    lines = write_lines(tmp_path / "a.jsonl", {**ai2d.ROWS[0], "image": "4.png"})
    named = load_benchmark("ai2d", [f"file={lines}", f"images={tmp_path / 'pictures'}"]).questions()
    assert named[0].images == (tmp_path / "pictures/4.png",) and named[0].answers == ("B",)


def test_science_qa_asks_those_without_a_picture_where_told_to(tmp_path: Path) -> None:
    loaded = load_benchmark("science-qa", [*science_qa.write(tmp_path).options, "part=all"])
    items = {item.id: item for item in loaded.questions()}
    assert list(items) == ["3", "5", "9"] and items["9"].images == ()
    assert last_shown(loaded.conversation(items["9"])).startswith("Which is cold?\nA. ice\nB. fog\n")


def test_mmmu_reads_its_rows_as_json_lines_with_names_of_images(tmp_path: Path) -> None:
    write_pictures(tmp_path, "1.png", "2.png")
    named = {f"image_{number}": f"{number}.png" if number <= 2 else None for number in range(1, 8)}
    file = write_lines(tmp_path / "rows.jsonl", mmmu.ART | named)
    items = load_benchmark("mmmu", [f"data={file}", f"images={tmp_path}"]).questions()
    assert items[0].images == (tmp_path / "1.png", tmp_path / "2.png") and items[0].detail == "Art"


def test_mmmu_asks_open_questions_for_a_word(tmp_path: Path) -> None:
    for protocol, start in (("llava-1.5", "<image>\nSum in <image 1>?"), ("lmms-eval", "Sum in <image>?")):
        loaded = load_benchmark("mmmu", [*mmmu.write(tmp_path / protocol).options, f"protocol={protocol}"])
        item = loaded.questions()[1]
        assert item.answers == ("$6,000", "6000")
        expected = f"{start}\n\nAnswer the question using a single word or phrase."
        assert last_shown(loaded.conversation(item)) == expected


def test_math_vista_reads_parquet_and_hints_at_each_kind_of_answer(tmp_path: Path) -> None:
    rows = [
        math_vista.problem("1", "text", "elm", choices=["elm", "oak"]),
        math_vista.problem("2", "integer", "7"),
        math_vista.problem("3", "float", "1.25", precision=2.0),
        math_vista.problem("4", "list", "[1, 2]"),
    ]
    table = [row | {"pid": str(number), "decoded_image": struct(number)} for number, row in enumerate(rows, start=1)]
    file = write_parquet(tmp_path / "testmini-00000-of-00001.parquet", table)
    loaded = load_benchmark("math-vista", [f"file={file}"])
    prompts = [last_shown(loaded.conversation(item)) for item in loaded.questions()]
    assert "Choices:\n(A) elm\n(B) oak\nHint: Please answer the question and provide the correct option" in prompts[0]
    assert "requiring an integer answer and provide the final value, e.g., 1, 2, 3, at the end." in prompts[1]
    assert "number with two decimal places and provide the final value, e.g., 1.23, 1.34, 1.45," in prompts[2]
    assert "a Python list as an answer and provide the final list, e.g., [1, 2, 3], [1.2, 1.3, 1.4]," in prompts[3]


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(name: str, options: list[str], error: type[MminstructError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        benchmark = load_benchmark(name, options)
        for item in benchmark.questions():
            benchmark.conversation(item)
    assert "\n" not in str(caught.value)


def test_images_names_do_not_lead_out_of_their_folder(tmp_path: Path) -> None:
    question = seed_bench.question("1", "../secret.png", 5, "image", "B")
    file = write_json(tmp_path / "s.json", {"questions": [question], "question_type": {}})
    write_pictures(tmp_path, "secret.png", "images/a.png")
    refused("seed-bench", [f"file={file}", f"images={tmp_path / 'images'}"], DataError, "leads out of .*images")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": ""}, r"dev\.tsv:2: answer '' is none of the options A, B, C; give the table of a split whose"),
        ({"image": "###"}, r"dev\.tsv:2: its image is no base64 text"),
        ({"image": "99"}, r"dev\.tsv:2: its image is that of row 99"),
        ({"index": "x"}, r"dev\.tsv:2: index is 'x' and not a whole number"),
    ],
)
def test_mmbench_refuses_with_file_and_line(changes: dict[str, str], message: str, tmp_path: Path) -> None:
    file = write_table(tmp_path / "dev.tsv", [mmbench.rows()[0] | changes])
    refused("mmbench", [f"file={file}"], DataError, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"rows\.jsonl:1 has no image_1; give the data set"),
        ({"options": "nothing"}, r"rows\.jsonl:1: options is no list \('nothing'\)"),
        ({"image_1": struct(1)["path"]}, r"rows\.jsonl:1, image_1: its image is no base64 text"),
        ({"id": 4}, r"rows\.jsonl:1: id: Input should be a valid string"),
    ],
)
def test_mmmu_refuses_with_file_and_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    images = {f"image_{number}": None for number in range(1, 8)}
    file = write_lines(tmp_path / "rows.jsonl", mmmu.ART | images | changes)
    refused("mmmu", [f"data={file}"], DataError, message)


def test_mmmu_refuses_a_mark_without_its_image(tmp_path: Path) -> None:
    images = {f"image_{number}": base64_png() if number == 1 else None for number in range(1, 8)}
    file = write_lines(tmp_path / "rows.jsonl", mmmu.ART | images)
    message = "question 'validation_Art_1' has the mark <image 2> and 1 images"
    refused("mmmu", [f"data={file}", "protocol=lmms-eval"], DataError, message)


def test_math_vista_needs_its_images_and_for_its_query_the_query(tmp_path: Path) -> None:
    problems = {"1": math_vista.problem("1", "integer", "7", query="")}
    file = write_json(tmp_path / "testmini.json", problems)
    refused("math-vista", [f"file={file}"], DataError, "'1' holds no image; give the folder of images; needed is: Math")
    write_pictures(tmp_path, "images/1.jpg")
    options = [f"file={file}", f"images={tmp_path}", "protocol=query"]
    refused("math-vista", options, DataError, "question '1' has no query; ask by protocol=build-query")


def test_options_are_needed_and_known(tmp_path: Path) -> None:
    refused("mmbench", [], ConfigError, "options of mmbench: the key 'file' is missing")
    options = [*mmmb.write(tmp_path).options[:1], "languages=[de]"]
    refused("mmmb", options, ConfigError, "options of mmmb: .*languages")
    refused("mmbench", ["file=x", "protocol=llava-1.5-cm"], ConfigError, r"has no protocol.*'llava-1\.5-cn'")
