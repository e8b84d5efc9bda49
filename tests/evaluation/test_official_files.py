"""Each benchmark on its official files in miniature: what is asked, to the character, what it scores and refuses."""

from __future__ import annotations

import base64
import csv
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from mminstruct import catalog
from mminstruct.errors import ConfigError, DataError
from mminstruct.evaluation.benchmark import benchmark_class, load_benchmark
from mminstruct.evaluation.results import BenchmarkResult, run_benchmark

from .answering import Table, shown
from .official_files import Miniature, captions, documents, few_shot, photographs, picture, yes_no
from .scorers.files import write_lines

ALL = [one for module in (photographs, documents, yes_no, captions, few_shot) for one in module.MINIATURES]


def run(miniature: Miniature, options: list[str], texts: Mapping[str, str]) -> BenchmarkResult:
    return run_benchmark(Table(texts), load_benchmark(miniature.name, options), blank=False)


@pytest.fixture(params=ALL, ids=lambda one: one.name)
def miniature(request: pytest.FixtureRequest) -> Miniature:
    found = request.param
    assert isinstance(found, Miniature)
    return found


def test_every_question_is_asked_with_its_own_images(miniature: Miniature, tmp_path: Path) -> None:
    benchmark = load_benchmark(miniature.name, miniature.write(tmp_path))
    items = benchmark.questions()
    assert [item.id for item in items] == miniature.ids
    assert all(path.is_absolute() and path.is_file() for item in items for path in item.images)
    assert tuple(path.name for path in items[0].images) == miniature.images
    assert {name: getattr(items[0], name) for name in miniature.first} == dict(miniature.first)
    for item in items:
        assert benchmark.conversation(item).messages[-1].role == "user"


def test_prompts_are_the_published_ones_to_the_character(miniature: Miniature, tmp_path: Path) -> None:
    options = miniature.write(tmp_path)
    known = [protocol.name for protocol in load_benchmark(miniature.name, options).protocols]
    assert set(miniature.prompts) == set(known)
    for protocol, expected in miniature.prompts.items():
        benchmark = load_benchmark(miniature.name, [*options, f"protocol={protocol}"])
        item = benchmark.questions(limit=1)[0]
        assert shown(benchmark.conversation(item)) == expected, protocol
        request = benchmark.request(item)
        assert request.max_new_tokens == benchmark.protocol.max_new_tokens
        assert request.stop == benchmark.protocol.stop


def test_right_answers_score_the_best_and_no_words_what_the_rule_says(miniature: Miniature, tmp_path: Path) -> None:
    options = miniature.write(tmp_path)
    numbers = run(miniature, options, miniature.perfect).numbers()
    assert numbers["score"] == pytest.approx(miniature.best) and numbers["n"] == len(miniature.ids)
    assert numbers["accuracy"] == pytest.approx(10.0 if miniature.best == 10.0 else 1.0)
    empty = run(miniature, options, {})
    assert empty.numbers()["score"] == pytest.approx(miniature.empty)
    assert empty.numbers()["empty_answers"] == len(miniature.ids)


