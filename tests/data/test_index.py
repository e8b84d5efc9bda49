"""The token index: what samples really have, found once for each content, tokenizer, template and image setting."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import mminstruct
from mminstruct.chat_template import IGNORE, TemplateConfig
from mminstruct.conversation import Conversation, Media, Message, image, text
from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.index import cut, fingerprint
from mminstruct.data.source import Joined, open_source
from mminstruct.errors import DataError
from tests.conftest import picture
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
    assert again.token_counts(share=True) == first.token_counts(share=True)
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
        found = dataset(data, plain, tmp_path / "cache").index
        assert set(found.problems) == set(np.flatnonzero(found.tokens == 0)) and 0 in found.problems
        assert found.problems[0].startswith("conversation '0': the template 'plain'")
    data.write_text(json.dumps(json.loads(data.read_text())[:3]))
    with pytest.raises(DataError, match=r"conversation '0': the template 'plain'"):
        dataset(data, plain, tmp_path / "cache")


def test_an_index_that_was_cut_is_refused(data, processor, tmp_path):
    dataset(data, processor, tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("tokens-*/tokens.npy")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match="not a whole index of tokens; remove the folder"):
        dataset(data, processor, tmp_path / "cache")


def turns(*texts: str, images: int = 1) -> Conversation:
    """User and assistant in turn; the first `images` messages of the user begin with a picture of their own."""
    messages = []
    for number, words in enumerate(texts):
        place = [image(number // 2)] if number % 2 == 0 and number // 2 < images else []
        messages.append(Message(role="assistant" if number % 2 else "user", content=[*place, text(words)]))
    media = [Media(path=f"{number}.png", width=32, height=32) for number in range(images)]
    return Conversation(id="1", messages=messages, media=media)


def test_whole_turns_are_left_out_as_few_as_it_takes(processor, tmp_path):
    conversation = turns("what is it", "a circle", "what color", "red", "and this", "a blue triangle", images=3)
    for number in range(3):
        picture(number, (32, 32)).save(tmp_path / f"{number}.png")
    parts = [conversation.model_copy(update={"id": str(length), "messages": conversation.messages[:length],
             "media": conversation.media[: length // 2]}) for length in (2, 4, 6)]  # fmt: skip
    lengths = ConversationDataset(parts, tmp_path, processor, 512).index.tokens.tolist()
    assert lengths == sorted(lengths)
    for limit in range(lengths[0] - 1, lengths[2] + 1):
        kept = sum(length <= limit for length in lengths)
        found = ConversationDataset([conversation], tmp_path, processor, limit, cut_to=limit)
        if not kept:
            assert found.index.turns.tolist() == [0] and found.index.tokens.tolist() == [0]
            continue
        assert found.index.turns.tolist() == [-1 if kept == 3 else 2 * kept]
        sample, alone = found[0], ConversationDataset(parts, tmp_path, processor, 512)[kept - 1]
        assert sample.keys() == alone.keys() and len(sample["input_ids"]) == found.index.tokens[0] == lengths[kept - 1]
        assert all(torch.equal(sample[name], alone[name]) for name in sample)
        assert found.index.supervised[0] == (alone["labels"] != IGNORE).sum()


def test_a_cut_numbers_media_anew():
    conversation = turns("a", "b", "c", "d", "e", "f", images=3)
    conversation = conversation.model_copy(
        update={"messages": [conversation.messages[4], *conversation.messages[1:4], *conversation.messages[5:]]}
    )
    short = cut(conversation, 3)
    assert Conversation.model_validate(short.model_dump()) == short
    assert [media.path for media in short.media] == ["1.png", "2.png"]
    assert short.messages[0].content[0] == image(1) and short.messages[2].content[0] == image(0)


def test_tiles_are_counted_by_the_size_that_a_files_header_says(tmp_path):
    """Records of LLaVA files know no sizes; packs need true counts."""
    torch.manual_seed(0)
    tiles = mminstruct.create("nano-tiles", tiny=True)[1]
    write_dataset(tmp_path / "data", 6)
    picture(1, (200, 40)).save(tmp_path / "data/1.png")
    picture(2, (40, 200)).save(tmp_path / "data/2.png")
    found = dataset(tmp_path / "data/data.json", tiles, tmp_path / "cache")
    assert found.index.tokens.tolist() == [len(found[index]["input_ids"]) for index in range(6)]
    assert len({int(found[index]["places"][0, 2]) for index in range(6)}) > 1
