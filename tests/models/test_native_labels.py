"""Native processors: ids as the family's processor makes them, labels on exactly what the assistant writes."""

from __future__ import annotations

import re

import pytest
import torch
from tokenizers import processors
from transformers import AutoTokenizer

import mminstruct
from mminstruct import catalog
from mminstruct.chat_template import IGNORE, Supervision, TemplateConfig
from mminstruct.conversation import Message, text
from mminstruct.errors import ConfigError, DataError
from mminstruct.models.native.processor import NativeProcessor
from tests.conftest import picture
from tests.models.native import FAMILIES, ONE_PICTURE, PICTURES, TEXT_ONLY, TWO_PICTURES, talk


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param, mminstruct.create(request.param, tiny=True)[1]


@pytest.fixture(scope="module")
def qwen():
    return mminstruct.create("qwen2.5-vl-3b", tiny=True)[1]


@pytest.fixture(scope="module")
def gemma():
    return mminstruct.create("gemma-3-4b-it", tiny=True)[1]


def tile(place: str) -> str:
    return f"<fake_token_around_image>{place}" + 4 * "<image>"


QWEN = "<|vision_start|>{}<|vision_end|>"
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
CHAT = (
    "<|im_start|>user\n{0}what is it?<|im_end|>\n<|im_start|>assistant\n«a blue circle<|im_end|>»\n"
    "<|im_start|>user\nis {1}red?<|im_end|>\n<|im_start|>assistant\n«no<|im_end|>»\n"
)

# The whole expanded prompt of `TWO_PICTURES` (50 x 40 and 90 x 33 pixels), written by hand; supervised is what stands
# in «». Qwen: a token for 16 x 16 pixels, so 3 x 2 and 6 x 2. SmolVLM: 64 pixels on the longer edge, tiles of 32, 4
# tokens each. LLaVA-OneVision: several pictures are not tiled, 16 tokens and a line end each. InternVL: one tile; three
# tiles and the whole. Gemma: 4 tokens each; what the text says around a picture is trimmed.
EXPECTED = {
    "qwen2.5-vl-3b": SYSTEM + CHAT.format(QWEN.format(6 * "<|image_pad|>"), QWEN.format(12 * "<|image_pad|>")),
    "qwen3-vl-2b": CHAT.format(QWEN.format(6 * "<|image_pad|>"), QWEN.format(12 * "<|image_pad|>")),
    "smolvlm-256m": (
        "<|im_start|>User:"
        + (tile("<row_1_col_1>") + tile("<row_1_col_2>") + "\n" + tile("<row_2_col_1>") + tile("<row_2_col_2>") + "\n")
        + ("\n" + tile("<global-img>") + "<fake_token_around_image>")
        + "what is it?<end_of_utterance>\nAssistant:« a blue circle<end_of_utterance>»\nUser: is "
        + (tile("<row_1_col_1>") + tile("<row_1_col_2>") + "\n")
        + ("\n" + tile("<global-img>") + "<fake_token_around_image>")
        + "red?<end_of_utterance>\nAssistant:« no<end_of_utterance>»\n"
    ),
    "llava-onevision-qwen2-0.5b": (
        f"<|im_start|>user {17 * '<image>'}\nwhat is it?<|im_end|><|im_start|>assistant \n«a blue circle<|im_end|>»"
        f"<|im_start|>user {17 * '<image>'}\nis \nred?<|im_end|><|im_start|>assistant \n«no<|im_end|>»"
    ),
    "internvl3-1b": CHAT.format(
        f"<img>{4 * '<IMG_CONTEXT>'}</img>\n",
        f"<img>{16 * '<IMG_CONTEXT>'}</img>\n",
    ),
    "gemma-3-4b-it": (
        f"<bos><start_of_turn>user\n\n\n<start_of_image>{4 * '<image_soft_token>'}<end_of_image>\n\nwhat is it?"
        "<end_of_turn>\n<start_of_turn>model\n«a blue circle<end_of_turn>»\n"
        f"<start_of_turn>user\nis\n\n<start_of_image>{4 * '<image_soft_token>'}<end_of_image>\n\nred?"
        "<end_of_turn>\n<start_of_turn>model\n«no<end_of_turn>»\n"
    ),
}


