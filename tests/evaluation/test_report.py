"""The report: complete, self-contained, safe with other people's text, readable without colour."""

from __future__ import annotations

import html.parser
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct.errors import DataError, MediaError, RunError
from mminstruct.evaluation.benchmark import Item
from mminstruct.evaluation.facts import model_facts
from mminstruct.evaluation.gallery import THUMBNAIL, collection, data_uri
from mminstruct.evaluation.page import render
from mminstruct.evaluation.plot import loss_svg, read_curves, smooth
from mminstruct.evaluation.report import write_report
from mminstruct.evaluation.requests import Reply
from mminstruct.evaluation.results import BenchmarkResult, judge
from mminstruct.evaluation.runner import Predictions
from mminstruct.evaluation.words import duration, fact, percent, points
from tests.command import call

from .conftest import Mixed, Pair

NASTY = '<script>alert("x")</script> & "quotes"'


class Page(html.parser.HTMLParser):
    """Tags and addresses of a page; fails on a tag that is not closed."""

    VOID = ("meta", "img", "path", "use", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture
def result(pictures: list[Path]) -> BenchmarkResult:
    items = [
        Item(
            str(number), (pictures[number % 6],), f"{NASTY} {number}?", ("red", NASTY), "color", cluster=str(number % 6)
        )
        for number in range(30)
    ]
    texts = ["red" if number % 3 else f"{NASTY} wrong" for number in range(30)]
    benchmark, seen = (
        Mixed(pictures),
        Predictions(
            items, [Reply(text=text, tokens=1, finish="end") for text in texts], distinct=30, generated=30, seconds=3.0
        ),
    )
    return BenchmarkResult(benchmark, seen, judge(benchmark, seen), None, {}, 30)


@pytest.fixture
def metrics(tmp_path: Path) -> list[Path]:
    files = []
    for stage, steps in [("align", 30), ("instruct", 50)]:
        path = tmp_path / stage / "metrics.jsonl"
        path.parent.mkdir()
        lines = [
            {"step": s, "loss": 3 / s, "learning_rate": 1e-3, "stage": stage, "epoch": 0.1} for s in range(1, steps)
        ]
        lines.append({"step": steps, "seconds": 3.0, "stage": stage})
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        files.append(path)
    return files


def test_report_is_complete(result: BenchmarkResult, metrics: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "report"
    facts = {"folder": "runs/x/model", "parameters": 1234567}
    report = write_report(
        folder, [result], metrics_files=metrics, seconds={"train": 75.0}, model_facts=facts, title="My run"
    )
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == report
    assert set(report) == {"benchmarks", "seconds", "model", "checkpoint", "code", "versions"}
    assert report["benchmarks"] == {"mixed_bag": result.numbers()}
    assert report["model"] == facts and report["seconds"] == {"train": 75.0}
    assert {"mminstruct", "python", "torch", "transformers"} <= set(report["versions"])
    page = (folder / "report.html").read_text(encoding="utf-8")
    for shown in ("My run", "runs/x/model", "1,234,567", "1 min 15 s", "66.7", "align", "instruct", "training loss"):
        assert shown in page, shown
    assert "Not the whole benchmark" in page and "first 30 questions" in page


def test_page_is_self_contained_and_escaped(result: BenchmarkResult, metrics: list[Path], tmp_path: Path) -> None:
    write_report(tmp_path / "report", [result], metrics_files=metrics, title=NASTY)
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {"link", "iframe", "object", "form"} & set(page.tags) and page.tags.count("script") == 2
    assert "default-src &#39;none&#39;" in text and "script-src &#39;sha256-" in text
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert "@import" not in text and "url(http" not in text
    assert page.tags.count("img") == 6, "each picture once"
    assert "&lt;script&gt;" in text and "\\u003cscript\\u003ealert(" in text and "<script>alert" not in text


def test_verdicts_do_not_rely_on_colour(result: BenchmarkResult, tmp_path: Path) -> None:
    write_report(tmp_path / "report", [result])
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert text.count("✗ wrong") == 8 and text.count("✓ right") == 8
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    assert "Training loss" not in text


def test_tables_tell_types_from_their_parts_and_certainty_from_its_lack(result: BenchmarkResult) -> None:
    numbers = result.numbers()
    numbers["by_type"]["color (dark)"] = dict(numbers["by_type"]["color"])
    facts: dict[str, Any] = {"model": {}, "checkpoint": {}, "code": {"version": "1", "commit": None}, "versions": {}}

    def page() -> str:
        report = facts | {"benchmarks": {"mixed": numbers}}
        return render("report.html.jinja", title="t", report=report, plot=None, collections={})

    whole, part = (f'<th scope="row">{name}</th>' for name in ("color", "color (dark)"))
    assert f"<tr>{whole}" in page() and f'<tr class="part">{part}' in page() and "no certainty" not in page()
    numbers["by_type"]["color (dark)"]["score_stderr"] = 0.0
    assert "Where all answers score alike, the interval has no width; that is no certainty" in page()


def test_pages_show_all_or_a_seeded_sample(result: BenchmarkResult) -> None:
    everything = collection(result, most=30, seed=0, each=4)
    assert [exhibit.id for exhibit in everything.exhibits] == [str(number) for number in range(30)]
    assert [still.exhibit.head for still in everything.stills] == ["wrong"] * 4 + ["right"] * 4
    some = collection(result, most=9, seed=0, each=4)
    assert some == collection(result, most=9, seed=0, each=4) != collection(result, most=9, seed=1, each=4)
    assert len(some.exhibits) == 9 and some.total == 30
    places = [int(exhibit.id) for exhibit in some.exhibits]
    assert places == sorted(set(places))


def test_each_picture_is_stored_once(result: BenchmarkResult) -> None:
    """In the data, or in the part that needs no script, whichever comes first."""
    found = collection(result, most=30, seed=0, each=2)
    data = found.data()
    inside = [source for still in found.stills for _, _, source in still.pictures if source]
    kept = [source for source in data["pictures"] if source is not None]
    assert len(found.pictures) == 6 == len({*inside, *kept}) == len(inside) + len(kept)
    assert len(inside) == 4, "different pictures as far as there are"


def test_an_exhibit_holds_what_is_to_know(pictures: list[Path]) -> None:
    """Choices with the gold and the given letter, earlier turns with what the model said, marks of the answer."""

    class Letters(Mixed):
        primary_scorer = "mmbench"
        further_scorers = ()

    choices = ("red", "blue", "green")
    items = [
        Item("1", (pictures[0],), "what color?", ("B",), "color", choices=choices),
        Item("2", (pictures[0], pictures[1]), "and here?", ("A",), "color", "odd", choices=choices, after=("1",)),
        Item("3", (pictures[0],), "again?", ("A",), choices=choices),
    ]
    replies = [
        Reply(text="B", tokens=1, finish="end"),
        Reply(text="(C) green", tokens=6, finish="length"),
        Reply(text="", tokens=0, finish="end"),
    ]
    benchmark, seen = Letters(pictures), Predictions(items, replies, distinct=3, generated=3, seconds=1.0)
    one, two, three = collection(
        BenchmarkResult(benchmark, seen, judge(benchmark, seen), None, {}), most=9, seed=0, each=3
    ).exhibits
    assert one.choices == [("A", "red", False), ("B", "blue", True), ("C", "green", False)]
    assert (one.head, one.sides[0].given, one.tags) == ("right", "B", ["right"])
    assert two.earlier == [["what color?", "B"]] and two.types == ["color", "color (odd)"]
    assert two.pictures == [(0, "image 1 of 2"), (1, "image 2 of 2")]
    assert (two.head, two.sides[0].given, two.tags) == ("wrong", "C", ["wrong", "cut off"])
    assert two.sides[0].notes == ["cut off", "read as 'C'"]
    assert {"no answer", "unparsed"} <= set(three.tags) and three.sides[0].given == ""


def test_pages_know_partly_right(pictures: list[Path]) -> None:
    class Votes(Mixed):
        primary_scorer = "vqa.evalai"

    item = Item("1", (pictures[0], pictures[1]), "what?", ("red",) * 2 + ("blue",) * 8)
    seen = Predictions([item], [Reply(text="red", tokens=1, finish="end")], distinct=1, generated=1, seconds=1.0)
    benchmark = Votes(pictures)
    result = BenchmarkResult(benchmark, seen, judge(benchmark, seen), None, {})
    (exhibit,) = collection(result, most=3, seed=0, each=3).exhibits
    assert (exhibit.head, exhibit.golds, len(exhibit.pictures)) == ("partly right", ["red", "blue"], 2)
    assert exhibit.order["score"] == pytest.approx(0.6) and exhibit.sides[0].notes == ["scores 0.60"]


def test_gallery_says_which_image_is_gone(result: BenchmarkResult, tmp_path: Path) -> None:
    item = Item("1", (tmp_path / "gone.png",), "what?", ("red",))
    seen = Predictions([item], [Reply(text="red", tokens=1, finish="end")], distinct=1, generated=1, seconds=1.0)
    gone = BenchmarkResult(result.benchmark, seen, judge(result.benchmark, seen), None, {})
    with pytest.raises(MediaError, match=r"gone\.png does not exist"):
        write_report(tmp_path / "report", [gone])
    assert not (tmp_path / "report" / "report.json").exists()


@pytest.mark.parametrize(("size", "kind"), [((64, 64), "png"), ((2000, 500), "jpeg")])
def test_images_are_small_and_inside(size: tuple[int, int], kind: str) -> None:
    import base64
    import io

    header, _, body = data_uri(Image.new("RGB", size, (255, 0, 0))).partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(body)))
    assert header == f"data:image/{kind};base64" and max(picture.size) <= THUMBNAIL


