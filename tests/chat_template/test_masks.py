"""Which tokens are supervised, against expectations written by hand, for every template, with BOS and without."""

from __future__ import annotations

import pytest

from mminstruct.chat_template import IGNORE, IMAGE, NAMES, Supervision, encode, get
from mminstruct.conversation import ImagePart, Message, TextPart, VideoPart
from mminstruct.errors import ConfigError, DataError
from tests.conftest import spell, turns


@pytest.fixture(scope="module")
def tokenizer_characters():
    """A token for each character, so that a stretch ends where it ends and not where its last token does."""
    from string import printable

    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    single = Tokenizer(models.WordLevel({character: index for index, character in enumerate(printable)}, printable[0]))
    single.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=single)


def supervised_text(encoded, tokenizer) -> list[str]:
    """The supervised stretches as text, each run of neighbouring supervised tokens decoded by itself."""
    runs: list[list[int]] = []
    previous = IGNORE
    for label in encoded.labels:
        if label != IGNORE:
            if previous == IGNORE:
                runs.append([])
            runs[-1].append(label)
        previous = label
    return [spell(run, tokenizer) for run in runs]


@pytest.fixture(params=["bos", "no_bos"])
def tokenizer(request, tokenizer_bos, tokenizer_no_bos):
    return tokenizer_bos if request.param == "bos" else tokenizer_no_bos


CASES = [
    # template, texts, the supervised stretches
    ("vicuna_v1", ["What color?", "It is blue."], [" It is blue.</s>"]),
    ("vicuna_v1", ["What?", "blue", "And?", "A circle"], [" blue</s>", " A circle</s>"]),
    ("vicuna_v1", ["What?", ""], [" </s>"]),
    ("vicuna_v1", ["What?", "I say ASSISTANT: no USER: yes"], [" I say ASSISTANT: no USER: yes</s>"]),
    ("vicuna_v1", ["What?", "one</s>two"], [" one</s>two</s>"]),
    ("vicuna_v1", ["What?", " spaces  "], ["  spaces  </s>"]),
    ("llama_2", ["What?", "blue"], [" blue </s>"]),
    ("llama_2", ["What?", "blue", "And?", "[/INST] no"], [" blue </s>", " [/INST] no </s>"]),
    ("llama_2", ["What?", ""], ["  </s>"]),
    ("chatml", ["What?", "blue"], ["blue<|im_end|>"]),
    ("chatml", ["What?", "a<|im_end|>b", "And?", ""], ["a<|im_end|>b<|im_end|>", "<|im_end|>"]),
    ("idefics", ["What?", "blue", "And?", "red"], [" blue<end_of_utterance>", " red<end_of_utterance>"]),
    ("open_flamingo", ["What?", " blue", "And?", "red"], [" blue<|endofchunk|>", "red<|endofchunk|>"]),
    ("otter", ["What?", "blue", "And?", "red"], [" blue<|endofchunk|>", " red<|endofchunk|>"]),
    ("llama_3", ["What?", "blue", "And?", "red"], ["blue<|eot_id|>", "red<|eot_id|>"]),
    ("gemma", ["What?", "blue", "And?", "red"], ["blue<end_of_turn>", "red<end_of_turn>"]),
    ("phi_3", ["What?", "blue", "And?", "red"], ["blue<|end|>", "red<|end|>"]),
    ("mistral", ["What?", "blue", "And?", "red"], [" blue</s>", " red</s>"]),
    ("mpt", ["What?", "blue"], ["blue<|im_end|>"]),
    ("phi_2", ["What?", "blue", "And?", "red"], [" blue<|endoftext|>", " red<|endoftext|>"]),
    ("in_out", ["What?", "blue", "And?", "red"], [" blue</s>", " red</s>"]),
    ("question_answer", ["What?", "blue"], [" blue\n"]),
    ("instructblip", ["What?", "blue"], [" blue</s>"]),
]

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
MPT = "A conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers."
# The whole text of one turn and the opening of the next, as the original project writes it, behind a system text "S"
# where it has a place for one.
TEXTS = {
    "llama_3": (
        "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nR<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "gemma": (
        "<start_of_turn>user\nS\n\nQ<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
        "<start_of_turn>user\nR<end_of_turn>\n<start_of_turn>model\n"
    ),
    "phi_3": "<|system|>\nS<|end|>\n<|user|>\nQ<|end|>\n<|assistant|>\nA<|end|>\n<|user|>\nR<|end|>\n<|assistant|>\n",
    "mistral": "[INST] S\n\nQ[/INST] A</s>[INST] R[/INST]",
    "mpt": (
        "<|im_start|>system\nS<|im_end|><|im_start|>user\nQ<|im_end|><|im_start|>assistant\nA<|im_end|>"
        "<|im_start|>user\nR<|im_end|><|im_start|>assistant\n"
    ),
    "phi_2": "S USER: Q ASSISTANT: A<|endoftext|>USER: R ASSISTANT:",
}
WITHOUT_SYSTEM = {
    "in_out": "In: Q\nOut: A</s>In: R\nOut:",
    "question_answer": "Question: Q Answer: A\nQuestion: R Answer:",
    "instructblip": "Q A</s>R",
    "mpt": f"<|im_start|>system\n{MPT}<|im_end|><|im_start|>user\nQ<|im_end|><|im_start|>assistant\nA<|im_end|>"
    "<|im_start|>user\nR<|im_end|><|im_start|>assistant\n",
    "phi_2": f"{VICUNA}USER: Q ASSISTANT: A<|endoftext|>USER: R ASSISTANT:",
    "llama_3": "<|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nR<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
}