def by_hand(marked: str, tokenizer) -> tuple[list[int], list[int]]:
    """Ids and labels of a text with «» in it, by the plainest road: which characters does a token stand on?"""
    plain, supervised, inside = "", [], False
    for character in marked:
        if character in "«»":
            inside = character == "«"
        else:
            plain += character
            supervised.append(inside)
    encoded = tokenizer(plain, add_special_tokens=False, return_offsets_mapping=True)
    labels = [
        token if any(supervised[start:end]) else IGNORE
        for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]
    return encoded["input_ids"], labels


def test_ids_and_labels_equal_the_hand_written(family):
    name, processor = family
    sample = processor.training_sample(TWO_PICTURES, PICTURES)
    ids, labels = by_hand(EXPECTED[name], processor.tokenizer)
    assert sample["input_ids"].tolist() == ids
    assert sample["labels"].tolist() == labels
    ends = [token for token in labels if token == processor.tokenizer.convert_tokens_to_ids(processor.template.end)]
    assert len(ends) == 2


# What a user says in them, in their order: outer white space left out, which Gemma's template trims.
SAID = ("what is it?", "is", "red?")


def test_instructions_equal_the_hand_written(family):
    name, processor = family
    marked, reached = EXPECTED[name], 0
    for said in SAID:
        reached += re.search(rf"\b{re.escape(said)}", marked[reached:]).start()
        marked = f"{marked[:reached]}«{said}»{marked[reached + len(said) :]}"
        reached += len(said) + 2
    sample = processor.training_sample(TWO_PICTURES, PICTURES, supervision=Supervision("response+instruction"))
    ids, labels = by_hand(marked, processor.tokenizer)
    assert (sample["input_ids"].tolist(), sample["labels"].tolist()) == (ids, labels)
    assert processor.tokenizer.decode([label for label in labels if label != IGNORE]).count("red?") == 1


def test_all_texts_but_no_picture(family):
    """A picture is what the processor puts in place of its placeholder; the template's words around it are text."""
    name, processor = family
    pictures = {
        "qwen2.5-vl-3b": ["<|image_pad|>"],
        "qwen3-vl-2b": ["<|image_pad|>"],
        "llava-onevision-qwen2-0.5b": ["<image>"],
        "internvl3-1b": ["<img>", "<IMG_CONTEXT>", "</img>"],
    }
    if name not in pictures:
        pytest.skip("what the processor writes around a picture is no token of its own")
    sample = processor.training_sample(TWO_PICTURES, PICTURES, supervision=Supervision("all"))
    ids = sample["input_ids"].tolist()
    inside = set(processor.tokenizer.convert_tokens_to_ids(pictures[name]))
    expected = [IGNORE if number == 0 or token in inside else token for number, token in enumerate(ids)]
    assert sample["labels"].tolist() == expected


def test_only_the_last_answer(family):
    _, processor = family
    whole, last = (
        processor.training_sample(TWO_PICTURES, PICTURES, supervision=Supervision(last=last))["labels"].tolist()
        for last in (None, 1)
    )
    first = next(number for number, label in enumerate(last) if label != IGNORE)
    assert whole[first:] == last[first:] and sum(label != IGNORE for label in whole[:first]) > 2


def messages_of(conversation, pictures) -> list[dict]:
    """As transformers' users write them."""
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part.text}
                if part.type == "text"
                else {"type": "image", "image": pictures[part.index]}
                for part in message.content
            ],
        }
        for message in conversation.messages
    ]


CONVERSATIONS = [
    (TWO_PICTURES, PICTURES),
    (ONE_PICTURE, PICTURES[:1]),
    (TEXT_ONLY, []),
    (talk([0, 1, "which of the two is red?"], ["the first"], media=2), PICTURES[::-1]),
    (talk([1, "what is it?", 0], ["a circle"], ["and there?"], [""], media=2), PICTURES),
]