# --- the plot ---------------------------------------------------------------------------------------------------------


def test_curves_follow_files_and_stages(metrics: list[Path]) -> None:
    curves = read_curves(metrics)
    assert [(curve.label, len(curve.steps)) for curve in curves] == [("align", 29), ("instruct", 49)]
    assert curves[0].losses[:2] == [3.0, 1.5]
    svg = loss_svg(curves)
    assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>") and svg == loss_svg(curves)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no line with a step and a loss"),
        ('{"step": 1}\n', "no line with a step and a loss"),
        ("{\n", r"metrics.jsonl:1 is not JSON"),
        ("[1]\n", r"metrics.jsonl:1 is not a JSON object"),
    ],
)
def test_metrics_that_hold_no_losses(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_curves([path])
    with pytest.raises(DataError, match="does not exist"):
        read_curves([tmp_path / "none.jsonl"])


def test_smoothing() -> None:
    assert smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    found = smooth([1.0, math.nan, 1.0])
    assert found[0] == found[2] == pytest.approx(1.0) and math.isnan(found[1])


def test_missing_matplotlib_is_one_clear_line(metrics: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RunError, match=r"pip install 'mminstruct\[eval\]'"):
        loss_svg(read_curves(metrics))


def test_runs_are_drawn_beside_each_other(metrics: list[Path], tmp_path: Path) -> None:
    for ending, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".html", b"<!doctype html>")):
        out = tmp_path / f"plot{ending}"
        code, said, _ = call("plot", *metrics, metrics[0].parent, "--out", out, "--json")
        assert code == 0 and out.read_bytes().startswith(start)
    stages = json.loads(said)["stages"]
    assert [(stage["run"], stage["stage"]) for stage in stages] == [
        (str(metrics[0].parent), "align"),
        ("instruct", "instruct"),
        (str(metrics[0].parent), "align"),
    ]
    assert stages[1]["steps"] == 49 and stages[1]["loss"] == 3 / 49
    for words in ("Training loss by optimizer step", "Learning rate by optimizer step", "instruct"):
        assert words in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "los"], "Did you mean 'loss'?"),
        (["--out", "plot.jpeg"], "known endings: .png"),
    ],
)
def test_what_cannot_be_drawn(metrics: list[Path], options: list[str], message: str) -> None:
    code, _, error = call("plot", metrics[0], *options)
    assert code == 2 and message in error


# --- words ------------------------------------------------------------------------------------------------------------


def test_words() -> None:
    assert percent(0.12345) == "12.35\N{NO-BREAK SPACE}%" and percent(None) == "not run"
    assert points(0.0123) == "±\N{NO-BREAK SPACE}1.23" and points(None) == "unknown"
    assert [duration(s) for s in (0.25, 59.94, 75, 3600, 7325)] == [
        "0.2 s",
        "59.9 s",
        "1 min 15 s",
        "1 h 0 min",
        "2 h 2 min",
    ]
    assert [fact(value) for value in (None, 1234567, True, "x", 0.5)] == ["–", "1,234,567", "True", "x", "0.5"]


def test_model_facts(pair: Pair, tmp_path: Path) -> None:
    model, processor = pair
    facts = model_facts(model, processor, tmp_path)
    assert facts["folder"] == str(tmp_path) and facts["device"] == "cpu" and facts["dtype"] == "float32"
    assert facts["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    json.dumps(facts)
