"""What the commands print: the mask in colour and as JSON, the zoo as tables and as JSON."""

from __future__ import annotations

import json

import pytest

from mminstruct.chat_template import IGNORE, IMAGE
from tests.command import call
from tests.conftest import make_tokenizer


@pytest.fixture
def sample(tmp_path):
    turns = [{"from": "human", "value": "<image>\nWhat color?"}, {"from": "gpt", "value": "It is [blue]."}]
    (tmp_path / "d.json").write_text(json.dumps([{"id": "s", "image": "x.png", "conversations": turns}]))
    make_tokenizer(bos=True).save_pretrained(tmp_path / "tokenizer")
    return tmp_path


def test_mask_json(sample):
    options = ("--template", "vicuna_v1", "--tokenizer", sample / "tokenizer", "--json")
    code, out, err = call("data", "mask", sample / "d.json", *options)
    assert code == 0, err
    line = json.loads(out)
    tokenizer = make_tokenizer(bos=True)
    assert line["id"] == "s" and len(line["input_ids"]) == len(line["labels"])
    assert line["input_ids"].count(IMAGE) == 1 and line["input_ids"][0] == tokenizer.bos_token_id
    answer = tokenizer(" It is [blue].</s>", add_special_tokens=False)["input_ids"]
    assert [label for label in line["labels"] if label != IGNORE] == answer


def test_mask_marks_the_supervised_stretch(sample):
    code, out, err = call(
        "data", "mask", str(sample / "d.json"), "--template", "vicuna_v1", "--tokenizer", str(sample / "tokenizer")
    )
    assert code == 0, err
    assert "ASSISTANT:« It is [blue].</s>»" in out.replace("<0x62>", "b") and "[image]" in out


def test_mask_of_another_loss(sample):
    options = ("--template", "vicuna_v1", "--tokenizer", str(sample / "tokenizer"))
    code, out, err = call("data", "mask", str(sample / "d.json"), *options, "--loss", "response+instruction")
    assert code == 0, err
    assert "[image]«" in out and "What color?» ASSISTANT:« It is [" in out
    code, _, err = call("data", "mask", str(sample / "d.json"), *options, "--loss", "al")
    assert code == 2 and "no loss is called 'al'. Did you mean 'all'" in err


def test_mask_errors(sample):
    data, tokenizer = str(sample / "d.json"), str(sample / "tokenizer")
    code, _, err = call("data", "mask", data, "--template", "vicuna", "--tokenizer", tokenizer)
    assert code == 2 and "Did you mean 'vicuna_v1'" in err
    code, _, err = call("data", "mask", data, "--template", "tokenizer", "--tokenizer", tokenizer)
    assert code == 2 and "this tokenizer has none" in err
    code, _, err = call("data", "mask", data, "--template", "chatml", "--tokenizer", str(sample))
    assert code == 2 and "holds no tokenizer" in err


def test_zoo_list_and_show():
    code, out, err = call("zoo", "list", "--json")
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["nano"]["licence"] == "Apache-2.0" and rows["llava-1.5-7b"]["parameters"] > 7e9
    code, out, err = call("zoo", "show", "llavar-13b", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["connector"]["kind"] == "linear" and facts["origin"]["paper"].startswith("https://")
    assert facts["parameters"]["all"] == sum(v for k, v in facts["parameters"].items() if k != "all")
    assert facts["licence"]["binding"] == ["Llama-1"] and not facts["licence"]["commercial_use"]
    assert facts["image_tokens"] == 576 and facts["memory_gb"]["train everything"]["ZeRO-3 on 8"] > 0


def test_zoo_list_fits_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    code, out, err = call("zoo", "list", "llava-1*")
    assert code == 0, err
    assert "llava-1.5-13b" in out and "nano" not in out and max(map(len, out.splitlines())) <= 120


def test_zoo_card_and_docs(tmp_path):
    code, out, err = call("zoo", "card", "nano")
    assert code == 0 and out.startswith("---\n") and "license: apache-2.0" in out, err
    code, said, err = call("zoo", "card", "nano", "--out", tmp_path / "README.md")
    assert code == 0 and "saved:" in said, err
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == out


def test_train_list_and_show():
    code, out, _ = call("train", "--list", "--json")
    assert code == 0 and "quickstart" in {row["name"] for row in json.loads(out)}
    code, out, _ = call("train", "quickstart", "--show", "stages.0.steps=3")
    assert code == 0 and "steps: 3" in out
