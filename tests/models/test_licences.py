"""The licence of a row is computed: the union of its parts' terms, the strictest named, nothing guessed."""

from __future__ import annotations

import pytest

import mminstruct
from mminstruct.errors import ConfigError
from mminstruct.models import licences
from mminstruct.models.factory import read_row


@pytest.mark.parametrize(
    ("names", "binding", "terms"),
    [
        (["MIT"], ("MIT",), ("attribution",)),
        # Equally mild ones bind together.
        (["MIT", "Apache-2.0", "MIT"], ("Apache-2.0", "MIT"), ("attribution",)),
        (
            ["MIT", "Llama-2", "OpenAI-Terms"],
            ("Llama-2",),
            ("no_other_models", "user_limit", "use_policy", "attribution"),
        ),
        # No commerce binds before limits of any other kind, research alone before both.
        (
            ["Llama-3.1", "CC-BY-NC-4.0"],
            ("CC-BY-NC-4.0",),
            ("non_commercial", "user_limit", "use_policy", "naming", "attribution"),
        ),
        (
            ["CC-BY-NC-SA-4.0", "Llama-1"],
            ("Llama-1",),
            ("research_only", "non_commercial", "share_alike", "attribution"),
        ),
        # Of two that forbid commerce the one that also wants to be shared alike.
        (["CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"], ("CC-BY-NC-SA-4.0",), ("non_commercial", "share_alike", "attribution")),
    ],
)
def test_combinations_written_by_hand(names, binding, terms):
    for order in (names, names[::-1]):
        combined = licences.combine(order)
        assert (combined.binding, combined.terms) == (binding, terms)
        assert set(combined.names) == set(names)


@pytest.mark.parametrize(
    ("names", "hub"),
    [
        (["Apache-2.0"], {"license": "apache-2.0"}),
        (["MIT", "Llama-2"], {"license": "llama2"}),  # MIT asks for nothing that Llama 2 does not
        (
            ["Llama-2", "OpenAI-Terms"],
            {
                "license": "other",
                "license_name": "llama-2-and-openai-terms",
                "license_link": "https://ai.meta.com/llama/license/",
            },
        ),
        (
            ["Qwen-Research", "Apache-2.0"],
            {
                "license": "other",
                "license_name": "qwen-research",
                "license_link": "https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE",
            },
        ),
    ],
)
def test_what_a_card_says(names, hub):
    assert licences.combine(names).hub() == hub


def test_unknown_and_missing_licences_are_errors():
    with pytest.raises(ConfigError, match=r"no licence is called 'Llama2'.*Did you mean 'Llama-2'"):
        licences.combine(["Llama2"])
    with pytest.raises(ConfigError, match="nothing here has a licence"):
        licences.combine([])


def test_table_is_complete_and_every_entry_is_used():
    for licence in licences.table().values():
        assert licence.terms and licence.url.startswith("https://") and licence.title
    rows = [read_row(row)[0] for row in mminstruct.list_models()]
    assert {name for row in rows for name in row.licence().names} == set(licences.table())


@pytest.mark.parametrize(
    ("row", "title", "commercial"),
    [
        ("nano", "Apache-2.0", True),
        ("llava-1.5-7b", "Llama-2 + OpenAI-Terms", True),
        ("llava-1.0-13b", "Llama-1 + OpenAI-Terms", False),
        ("llavar-13b", "Llama-1 + CC-BY-NC-4.0 + OpenAI-Terms", False),
        ("siglip2-qwen3-0.6b", "Apache-2.0", True),
        ("siglip2-qwen2.5-3b", "Qwen-Research", False),
        ("siglip2-llama-3.2-1b", "Llama-3.2", True),
        ("siglip2-gemma-2-2b", "Gemma", True),
        ("siglip2-bloomz-1.7b", "BLOOM-RAIL-1.0", True),
        ("sharegpt4v-7b", "Research-Notice + CC-BY-NC-4.0 + Llama-2 + OpenAI-Terms", False),
        ("blip2-opt-2.7b", "OPT", False),
    ],
)
def test_licences_of_rows(row, title, commercial):
    licence = read_row(row)[0].licence()
    assert (licence.title, licence.commercial) == (title, commercial)


def test_a_licence_that_nobody_looked_up_is_named_and_adds_nothing():
    row = read_row("tgdoc-7b")[0]
    assert [what for what, _, _ in row.unknown()] == ["published weights", "training data"]
    assert all(reason for _, _, reason in row.unknown())
    assert "CC-BY-NC-4.0" in row.licence().names
