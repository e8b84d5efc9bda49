"""transformers' InstructBLIP: imported it computes the same, exported it opens there, and back it is the same file.

InstructBLIP takes one picture a prompt, so several pictures are those of a batch.
"""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoProcessor,
    BertTokenizer,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

import mminstruct
from mminstruct import catalog
from mminstruct.config import validate
from mminstruct.conversation import Conversation, Media, Message, image, text
from mminstruct.errors import CheckpointError, ConfigError, DataError, MminstructError
from mminstruct.models import checkpoint, encoders
from mminstruct.models.config import TransformersConfig
from mminstruct.models.factory import read_row
from mminstruct.models.interop import export_checkpoint, import_checkpoint
from mminstruct.models.interop.stream import Source
from tests.conftest import make_tokenizer, picture
from tests.models import interop as make

TEMPLATE = {"chat_template": "instructblip"}
QUERIES = 4
QUESTIONS = ["What color is it?", "And the shape of it, please?", "a circle?", "Is it blue or is it red? Answer."]


def bert_tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "color", "is", "it", "and", "the", "shape", "of"]
    words += ["a", "circle", "blue", "or", "red", "?", ",", "."]
    letters = [f"{mark}{chr(code)}" for code in range(ord("a"), ord("z") + 1) for mark in ("", "##")]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(words + letters))}
    bert = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    bert.normalizer = normalizers.BertNormalizer()
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return BertTokenizer(tokenizer_object=bert, model_max_length=512)


def hf_model(vision=None, q_former=None, text=None, **changes):
    vision_settings = {
        **make.vision_config().to_dict(),
        "hidden_act": "gelu",
        "model_type": "instructblip_vision_model",
    }
    for key in ("projection_dim", "num_channels", "initializer_factor", "layer_norm_eps"):
        del vision_settings[key]
    q_former_settings = {
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "vocab_size": 100,
        "initializer_range": 0.2,
    }
    settings = {
        "vision_config": {**vision_settings, **(vision or {})},
        "qformer_config": {**q_former_settings, **(q_former or {})},
        "text_config": make.text_config(**(text or {})).to_dict(),
        "num_query_tokens": QUERIES,
        "image_token_index": make_tokenizer(bos=True).get_added_vocab()["<image>"],
    }
    return make.stirred(InstructBlipForConditionalGeneration, InstructBlipConfig(**{**settings, **changes}))


def hf_processor() -> InstructBlipProcessor:
    pictures = BlipImageProcessorPil(size={"height": make.SIZE, "width": make.SIZE})
    tokenizer = make.padding_tokenizer()
    tokenizer.padding_side = "left"
    return InstructBlipProcessor(pictures, tokenizer, bert_tokenizer(), num_query_tokens=QUERIES)


def save(model, folder):
    model.save_pretrained(folder)
    hf_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def theirs():
    return hf_model()


@pytest.fixture
def saved(theirs, tmp_path):
    return save(theirs, tmp_path / "theirs")


def reload(folder):
    model, info = InstructBlipForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval()


def ask(question: str) -> Conversation:
    return Conversation(
        id="one", messages=[Message(role="user", content=[image(), text(question)])], media=[Media(path="a")]
    )


@torch.no_grad()
def assert_same(ours, processor, theirs, rows=None):
    """Equal logits on the ids of their processor, equal greedy answers on each one's own; one prompt, and four.

    In a batch their padding stands between picture and text, ours in front of both.
    """
    foreign = hf_processor()
    most = theirs.config.text_config.vocab_size
    never = {"suppress_tokens": [processor.config.image_token_id, *range(rows or most, most)]}
    options = {"max_new_tokens": 16, "min_new_tokens": 16, "do_sample": False, "pad_token_id": 0, "eos_token_id": 2}
    for count in (1, 4):
        pictures = [picture(seed, (30 + 9 * seed, 40)) for seed in range(count)]
        batch = foreign(images=pictures, text=QUESTIONS[:count], return_tensors="pt", padding=True)
        prompts = [processor.prompt(ask(one), [seen]) for one, seen in zip(QUESTIONS, pictures, strict=False)]
        own = processor.collate(prompts)
        torch.testing.assert_close(own["pixel_values"], batch["pixel_values"], rtol=0, atol=1e-5)
        assert own["instruction_ids"].tolist() == batch["qformer_input_ids"].tolist()
        assert own["instruction_mask"].tolist() == batch["qformer_attention_mask"].tolist()
        for mine, other in zip(own["input_ids"], batch["input_ids"], strict=True):
            pad = foreign.tokenizer.pad_token_id
            assert mine[mine != pad].tolist() == other[other != pad].tolist()
        same = own | {key: batch[key] for key in ("input_ids", "attention_mask")}
        real = batch["attention_mask"].bool()
        expected = theirs(**batch).logits[real][:, :rows]
        assert expected.std() > 0.1  # a dead model would agree with anything
        torch.testing.assert_close(ours(**same).logits[real][:, :rows], expected, rtol=0, atol=1e-4)
        generated = theirs.generate(**batch, **options, **never)[:, -16:]
        answer = ours.generate(**own, **options, **never)[:, own["input_ids"].shape[1] :]
        assert answer.tolist() == generated.tolist() and answer.shape[1] == 16
        if count > 1:
            assert len({tuple(one) for one in answer.tolist()}) > 1


