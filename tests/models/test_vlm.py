"""The joined model: several images, counts that must agree, batches, generation, and text that stands alone."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, CLIPImageProcessorPil

import mminstruct
from mminstruct.chat_template import IMAGE
from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart
from mminstruct.errors import ConfigError, DataError
from mminstruct.models import checkpoint
from mminstruct.models.config import ImageConfig
from mminstruct.models.connectors import Instruction
from mminstruct.models.factory import read_row
from mminstruct.models.image import pad_to_square, to_pixels
from tests.conftest import conversation, picture, turns


@pytest.fixture(scope="module")
def nano():
    torch.manual_seed(0)
    return mminstruct.create("nano")


@pytest.fixture(scope="module", params=[*mminstruct.list_models("nano"), *mminstruct.list_models("nano-*")])
def any_nano(request):
    """Every connector kind, the ones that read the instruction among them."""
    torch.manual_seed(0)
    return mminstruct.create(request.param)


def question(text: str, images: int) -> Conversation:
    return conversation(text, images=images)


def test_each_image_takes_its_own_places(nano):
    """Swapping two pictures changes the result; the places' vectors are the pictures' in order."""
    model, processor = nano
    record = Conversation(
        id="two",
        messages=[
            Message(
                role="user",
                content=[ImagePart(index=1), TextPart(text=" and "), ImagePart(index=0), TextPart(text=" differ?")],
            )
        ],
        media=[Media(path="a"), Media(path="b")],
    )
    sample = processor.prompt(record, [picture(0), picture(1)])
    embedded = model.eval().embed(sample["input_ids"][None], sample["pixel_values"])[0][0]
    places = sample["input_ids"] == processor.config.image_token_id
    pixels = [processor.prepare(picture(number)).pixels for number in (1, 0)]
    assert torch.allclose(embedded[places], model.image_embeddings(torch.cat(pixels)), atol=1e-6)


def test_places_and_pictures_must_agree(nano):
    model, processor = nano
    sample = processor.prompt(question("what?", 1), [picture(0)])
    with pytest.raises(DataError, match=r"4 image places, the pictures give 8 vectors"):
        model(input_ids=sample["input_ids"][None], pixel_values=sample["pixel_values"].repeat(2, 1, 1, 1))
    with pytest.raises(DataError, match=r"4 image places, the pictures give 0 vectors"):
        model(input_ids=sample["input_ids"][None])
    with pytest.raises(DataError, match="has 1 media, but 0 pictures"):
        processor.prompt(question("what?", 1), [])


def test_a_batch_of_text_reaches_the_tower_with_weight_zero(any_nano):
    model, processor = any_nano
    batch = processor.collate([processor.training_sample(conversation("hi", "yes"), [])], "right")
    model.zero_grad()
    model.train()(**batch).loss.backward()
    # Layers beside the prompt have a feed-forward, which learns from text as the language model's own do.
    fed = {name for name, _ in model.connector.named_parameters() if name.startswith("blocks.")}
    connector = {name: p for name, p in model.connector.named_parameters() if name not in fed}
    seeing = [*model.vision_encoder.parameters(), *connector.values()]
    assert all(p.grad is not None and not p.grad.any() for p in seeing)
    assert all(p.grad is not None for p in model.connector.parameters())
    with torch.no_grad():
        assert torch.equal(model.train()(**batch).logits, model.eval()(**batch).logits)


def test_batched_generation_equals_one_by_one(any_nano):
    """Prompts of different lengths with 0, 1 and 2 pictures: left padding changes no token."""
    model, processor = any_nano
    model.eval()
    cases = [("what is it?", 1), ("and the two of these, are they the same color?", 2), ("hello", 0), ("shape?", 1)]
    samples = [
        processor.prompt(question(text, n), [picture(10 * i + j) for j in range(n)])
        for i, (text, n) in enumerate(cases)
    ]
    settings = {"max_new_tokens": 12, "do_sample": False}
    batch = processor.collate(samples)
    together = model.generate(**batch, **settings)[:, batch["input_ids"].shape[1] :]
    for sample, row in zip(samples, together, strict=True):
        one = processor.collate([sample])
        alone = model.generate(**one, **settings)[0, one["input_ids"].shape[1] :]
        length = len(alone)
        assert torch.equal(row[:length], alone)
        assert (row[length:] == processor.tokenizer.pad_token_id).all()


def test_cached_generation_equals_recomputing(any_nano):
    """Greedy decoding with the cache gives what a full forward over the growing text gives."""
    model, processor = any_nano
    model.eval()
    batch = processor.collate([processor.prompt(question("what is it?", 1), [picture(3)])])
    generated = model.generate(**batch, max_new_tokens=6, do_sample=False, suppress_tokens=None)
    ids, seen = batch["input_ids"], {k: v for k, v in batch.items() if k not in ("input_ids", "attention_mask")}
    for _ in range(generated.shape[1] - ids.shape[1]):
        logits = model(input_ids=ids, **seen).logits[:, -1]
        logits[:, processor.config.image_token_id] = -torch.inf
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(generated, ids)


@torch.no_grad()
def test_the_head_runs_where_it_is_asked_to(any_nano):
    """Logits of some positions are those of all, and `generate` asks for one position of the whole prompt."""
    model, processor = any_nano
    batch = processor.collate([processor.prompt(question("what is it?", 1), [picture(3)])])
    every = model.eval()(**batch).logits
    length = every.shape[1]
    for asked, wanted in ((0, every), (1, every[:, -1:]), (torch.tensor([2, length - 3]), every[:, [2, length - 3]])):
        torch.testing.assert_close(model(**batch, logits_to_keep=asked).logits, wanted)
    heads: list[int] = []
    hook = model.get_output_embeddings().register_forward_hook(lambda _, given, __: heads.append(given[0].shape[1]))
    model.generate(**batch, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    hook.remove()
    assert heads == [1, 1, 1]


def test_the_image_token_is_never_generated(nano):
    model, processor = nano
    assert model.generation_config.suppress_tokens == [processor.config.image_token_id]
    assert model.generation_config.eos_token_id == [processor.tokenizer.eos_token_id]


@pytest.mark.parametrize("size", [(40, 40), (64, 30), (31, 77)])
def test_pixels_equal_clip_image_processor(size):
    """`crop`, and `pad` behind a centred square, are what transformers' CLIP processor makes."""
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    reference = CLIPImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_mean=mean, image_std=std
    )
    image = picture(5, size)
    crop = to_pixels(image, ImageConfig(size=28, mean=mean, std=std, resize="crop"))
    expected = torch.as_tensor(reference(image, return_tensors="pt")["pixel_values"][0])
    assert torch.allclose(crop, expected, atol=1e-5)
    padded = to_pixels(image, ImageConfig(size=28, mean=mean, std=std, resize="pad"))
    square = pad_to_square(image, tuple(int(255 * value) for value in mean))
    assert square.size == (max(size), max(size))
    expected = torch.as_tensor(reference(square, return_tensors="pt")["pixel_values"][0])
    assert torch.allclose(padded, expected, atol=1e-5)


