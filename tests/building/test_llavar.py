"""LLaVAR's second stage: its prompt, true answers on worlds, two readings, refused replies."""

from __future__ import annotations

import json
import random
import re
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mminstruct import formats
from mminstruct.building import load_builder, run
from mminstruct.conversation import Conversation, ImagePart
from mminstruct.data_builders import llavar
from mminstruct.data_builders.worlds.lettering import Block, Face, printed
from mminstruct.data_builders.worlds.poster_texts import LANGUAGES
from mminstruct.data_builders.worlds.posters import poster
from mminstruct.data_builders.worlds.receipts import Page, form, receipt
from mminstruct.data_builders.worlds.text_questions import noisy, read_pairs
from mminstruct.errors import DataError, ReplyError
from mminstruct.evidence.measures import edit_distance
from tests.building.chat_server import serving
from tests.building.test_llavar_pretrain import Page as PageEngine
from tests.command import call

COUNT = 24  # of each world

needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="the program tesseract is not installed")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Conversation]:
    found = {}
    for world, count in (("posters", 24), ("receipts", COUNT), ("forms", COUNT)):
        out = tmp_path_factory.mktemp("llavar") / "set"
        run(load_builder("llavar", [f"worlds=[{world}]", f"pictures={count}", "languages=[en, ru]"]), out)
        found |= {one.id: one for one in formats.read(out)}
    return found


def pairs(conversation: Conversation) -> list[tuple[str, str]]:
    texts = [message.text.strip() for message in conversation.messages]
    return list(zip(texts[::2], texts[1::2], strict=True))


def of_world(built: dict[str, Conversation], world: str) -> list[Conversation]:
    return [one for name, one in built.items() if name.startswith(f"llavar/{world}/")]


def numbered(conversation: Conversation) -> int:
    return int(conversation.id.rsplit("/", 1)[1])


def read_receipt(drawn: Page) -> tuple[dict[str, Decimal], dict[str, tuple[int, Decimal]]]:
    """Off its printed lines: labels and their amounts; goods with how many and what one costs."""
    rows: list[list[str]] = []
    last = -99.0
    for line in sorted(drawn.lines(), key=lambda one: (round((one.box[1] + one.box[3]) / 2), one.box[0])):
        middle = (line.box[1] + line.box[3]) / 2
        if middle - last > 4:
            rows.append([])
        rows[-1].append(line.text)
        last = middle
    amounts: dict[str, Decimal] = {}
    goods: dict[str, tuple[int, Decimal]] = {}
    before = ""
    for row in rows:
        if len(row) == 2 and re.fullmatch(r"\d+\.\d\d", row[1]):
            several = re.fullmatch(r"(\d) x (\d+\.\d\d)", row[0])
            amounts[before if several else row[0]] = Decimal(row[1])
            if "TOTAL EUR" not in amounts:
                name = before if several else row[0]
                goods[name] = (int(several[1]), Decimal(several[2])) if several else (1, Decimal(row[1]))
        before = row[0]
    return amounts, goods


def test_every_answer_about_a_receipt_is_true(built: dict[str, Conversation]) -> None:
    """Computed from what is printed."""
    kinds = set()
    for conversation in of_world(built, "receipts"):
        drawn = receipt(0, numbered(conversation))
        printed = [line.text for line in drawn.lines()]
        amounts, goods = read_receipt(drawn)
        total = amounts["TOTAL EUR"]
        bill = {name: count * price for name, (count, price) in goods.items()}
        assert sum(bill.values()) == total
        for question, answer in pairs(conversation):
            numbers = [Decimal(found) for found in re.findall(r"\d+\.\d\d", answer)]
            if question in ("How much was spent?", "What did this purchase come to?", "What was the bill?"):
                kinds.add("total")
                assert numbers == [total] and ("in cash" in answer) == ("Cash" in printed)
            elif question in ("Which shop is this from?", "Where was this bought?"):
                kinds.add("shop")
                assert answer == f"It was bought at {printed[0]}, {printed[1]}, {printed[2]}."
            elif question.startswith(("When was", "I need the date")):
                kinds.add("date")
                date, time = re.findall(r"\d{4}-\d\d-\d\d|\d\d:\d\d", " ".join(printed))
                assert answer == f"The receipt is dated {date}, {time}."
            elif question.startswith("How many different"):
                kinds.add("count")
                assert answer == f"There are {len(goods)}: {', '.join(goods)}."
            elif question.startswith("How much tax") or "tax office" in question:
                kinds.add("tax")
                assert numbers == [amount for label, amount in amounts.items() if "tax" in label]
            elif question.startswith("What took up"):
                kinds.add("largest")
                largest = max(bill.values())
                (name,) = [name for name, amount in bill.items() if amount == largest]
                assert numbers == [largest] and answer.endswith(f"for {name}.")
            elif question.startswith("What would the total be"):
                kinds.add("without")
                name = question.partition(": ")[2].rstrip("?")
                assert numbers == [bill[name], total - bill[name]]
            elif question.startswith("What does a single"):
                kinds.add("single")
                name = question.partition(": ")[2].rstrip("?")
                count, price = goods[name]
                assert count > 1 and numbers == [price, bill[name]] and f"; {count} were" in answer
            else:
                kinds.add("change")
                assert question == "How much money was given back?"
                assert numbers == [amounts["Cash"], total, amounts["Change"]]
    assert len(kinds) == 9