def test_missing_files_are_named_with_where_they_come_from(miniature: Miniature, tmp_path: Path) -> None:
    for number, (name, word) in enumerate(miniature.needs.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        options = miniature.write(folder)
        gone = folder / name
        assert gone.exists()
        if gone.is_dir():
            shutil.rmtree(gone)
        else:
            gone.unlink()
        with pytest.raises(DataError) as caught:
            load_benchmark(miniature.name, options).questions()
        assert word in str(caught.value) and gone.name in str(caught.value) and "\n" not in str(caught.value), name


TABLES = ("docvqa", "infovqa", "st-vqa", "gqa", "chartqa", "ocrbench", "ocr-vqa", "pope")


def write_table(path: Path, answer: str, **further: str) -> list[str]:
    """VLMEvalKit's table: two questions on one image, the second naming the first one's row."""
    image = base64.b64encode(picture(path.with_suffix(".png")).read_bytes()).decode()
    rows = [{"index": "7", "image": image, "question": "What is it?", "answer": answer, **further}]
    rows += [{"index": "8", "image": "7", "question": "And this?", "answer": answer, **further}]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return [f"questions={path}"]


@pytest.mark.parametrize("name", TABLES)
def test_tables_with_images_within_are_asked(name: str, tmp_path: Path) -> None:
    answer = "yes" if name == "pope" else "two words" if name == "gqa" else "['two words', 'both']"
    options = write_table(tmp_path / "T.tsv", answer, category="random", split="human")
    benchmark = load_benchmark(name, options)
    items = benchmark.questions()
    assert [item.question for item in items] == ["What is it?", "And this?"]
    assert items[0].answers[0] == answer.removeprefix("['").partition("'")[0]
    (image,) = {path for item in items for path in item.images}  # written once
    assert image.read_bytes() == (tmp_path / "T.png").read_bytes()
    assert image.is_relative_to(tmp_path / "T.tsv.images") and items[0].cluster == items[1].cluster != ""
    texts = {item.id: item.answers[0] for item in items}
    assert run_benchmark(Table(texts), benchmark, blank=False).numbers()["accuracy"] == 1.0
    (tmp_path / "T.tsv").write_text("index\timage\tquestion\tanswer\n1\t\tx?\tyes\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"T\.tsv:2 holds no image"):
        load_benchmark(name, options).questions()


def test_a_folder_of_images_is_needed_for_official_files(tmp_path: Path) -> None:
    questions, _ = documents.write_docvqa(tmp_path)
    with pytest.raises(DataError, match=r"no folder of images is given; give it as images=; needed is: DocVQA"):
        load_benchmark("docvqa", [questions]).questions()


@pytest.mark.parametrize("miniature", [one for one in ALL if one.name not in TABLES], ids=lambda one: one.name)
def test_tables_with_images_within_are_refused_elsewhere(miniature: Miniature, tmp_path: Path) -> None:
    table = tmp_path / "TABLE.tsv"
    table.write_text("index\timage\tquestion\tanswer\n", encoding="utf-8")
    options = [re.sub("^(questions|references)=.*", rf"\1={table}", each) for each in miniature.write(tmp_path)]
    with pytest.raises(DataError, match=r"TABLE\.tsv is a table, which is scored .* but not asked"):
        load_benchmark(miniature.name, options).questions()


def test_benchmarks_say_whose_data_they_are(miniature: Miniature) -> None:
    found = benchmark_class(miniature.name)
    assert found.licence and "\n" not in found.licence
    assert "\n" not in found.data
    required = [name for name, field in found.Options.model_fields.items() if field.is_required()]
    assert required and all(name in found.data for name in required)


def test_all_are_in_the_catalogue() -> None:
    assert {one.name for one in ALL} <= set(catalog.names(catalog.BENCHMARK))


# --- one by one -------------------------------------------------------------------------------------------------------


def test_textvqa_needs_ocr_tokens_where_the_protocol_shows_them(tmp_path: Path) -> None:
    questions, images, _ = photographs.write_textvqa(tmp_path)
    with pytest.raises(ConfigError, match=r"llava-1\.5 shows OCR tokens; give ocr=.*or protocol=llava-1\.5-no-ocr"):
        load_benchmark("textvqa", [questions, images]).questions()
    assert len(load_benchmark("textvqa", [questions, images, "protocol=llava-1.5-no-ocr"]).questions()) == 2


def test_mme_takes_off_the_ending_with_one_blank_or_two(tmp_path: Path) -> None:
    options = yes_no.write_mme(tmp_path)
    texts = {}
    for protocol in ("llava-1.5", "lmms-eval"):
        benchmark = load_benchmark("mme", [*options, f"protocol={protocol}"])
        item = next(item for item in benchmark.questions() if item.kind == "artwork")
        texts[protocol] = shown(benchmark.conversation(item)).partition("\nAnswer")[0]
    assert texts == {
        "llava-1.5": "<image>\nIs this a thing of artwork?",
        "lmms-eval": "<image>\nIs this a thing of artwork? ",  # what its `replace` leaves of two blanks
    }


def test_mme_perception_and_cognition_are_2000_and_800(tmp_path: Path) -> None:
    miniature = next(one for one in yes_no.MINIATURES if one.name == "mme")
    figures = run(miniature, miniature.write(tmp_path), miniature.perfect).numbers()["figures"]
    assert (figures["perception"], figures["cognition"]) == (2000, 800)


@pytest.mark.parametrize(
    ("rows", "option", "error"),
    [
        (2910, [], "random set has 2,910 questions, as in the commit e3e39262 that LLaVA pins"),
        (2910, ["older_random=true"], None),
        (3000, [], None),
        (3000, ["older_random=true"], "the random set has 3,000 questions and not 2,910"),
    ],
)
def test_pope_takes_the_older_random_set_only_where_it_is_meant(
    tmp_path: Path, rows: int, option: list[str], error: str | None
) -> None:
    options = yes_no.write_pope(tmp_path)
    lines = [
        {
            "question_id": number,
            "image": "COCO_val2014_000000310196.jpg",
            "text": f"Is there a {number}?",
            "label": "no" if number % 2 else "yes",
        }
        for number in range(rows)
    ]
    write_lines(tmp_path / "coco" / "coco_pope_random.json", lines)
    if error is None:
        assert len(load_benchmark("pope", options + option).questions()) == rows + 4
    else:
        with pytest.raises(DataError, match=error):
            load_benchmark("pope", options + option).questions()


def test_vqa_refuses_questions_and_annotations_of_two_splits(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    options = photographs.write_vqa(one)
    path = photographs.write_vqa(other)[1].partition("=")[2]
    content = Path(path).read_text(encoding="utf-8")
    Path(path).write_text(content.replace("262148001", "7"), encoding="utf-8")
    with pytest.raises(DataError, match="question 262148001 has no annotation"):
        load_benchmark("vqav2", [options[0], f"annotations={path}", options[2]]).questions()
    Path(path).write_text(content.replace('"image_id": 393225', '"image_id": 8'), encoding="utf-8")
    with pytest.raises(DataError, match="question 393225000 is about image 393225, its annotation is not"):
        load_benchmark("vqav2", [options[0], f"annotations={path}", options[2]]).questions()


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd"])
def test_an_images_name_never_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    options = documents.write_ocrbench(tmp_path)
    (tmp_path / "secret.png").write_bytes((tmp_path / "OCRBench_Images/IIIT5K/test/1007_1.png").read_bytes())
    path = tmp_path / "OCRBench.json"
    path.write_text(path.read_text(encoding="utf-8").replace("IIIT5K/test/1007_1.png", name), encoding="utf-8")
    with pytest.raises(DataError, match="leads out of"):
        load_benchmark("ocrbench", options).questions()
