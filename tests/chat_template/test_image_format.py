"""What stands around the place of an image, in every template, and the prompts of Idefics and OpenFlamingo."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mminstruct.chat_template import IGNORE, IMAGE, TemplateConfig, get
from mminstruct.chat_template.named import NAMES
from mminstruct.chat_template.template import around_images
from mminstruct.conversation import ImagePart, Message, TextPart, VideoPart
from tests.conftest import make_tokenizer, spell, turns


def message(role: str, *parts: str | int) -> Message:
    content = [TextPart(text=part) if isinstance(part, str) else ImagePart(index=part) for part in parts]
    return Message(role=role, content=content)


def text(messages, generation_prompt=False, tokenizer=None, **settings) -> str:
    template = get(TemplateConfig(**settings), tokenizer)
    pieces = around_images(template.render(messages, generation_prompt), template.image_format)
    return "".join("@" if piece.image is not None else piece.text for piece in pieces)


@pytest.fixture
def tokenizer():
    made = make_tokenizer(bos=True)
    made.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}"
    return made


@pytest.mark.parametrize("name", NAMES)
def test_every_template_honours_it(name, tokenizer):
    template = get(TemplateConfig(name=name, image_format="(<s>{}<unk>"), tokenizer)
    encoded = template.encode(turns("What?", "blue", images=1), tokenizer)
    place = encoded.input_ids.index(IMAGE)
    assert tokenizer.convert_ids_to_tokens(encoded.input_ids[place - 1 : place + 2 : 2]) == ["<s>", "<unk>"]
    before = get(TemplateConfig(name=name, image_format="{}"), tokenizer).encode(
        turns("What?", "blue", images=1), tokenizer
    )
    assert encoded.input_ids.count(tokenizer.bos_token_id) == before.input_ids.count(tokenizer.bos_token_id) + 1
    with_it, without = (
        spell([label for label in one.labels if label != IGNORE], tokenizer) for one in (encoded, before)
    )
    assert with_it.strip() == without.strip()  # this tokenizer writes a space in front of the first word of a stretch


def test_neighbours_share_what_is_equal():
    images = [message("user", "a", 0, 1, "", 2, " ", 3)]
    assert text(images, name="open_flamingo", image_format="|{}|") == "a|@|@|@| |@|"
    assert text(images, name="open_flamingo", image_format="<{}>") == "a<@><@><@> <@>"
    assert text(images, name="open_flamingo") == "a@@@ @"


def test_a_video_has_it_too_and_an_answer_supervises_none_of_it(tokenizer):
    template = get(TemplateConfig(name="vicuna_v1", image_format="<s>{}<s>"), tokenizer)
    messages = [
        Message(role="user", content=[VideoPart(index=0), TextPart(text="What?")]),
        message("assistant", "this ", 1, " one"),
    ]
    encoded = template.encode(messages, tokenizer)
    around = [encoded.labels[i] for i, token in enumerate(encoded.input_ids) if token == tokenizer.bos_token_id]
    assert around == [IGNORE] * 5  # the text's own, and two for each medium
    assert encoded.input_ids.count(IMAGE) == 2


def test_the_place_must_stand_in_it_once():
    for wrong in ("no place", "{}{}"):
        with pytest.raises(ValidationError, match="once"):
            TemplateConfig(name="plain", image_format=wrong)


def test_idefics_as_its_documentation_writes_it():
    """The conversation of `docs/source/en/tasks/idefics.md`, joined as IdeficsProcessor joins it."""
    messages = [
        message("user", "What is in this image?", 0),
        message("assistant", "This picture depicts Idefix."),
        message("user", 1, "And who is that?"),
    ]
    fake = "<fake_token_around_image>"
    assert text(messages, True, name="idefics") == (
        f"User: What is in this image?{fake}@{fake}<end_of_utterance>\n"
        "Assistant: This picture depicts Idefix.<end_of_utterance>\n"
        f"User:{fake}@{fake}And who is that?<end_of_utterance>\nAssistant:"
    )


def test_open_flamingo_as_its_readme_writes_it():
    """The few-shot prompt of OpenFlamingo's README."""
    messages = [
        message("user", 0),
        message("assistant", "An image of two cats."),
        message("user", 1),
        message("assistant", "An image of a bathroom sink."),
        message("user", 2, "An image of"),
    ]
    assert text(messages, True, name="open_flamingo") == (
        "@An image of two cats.<|endofchunk|>@An image of a bathroom sink.<|endofchunk|>@An image of"
    )


def test_otter_as_its_data_set_writes_it():
    """`<image>User: {} GPT:<answer> {}<|endofchunk|>`: the picture in front of the turn, not in it."""
    messages = [
        message("user", 0, "What is it?"),
        message("assistant", "An otter."),
        message("user", 1, 2, "And these?"),
    ]
    assert text(messages, True, name="otter") == (
        "@User: What is it? GPT:<answer> An otter.<|endofchunk|>@@User: And these? GPT:<answer>"
    )