@pytest.mark.parametrize(("conversation", "pictures"), CONVERSATIONS)
def test_inputs_equal_the_processors_own(family, conversation, pictures):
    """Every tensor of `apply_chat_template(..., tokenize=True)`, of whole conversations and of prompts."""
    _, processor = family
    order = [part.index for message in conversation.messages for part in message.content if part.type == "image"]
    for whole in (True, False):
        asked = conversation.model_copy(update={"messages": conversation.messages[: None if whole else -1]})
        theirs = processor.native.apply_chat_template(
            messages_of(asked, pictures),
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=not whole,
        )
        ours = (processor.training_sample if whole else processor.prompt)(asked, pictures)
        batch = processor.collate([ours])
        added = {"labels"} if whole else set()
        if order or not whole:  # a training batch without pictures has a blank one, see below
            assert batch.keys() - added == theirs.keys()
            for key, value in theirs.items():
                assert torch.equal(batch[key], value), key


def test_an_empty_answer_is_its_end_mark(family):
    _, processor = family
    sample = processor.training_sample(talk(["is it red?"], [""]), [])
    supervised = [token for token in sample["labels"].tolist() if token != IGNORE]
    assert supervised[-1] == processor.tokenizer.convert_tokens_to_ids(processor.template.end)
    assert processor.tokenizer.decode(supervised[:-1]).strip() == ""


def test_training_goes_on_where_the_prompt_ends(family):
    """But for LLaVA-OneVision, whose template writes another white space behind a prompt than before an answer."""
    name, processor = family
    asked = ONE_PICTURE.model_copy(update={"messages": ONE_PICTURE.messages[:1]})
    prompt = processor.prompt(asked, PICTURES[:1])["input_ids"]
    sample = processor.training_sample(ONE_PICTURE, PICTURES[:1])
    first = int((sample["labels"] != IGNORE).nonzero()[0])
    assert (prompt.tolist() == sample["input_ids"][:first].tolist()) == (name != "llava-onevision-qwen2-0.5b")


def test_outer_space_of_an_answer_follows_the_template(qwen, gemma):
    """Gemma's template trims it away; Qwen's keeps it, and what is kept has to be written by the model."""
    record = talk([" is it red? "], ["  blue \n"])
    for processor, expected in (
        (qwen, SYSTEM + "<|im_start|>user\n is it red? <|im_end|>\n<|im_start|>assistant\n«  blue \n<|im_end|>»\n"),
        (
            gemma,
            "<bos><start_of_turn>user\nis it red?<end_of_turn>\n<start_of_turn>model\n«blue<end_of_turn>»\n",
        ),
    ):
        ids, labels = by_hand(expected, processor.tokenizer)
        sample = processor.training_sample(record, [])
        assert (sample["input_ids"].tolist(), sample["labels"].tolist()) == (ids, labels)


def test_a_picture_inside_an_answer_is_not_supervised(qwen):
    record = talk(["show and say"], ["see ", 0, "a circle"], media=1)
    seen = QWEN.format(6 * "<|image_pad|>")
    expected = (
        f"{SYSTEM}<|im_start|>user\nshow and say<|im_end|>\n<|im_start|>assistant\n«see {seen}a circle<|im_end|>»\n"
    )
    sample = qwen.training_sample(record, PICTURES[:1])
    ids, labels = by_hand(expected, qwen.tokenizer)
    places = qwen.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert sample["input_ids"].tolist() == ids
    assert sample["labels"].tolist() == [IGNORE if token == places else token for token in labels]