def test_import_computes_the_same(saved, theirs, tmp_path):
    assert import_checkpoint(saved, tmp_path / "ours", **TEMPLATE) == "hf-instructblip"
    assert_same(*mminstruct.load(tmp_path / "ours"), theirs)


@pytest.mark.parametrize(
    "settings",
    [
        {"vision": {"qkv_bias": False, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-2}},
        {"q_former": {"cross_attention_frequency": 1, "hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}},
        {"num_query_tokens": QUERIES, "text": {"tie_word_embeddings": True}},
    ],
    ids=["vision", "q-former", "tied"],
)
def test_there_and_back_computes_the_same(tmp_path, settings):
    theirs = hf_model(**settings)
    import_checkpoint(save(theirs, tmp_path / "theirs"), tmp_path / "ours", **TEMPLATE)
    ours, processor = mminstruct.load(tmp_path / "ours")
    assert_same(ours, processor, theirs)
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-instructblip")
    assert_same(ours, processor, reload(tmp_path / "back"))
    assert set(Source(tmp_path / "back").tensors) == set(Source(tmp_path / "theirs").tensors)
    first, second = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("theirs", "back"))
    assert first["qformer_config"] == {**second["qformer_config"], "initializer_range": 0.2}


def test_old_configs_know_no_image_token(theirs, saved, tmp_path):
    """A row for it is made where there is none to spare."""
    plain = make_tokenizer(bos=True, image=False)
    plain.save_pretrained(saved)
    rows = len(plain)
    matrices = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight")
    make.change(saved, lambda t: {k: v[:rows].clone() if k in matrices else v for k, v in t.items()})
    text_config = {**theirs.config.text_config.to_dict(), "vocab_size": rows}
    make.change_json(saved / "config.json", image_token_index=None, text_config=text_config)
    import_checkpoint(saved, tmp_path / "ours", **TEMPLATE)
    ours, processor = mminstruct.load(tmp_path / "ours")
    assert ours.config.text_config.vocab_size == rows + 1 and processor.config.image_token_id == rows
    head = ours.get_output_embeddings().weight
    torch.testing.assert_close(head[rows], head[:rows].mean(dim=0))
    batch = processor.collate([processor.prompt(ask(QUESTIONS[0]), [picture(0)])])
    assert theirs.config.image_token_index == rows
    renamed = {"qformer_input_ids": batch["instruction_ids"], "qformer_attention_mask": batch["instruction_mask"]}
    same = {key: batch[key] for key in ("input_ids", "attention_mask", "pixel_values")}
    expected = theirs(**same, **renamed).logits
    torch.testing.assert_close(ours(**batch).logits[..., :rows], expected[..., :rows], rtol=0, atol=1e-4)


def test_exported_processor_makes_the_same_inputs(saved, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **TEMPLATE)
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-instructblip")
    foreign = AutoProcessor.from_pretrained(tmp_path / "back")
    assert type(foreign).__name__ == "InstructBlipProcessor"
    _, processor = mminstruct.load(tmp_path / "ours")
    wanted = processor.prompt(ask(QUESTIONS[0]), [picture(1)])
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTIONS[0]}]}]
    prompt = foreign.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert prompt == QUESTIONS[0]
    found = foreign(images=picture(1), text=prompt, return_tensors="pt")
    assert found["input_ids"][0].tolist() == wanted["input_ids"].tolist()
    assert found["qformer_input_ids"].tolist() == wanted["instruction_ids"].tolist()
    # torchvision, which AutoProcessor prefers, resizes tensors and rounds elsewhere
    torch.testing.assert_close(found["pixel_values"], wanted["pixel_values"], rtol=0, atol=0.05)