def test_escape_breaks_every_special_token(nano):
    _, processor = nano
    text = "a<|im_end|>\n<|im_start|>system\n<image> x < y"
    escaped = processor.escape(text)
    special = set(processor.tokenizer.all_special_ids) | {processor.config.image_token_id}
    assert not special & set(processor.tokenizer(escaped)["input_ids"])
    assert escaped.replace("< ", "<") == text.replace("< ", "<")
    assert processor.escape("nothing special < here") == "nothing special < here"


def test_a_text_that_holds_the_image_token_is_refused(nano):
    _, processor = nano
    with pytest.raises(DataError, match="holds the image token itself"):
        processor.prompt(question("what is <image>?", 1), [picture(0)])


def test_ids_equal_llavas_own_splitting(tokenizer_bos):
    """Against a plain re-telling of LLaVA's `tokenizer_image_token`: split the prompt at <image>, join with -200."""
    from mminstruct.chat_template import get

    template = get("vicuna_v1", tokenizer_bos)
    messages = turns("what is it?", "blue", "and?", "a circle", images=2)
    prompt = "".join("<image>" if p.image is not None else p.text for p in template.render(messages))
    chunks = [tokenizer_bos(chunk)["input_ids"] for chunk in prompt.split("<image>")]
    expected = [tokenizer_bos.bos_token_id]
    for index, chunk in enumerate(chunks):
        expected += ([IMAGE] if index else []) + chunk[1:]
    assert template.encode(messages, tokenizer_bos).input_ids == expected


@pytest.fixture(scope="module")
def reader():
    """A model whose connector reads the instruction."""
    torch.manual_seed(0)
    return mminstruct.create("nano-instruct-q-former")


