"""Chat templates in Jinja: the same text as ours, and only what we wrote is recognised."""

from __future__ import annotations

import pytest

from mminstruct.chat_template import TemplateConfig, get
from mminstruct.chat_template.named import ROUNDS
from mminstruct.chat_template.template import around_images
from mminstruct.conversation import ImagePart, Message, TextPart
from mminstruct.models.interop.jinja import from_jinja, to_jinja
from tests.conftest import turns


def as_dicts(messages: list[Message]) -> list[dict]:
    """Messages as transformers' chat templates take them."""
    return [
        {
            "role": message.role,
            "content": [
                {"type": "image"} if isinstance(part, ImagePart) else {"type": "text", "text": part.text}
                for part in message.content
            ],
        }
        for message in messages
    ]


SYSTEM = Message(role="system", content=[TextPart(text='Say "yes"\n{{ or }} no.')])
CONVERSATIONS = [
    turns("What is it?", images=1),
    turns(" two  spaces ", "blue\n", "And {{ this }} {# here #}?", images=2),
    turns("a", "b", "c", "d"),
    [Message(role="user", content=[TextPart(text="a"), ImagePart(index=0), TextPart(text=""), ImagePart(index=1)])],
    [SYSTEM, *turns("What is it?", "A 'circle'", "And?")],
]


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["one", "two images", "even", "text first", "system"])
@pytest.mark.parametrize("system", [None, "", "Be brief.\n"], ids=["own", "empty", "given"])
@pytest.mark.parametrize("image_format", [None, "|{}|", "<{}>"])
@pytest.mark.parametrize("name", sorted(ROUNDS))
def test_renders_what_the_template_renders(name, image_format, system, messages, tokenizer_bos):
    config = TemplateConfig(name=name, system=system, image_format=image_format)
    asks = messages[-1].role == "user"
    template = get(config, tokenizer_bos)
    pieces = around_images(template.render(messages, generation_prompt=asks), template.image_format)
    wanted = "".join("<image>" if piece.image is not None else piece.text for piece in pieces)
    text = to_jinja(config)
    found = tokenizer_bos.apply_chat_template(
        as_dicts(messages), chat_template=text, tokenize=False, add_generation_prompt=asks
    )
    assert found == wanted
    assert from_jinja(text) == config


def test_plain_strings_are_contents_too(tokenizer_bos):
    text = to_jinja(TemplateConfig(name="chatml"))
    messages = [{"role": "user", "content": "Hello"}]
    assert tokenizer_bos.apply_chat_template(messages, chat_template=text, tokenize=False) == (
        "<|im_start|>user\nHello<|im_end|>\n"
    )


def test_only_our_own_text_is_recognised():
    text = to_jinja(TemplateConfig(name="vicuna_v1"))
    assert from_jinja(text) == TemplateConfig(name="vicuna_v1")
    assert from_jinja(text.replace("USER", "HUMAN")) is None
    assert from_jinja(text.replace('"name":"vicuna_v1"', '"name":"plain"')) is None
    assert from_jinja("{# mminstruct: nothing #}\n") is None
    assert from_jinja("{{ messages }}") is None
    assert from_jinja(None) is None