def test_a_system_text_is_said_and_not_supervised(gemma):
    told = gemma.with_template(TemplateConfig(name="processor", system="Be brief."))
    sample = told.training_sample(TEXT_ONLY, [])
    ids, labels = by_hand(
        "<bos><start_of_turn>user\nBe brief.\n\nis it red?<end_of_turn>\n"
        "<start_of_turn>model\n«it is blue<end_of_turn>»\n",
        gemma.tokenizer,
    )
    assert (sample["input_ids"].tolist(), sample["labels"].tolist()) == (ids, labels)
    given = TEXT_ONLY.model_copy(
        update={"messages": [Message(role="system", content=[text("Be brief.")]), *TEXT_ONLY.messages]}
    )
    assert torch.equal(gemma.training_sample(given, [])["input_ids"], sample["input_ids"])


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_equal_the_processors_own(family, side):
    """Rows padded and pictures joined as the family's processor does it when it is given the whole batch."""
    _, processor = family
    records = [
        (TWO_PICTURES, PICTURES),
        (ONE_PICTURE, PICTURES[:1]),
        (TEXT_ONLY, []),
        (ONE_PICTURE, [picture(5, (31, 70))]),
    ]
    ours = processor.collate([processor.prompt(*_asked(record)) for record in records], padding_side=side)
    texts = [
        processor.native.apply_chat_template(messages_of(*_asked(record)), add_generation_prompt=True)
        for record in records
    ]
    theirs = processor.native(
        text=texts,
        images=[pictures for _, pictures in map(_asked, records)],
        padding=True,
        padding_side=side,
        return_tensors="pt",
    )
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key


def _asked(record):
    """A conversation without its last answer, and the pictures that are left in it."""
    conversation, pictures = record
    return conversation.model_copy(update={"messages": conversation.messages[:-1]}), pictures


def test_special_tokens_of_strangers_are_broken(family):
    """None of the family's own tokens survives, and an ordinary text does."""
    _, processor = family
    special = {token.content for token in processor.tokenizer.added_tokens_decoder.values() if token.special}
    assert processor.native.image_token in special and processor.template.end in special
    told = " and ".join(sorted(special))
    acting = set(processor.tokenizer.convert_tokens_to_ids(sorted(special)))
    assert acting <= set(processor.tokenizer(told)["input_ids"])
    assert not acting & set(processor.tokenizer(processor.escape(told), add_special_tokens=False)["input_ids"])
    assert processor.escape("a < b\n\nand <c>") == "a < b\n\nand <c>"
    sample = processor.prompt(talk([0, processor.escape(told)], media=1), PICTURES[:1])
    plain = processor.prompt(talk([0, "x"], media=1), PICTURES[:1])
    place = processor.tokenizer.convert_tokens_to_ids(processor.native.image_token)
    assert (sample["input_ids"] == place).sum() == (plain["input_ids"] == place).sum() > 0


def test_of_other_added_tokens_only_those_that_the_template_spells_are_broken():
    processor = mminstruct.create("gemma-3-4b-it", tiny=True)[1]
    processor.tokenizer.add_tokens(["\n\n", "<b>", "<tool_call>"])
    processor.native.chat_template += "\n\n{# <tool_call> #}"
    assert processor.escape("a\n\nb <b> <tool_call>") == "a\n\nb <b> < tool_call>"


def test_a_beginning_token_stands_once():
    """Where tokenizer and template both would write it, and where only the tokenizer does."""
    for row, start in (("gemma-3-4b-it", "<bos>"), ("internvl3-1b", "<img>")):
        processor = mminstruct.create(row, tiny=True)[1]
        tokenizer = processor.tokenizer
        without = processor.training_sample(TEXT_ONLY, [])["input_ids"].tolist()
        tokenizer.bos_token = start
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, tokenizer.bos_token_id)]
        )
        sample = processor.training_sample(TEXT_ONLY, [])
        theirs = processor.native.apply_chat_template(messages_of(TEXT_ONLY, []), tokenize=True)[0]
        assert sample["input_ids"].tolist() == theirs
        assert theirs == without if row == "gemma-3-4b-it" else theirs == [tokenizer.bos_token_id, *without]
        assert sample["labels"][0] == IGNORE


def test_lengths_count_the_tokens_of_a_picture(qwen):
    media = TWO_PICTURES.media[0].model_copy(update={"width": 50, "height": 40})
    assert qwen.places(media) == 6
    assert qwen.places(media.model_copy(update={"width": 90, "height": 33})) == 12
    onevision = mminstruct.create("llava-onevision-qwen2-0.5b", tiny=True)[1]  # 8 x 6 or 6 x 8, line ends, the whole
    assert onevision.places(media) == 8 * 6 + 6 + 16
    assert onevision.places(media.model_copy(update={"width": 40, "height": 50})) == 6 * 8 + 8 + 16
    assert qwen.places(TWO_PICTURES.media[0]) == 16  # of unknown size: 448 x 448, made as small as 64 x 64