def test_every_answer_about_a_poster_is_true(built: dict[str, Conversation]) -> None:
    kinds = set()
    for conversation in of_world(built, "posters"):
        drawn = poster(0, numbered(conversation), ["en", "ru"])
        printed = [" ".join(block.rows) for block in drawn.blocks]
        whole = "\n".join(printed)
        for question, answer in pairs(conversation):
            quoted = re.findall(r'"(.+?)"', answer)
            assert all(one in whole for one in quoted)
            clock = [int(hour) * 60 + int(minute) for hour, minute in re.findall(r"(\d+):(\d\d)", whole)]
            if "anguage" in question:
                kinds.add("language")
                assert ("Russian" in answer) == bool(re.search("[а-я]", whole))
            elif "announce" in answer:
                kinds.add("title")
                assert quoted == [printed[0]]
            elif question.startswith("I can be there"):
                kinds.add("late")
                hour, minute = map(int, re.findall(r"\d+", question))
                left = clock[0] - (hour * 60 + minute)
                said = sum(
                    int(count) * {"hour": 60, "minute": 1}[unit]
                    for count, unit in re.findall(r"(\d+) (hour|minute)", answer)
                )
                assert said == abs(left) and answer.startswith("Yes" if left > 0 else "No")
            elif answer.startswith("The date on the poster"):
                kinds.add("when")
                assert re.findall(r"at (\d+:\d\d)\.$", answer)[0] in whole and quoted[0] in whole
            elif "takes place at" in answer:
                kinds.add("where")
                assert quoted[0] in printed
            elif "free" in answer:
                kinds.add("free")
                assert re.search("free|свободный", whole)
            else:
                price = int(re.findall(r"(\d+) (?:euros|евро)", whole)[0])
                if match := re.fullmatch(r"How much do (\d) tickets cost together\?", question):
                    kinds.add("tickets")
                    wanted = [price, int(match[1]), int(match[1]) * price]
                    assert [int(found) for found in re.findall(r"\d+", answer)] == wanted
                else:
                    kinds.add("enough")
                    have = int(re.findall(r"I have (\d+) euros", question)[0])
                    assert answer.startswith("Yes" if have >= price else "No") and f" {price} euros" in answer
                    assert have >= price or f"{price - have} more" in answer
    assert len(kinds) == 8
    assert {texts.name for texts in LANGUAGES.values()} >= {"English", "Russian"}


def test_every_answer_about_a_form_is_true(built: dict[str, Conversation]) -> None:
    """Every name and number in an answer is printed, or computed from what is."""
    asked = set()
    for conversation in of_world(built, "forms"):
        drawn = form(0, numbered(conversation))
        printed = [line.text for line in drawn.lines()]
        fields = {label.rstrip(":"): printed[place + 1] for place, label in enumerate(printed) if label.endswith(":")}
        for question, answer in pairs(conversation):
            asked.add(question)
            if match := re.match(r"A night costs (\d+) euros", question):
                nights = int(fields["Nights"])
                assert answer == f"{nights} nights at {match[1]} euros come to {nights * int(match[1])} euros."
            elif match := re.match(r"The scale takes (\d+) kg", question):
                weight = fields["Weight"]
                assert answer == f"{'Yes' if float(weight[:-3]) <= int(match[1]) else 'No'}, it weighs {weight}."
            elif question.startswith("Write the label"):
                assert answer == f"It goes to {fields['Recipient']}, {fields['Street']}, {fields['Town']}."
            elif "headed" in answer:
                assert answer == f'It is headed "{printed[0]}".'
            else:
                (label,) = [label for label, words in _WORDS.items() if answer.startswith(words) and label in fields]
                assert fields[label] in answer
    assert len(asked) > 18


