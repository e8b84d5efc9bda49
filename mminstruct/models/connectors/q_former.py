"""Q-Former: learnt queries in a BERT-like encoder with cross-attention to the features (BLIP-2, arXiv 2301.12597).

With `instruction_vocabulary` it is InstructBLIP's (arXiv 2305.06500, section 2.3): the tokens of what is asked enter
beside the queries and both attend to one another, so that the queries gather what matters to the question. The blocks
are transformers' `Blip2QFormerModel` and `InstructBlipQFormerModel`.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel, InstructBlipQFormerConfig, InstructBlipQFormerModel

from mminstruct.models.connectors.base import Connector, ConnectorOptions, Instruction


class QFormerOptions(ConnectorOptions):
    """Defaults are BLIP-2's; `queries` is N.

    `instruction_vocabulary`: how many tokens the instruction's tokenizer has; 0 for a Q-Former that reads none.
    """

    queries: int = Field(default=32, ge=1)
    hidden_size: int = Field(default=768, ge=1)
    layers: int = Field(default=12, ge=1)
    heads: int = Field(default=12, ge=1)
    intermediate_size: int = Field(default=3072, ge=1)
    cross_attention_every: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    instruction_vocabulary: int = Field(default=0, ge=0)


class QFormer(Connector):
    Options = QFormerOptions
    options: QFormerOptions

    def __init__(self, input_size: int, output_size: int, options: QFormerOptions) -> None:
        super().__init__(input_size, output_size, options)
        settings: dict[str, Any] = {
            "hidden_size": options.hidden_size,
            "num_hidden_layers": options.layers,
            "num_attention_heads": options.heads,
            "intermediate_size": options.intermediate_size,
            "cross_attention_frequency": options.cross_attention_every,
            "hidden_dropout_prob": options.dropout,
            "attention_probs_dropout_prob": options.dropout,
            "encoder_hidden_size": input_size,
        }
        self.query_tokens = nn.Parameter(torch.randn(1, options.queries, options.hidden_size) * 0.02)
        self.q_former: nn.Module
        if options.instruction_vocabulary:
            self.reads = "ids"
            reading = InstructBlipQFormerConfig(**settings, vocab_size=options.instruction_vocabulary)
            self.q_former = InstructBlipQFormerModel(reading)
        else:
            self.q_former = Blip2QFormerModel(Blip2QFormerConfig(**settings))
        self.projection = nn.Linear(options.hidden_size, output_size)

    def idle_parameters(self) -> set[str]:
        """The last layer's feed-forward for text: only the queries are read behind it (so in InstructBLIP, too)."""
        if self.reads == "nothing":
            return set()
        last = f"q_former.encoder.layer.{self.options.layers - 1}"
        return {
            name for name, _ in self.named_parameters() if name.startswith((f"{last}.intermediate.", f"{last}.output."))
        }

    def num_tokens(self, patches: int) -> int:
        return self.options.queries

    def forward(self, features: torch.Tensor, instruction: Instruction | None = None) -> torch.Tensor:
        n, queries = len(features), self.options.queries
        inputs = {"query_embeds": self.query_tokens.expand(n, -1, -1), "encoder_hidden_states": features}
        if instruction is not None:
            seen = instruction.attention_mask.new_ones(n, queries)
            inputs["input_ids"] = instruction.input_ids
            inputs["attention_mask"] = torch.cat([seen, instruction.attention_mask], dim=1)
        gathered = self.q_former(**inputs).last_hidden_state[:, :queries]
        projected: torch.Tensor = self.projection(gathered)
        return projected