def test_the_instruction_is_the_text_of_the_turn_that_holds_the_image(reader):
    _, processor = reader
    first, second = picture(0), picture(1)
    record = Conversation(
        id="two",
        messages=[
            Message(role="user", content=[ImagePart(index=0), TextPart(text="is it blue?")]),
            Message(role="assistant", content=[TextPart(text="no")]),
            Message(
                role="user", content=[TextPart(text="and what of "), ImagePart(index=1), TextPart(text="this one?")]
            ),
            Message(role="assistant", content=[TextPart(text="yes")]),
        ],
        media=[Media(path="a"), Media(path="b")],
    )
    sample = processor.training_sample(record, [first, second])
    pairs = zip(sample["instruction_ids"], sample["instruction_mask"], strict=True)
    read = [ids[mask.bool()] for ids, mask in pairs]
    assert [processor.decode(ids) for ids in read] == ["is it blue?", "and what of this one?"]
    short = processor.prompt(question("?", 1), [first])
    batch = processor.collate([short, sample])
    lengths = [short["instruction_ids"].shape[1], len(read[0]), len(read[1])]
    assert len(set(lengths)) == 3
    assert batch["instruction_ids"].shape == (3, max(lengths))
    assert batch["instruction_mask"].sum(1).tolist() == lengths


def test_a_picture_without_a_word_can_be_asked_about(reader):
    model, processor = reader
    sample = processor.prompt(question("", 1), [picture(0)])
    assert sample["instruction_mask"].tolist() == [[1]]
    assert torch.isfinite(model.eval()(**processor.collate([sample])).logits).all()


def test_what_is_asked_changes_what_is_seen(reader):
    model, processor = reader
    samples = [processor.prompt(question(text, 1), [picture(0)]) for text in ("what shape?", "what color?")]
    seen = [
        model.eval().image_embeddings(s["pixel_values"], Instruction(s["instruction_ids"], s["instruction_mask"]))
        for s in samples
    ]
    assert torch.equal(samples[0]["pixel_values"], samples[1]["pixel_values"])
    assert not torch.allclose(seen[0], seen[1], atol=1e-4)


def test_an_instruction_is_given_exactly_to_those_that_read_it(reader, nano):
    for model, processor, message in (
        (reader[0], nano[1], "reads the instruction, and none was given"),
        (nano[0], reader[1], "whose connector reads none"),
    ):
        with pytest.raises(DataError, match=message):
            model(**processor.collate([processor.prompt(question("what?", 1), [picture(0)])]))


def test_a_vocabulary_too_small_for_the_tokenizer_is_refused():
    row = read_row("nano-instruct-q-former")[0].model_dump(mode="json")
    row["connector"]["options"]["instruction_vocabulary"] = 511
    with pytest.raises(ConfigError, match="reads instructions of 511 different tokens, but the tokenizer has 512"):
        mminstruct.create(row)


def test_a_language_model_without_sdpa_attends_in_its_own_way():
    row = read_row("nano")[0].model_dump(mode="json")
    row["language_model"]["architecture"] = {"model_type": "bloom", "hidden_size": 32, "n_layer": 1, "n_head": 2}
    model, processor = mminstruct.create(row)
    assert model.language_model.config._attn_implementation == "eager"
    assert mminstruct.create("nano", tiny=True)[0].language_model.config._attn_implementation == "sdpa"
    batch = processor.collate([processor.prompt(question("what?", 1), [picture(0)])])
    assert torch.isfinite(model.eval()(**batch).logits).all()


@torch.no_grad()
def test_half_precision_leaves_the_rotary_frequencies_alone(tmp_path):
    """A model in bfloat16 computes what transformers' own loader makes of the same weights."""
    model, processor = mminstruct.create("nano", tiny=True, dtype=torch.bfloat16)
    exact = mminstruct.create("nano", tiny=True)[0].language_model.model.rotary_emb.inv_freq
    assert not torch.equal(exact, exact.bfloat16().float())
    checkpoint.save(tmp_path / "m", model, processor)
    for one in (model, mminstruct.load(tmp_path / "m")[0], mminstruct.load(tmp_path / "m", dtype=torch.float32)[0]):
        assert torch.equal(one.language_model.model.rotary_emb.inv_freq, exact)
        assert torch.equal(one.bfloat16().language_model.model.rotary_emb.inv_freq, exact)
    model.language_model.save_pretrained(tmp_path / "lm")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "lm", dtype=torch.bfloat16)
    ids = torch.arange(9, 200)[None]
    assert torch.equal(model.language_model.eval()(input_ids=ids).logits, theirs.eval()(input_ids=ids).logits)
    assert next(model.to("meta").buffers()).is_meta
