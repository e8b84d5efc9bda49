"""The tokenizer's own Jinja template: ids equal `apply_chat_template`, spans are exact, changed content is refused."""

from __future__ import annotations

import copy

import pytest

from mminstruct.chat_template import IGNORE, IMAGE, Supervision, TemplateConfig, get
from mminstruct.errors import ConfigError, DataError
from tests.conftest import spell, turns

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}"
    "{{ eos_token if m['role'] == 'assistant' }}\n{% endfor %}"
)


def with_template(tokenizer, template: str):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", [CHATML, LLAMA])
def test_ids_equal_apply_chat_template(template, tokenizer_bos):
    tokenizer = with_template(tokenizer_bos, template)
    texts = ["What color?", "It is blue.", "And the shape?", "A circle"]
    encoded = get("tokenizer", tokenizer).encode(turns(*texts), tokenizer)
    roles = ["user", "assistant"] * 2
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    assert encoded.input_ids == tokenizer.apply_chat_template(messages, return_dict=False)


def test_supervised_are_answers_and_their_end(tokenizer_bos):
    tokenizer = with_template(tokenizer_bos, LLAMA)
    encoded = get("tokenizer", tokenizer).encode(turns("What?", "blue", "And?", "A circle", images=1), tokenizer)
    labels = [label for label in encoded.labels if label != IGNORE]
    assert spell(labels, tokenizer) == " blue</s> A circle</s>"
    assert encoded.input_ids.count(IMAGE) == 1


@pytest.mark.parametrize(
    ("loss", "last", "expected"),
    [
        ("response+instruction", None, " What? blue</s> And? A circle</s>"),
        ("response", 1, " A circle</s>"),
        ("all", None, "user: What?\n assistant: blue</s>\n user: And?\n assistant: A circle</s>\n"),
    ],
)
def test_other_losses_written_by_hand(loss, last, expected, tokenizer_bos):
    tokenizer = with_template(tokenizer_bos, LLAMA)
    messages = turns("What?", "blue", "And?", "A circle")
    encoded = get("tokenizer", tokenizer).encode(messages, tokenizer, supervision=Supervision(loss, last))
    labels = [label for label in encoded.labels if label != IGNORE]
    assert spell(labels, tokenizer).replace("\n ", "\n").strip(" ") == expected.replace("\n ", "\n").strip(" ")
    assert encoded.labels[0] == IGNORE


def test_repeated_answers_keep_their_own_places(tokenizer_bos):
    tokenizer = with_template(tokenizer_bos, CHATML)
    encoded = get("tokenizer", tokenizer).encode(turns("yes", "yes", "yes", "yes"), tokenizer)
    labels = [label for label in encoded.labels if label != IGNORE]
    assert spell(labels, tokenizer).count("yes") == 2


def test_a_template_that_changes_content_is_refused(tokenizer_bos):
    tokenizer = with_template(tokenizer_bos, "{% for m in messages %}{{ m['content'] | trim }}\n{% endfor %}")
    template = get("tokenizer", tokenizer)
    assert template.render(turns("q", "a"))
    with pytest.raises(DataError, match="changes the content"):
        template.render(turns("q", " a "))


def test_a_template_that_drops_a_message_is_refused(tokenizer_bos):
    tokenizer = with_template(tokenizer_bos, "{{ messages[-1]['content'] }}")
    with pytest.raises(DataError, match="drops a 'user' message"):
        get("tokenizer", tokenizer).render(turns("q", "a"))


def test_a_tokenizer_without_template_is_an_error(tokenizer_bos):
    with pytest.raises(ConfigError, match="this tokenizer has none"):
        get(TemplateConfig(name="tokenizer"), tokenizer_bos)
