"""The connector contract: as many tokens as counted, shapes right, every parameter used."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import (
    IdeficsConfig,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
)
from transformers.models.idefics.modeling_idefics import IdeficsModel

from mminstruct.errors import ConfigError
from mminstruct.models import connectors
from mminstruct.models.config import ConnectorConfig
from mminstruct.models.connectors import Instruction
from mminstruct.models.connectors.perceiver import Resampler, ResamplerOptions
from mminstruct.models.connectors.text_guided_moe import load_balance

Q_FORMER = {"queries": 5, "hidden_size": 16, "layers": 4, "heads": 2, "intermediate_size": 24, "dropout": 0.0}
CASES = [
    ConnectorConfig(kind="linear"),
    ConnectorConfig(kind="mlp"),
    ConnectorConfig(kind="mlp", options={"layers": 3}),
    ConnectorConfig(kind="mlp", options={"expand": 4}),
    ConnectorConfig(kind="pixel_shuffle", options={"factor": 2}),
    ConnectorConfig(kind="pixel_shuffle", options={"factor": 3, "layers": 2}),
    ConnectorConfig(kind="average_pool", options={"side": 3}),
    ConnectorConfig(kind="average_pool", options={"side": 4, "layers": 1}),
    ConnectorConfig(kind="perceiver", options={"latents": 7, "depth": 2, "heads": 2, "head_size": 4}),
    ConnectorConfig(kind="perceiver", options={"latents": 7, "depth": 1, "heads": 2, "head_size": 4, "qk_norm": True}),
    ConnectorConfig(kind="q_former", options=Q_FORMER),
    ConnectorConfig(kind="q_former", options={**Q_FORMER, "instruction_vocabulary": 50}),
    ConnectorConfig(kind="text_guided_moe", options={"experts": 3, "intermediate_size": 6}),
    ConnectorConfig(kind="text_guided_moe", options={"intermediate_size": 6, "query": "cls", "residual": 0.5}),
]


def asked(connector: connectors.Connector, n: int) -> Instruction | None:
    """A random instruction of five tokens a picture, for connectors that read one."""
    if connector.reads == "nothing":
        return None
    return Instruction(torch.randint(1, 50, (n, 5)), torch.ones(n, 5, dtype=torch.long), torch.randn(n, 5, 12))


def one_of(instruction: Instruction | None, i: int) -> Instruction | None:
    if instruction is None:
        return None
    assert instruction.embeddings is not None
    places = slice(i, i + 1)
    return Instruction(
        instruction.input_ids[places], instruction.attention_mask[places], instruction.embeddings[places]
    )


def test_every_connector_of_the_prompt_is_in_the_cases():
    in_prompt = {name for name, kind in connectors.CONNECTORS.items() if kind.in_prompt}
    assert {case.kind for case in CASES} == in_prompt  # the others: test_cross_attention.py


@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case):
    connector = connectors.build(case, input_size=8, output_size=12)
    tokens = connector(torch.randn(2, 36, 8), asked(connector, 2))
    assert tokens.shape == (2, connector.num_tokens(36), 12)
    tokens.square().sum().backward()
    without = {name for name, p in connector.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == connector.idle_parameters()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_batch_is_its_pictures_one_by_one(case):
    connector = connectors.build(case, input_size=8, output_size=12).eval()
    features, instruction = torch.randn(3, 36, 8), asked(connector, 3)
    together = connector(features, instruction)
    for i in range(3):
        alone = connector(features[i : i + 1], one_of(instruction, i))
        assert torch.allclose(alone, together[i : i + 1], atol=1e-5)


def test_pixel_shuffle_joins_neighbours_row_by_row():
    """Against the obvious loop: token (r, c) holds its 2x2 block, row by row."""
    connector = connectors.build(ConnectorConfig(kind="pixel_shuffle"), input_size=3, output_size=12)
    with torch.no_grad():
        connector.projection.weight.copy_(torch.eye(12))
        connector.projection.bias.zero_()
    grid = torch.randn(1, 4, 6 - 2, 3)
    tokens = connector(grid.reshape(1, 16, 3)).reshape(2, 2, 12)
    for r in range(2):
        for c in range(2):
            block = [grid[0, 2 * r + i, 2 * c + j] for i in range(2) for j in range(2)]
            assert torch.allclose(tokens[r, c], torch.cat(block), atol=1e-6)


def test_mlp_is_the_sequence_that_llava_builds():
    connector = connectors.build(ConnectorConfig(kind="mlp", options={"layers": 3}), 8, 12)
    kinds = [type(module) for module in connector.projection]
    assert kinds == [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]
    assert [tuple(m.weight.shape) for m in connector.projection if type(m) is nn.Linear] == [
        (12, 8),
        (12, 12),
        (12, 12),
    ]


@pytest.mark.parametrize("side", [1, 2, 3])
def test_average_pool_takes_the_mean_of_each_block(side):
    connector = connectors.build(ConnectorConfig(kind="average_pool", options={"side": side, "layers": 1}), 4, 4)
    with torch.no_grad():
        connector.projection.weight.copy_(torch.eye(4))
        connector.projection.bias.zero_()
    features = torch.randn(2, 36, 4)
    grid = features.reshape(2, 6, 6, 4).permute(0, 3, 1, 2)
    expected = functional.avg_pool2d(grid, 6 // side).flatten(2).transpose(1, 2)  # LLaVA-NeXT-Video's stride pooling
    assert torch.allclose(connector(features), expected, atol=1e-6)


def test_perceiver_is_idefics_own():
    """With the weights of a whole tiny Idefics model, its resampler's output comes out of ours."""
    torch.manual_seed(0)
    config = IdeficsConfig(
        vocab_size=20, additional_vocab_size=0, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, use_resampler=True,
        perceiver_config={
            "use_resampler": True, "resampler_n_latents": 6, "resampler_depth": 2, "resampler_n_heads": 2,
            "resampler_head_dim": 4, "qk_layer_norms_perceiver": True,
        },
        vision_config={
            "embed_dim": 8, "image_size": 8, "patch_size": 4, "num_attention_heads": 2, "num_hidden_layers": 1,
            "intermediate_size": 8,
        },
    )  # fmt: skip
    theirs = IdeficsModel(config).perceiver_resampler
    ours = connectors.build(
        ConnectorConfig(
            kind="perceiver", options={"latents": 6, "depth": 2, "heads": 2, "head_size": 4, "qk_norm": True}
        ),
        8,
        16,
    )
    ours.resampler.load_state_dict(theirs.state_dict(), strict=True)
    features = torch.randn(2, 5, 8)
    assert torch.equal(ours(features), ours.projection(theirs(features)))