_WORDS = {
    "Name": "The name on the form is",
    "Sender": "The sender is",
    "Recipient": "It is addressed to",
    "Street": "The address is",
    "Town": "The town on the form is",
    "Date of birth": "The date of birth is",
    "Arrival": "Their arrival is on",
    "Nights": "The room is booked for",
    "Guests": "The number of guests is",
    "Weight": "Its weight is given as",
    "Phone": "The phone number on the form is",
    "Card number": "The card number is",
}


def test_records_say_that_readings_are_simulated_and_what_is_known(built: dict[str, Conversation]) -> None:
    differ = 0
    for one in built.values():
        assert one.extra is not None and one.provenance is not None and len(one.provenance.call_ids) == 1
        ocr = one.extra["ocr"]
        assert ocr["simulated"] is True and ocr["engine"] == "known" and len(ocr["readings"]) == 2
        differ += ocr["readings"][0] != ocr["readings"][1]
        assert one.extra["known"]["kind"] in ("poster", "receipt", "form")
        assert 0 <= (one.scores or {})["ocr_disagreement"] <= 0.6
        assert 2 <= len(one.messages) <= 6 and one.task == "llavar+questions"
    assert differ > 0.9 * len(built)
    assert {isinstance(one.messages[0].content[0], ImagePart) for one in built.values()} == {True, False}


def test_simulated_readings_are_near_the_text_and_depend_on_the_seed_alone() -> None:
    lines = receipt(0, 3).lines()
    assert noisy(lines, random.Random(1), 0) == lines
    first, again, other = (noisy(lines, random.Random(seed), 0.05) for seed in (1, 1, 2))
    assert first == again != other
    truth = "\n".join(line.text for line in lines)
    read = "\n".join(line.text for line in first)
    assert 0 < edit_distance(truth, read) < 0.4 * len(truth)
    assert {line.quad for line in first} <= {line.quad for line in lines}


def test_the_prompt_is_system_examples_and_both_readings() -> None:
    facts = llavar.Facts(id="1", caption="A sign.", readings=["STOP", ""], agreed=[])
    messages = llavar.PROMPT.messages(facts)
    assert [one.role for one in messages] == ["system", *["user", "assistant"] * 2, "user"]
    assert "Caption: A sign." in messages[-1].text
    assert (
        messages[-1].text.index("STOP")
        < messages[-1].text.index("Second reading")
        < messages[-1].text.index("(nothing)")
    )
    for example in messages[2:-1:2]:  # the examples keep to the form that they are to teach
        assert llavar.PROMPT.parse(example.text, facts)
    hidden = facts.model_copy(update={"known": {"kind": "form", "title": "secret"}})
    assert llavar.PROMPT.messages(hidden) == messages  # the model is not shown what the world knows


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("It says STOP.", "there is no block of Question:"),
        ("Question:\nA?\n===\nAnswer:\nThe OCR says so.\n===", "it speaks of 'OCR'; speak of the picture only"),
        ("Question:\nA?\n===\nAnswer:\nThe second reading differs.\n===", "it speaks of 'second reading'"),
        (
            "".join(f"Question:\n{n}?\n===\nAnswer:\nB\n===\n" for n in range(4)),
            "there are 4 questions; write 3 at most",
        ),
    ],
)
def test_replies_of_another_form_are_refused(reply: str, problem: str) -> None:
    facts = llavar.Facts(id="1", caption="A sign.", readings=["STOP", "ST0P"], agreed=[])
    with pytest.raises(ReplyError, match=problem):
        llavar.PROMPT.parse(reply, facts)


def test_questions_about_any_text_follow_from_what_both_engines_read() -> None:
    agreed = ["Cash sale 12.50", "Total due 1,105.00", "Deposit 40.00", "call 0234 556677"]
    seen = set()
    for seed in range(20):
        for question, answer in read_pairs(agreed, ["\n".join(agreed), "Fresh garden"], random.Random(seed)):
            seen.add(question.split(" ")[0])
            if "anywhere" in question:
                word = re.findall(r'"(\w+)"', question)[0]
                line = re.findall(r'line "(.+)"', answer)[0]
                assert line in agreed and word in line
            elif "mention" in question:
                assert not re.search("garden|cash", question) and answer.startswith("No")
            elif "largest" in question:
                assert answer.endswith(" 40.00.")  # 1,105.00 is no number that is read for certain
            else:
                assert "0234 556677" in answer
    assert {"Is", "Does", "What"} <= seen
    assert read_pairs([], ["", ""], random.Random(0)) == []


