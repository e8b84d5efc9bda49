"""TGDoc's tasks: every box is where the ink is, and every text is what stands in its box."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageChops

from mminstruct import formats
from mminstruct.building import load_builder, run
from mminstruct.conversation import Conversation
from mminstruct.data_builders import tgdoc
from mminstruct.data_builders.worlds.posters import Poster, poster
from mminstruct.data_builders.worlds.receipts import Page, form, receipt
from mminstruct.evidence.ocr import TextLine

COUNT = 30
BOX = re.compile(r"\[(\d\.\d{3}), (\d\.\d{3}), (\d\.\d{3}), (\d\.\d{3})\]")
WORLDS = (poster, receipt, form)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Conversation]:
    out = tmp_path_factory.mktemp("tgdoc") / "set"
    run(load_builder("tgdoc", [f"pictures={COUNT}"]), out)
    return list(formats.read(out))


def of_kind(built: list[Conversation], kind: str) -> list[tuple[Poster | Page, Conversation]]:
    found = [one for one in built if one.task == f"tgdoc+{kind}"]
    pictures = {f"tgdoc/{drawn.id}/{kind}": drawn for drawn in (_drawn(number) for number in range(COUNT))}
    assert len(found) > COUNT - 6
    return [(pictures[one.id], one) for one in found]


def _drawn(number: int) -> Poster | Page:
    return WORLDS[number % 3](0, number // 3)


def turns(conversation: Conversation) -> list[tuple[str, str]]:
    texts = [message.text.strip() for message in conversation.messages]
    return list(zip(texts[::2], texts[1::2], strict=True))


def pixels(box: str, drawn: Poster | Page) -> tuple[float, float, float, float]:
    match = BOX.fullmatch(box)
    assert match is not None
    width, height = drawn.size
    left, top, right, bottom = (float(share) for share in match.groups())
    assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
    return left * width, top * height, right * width, bottom * height


def by_text(drawn: Poster | Page, text: str) -> TextLine:
    (line,) = [line for line in drawn.lines() if text.casefold() in line.text.casefold()]
    return line


def test_a_detected_box_is_as_wide_as_the_ink_of_its_text(built: list[Conversation]) -> None:
    """By pixels, of upright text."""
    asked = 0
    for drawn, conversation in of_kind(built, "detection"):
        ink = (
            np.asarray(ImageChops.difference(*(drawn.draw(each).convert("RGB") for each in (True, False)))).max(axis=-1)
            > 40
        )
        for question, box in turns(conversation):
            if by_text(drawn, re.findall(r'"(.+)"', question)[0]).angle == 0:
                left, top, right, bottom = map(round, pixels(box, drawn))
                rows, columns = np.nonzero(ink[top:bottom, left:right])
                assert columns.min() <= 2 and right - left - columns.max() <= 4
                assert rows.min() <= 0.4 * (bottom - top) and rows.max() >= 0.6 * (bottom - top)
                assert not ink[top:bottom, max(0, left - 4) : max(0, left - 1)].any()  # the text does not begin earlier
                assert not ink[top:bottom, right + 1 : right + 4].any()
                asked += 1
    assert asked > 60


def test_places_are_those_of_the_lines_in_shares_of_the_picture(built: list[Conversation]) -> None:
    for kind in ("detection", "recognition"):
        for drawn, conversation in of_kind(built, kind):
            width, height = drawn.size
            assert 1 <= len(turns(conversation)) <= 3
            for question, answer in turns(conversation):
                text = re.findall(r'"(.+)"', question)[0] if kind == "detection" else answer
                where = answer if kind == "detection" else re.findall(r"\[.+?\]", question)[0]
                boxes = []
                for line in drawn.lines():
                    if line.text == text:
                        xs, ys = [x for x, _ in line.quad], [y for _, y in line.quad]
                        edges = (min(xs) / width, min(ys) / height, max(xs) / width, max(ys) / height)
                        boxes.append("[" + ", ".join(f"{round(edge, 3):.3f}" for edge in edges) + "]")
                assert where in boxes


def test_a_text_that_is_to_be_found_stands_in_one_line_only(built: list[Conversation]) -> None:
    for drawn, conversation in of_kind(built, "detection"):
        for question, _ in turns(conversation):
            by_text(drawn, re.findall(r'"(.+)"', question)[0])


def test_a_box_that_is_to_be_read_holds_one_line_only(built: list[Conversation]) -> None:
    for drawn, conversation in of_kind(built, "recognition"):
        for question, answer in turns(conversation):
            left, top, right, bottom = pixels(re.findall(r"\[.+?\]", question)[0], drawn)
            middles = [
                (line.text, (line.box[0] + line.box[2]) / 2, (line.box[1] + line.box[3]) / 2) for line in drawn.lines()
            ]
            assert [text for text, x, y in middles if left < x < right and top < y < bottom] == [answer]


def test_spotting_names_every_line_that_can_be_read_once_from_top_to_bottom(built: list[Conversation]) -> None:
    for drawn, conversation in of_kind(built, "spotting"):
        ((question, answer),) = turns(conversation)
        assert any(coordinates in question for coordinates in tgdoc.prompt_file().coordinates)
        rows = [re.fullmatch(rf"(.+) ({BOX.pattern})", row) for row in answer.splitlines()]
        told = [(row[1], pixels(row[2], drawn)) for row in rows if row]
        assert len(told) == len(rows)
        assert sorted(text for text, _ in told) == sorted(line.text for line in drawn.lines() if line.height >= 8)
        for (_, first), (_, second) in itertools.pairwise(told):
            assert second[1] > first[1] or second[0] > first[0]  # further down, or further right in one row


def test_coordinates_are_explained_once_and_questions_vary(built: list[Conversation]) -> None:
    coordinates = tgdoc.prompt_file().coordinates
    ways = set()
    for _, conversation in of_kind(built, "detection"):
        first, *rest = [question for question, _ in turns(conversation)]
        assert sum(words in first for words in coordinates) == 1
        assert not any(words in question for question in rest for words in coordinates)
        ways |= {re.sub(r'".+?"', "", question).split("?")[0].split(".")[0] for question in (first, *rest)}
    assert len(ways) >= len(tgdoc.prompt_file().detection)


def test_boxes_are_cut_to_the_picture_and_rounded() -> None:
    assert tgdoc.shares((-3, 10, 50.04, 205), (100, 200)) == (0, 0.05, 0.5, 1)
    assert tgdoc.written((0, 0.05, 0.5, 1)) == "[0.000, 0.050, 0.500, 1.000]"


def test_options_choose_kinds_turns_and_the_longest_list(tmp_path: Path) -> None:
    options = ["worlds=[receipts]", "pictures=3", "kinds=[spotting, detection]", "turns=1", "most_lines=5"]
    run(load_builder("tgdoc", options), tmp_path / "set")
    found = list(formats.read(tmp_path / "set"))
    assert [one.task for one in found] == ["tgdoc+detection"] * 3  # receipts have more lines than five
    assert all(len(one.messages) == 2 for one in found)
