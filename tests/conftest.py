"""What many tests share: conversations, pictures and tiny tokenizers made here, with no network and no download."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart
from mminstruct.errors import RunError

TEXT = [
    "A chat between a curious user and an artificial intelligence assistant.",
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    "USER: What color is it? ASSISTANT: It is blue. USER: And the shape? ASSISTANT: A circle",
    "[INST] <<SYS>> You are a helpful, respectful and honest assistant. <</SYS>> [/INST]",
] * 4


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def chrome() -> Iterator[Browser]:
    """The installed Chromium; without one the tests are skipped, except in CI, where they fail."""
    from mminstruct.demo.screenshot import chromium, find_chromium

    try:
        find_chromium()
    except RunError as error:
        pytest.fail(str(error)) if os.environ.get("CI") else pytest.skip(str(error))
    with chromium() as browser:
        yield browser


def pytest_collection_finish() -> None:
    """What all imports made stays: no later garbage collection, of which each stage of training asks one, walks it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()


def make_tokenizer(bos: bool, image: bool = True) -> PreTrainedTokenizerFast:
    """A Llama-like tokenizer: metaspace BPE with byte fallback, `</s>`, and a `<s>` in front where `bos`.

    `image`: with a token `<image>`.
    """
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    bpe.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    special = ["<unk>", "<s>", "</s>"]
    byte_pieces = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special + byte_pieces, show_progress=False)
    bpe.train_from_iterator(TEXT, trainer)
    if bos:
        bpe.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", bpe.token_to_id("<s>"))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    if image:
        tokenizer.add_tokens([AddedToken("<image>", special=True, normalized=False)], special_tokens=True)
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer_bos() -> PreTrainedTokenizerFast:
    return make_tokenizer(bos=True)


@pytest.fixture(scope="session")
def tokenizer_no_bos() -> PreTrainedTokenizerFast:
    return make_tokenizer(bos=False)


def turns(*texts: str, images: int = 0) -> list[Message]:
    """User and assistant messages in turn; `images` pictures and a line feed stand in front of the first text."""
    messages = []
    for index, text in enumerate(texts):
        parts = [ImagePart(index=i) for i in range(images)] if index == 0 else []
        body = [*parts, TextPart(text=("\n" if parts else "") + text)]
        messages.append(Message(role="user" if index % 2 == 0 else "assistant", content=body))
    return messages


def conversation(*texts: str, images: int = 0, name: str = "test/0") -> Conversation:
    media = [Media(path=f"{i}.png") for i in range(images)]
    return Conversation(id=name, messages=turns(*texts, images=images), media=media)


def picture(seed: int, size: tuple[int, int] = (40, 40)) -> Image.Image:
    """A small picture of random colours."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(values.numpy())


def spell(ids: list[int], tokenizer: PreTrainedTokenizerFast) -> str:
    """Ids as the text they stand for, leading spaces kept and byte pieces joined."""
    raw = b""
    for piece in tokenizer.convert_ids_to_tokens(ids):
        if piece.startswith("<0x") and len(piece) == 6:
            raw += bytes([int(piece[3:5], 16)])
        else:
            raw += piece.replace("▁", " ").encode()
    return raw.decode()