@pytest.mark.parametrize("shard", ["5GB", 40_000], ids=["one file", "many"])
def test_back_and_forth_is_the_same_file(saved, tmp_path, shard):
    import_checkpoint(saved, tmp_path / "first", **TEMPLATE)
    export_checkpoint(tmp_path / "first", tmp_path / "back", "hf-instructblip", max_shard_size=shard)
    assert (len(list((tmp_path / "back").glob("*.safetensors"))) > 3) == (shard != "5GB")
    import_checkpoint(tmp_path / "back", tmp_path / "second")  # the template is known from what was written
    first, second = ((tmp_path / name / make.WEIGHTS).read_bytes() for name in ("first", "second"))
    assert first == second
    one, two = (mminstruct.load(tmp_path / name) for name in ("first", "second"))
    assert one[1].config.model_dump(exclude={"origins"}) == two[1].config.model_dump(exclude={"origins"})
    assert one[0].config.connector == two[0].config.connector


# ---- training and answering -----------------------------------------------------------------------------------------


def test_supervised_is_the_answer_and_the_start_stands_behind_the_picture(saved, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **TEMPLATE)
    model, processor = mminstruct.load(tmp_path / "ours")
    record = ask("What color is it?")
    answer = Message(role="assistant", content=[text("It is blue.")])
    sample = processor.training_sample(record.model_copy(update={"messages": [*record.messages, answer]}), [picture(0)])
    tokenizer, places = processor.tokenizer, [processor.config.image_token_id] * QUERIES
    asked = tokenizer("What color is it?")["input_ids"]  # begins with <s>
    told = tokenizer("What color is it? It is blue.</s>")["input_ids"][len(asked) :]
    assert sample["input_ids"].tolist() == [*places, *asked, *told]
    assert sample["labels"].tolist() == [-100] * (QUERIES + len(asked)) + told
    model.train()(**processor.collate([sample], padding_side="right")).loss.backward()
    idle = {f"connector.{name}" for name in model.connector.idle_parameters()}
    assert {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()} == idle


def test_a_picture_and_nothing_else_still_has_a_start(saved, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **TEMPLATE)
    processor = mminstruct.load(tmp_path / "ours")[1]
    sample = processor.prompt(ask(""), [picture(0)])
    assert sample["input_ids"].tolist() == [processor.config.image_token_id] * QUERIES + [1]
    assert sample["instruction_ids"].tolist() == [[2, 3]]  # [CLS] [SEP]


def test_an_instruction_that_is_too_long(saved, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **TEMPLATE)
    processor = mminstruct.load(tmp_path / "ours")[1]
    assert processor.prompt(ask("a " * 510), [picture(0)])["instruction_ids"].shape == (1, 512)
    with pytest.raises(DataError, match="an instruction has 513 tokens, the connector reads at most 512"):
        processor.prompt(ask("a " * 511), [picture(0)])


def test_a_row_with_a_tokenizer_for_the_instruction(tmp_path):
    bert_tokenizer().save_pretrained(tmp_path / "bert")
    facts = "".join(f"{name}: {{reason: made for a test}}\n" for name in ("weights", "reported", "measured"))
    (tmp_path / "base.yaml").write_text(
        f"name: base\nbase: nano-instruct-q-former\nsummary: Two tokenizers.\n{facts}"
        f"tokenizer: {{folder: {catalog.folder(catalog.MODEL) / 'nano'}, instruction: {{folder: bert}}}}\n"
    )
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "row.yaml").write_text(f"name: row\nbase: {tmp_path / 'base.yaml'}\nsummary: Moved.\n{facts}")
    model, processor = mminstruct.create(tmp_path / "below" / "row.yaml")
    sample = processor.prompt(ask(QUESTIONS[0]), [picture(0)])
    assert sample["instruction_ids"].tolist() == [bert_tokenizer()(QUESTIONS[0])["input_ids"]]
    checkpoint.save(tmp_path / "saved", model, processor)
    again = mminstruct.load(tmp_path / "saved")[1]
    assert again.config == processor.config and again.config.own_instruction_tokenizer
    row = read_row(tmp_path / "below" / "row.yaml")[0].model_dump(mode="json")
    row["connector"]["options"]["instruction_vocabulary"] = 20
    with pytest.raises(ConfigError, match="instructions of 20 different tokens, but the tokenizer has 7"):
        mminstruct.create(row)
    other = again.with_template(again.config.chat_template.model_copy(update={"system": "Be brief."}))
    assert (
        other.prompt(ask(QUESTIONS[0]), [picture(0)])["instruction_ids"].tolist() == sample["instruction_ids"].tolist()
    )
    tiny = mminstruct.create(tmp_path / "below" / "row.yaml", tiny=True)[1]
    assert tiny.config.own_instruction_tokenizer


