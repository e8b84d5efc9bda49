"""Gated layers beside a language model: silent until trained, each token sees its own picture, so does the cache."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, MptConfig
from transformers.models.idefics.modeling_idefics import IdeficsConfig, IdeficsGatedCrossAttentionLayer

import mminstruct
from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart, VideoPart
from mminstruct.errors import ConfigError, DataError
from mminstruct.media import Video
from mminstruct.models import checkpoint
from mminstruct.models.connectors.gated_cross_attention import FlamingoBlock, GatedCrossAttentionOptions
from mminstruct.models.cross_attention import Sights, decoder_layers, sights
from mminstruct.models.factory import read_row
from tests.conftest import conversation, picture

GPT_NEOX = {
    "model_type": "gpt_neox",
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}
LANGUAGE_MODELS = {
    "llama": {"model_type": "llama", "num_key_value_heads": 2} | {k: v for k, v in GPT_NEOX.items() if k[0] != "m"},
    "qwen3": {"model_type": "qwen3", "num_key_value_heads": 2, "head_dim": 16}
    | {k: v for k, v in GPT_NEOX.items() if k[0] != "m"},
    "gpt_neox": GPT_NEOX,
}
CASES = {
    "flamingo": {"block": "flamingo", "every": 2, "heads": 2, "head_size": 8},
    "idefics": {"block": "idefics", "every": 2, "heads": 2, "qk_norm": True, "gate": "channel"},
    "features": {"block": "flamingo", "every": 1, "heads": 2, "head_size": 8, "resampler": None},
}


def create(case: str, language_model: str = "llama", **settings):
    torch.manual_seed(0)
    row = read_row("nano-gated-cross-attention")[0].model_dump(mode="json")
    resampler = {"latents": 3, "depth": 1, "heads": 2, "head_size": 8}
    row["connector"]["options"] = {"resampler": resampler} | CASES[case] | settings
    row["language_model"]["architecture"] = LANGUAGE_MODELS[language_model]
    return mminstruct.create(row)


def open_gates(model) -> None:
    """As after training: gates, and everything else, at random."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.connector.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)


def ask(text: str = "what is it?", images: int = 1) -> Conversation:
    return conversation(text, images=images)


def several() -> tuple[Conversation, list]:
    """Text before the first picture, a second picture in the same turn, a third in an answer."""
    record = Conversation(
        id="several",
        messages=[
            Message(
                role="user",
                content=[
                    TextPart(text="look: "),
                    ImagePart(index=0),
                    TextPart(text=" and "),
                    ImagePart(index=1),
                    TextPart(text=" alike?"),
                ],
            ),
            Message(role="assistant", content=[TextPart(text="like "), ImagePart(index=2)]),
            Message(role="user", content=[TextPart(text="why?")]),
        ],
        media=[Media(path=name) for name in "abc"],
    )
    return record, [picture(seed) for seed in (1, 2, 3)]


@pytest.mark.parametrize("language_model", LANGUAGE_MODELS)
@pytest.mark.parametrize("case", ["flamingo", "idefics"])
def test_closed_gates_say_what_the_bare_language_model_says(case, language_model):
    model, processor = create(case, language_model)
    record, opened = several()
    sample = processor.prompt(record, opened)
    batch = processor.collate([sample])
    bare = AutoModelForCausalLM.from_config(model.config.text_config)
    bare.load_state_dict(model.language_model.state_dict())
    expected = bare.eval()(input_ids=batch["input_ids"]).logits
    model.eval()
    assert torch.equal(model(**batch).logits, expected)
    open_gates(model)
    assert not torch.allclose(model(**batch).logits, expected, atol=1e-2)


@pytest.mark.parametrize("case", CASES)
def test_a_token_sees_the_last_picture_before_it_and_no_other(case):
    """Changing a picture changes the logits from its place on, and only till the next one where nothing is mixed."""
    model, processor = create(case)
    open_gates(model)
    model.eval()
    record, opened = several()
    sample = processor.prompt(record, opened)
    places = (sample["input_ids"] == processor.config.image_token_id).nonzero().flatten().tolist()
    assert len(places) == 3  # one place each, whatever the number of latents

    def seen(pictures: list) -> torch.Tensor:
        batch = processor.collate([processor.prompt(record, pictures)])
        states: list[torch.Tensor] = []
        first = model.connector.blocks[0]
        handle = first.register_forward_hook(lambda block, given, result: states.append(result - given[0]))
        model(**batch)
        handle.remove()
        return states[0][0]

    before = seen(opened)
    for number in range(3):
        changed = [picture(9) if index == number else one for index, one in enumerate(opened)]
        moved = (seen(changed) - before).abs().amax(-1) > 1e-6
        end = places[number + 1] if number < 2 else len(moved)
        assert moved.nonzero().flatten().tolist() == list(range(places[number], end))