WITHOUT_MARKS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content[0].text }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% else %}<|im_end|>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "record", "expected"),
    [
        # No mark behind an answer: its line is the turn, and a mark behind the next question is not its own.
        (
            WITHOUT_MARKS,
            talk(["a"], ["b"], ["c"], ["d"]),
            "user: a\nassistant: «b\n»user: c\nassistant: «d\n<|im_end|>»",
        ),
        # What is behind an answer and before its mark is the model's to write, an ordinary added token too.
        (
            WITHOUT_MARKS.replace("text }}", "text }}</s>"),
            talk(["a"], ["b"]),
            "user: a</s>\nassistant: «b</s>\n<|im_end|>»",
        ),
        # The prompt may say the beginning of an answer; the model then writes the rest.
        (
            WITHOUT_MARKS.replace("assistant: ", "assistant: It is"),
            talk(["a"], ["It is b"]),
            "user: a\nassistant: It is« b\n<|im_end|>»",
        ),
    ],
)
def test_turns_of_other_templates(template, record, expected):
    processor = mminstruct.create("internvl3-1b", tiny=True)[1]
    processor.tokenizer.add_tokens(["</s>"])
    processor.native.chat_template = template
    sample = processor.with_template(TemplateConfig(name="processor")).training_sample(record, [])
    ids, labels = by_hand(expected, processor.tokenizer)
    assert (sample["input_ids"].tolist(), sample["labels"].tolist()) == (ids, labels)


def test_variables_reach_the_template():
    processor = mminstruct.create("internvl3-1b", tiny=True)[1]
    processor.native.chat_template = "{{ title }}\n" + processor.native.chat_template
    told = processor.with_template(TemplateConfig(name="processor", variables={"title": "a circle"}))
    plain = processor.training_sample(TEXT_ONLY, [])["input_ids"].tolist()
    assert told.training_sample(TEXT_ONLY, [])["input_ids"].tolist() != plain


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_named(qwen, gemma):
    for processor, record, pictures, message in (
        (qwen, talk(["a <|image_pad|>"], ["b"]), [], "'test/0': .* holds the image token itself"),
        (qwen, talk(["a \uf8f0"], ["b"]), [], "private-use"),
        (qwen, ONE_PICTURE, [], "has 1 media, but 0 pictures"),
        (gemma, talk(["a"], ["b"]).model_copy(update={"messages": TEXT_ONLY.messages[1:]}), [], "refuses .* alternate"),
        (qwen, ONE_PICTURE, [picture(0, (4000, 8))], "'test/0': .*aspect ratio"),
    ):
        with pytest.raises(DataError, match=message):
            processor.training_sample(record, pictures)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.content[0].text if m.content[0].text | length < 12 }}{% endfor %}", "changes"),
        ("{% for m in messages %}{{ m.content[0].text | upper }}{% endfor %}", "drops or moves"),
        ("{{ messages[-1].content[-1].text }}", "drops or moves"),
    ],
)
def test_a_template_that_hides_the_answers_is_refused(qwen, template, message):
    given, qwen.native.chat_template = qwen.native.chat_template, template
    try:
        with pytest.raises(DataError, match=message):
            qwen.template.render(TEXT_ONLY.messages)
    finally:
        qwen.native.chat_template = given


def test_other_templates_are_refused(qwen):
    with pytest.raises(ConfigError, match="its processor's own chat template, not by 'chatml'"):
        qwen.with_template(TemplateConfig(name="chatml"))


def test_a_processor_without_a_template_is_refused(qwen):
    given, qwen.native.chat_template = qwen.native.chat_template, None
    try:
        with pytest.raises(ConfigError, match="has no chat template; put"):
            NativeProcessor(qwen.native, qwen.config)
    finally:
        qwen.native.chat_template = given


def test_the_packages_tokenizer_stays_as_it_is(qwen):
    """Miniatures add their family's tokens to a copy."""
    own = AutoTokenizer.from_pretrained(catalog.folder(catalog.MODEL) / "nano")
    assert len(own) == 512 < len(qwen.tokenizer)