def scans(folder: Path) -> Path:
    folder.mkdir()
    for name, rows in {
        "a.png": ("Fresh apple juice", "Price 4.50 euros"),
        "b.png": ("Closed on Monday", "and on Sunday"),
    }.items():
        block = Block(rows, Face("sans", 28), (0, 0, 0), 40, 60, pitch=1.8)
        printed((400, 300), (255, 255, 255), [block]).save(folder / name)
    (folder.parent / "captions.jsonl").write_text(
        '{"image": "a.png", "caption": "A label."}\n{"image": "b.png", "caption": "A sign."}\n'
    )
    return folder


def with_engines(tmp_path: Path, *options: str, says: str = "Fresh apple juice") -> Any:
    """Tesseract, and beside it an engine that reads the same line in every picture."""
    builder = load_builder("llavar", [f"source={tmp_path / 'scans'}", "engine=tesseract", "second=rapidocr", *options])
    assert isinstance(builder, llavar.Llavar)
    line = Block((says,), Face("sans", 28), (0, 0, 0), 40, 60).lines()
    builder.second = PageEngine(line, (400, 300))
    return builder


@needs_tesseract
def test_a_model_writes_of_two_engines_readings_of_ones_own_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mminstruct.building.clients import OpenAICompatibleClient

    monkeypatch.setenv("OPENAI_API_KEY", "any")
    scans(tmp_path / "scans")
    with serving(lambda body: "Question:\nWhat is it?\n===\nAnswer:\nIt is juice.\n===\n") as server:
        client = OpenAICompatibleClient("m", [server.url])
        builder = with_engines(tmp_path, f"captions={tmp_path / 'captions.jsonl'}", "most_disagreement=1")
        run(builder, tmp_path / "set", client=client)
        client.close()
    (asked,) = [request["messages"][-1]["content"] for request in server.requests]  # of the other nothing is agreed
    assert "Caption: A label." in asked and "First reading:\nFresh apple juice\nPrice 4.50 euros" in asked
    assert "Second reading:\nFresh apple juice\n" in asked
    (first,) = formats.read(tmp_path / "set")
    assert pairs(first) == [("What is it?", "It is juice.")]
    assert first.extra is not None and first.extra["known"] is None and first.extra["ocr"]["simulated"] is False
    assert first.extra["ocr"]["agreement"]["only_first"] == ["Price 4.50 euros"]
    assert first.extra["ocr"]["readings"][1] == "Fresh apple juice"


@needs_tesseract
def test_pictures_on_which_the_engines_disagree_are_left_out(tmp_path: Path) -> None:
    scans(tmp_path / "scans")
    run(with_engines(tmp_path), tmp_path / "set")
    assert [one.id for one in formats.read(tmp_path / "set")] == ["llavar/a.png"]
    with pytest.raises(DataError, match="there are no conversations"):  # no line is read alike
        run(with_engines(tmp_path, "most_disagreement=1", says="Fresh apple ju1ce"), tmp_path / "b")


@needs_tesseract
def test_captions_that_are_missing_or_broken(tmp_path: Path) -> None:
    scans(tmp_path / "scans")
    file = tmp_path / "captions.jsonl"
    file.write_text('{"image": "a.png", "caption": "A label."}\n')
    with pytest.raises(DataError, match=r"captions\.jsonl has no caption of b\.png; add a line"):
        run(with_engines(tmp_path, f"captions={file}", "most_disagreement=1"), tmp_path / "a")
    file.write_text('{"image": "a.png", "caption": "A label."}\n{"image": 3}\n')
    with pytest.raises(DataError, match=r"captions\.jsonl:2: image: Input should be a valid string"):
        run(with_engines(tmp_path, f"captions={file}", "most_disagreement=1"), tmp_path / "b")


@needs_tesseract
def test_one_engine_is_too_few(tmp_path: Path) -> None:
    code, out, error = call("build", "llavar", "--out", tmp_path / "set", "engine=tesseract")
    assert (code, out) == (2, "") and "llavar wants two readings of each picture; give engine and second" in error
    assert json.loads(call("build", "list", "--json")[1])