@pytest.mark.parametrize(("name", "text"), [*TEXTS.items(), *WITHOUT_SYSTEM.items()])
def test_whole_texts_written_by_hand(name, text, tokenizer):
    messages = turns("Q", "A", "R")
    if text == TEXTS.get(name):
        messages = [Message(role="system", content=[TextPart(text="S")]), *messages]
    pieces = get(name, tokenizer).render(messages, generation_prompt=True)
    assert "".join(piece.text for piece in pieces) == text


@pytest.mark.parametrize(("name", "texts", "expected"), CASES)
def test_supervised_is_exactly_the_answer_and_its_end(name, texts, expected, tokenizer):
    template = get(name, tokenizer)
    encoded = template.encode(turns(*texts, images=1), tokenizer)
    assert supervised_text(encoded, tokenizer) == expected
    assert encoded.images == [0] and encoded.input_ids.count(IMAGE) == 1
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        assert label in (IGNORE, token)


# What "Hi.", "What?", "blue", "And?", "red" (a system text and two turns) supervise beside the answers of `CASES`.
WITH_INSTRUCTIONS = {
    "vicuna_v1": ["What?", " blue</s>", "And?", " red</s>"],
    "llama_2": ["What?", " blue </s>", "And?", " red </s>"],
    "chatml": ["What?", "blue<|im_end|>", "And?", "red<|im_end|>"],
    "idefics": ["What?", " blue<end_of_utterance>", "And?", " red<end_of_utterance>"],
    "open_flamingo": ["What?blue<|endofchunk|>And?red<|endofchunk|>"],
    "otter": ["What?", " blue<|endofchunk|>", "And?", " red<|endofchunk|>"],
    "llama_3": ["What?", "blue<|eot_id|>", "And?", "red<|eot_id|>"],
    "gemma": ["What?", "blue<end_of_turn>", "And?", "red<end_of_turn>"],
    "phi_3": ["What?", "blue<|end|>", "And?", "red<|end|>"],
    "mistral": ["What?", " blue</s>", "And?", " red</s>"],
    "mpt": ["What?", "blue<|im_end|>", "And?", "red<|im_end|>"],
    "phi_2": ["What?", " blue<|endoftext|>", "And?", " red<|endoftext|>"],
    "in_out": ["What?", " blue</s>", "And?", " red</s>"],
    "question_answer": ["What?", " blue\n", "And?", " red\n"],
    "instructblip": ["What? blue</s>And? red</s>"],
}


