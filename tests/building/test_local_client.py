"""A model of transformers on this machine: the same reply to the same question, for text and for pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from mminstruct.building import BuildConfig, run
from mminstruct.building.clients import Call, LocalClient
from mminstruct.building.request import Parameters, Request
from mminstruct.conversation import Media, image, message
from mminstruct.errors import ConfigError, ServerError
from mminstruct.files import sha256
from tests.building.asking_builder import Greys, Shade
from tests.command import call

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}{{ '<image>' if p.type == 'image' else p.text }}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and three of its own."""
    vocabulary = {symbol: number for number, symbol in enumerate(["<end>", "<image>", "<pad>"])}
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[symbol] = len(vocabulary)
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<end>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        chat_template=TEMPLATE,
    )


def text_config() -> LlamaConfig:
    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    return LlamaConfig(
        **size, num_attention_heads=2, num_key_value_heads=2, vocab_size=300, eos_token_id=0, bos_token_id=None
    )


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "writer"
    torch.manual_seed(0)
    LlamaForCausalLM(text_config()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "seer"
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    torch.manual_seed(0)
    config = LlavaConfig(vision_config=vision, text_config=text_config(), image_token_index=1, image_seq_length=4)
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():  # as large as trained ones, so that a picture makes a difference
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(15)
    model.save_pretrained(folder)
    sizes = {"height": 28, "width": 28}
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size=sizes, crop_size=sizes),
        tokenizer=tokenizer(),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder


def question(text: str, parameters: Parameters, media: list[Media] | None = None, folder: Path = Path()) -> Call:
    content = [image(index) for index in range(len(media or []))]
    asked = [message("system", "You see."), message("user", *content, text)]
    request = Request(messages=asked, media=media or [], parameters=parameters, prompt="greys/shade@1")
    return Call(request.key("transformers", "m"), request, folder, Shade())


def test_greedy_replies_are_what_generate_gives(writer: Path) -> None:
    client = LocalClient(writer)
    reply = client.complete(question("Hello?", Parameters(max_tokens=7)))
    own = tokenizer()
    prompt = own("<system>You see.<user>Hello?<assistant>", return_tensors="pt")
    model = LlamaForCausalLM.from_pretrained(writer)
    expected = model.generate(**prompt, max_new_tokens=7, do_sample=False, pad_token_id=2)[0]
    length = prompt["input_ids"].shape[1]
    assert reply.text == own.decode(expected[length:], skip_special_tokens=True).strip()
    assert reply.usage == {"prompt_tokens": length, "completion_tokens": len(expected) - length}
    assert reply.finish == ("stop" if expected[-1] == 0 else "length")


def test_drawn_replies_are_the_questions_own(writer: Path) -> None:
    client = LocalClient(writer)
    warm = Parameters(max_tokens=12, temperature=1.0)
    first = client.complete(question("Hello?", warm))
    torch.manual_seed(7)
    assert client.complete(question("Hello?", warm)) == first
    assert torch.initial_seed() == 7  # the process's own chance is not touched
    assert client.complete(question("Hello!", warm)).text != first.text


def test_replies_depend_on_the_picture(seer: Path, tmp_path: Path) -> None:
    client = LocalClient(seer)
    replies = []
    for number, color in enumerate([(250, 0, 0), (250, 0, 0), (0, 200, 30)]):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (28, 28), color).save(path)
        media = [Media(path=path.name, sha256=sha256(path))]
        replies.append(client.complete(question("What?", Parameters(max_tokens=20), media, tmp_path)))
    assert replies[0] == replies[1]
    assert replies[0].text != replies[2].text
    assert replies[0].usage["prompt_tokens"] == len("<system>You see.<user>What?<assistant>") + 4


def test_a_question_longer_than_the_context_is_refused_and_replies_end_with_it(writer: Path) -> None:
    """The random model takes 2,048 tokens, one a letter here."""
    client = LocalClient(writer)
    frame = len("<system>You see.<user><assistant>")
    reply = client.complete(question("a" * (2048 - frame - 3), Parameters(max_tokens=7)))
    assert reply.usage == {"prompt_tokens": 2045, "completion_tokens": 3} and reply.finish == "length"
    with pytest.raises(
        ServerError, match=r"a question of greys/shade@1 has 2048 tokens, and writer takes 2048"
    ) as told:
        client.complete(question("a" * (2048 - frame), Parameters(max_tokens=7)))
    assert not told.value.again


def test_a_build_by_a_model_that_cannot_do_it_ends_in_dead_letters(seer: Path, tmp_path: Path) -> None:
    """A random model never keeps to the form, which the build says of each item, workers or not."""
    settings = BuildConfig.model_validate(
        {"workers": 2, "on_error": "skip", "asking": {"parse_attempts": 2, "parameters": {"max_tokens": 4}}}
    )
    with pytest.raises(Exception, match="none of 2 items could be used, the first, grey/0"):
        run(Greys(Greys.Options(count=2)), tmp_path / "set", settings, client=LocalClient(seer))


@pytest.mark.parametrize("fault", ["nothing", "no template", "no writer", "blind"])
def test_folders_that_do_not_fit(fault: str, writer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    problem = "has no config.json"
    if fault == "no template":
        LlamaForCausalLM(text_config()).save_pretrained(folder)
        plain = tokenizer()
        plain.chat_template = None
        plain.save_pretrained(folder)
        problem = "has no chat template"
    if fault == "no writer":
        CLIPVisionConfig(num_hidden_layers=1).save_pretrained(folder)
        problem = "is a clip_vision_model, which writes no text"
    if fault == "blind":
        with pytest.raises(ConfigError, match="writer takes text only"):
            run(Greys(Greys.Options(count=1)), tmp_path / "set", client=LocalClient(writer))
        return
    arguments = ("build", "llava", "scenes=1", "--out", tmp_path / "set", "--backend", "transformers")
    code, printed, error = call(*arguments, "--model", folder)
    assert (code, printed) == (2, "") and problem in error and error.count("\n") == 1
    assert not (tmp_path / "set").exists()