def test_instructed_q_former_is_instruct_blips():
    """With the weights of a whole tiny InstructBLIP, its queries come out of ours, padding and all."""
    torch.manual_seed(0)
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = InstructBlipConfig(
        vision_config={**vision, "image_size": 8, "patch_size": 4},
        qformer_config={
            "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
            "intermediate_size": 24, "encoder_hidden_size": 8,
        },
        text_config={
            "model_type": "llama", "vocab_size": 60, "hidden_size": 12, "intermediate_size": 12,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
        },
        num_query_tokens=5,
        image_token_index=59,
    )  # fmt: skip
    theirs = InstructBlipForConditionalGeneration(config).eval()
    options = {**Q_FORMER, "instruction_vocabulary": 50}
    ours = connectors.build(ConnectorConfig(kind="q_former", options=options), 8, 12).eval()
    with torch.no_grad():
        theirs.query_tokens.normal_()  # zeros when new
        ours.query_tokens.copy_(theirs.query_tokens)
    ours.q_former.load_state_dict(theirs.qformer.state_dict(), strict=True)
    ours.projection.load_state_dict(theirs.language_projection.state_dict(), strict=True)
    ids = torch.randint(1, 50, (2, 6))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    pixels = torch.randn(2, 3, 8, 8)
    features = theirs.vision_model(pixels).last_hidden_state
    expected = theirs.get_image_features(pixels, qformer_input_ids=ids, qformer_attention_mask=mask)
    assert torch.allclose(ours(features, Instruction(ids, mask)), expected.pooler_output, atol=1e-6)
    # what is padded does not matter, what is asked does
    other = ids.clone()
    other[1, 3:] = 7
    assert torch.allclose(ours(features, Instruction(other, mask)), expected.pooler_output, atol=1e-6)
    other[1, 0] = (other[1, 0] + 1) % 50
    assert not torch.allclose(ours(features, Instruction(other, mask))[1], expected.pooler_output[1], atol=1e-4)