def test_instructions_are_the_users_own_texts(tokenizer_characters):
    """Letter by letter: no mark before or behind them, no system text."""
    t = tokenizer_characters
    assert {"plain", "tokenizer", *WITH_INSTRUCTIONS} == set(NAMES)
    system = Message(role="system", content=[TextPart(text="Hi.")])
    for name, expected in WITH_INSTRUCTIONS.items():
        messages = [system, *turns("What?", "blue", "And?", "red")]
        messages[1] = Message(role="user", content=[ImagePart(index=0), *messages[1].content])
        encoded = get(name, t).encode(messages, t, supervision=Supervision("response+instruction"))
        assert supervised_text(encoded, t) == expected, name
    plain = turns("Describe it.", "a circle", images=1)  # which throws the instruction away
    encoded = get("plain", t).encode(plain, t, supervision=Supervision("response+instruction"))
    assert supervised_text(encoded, t) == ["a circle\n"]


def test_a_users_text_on_both_sides_of_a_picture_is_supervised(tokenizer):
    content = [TextPart(text="is"), ImagePart(index=0), TextPart(text="red?")]
    messages = [Message(role="user", content=content), *turns("", "no")[1:]]
    encoded = get("chatml", tokenizer).encode(messages, tokenizer, supervision=Supervision("response+instruction"))
    assert [text.strip() for text in supervised_text(encoded, tokenizer)] == ["is", "red?", "no<|im_end|>"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "tokenizer"])
def test_all_are_the_texts_tokens_but_the_first(name, tokenizer):
    messages = turns("What?", "blue", images=1)
    response = get(name, tokenizer).encode(messages, tokenizer)
    encoded = get(name, tokenizer).encode(messages, tokenizer, supervision=Supervision("all"))
    assert encoded.input_ids == response.input_ids
    for number, (token, label) in enumerate(zip(encoded.input_ids, encoded.labels, strict=True)):
        nobody_writes = number == 0 or token in (IMAGE, tokenizer.bos_token_id)
        assert label == (IGNORE if nobody_writes else token)


def test_of_answers_only_the_last_ones(tokenizer):
    for name, expected in (("chatml", ["red<|im_end|>"]), ("vicuna_v1", [" red</s>"])):
        for system in ([], [Message(role="system", content=[TextPart(text="Hi.")])]):
            messages = [*system, *turns("What?", "blue", "And?", "red")]
            encoded = get(name, tokenizer).encode(messages, tokenizer, supervision=Supervision(last=1))
            assert supervised_text(encoded, tokenizer) == expected


def test_vicuna_ids_written_by_hand(tokenizer_bos):
    t = tokenizer_bos
    encoded = get("vicuna_v1", t).encode(turns("What color?", "blue", images=1), t)
    system = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    head = t(f"{system} USER: ", add_special_tokens=False)["input_ids"]
    rest = t("\nWhat color? ASSISTANT: blue</s>", add_special_tokens=False)["input_ids"]
    assert encoded.input_ids == [t.bos_token_id, *head, IMAGE, *rest]
    answer = [t.convert_tokens_to_ids(piece) for piece in t.tokenize("blue")] + [t.eos_token_id]
    assert encoded.labels == [IGNORE] * (len(encoded.labels) - len(answer)) + answer


def test_llama_2_text_is_the_original_one(tokenizer_bos):
    pieces = get("llama_2", tokenizer_bos).render(turns("q1", "a1", "q2", "a2"))
    text = "".join(piece.text for piece in pieces)
    assert text.startswith("[INST] <<SYS>>\nYou are a helpful, respectful and honest assistant. Always")
    assert text.endswith("\n<</SYS>>\n\nq1 [/INST] a1 </s><s>[INST] q2 [/INST] a2 </s>")


def test_plain_supervises_caption_and_line_feed(tokenizer):
    encoded = get("plain", tokenizer).encode(turns("Describe it.", "a circle", images=1), tokenizer)
    start = [tokenizer.bos_token_id] if tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id else []
    caption = tokenizer("a circle\n", add_special_tokens=False)["input_ids"]
    assert encoded.input_ids == [*start, IMAGE, *caption]
    assert encoded.labels == [IGNORE] * (len(start) + 1) + caption