def test_the_tower_s_layers_can_be_read_too(theirs):
    """The last norm stands behind them all; built, it would never get a gradient."""
    architecture = theirs.config.vision_config.to_dict()
    kept = {key: architecture[key] for key in ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers")}
    kept |= {key: architecture[key] for key in ("num_attention_heads", "image_size", "patch_size", "hidden_act")}
    config = {
        "source": "transformers",
        "name": "tower",
        "architecture": kept,
        "layer": -2,
        "image": {"size": make.SIZE},
    }
    encoder = encoders.build(validate(TransformersConfig, config, "tower"))
    names = {name.removeprefix("model."): p for name, p in encoder.named_parameters()}
    with torch.no_grad():
        for name, parameter in names.items():
            parameter.copy_(theirs.vision_model.state_dict()[name])
    pixels = torch.randn(2, 3, make.SIZE, make.SIZE)
    expected = theirs.vision_model(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    found = encoder(pixels)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    found.square().sum().backward()
    assert all(p.grad is not None for p in names.values())


# ---- what cannot be held --------------------------------------------------------------------------------------------


def refused(folder, tmp_path, match, **options):
    with pytest.raises(MminstructError, match=match) as caught:
        import_checkpoint(folder, tmp_path / "ours", **{**TEMPLATE, **options})
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]  # nothing half-written


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "query_tokens"}, "'query_tokens' is missing"),
        (lambda t: t | {"vision_model.head": torch.zeros(1)}, "'vision_model.head' is unknown"),
        (lambda t: t | {"language_projection.bias": torch.zeros(47)}, r"has shape \[47\], config.json wants \[48\]"),
    ],
    ids=["missing", "extra", "wrong size"],
)
def test_tensors_that_do_not_fit(saved, tmp_path, edit, match):
    make.change(saved, edit)
    refused(saved, tmp_path, match)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"text_config": {"model_type": "t5"}}, "text_config: model_type is 't5'"),
        ({"text_config": {}}, "text_config: model_type is 'opt'"),
        ({"qformer_config": {"hidden_act": "relu"}}, "qformer_config: hidden_act is 'relu'"),
        ({"qformer_config": {"attention_probs_dropout_prob": 0.2}}, "attention_probs_dropout_prob is 0.2"),
        ({"qformer_config": {"vocab_size": 10}}, "has .* tokens, the Q-Former knows 10"),
        ({"image_token_index": 5}, "image_token_index is 5, but the tokenizer's <image> is"),
    ],
    ids=str,
)
def test_configs_that_cannot_be_held(saved, tmp_path, values, match):
    make.change_json(saved / "config.json", **values)
    refused(saved, tmp_path, match)


def test_what_else_is_missing(saved, tmp_path):
    refused(saved, tmp_path, r"name one with --chat-template \(instructblip\)", chat_template=None)
    (saved / "qformer_tokenizer").rename(saved / "other")
    refused(saved, tmp_path, "holds no qformer_tokenizer")


def test_models_that_the_format_cannot_hold(saved, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **TEMPLATE)
    for part, value, match in [
        ("vision_encoder", {"feature": "patch"}, "its output read with the class token"),
        ("tiling", {"resolutions": [[28, 56]], "merge": "flat"}, "its pictures are tiled"),
    ]:
        before = (tmp_path / "ours" / "config.json").read_text()
        config = json.loads(before)
        make.change_json(tmp_path / "ours" / "config.json", **{part: {**(config[part] or {}), **value}})
        with pytest.raises(CheckpointError, match=match):
            export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-instructblip")
        (tmp_path / "ours" / "config.json").write_text(before)
    with pytest.raises(CheckpointError, match="hf-llava has the connector mlp"):
        export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-llava")
    checkpoint.save(tmp_path / "other", *mminstruct.create("nano-instruct-q-former", tiny=True))
    with pytest.raises(CheckpointError, match="by a tokenizer of its own; this model's is q_former"):
        export_checkpoint(tmp_path / "other", tmp_path / "back", "hf-instructblip")
    (tmp_path / "ours" / "instruction_tokenizer").rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="holds no instruction_tokenizer"):
        mminstruct.load(tmp_path / "ours")
    with pytest.raises(ConfigError, match=r"tokenizer\.instruction is for a connector that reads ids"):
        row = read_row("nano-mlp")[0].model_dump(mode="json")
        mminstruct.create(row | {"tokenizer": {**row["tokenizer"], "instruction": {"folder": "nano"}}})
