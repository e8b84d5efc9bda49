"""What is written down of a native model: its zoo row, and its `mminstruct.json`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mminstruct import __version__
from mminstruct.chat_template import TemplateConfig
from mminstruct.config import Config
from mminstruct.models.native.template import NAME
from mminstruct.models.row_facts import RowFacts


class NativeConfig(Config):
    """What `mminstruct.json` holds; everything else is in transformers' own files. `origins`: where weights began."""

    kind: Literal["native"] = "native"
    version: str = __version__
    chat_template: TemplateConfig = TemplateConfig(name=NAME)
    origins: dict[str, str] = Field(default_factory=dict)


class NativeTinyConfig(Config):
    """The family in miniature, with the package's own tokenizer and transformers' processor classes.

    Attributes:
        architecture: overrides of the row's, key by key.
        tokens: special tokens that the family's processor and template use; each is an attribute of the tokenizer by
            its name, as in `extra_special_tokens` of a tokenizer config.
        token_ids: which keys of the config hold the id of which of these tokens.
        processor: what `processor_config.json` holds.
        chat_template: Jinja; it writes what the family's own template writes.
    """

    architecture: dict[str, Any]
    tokens: dict[str, str]
    token_ids: dict[str, str]
    processor: dict[str, Any]
    chat_template: str


class NativeRow(RowFacts):
    """One native model of the zoo: `native` is the hub repository, `architecture` its whole transformers config."""

    name: str
    summary: str
    native: str
    architecture: dict[str, Any]
    tiny: NativeTinyConfig

    @property
    def part_names(self) -> dict[str, str]:
        """What `zoo list` calls the parts."""
        sub = {key: self.architecture[f"{key}_config"].get("model_type") for key in ("vision", "text")}
        own = self.architecture["model_type"]
        return {
            "vision_encoder": str(sub["vision"] or own),
            "connector": str(own),
            "language_model": str(sub["text"] or own),
        }