@pytest.mark.parametrize("query", ["cls", "mean"])
def test_text_guided_moe_is_parrots_formula_picture_by_picture(query):
    options = {"experts": 3, "intermediate_size": 6, "layers": 1, "residual": 0.5, "query": query}
    connector = connectors.build(ConnectorConfig(kind="text_guided_moe", options=options), 8, 12)
    features, text = torch.randn(2, 4, 8), torch.randn(2, 5, 12)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    found = connector(features, Instruction(torch.zeros(2, 5, dtype=torch.long), mask, text))
    for i, length in enumerate(mask.sum(1)):
        tokens, words = connector.projection(features[i]), text[i, :length]
        looking = tokens[0] if query == "cls" else tokens.mean(0)
        gathered = torch.softmax(words @ looking / 12**0.5, 0) @ words
        weights = torch.softmax(connector.router.weight @ gathered, 0)
        expected = 0.5 * tokens
        for weight, expert in zip(weights, connector.experts, strict=True):
            gate = functional.silu(tokens @ expert.gate_proj.weight.T)
            expected = expected + weight * (gate * (tokens @ expert.up_proj.weight.T)) @ expert.down_proj.weight.T
        assert torch.allclose(found[i], expected, atol=1e-6)


def test_load_balance_is_one_when_shared_and_as_many_as_experts_when_one_does_all():
    even = torch.eye(4).repeat(2, 1)  # each expert has two of eight pictures to itself
    assert load_balance(even).item() == pytest.approx(1)
    assert load_balance(torch.eye(4)[:1].repeat(8, 1)).item() == pytest.approx(4)
    # by hand: largest weights 0, 0, 1; f = (2/3, 1/3), p = (1.7/3, 1.3/3)
    weights = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]])
    assert load_balance(weights).item() == pytest.approx(2 * (2 / 3 * 1.7 / 3 + 1 / 3 * 1.3 / 3))


def test_only_a_mixture_adds_to_the_loss():
    for case in CASES:
        connector = connectors.build(case, input_size=8, output_size=12)
        _, loss = connector.forward_with_loss(torch.randn(2, 36, 8), asked(connector, 2))
        assert (loss is not None) == (case.kind == "text_guided_moe")
    silent = ConnectorConfig(kind="text_guided_moe", options={"intermediate_size": 6, "balance": 0})
    connector = connectors.build(silent, 8, 12)
    assert connector.forward_with_loss(torch.randn(2, 36, 8), asked(connector, 2))[1] is None


@pytest.mark.parametrize(
    ("case", "patches", "message"),
    [
        (ConnectorConfig(kind="pixel_shuffle"), 37, "found 37;"),
        (ConnectorConfig(kind="pixel_shuffle"), 25, "does not divide a grid of 5 x 5"),
        (ConnectorConfig(kind="average_pool", options={"side": 2}), 5, "found 5;"),
        (ConnectorConfig(kind="average_pool", options={"side": 6}), 25, "6 x 6 tokens out of 5 x 5 patches"),
    ],
)
def test_grids_that_do_not_fit(case, patches, message):
    with pytest.raises(ConfigError, match=message):
        connectors.build(case, 8, 8).num_tokens(patches)


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'perceiver'"):
        connectors.build(ConnectorConfig(kind="preceiver"), 8, 8)
    with pytest.raises(ConfigError, match=r"unknown key 'factr'\. Did you mean 'factor'"):
        connectors.build(ConnectorConfig(kind="pixel_shuffle", options={"factr": 2}), 8, 8)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_resampler_takes_media_of_different_lengths_as_each_alone(qk_norm):
    torch.manual_seed(0)
    resampler = Resampler(16, ResamplerOptions(latents=3, depth=2, heads=2, head_size=8, qk_norm=qk_norm))
    for parameter in resampler.parameters():
        torch.nn.init.normal_(parameter)
    lengths = [4, 12, 1]
    features = torch.randn(sum(lengths), 16)
    together = resampler(features, lengths)
    alone = torch.cat([resampler(part[None]) for part in features.split(lengths)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
