"""The token index: what samples really have, found once for each content, tokenizer, template and image setting."""

from __future__ import annotations

import pytest
import torch

import mminstruct
from mminstruct.chat_template import IGNORE, TemplateConfig
from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.index import fingerprint
from mminstruct.data.source import Joined, open_source
from mminstruct.errors import DataError
from tests.training.conftest import write_dataset


@pytest.fixture(scope="module")
def processor():
    torch.manual_seed(0)
    return mminstruct.create("nano", tiny=True)[1]


@pytest.fixture
def data(tmp_path):
    write_dataset(tmp_path / "data", 12, text_only=3)
    return tmp_path / "data/data.json"


def dataset(data, processor, cache) -> ConversationDataset:
    source = open_source(data, cache)
    return ConversationDataset(Joined([source]), source.media_root, processor, 512, cache)


def test_it_counts_what_the_samples_have(data, processor, tmp_path):
    found = dataset(data, processor, tmp_path / "cache")
    samples = [found[index] for index in range(len(found))]
    assert found.index.tokens.tolist() == [len(sample["input_ids"]) for sample in samples]
    assert found.index.supervised.tolist() == [int((sample["labels"] != IGNORE).sum()) for sample in samples]
    prefixes = [int(one["places"][0, 1] + one["places"][0, 2]) if "places" in one else 0 for one in samples]
    assert found.index.prefixes.tolist() == prefixes


def test_with_it_nothing_is_tokenised(data, processor, tmp_path, monkeypatch):
    first = dataset(data, processor, tmp_path / "cache")
    monkeypatch.setattr(ConversationDataset, "_encoded", None)
    again = dataset(data, processor, tmp_path / "cache")
    assert again.token_counts() == first.token_counts()
    other = processor.with_template(TemplateConfig(name="vicuna_v1"))
    with pytest.raises(TypeError):  # another template, so another index
        dataset(data, other, tmp_path / "cache")


def test_a_processors_fingerprint_is_of_what_it_does(processor, tmp_path):
    processor.save(tmp_path / "saved")
    same = type(processor).load(tmp_path / "saved")
    assert fingerprint(same) == fingerprint(processor)
    others = [processor.with_template(TemplateConfig(name="vicuna_v1", system=text)) for text in (None, "a", "b")]
    larger = mminstruct.create("nano-pixel-shuffle", tiny=True)[1]
    assert len({fingerprint(one) for one in (processor, *others, larger)}) == 5


def test_a_conversation_that_the_template_does_not_take_is_named(data, processor, tmp_path):
    plain = processor.with_template(TemplateConfig(name="plain"))
    for _ in range(2):  # made, and found
        with pytest.raises(DataError, match=r"conversation '\d+': the template 'plain'"):
            dataset(data, plain, tmp_path / "cache")


def test_an_index_that_was_cut_is_refused(data, processor, tmp_path):
    dataset(data, processor, tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("tokens-*/tokens.npy")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match="not a whole index of tokens; remove the folder"):
        dataset(data, processor, tmp_path / "cache")
