"""The card: what a build writes, what it says of counts and usage, and other people's text in it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.building.call_log import CallLog
from mminstruct.building.clients import OpenAICompatibleClient, ReplayClient
from mminstruct.building.figures import Figures
from mminstruct.conversation import Conversation, Media, Preference, Provenance, image, message
from mminstruct.inspection.cards import card_of
from tests.building.asking_builder import Greys
from tests.building.chat_server import serving
from tests.command import call


def front(text: str) -> dict[str, Any]:
    head = re.fullmatch(r"---\n(.*?)---\n\n.*", text, re.DOTALL)
    assert head is not None
    found: dict[str, Any] = yaml.safe_load(head[1])
    return found


def test_a_build_writes_its_card_and_data_card_writes_the_same(tmp_path: Path) -> None:
    out = tmp_path / "set"
    run(load_builder("llava", ["scenes=5"]), out)
    text = (out / "README.md").read_text(encoding="utf-8")
    assert call("data", "card", out) == (0, text, "")
    assert front(text) == {
        "pretty_name": "llava",
        "license": "apache-2.0",
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "size_categories": ["n<1K"],
        "tags": ["visual-instruction-tuning", "mminstruct"],
        "configs": [{"config_name": "default", "data_files": "shard-*.jsonl"}],
    }
    assert "| conversations | 15 |" in text and "| pictures | 15, 5 different ones |" in text
    assert "| option scenes | 5 |" in text and "| llava/detail@2 | template (template) | 5 | 0 | 0 | 0 | 0 |" in text
    pictures = re.findall(r"!\[image\]\(<(.*?)>\)", text)
    assert len(pictures) == 3 and all((out / path).is_file() for path in pictures)
    answers = [m.text for c in formats.read(out) for m in c.messages if m.role == "assistant"]
    few = sum(2 <= len(answer.split()) <= 3 for answer in answers)
    assert few == 0 or re.search(rf"^2 to 3 .* {few} \(", text, re.MULTILINE)
    assert sum(int(n) for n in re.findall(r" (\d+) \([\d.]+ %\)", text.split("words in an answer")[1])) == len(answers)


def test_usage_is_of_the_replies_that_this_data_set_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of other builds over the same log; a build of the log alone has the same card."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    calls = tmp_path / "calls.sqlite"
    with serving(lambda body: "no" if "grey/1?" in str(body["messages"]) else "it is grey") as server:
        client = OpenAICompatibleClient("m", [server.url])
        run(
            Greys(Greys.Options(count=20)), tmp_path / "other", BuildConfig(calls=calls, on_error="skip"), client=client
        )
        run(Greys(Greys.Options(count=10)), tmp_path / "set", BuildConfig(calls=calls, on_error="skip"), client=client)
        client.close()
    text = (tmp_path / "set/README.md").read_text()
    # Ten items: one is dropped, one fails after three replies to its first question; the others have two replies each.
    assert "| greys/more@1 | m (openai) | 8 | 80 | 0 | 40 | 0 |" in text
    assert "| greys/shade@1 | m (openai) | 11 | 110 | 0 | 55 | 0 |" in text
    assert "| dropped: sevens | 1 |" in text and "| items that failed: reply | 1 |" in text and "$" not in text
    with CallLog(calls) as log:
        settings = BuildConfig(calls=calls, on_error="skip", workers=3)
        run(Greys(Greys.Options(count=10)), tmp_path / "again", settings, client=ReplayClient(log))
    assert (tmp_path / "again/README.md").read_text() == text == card_of(tmp_path / "set", calls=calls)
    prices = tmp_path / "prices.yaml"
    prices.write_text('date: "2026-01-31"\nsource: a page\nmodels: {m: {read: 1000, written: 10000}}\n')
    code, printed, _ = call("data", "card", tmp_path / "set", "--calls", calls, "--prices", prices, "--model", "m")
    assert code == 0
    assert (
        f"By the prices of 2026-01-31 (a page) these replies cost ${(190 * 1000 + 95 * 10000) / 1e6:,.2f}." in printed
    )
    assert sorted(path.name for path in tmp_path.glob("calls*")) == ["calls.sqlite"]  # read, and nothing left beside it


def test_text_of_others_is_no_markup(tmp_path: Path) -> None:
    nasty = "</code> ```\n# Title | <script>alert(1)</script> ````js"
    given = Conversation(
        id="a`b|c",
        messages=[message("user", image(), nasty), message("assistant", "x" * 5000)],
        media=[Media(path="images/a>(b).png")],
        task="t`|<b>",
        provenance=Provenance(builder="b", version="1", parents=["p|q/1"], licence="Mine, all rights reserved"),
        preference=Preference(chosen=[message("assistant", "yes")], rejected=[message("assistant", "no")]),
    )
    formats.write([given], tmp_path / "set", "native")
    text = card_of(tmp_path / "set")
    assert f"`````text\n{nasty}\n`````" in text and "p\\|q" in text and "x" * 601 not in text
    assert front(text)["license"] == "other" and front(text)["license_name"] == "mine-all-rights-reserved"
    assert "![image](<images/a_(b).png>)" in text and "assistant, better" in text and "### `a'b|c`" in text
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script>" not in outside


def test_the_card_of_a_foreign_set(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
    import json

    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"id": str(n), "image": "a.png", "conversations": turns} for n in range(1200)]))
    code, printed, _ = call("data", "card", path, "--out", tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text()
    assert (code, printed) == (0, f"{tmp_path / 'card.md'}\n") and "configs" not in front(text)
    assert front(text)["size_categories"] == ["1K<n<10K"] and front(text)["license_name"] == "not-stated"
    assert "1,200, 1 different ones" in text and "How it was built" not in text
    assert call("data", "card", path, "--out", tmp_path / "card.md")[0] == 2


def test_figures_do_not_depend_on_where_a_run_was_cut(tmp_path: Path) -> None:
    run(load_builder("llava", ["scenes=6"]), tmp_path / "whole", BuildConfig(per_shard=4))
    half = tmp_path / "set.unfinished"
    shutil.copytree(tmp_path / "whole", half)
    lines = (half / "build.jsonl").read_text().splitlines(keepends=True)
    (half / "build.jsonl").write_text("".join(lines[:3]))
    run(load_builder("llava", ["scenes=6"]), tmp_path / "set", BuildConfig(per_shard=4), resume=True)
    assert (tmp_path / "set/README.md").read_bytes() == (tmp_path / "whole/README.md").read_bytes()


def test_many_sources_and_numbers_stay_few_rows() -> None:
    figures = Figures()
    for number in range(3000):
        turns = [message("user", "?"), message("assistant", "a")] * (1 + number % 30)
        origin = Provenance(builder="b", version="1", parents=[f"{number}.jpg"])
        figures.add(Conversation(id=str(number), messages=turns, provenance=origin))
    from mminstruct.building.card import card

    text = card(figures)
    assert len(figures.sources) == 1000 and len(text.splitlines()) < 250
    assert "26 and more" in text and "and 988 more." in text