@pytest.mark.parametrize("name", sorted({name for name, _, _ in CASES}))
def test_generation_prompt_is_what_stands_before_the_first_supervised_token(name, tokenizer):
    template = get(name, tokenizer)
    whole = template.encode(turns("What color?", "blue", images=1), tokenizer)
    prompt = template.encode(turns("What color?", images=1), tokenizer, generation_prompt=True)
    first = next(i for i, label in enumerate(whole.labels) if label != IGNORE)
    assert prompt.input_ids == whole.input_ids[:first]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vicuna_v1", [" this: ", " yes</s>"]),
        ("llama_2", [" this: ", " yes </s>"]),
        ("chatml", ["this: ", " yes<|im_end|>"]),
    ],
)
def test_several_images_a_video_and_an_image_in_an_answer(name, expected, tokenizer):
    messages = [
        Message(
            role="user", content=[ImagePart(index=0), TextPart(text=" or "), VideoPart(index=1), TextPart(text="?")]
        ),
        Message(role="assistant", content=[TextPart(text="this: "), ImagePart(index=2), TextPart(text=" yes")]),
        Message(role="user", content=[TextPart(text="why?")]),
    ]
    encoded = get(name, tokenizer).encode(messages, tokenizer, generation_prompt=True)
    assert encoded.images == [0, 1, 2]
    assert [label for token, label in zip(encoded.input_ids, encoded.labels, strict=True) if token == IMAGE] == [
        IGNORE
    ] * 3
    assert supervised_text(encoded, tokenizer) == expected


def test_text_that_holds_the_mark_places_no_image(tokenizer):
    encoded = get("vicuna_v1", tokenizer).encode(turns("what is <image>?", "text"), tokenizer)
    assert IMAGE not in encoded.input_ids


def test_a_system_message_replaces_the_default(tokenizer):
    messages = [Message(role="system", content=[TextPart(text="Be brief.")]), *turns("hi", "yes")]
    text = "".join(piece.text for piece in get("vicuna_v1", tokenizer).render(messages))
    assert text == "Be brief. USER: hi ASSISTANT: yes</s>"


def test_roles_out_of_turn_are_refused(tokenizer):
    with pytest.raises(DataError, match="message 1 is 'assistant' where 'user' belongs"):
        get("vicuna_v1", tokenizer).render(turns("q", "a")[1:])
    with pytest.raises(DataError, match="one user and one assistant"):
        get("plain", tokenizer).render(turns("q", "a", "q", "a", images=1))


def test_an_unknown_template_is_named(tokenizer):
    with pytest.raises(ConfigError, match="Did you mean 'vicuna_v1'"):
        get("vicuna", tokenizer)


def test_encoding_equals_the_tokenizer_on_the_whole_text(tokenizer):
    """Without images the ids are those of one call of the tokenizer on the whole prompt."""
    template = get("vicuna_v1", tokenizer)
    messages = turns("What color?", "blue", "And the shape?", "A circle")
    text = "".join(piece.text for piece in template.render(messages))
    assert template.encode(messages, tokenizer).input_ids == tokenizer(text)["input_ids"]


def test_byte_level_tokenizers_with_trimmed_offsets():
    """Byte-level tokenizers leave a leading space out of a token's offsets; the token is supervised all the same."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.post_processor = processors.ByteLevel(trim_offsets=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        special_tokens=["</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(["USER: a ASSISTANT: b"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>")
    encoded = get("vicuna_v1", tokenizer).encode(turns("q", ""), tokenizer)
    assert tokenizer.decode([label for label in encoded.labels if label != IGNORE]) == " </s>"
    encoded = get("vicuna_v1", tokenizer).encode(turns("q", "世界 x"), tokenizer)
    assert tokenizer.decode([label for label in encoded.labels if label != IGNORE]) == " 世界 x</s>"


def test_slow_tokenizers_are_refused():
    class Slow:
        is_fast = False

    with pytest.raises(ConfigError, match="character offsets"):
        encode([], Slow())