def test_a_flamingo_block_equals_the_formula_token_by_token():
    torch.manual_seed(0)
    options = GatedCrossAttentionOptions(heads=2, head_size=4)
    block = FlamingoBlock(6, 5, options)
    with torch.no_grad():
        block.attention_gate.fill_(0.7)
        block.feed_forward_gate.fill_(-0.4)
    hidden, latents = torch.randn(2, 4, 6), torch.randn(2, 2, 3, 5)
    index = torch.tensor([[-1, 0, 0, 1], [-1, -1, 0, 0]])
    found = block(hidden, Sights(latents, index))
    for row in range(2):
        for token in range(4):
            x = hidden[row, token]
            if index[row, token] >= 0:
                media = latents[row, index[row, token]]
                query, key, value = block.query(block.norm(x)), block.key(media), block.value(media)
                heads = []
                for head in range(2):
                    own = slice(4 * head, 4 * head + 4)
                    weights = (key[:, own] @ query[own] / 2).softmax(0)
                    heads.append(weights @ value[:, own])
                x = x + torch.tanh(torch.tensor(0.7)) * block.output(torch.cat(heads))
            x = x + torch.tanh(torch.tensor(-0.4)) * block.feed_forward(x)
            assert torch.allclose(found[row, token], x, atol=1e-5)


def test_an_idefics_block_is_transformers_own_layer():
    model, _ = create("idefics")
    config = IdeficsConfig(
        hidden_size=32,
        num_attention_heads=2,
        intermediate_size=128,
        qk_layer_norms=True,
        alpha_type="vector",
        vision_config={"embed_dim": model.vision_encoder.hidden_size},
    )
    config._attn_implementation = "eager"
    reference = IdeficsGatedCrossAttentionLayer(config, layer_idx=0).eval()
    open_gates(model)
    block = model.connector.blocks[0].eval()
    reference.load_state_dict(block.layer.state_dict())
    hidden, latents = torch.randn(1, 5, 32), torch.randn(1, 2, 3, model.vision_encoder.hidden_size)
    index = torch.tensor([[-1, 0, 0, 1, 1]])
    mask = torch.full((1, 1, 5, 6), torch.finfo(torch.float32).min)
    mask[0, 0, 1:3, :3] = 0
    mask[0, 0, 3:, 3:] = 0
    expected = reference(
        hidden,
        image_hidden_states=latents.flatten(1, 2),
        image_attention_mask=mask,
        cross_attention_gate=torch.tensor([[0.0, 1, 1, 1, 1]]),
    )
    assert torch.allclose(block(hidden, Sights(latents, index)), expected, atol=1e-5)


@pytest.mark.parametrize("language_model", LANGUAGE_MODELS)
@pytest.mark.parametrize("case", CASES)
def test_generation_with_the_cache_equals_generation_without(case, language_model):
    model, processor = create(case, language_model)
    open_gates(model)
    model.eval()
    record, opened = several()
    prompts = [
        processor.prompt(record, opened),
        processor.prompt(ask("short", images=0), []),
        processor.prompt(ask("what?"), [picture(5)]),
    ]
    batch = processor.collate(prompts)
    settings = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    cached = model.generate(**batch, **settings)
    assert torch.equal(cached, model.generate(**batch, **settings, use_cache=False))
    new = cached[:, batch["input_ids"].shape[1] :]
    for number, prompt in enumerate(prompts):  # batched = single
        alone = processor.collate([prompt])
        answer = model.generate(**alone, **settings)[:, alone["input_ids"].shape[1] :]
        assert torch.equal(answer[0], new[number])
    # The same, one step at a time, by nothing but forward on the whole text.
    ids, mask = batch["input_ids"], batch["attention_mask"]
    for _ in range(8):
        seen = {"pixel_values": batch["pixel_values"], "attention_mask": mask}
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = model(input_ids=ids, **seen, position_ids=positions).logits[:, -1]
        logits[:, [processor.config.image_token_id, *model.generation_config.eos_token_id]] = -torch.inf
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    assert torch.equal(ids, cached)


@pytest.mark.parametrize("case", CASES)
def test_text_alone_trains_every_layer_with_a_gradient_of_zero_or_more(case):
    """A rank that holds text only has every parameter in its graph, and what it computes is what inference computes."""
    model, processor = create(case)
    open_gates(model)
    text = processor.collate([processor.training_sample(conversation("hello", "hi"), [])], padding_side="right")
    output = model.train()(**text)
    output.loss.backward()
    assert all(parameter.grad is not None for name, parameter in model.named_parameters())
    assert torch.allclose(model.eval()(**text).logits, output.logits, atol=1e-5)


def test_gradient_checkpointing_changes_nothing():
    model, processor = create("flamingo")
    open_gates(model)
    record, opened = several()
    record = record.model_copy(
        update={"messages": [*record.messages, Message(role="assistant", content=[TextPart(text="so")])]}
    )
    batch = processor.collate([processor.training_sample(record, opened)], padding_side="right")
    grads = []
    for checkpointing in (False, True):
        model.zero_grad()
        if checkpointing:
            model.gradient_checkpointing_enable()
        output = model.train()(**batch, use_cache=False)
        output.loss.backward()
        assert output.sights.readers == [2]
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        assert torch.allclose(grad, grads[1][name], atol=1e-6), name
    assert grads[0]["connector.resampler.latents"].any()


def test_a_copy_looks_through_its_own_layers():
    model, processor = create("flamingo")
    open_gates(model)
    again = copy.deepcopy(model).eval()
    batch = processor.collate([processor.prompt(ask(), [picture(1)])])
    expected = model.eval()(**batch).logits
    with torch.no_grad():
        for parameter in model.connector.blocks.parameters():
            parameter.zero_()
    assert torch.equal(again(**batch).logits, expected)
    assert not torch.equal(model(**batch).logits, expected)


def test_the_checkpoint_rebuilds_the_layers(tmp_path):
    model, processor = create("idefics", first=1)
    open_gates(model)
    checkpoint.save(tmp_path / "m", model, processor)
    again, processor_again = mminstruct.load(tmp_path / "m")
    assert len(again.connector.blocks) == 2
    batch = processor_again.collate([processor_again.prompt(ask(), [picture(1)])])
    assert torch.equal(again(**batch).logits, model.eval()(**batch).logits)


def test_layers_stand_where_the_original_projects_put_them():
    for case, every, expected in (("flamingo", 2, [1, 3]), ("idefics", 2, [0, 2]), ("flamingo", 4, [3])):
        model, _ = create(case, every=every)
        layers = decoder_layers(model.language_model)
        found = [n for n, layer in enumerate(layers) for hook in layer._forward_pre_hooks.values() if hook.block]
        assert found == expected


def test_the_frames_of_a_video_are_one_medium():
    model, processor = create("flamingo")
    open_gates(model)
    model.eval()
    record = Conversation(
        id="film",
        messages=[Message(role="user", content=[VideoPart(index=0), ImagePart(index=1), TextPart(text="alike?")])],
        media=[Media(path="a", kind="video"), Media(path="b")],
    )
    film = Video((picture(1), picture(2)), (0.0, 1.0))
    batch = processor.collate([processor.prompt(record, [film, picture(3)])])
    assert batch["media"].tolist() == [[2, 40, 40], [0, 40, 40]]
    features = model.vision_encoder(batch["pixel_values"])
    expected = [model.connector.resampler(part.flatten(0, 1)[None]) for part in (features[:2], features[2:])]
    seen = model(**batch).sights.latents
    assert seen.shape[:2] == (1, 2)
    assert torch.allclose(seen[0], torch.cat(expected), atol=1e-6)
    bare, processor = create("features")
    with pytest.raises(DataError, match="without a resampler, so it takes pictures only"):
        bare(**processor.collate([processor.prompt(record, [film, picture(3)])]))


def test_places_and_pictures_must_agree():
    model, processor = create("flamingo")
    batch = processor.collate([processor.prompt(ask(), [picture(1)])])
    with pytest.raises(DataError, match="1 image places, but 2 pictures were given"):
        model(**batch | {"pixel_values": batch["pixel_values"].repeat(2, 1, 1, 1)})
    seen = sights(torch.randn(1, 2, 3), torch.tensor([[True, False]]))
    with pytest.raises(DataError, match="behind a text that has been read already"):
        seen.after(torch.tensor([[True]]))


def test_a_language_model_that_drops_keywords_is_an_error_and_not_blindness():
    """OpenFlamingo's MPT is such a one in transformers."""
    torch.manual_seed(0)
    row = read_row("nano-gated-cross-attention")[0].model_dump(mode="json")
    row["language_model"]["architecture"] = MptConfig(
        d_model=32, n_heads=2, n_layers=2, vocab_size=512, max_seq_len=64
    ).to_dict()
    model, processor = mminstruct.create(row)
    with pytest.raises(ConfigError, match="MptForCausalLM does not pass keyword arguments on to its layers"):
        model(**processor.collate([processor.prompt(ask(), [picture(1)])]))


def test_tiles_stand_in_the_prompt_only():
    row = read_row("nano-gated-cross-attention")[0].model_dump(mode="json") | {"video": {"pool": 2}}
    with pytest.raises(ConfigError, match="gated cross-attention looks at whole media"):
        mminstruct.create(row)
