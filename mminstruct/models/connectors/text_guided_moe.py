"""Text-guided mixture of experts over image tokens (Parrot, arXiv 2406.02539, section 3.3).

    features [n, P, D] ─MLP─▶ v [n, P, H]      text t [n, T, H]: the language model's embeddings of what is asked
    q = v's first token or mean [n, H] ─▶ a = softmax(q t' / sqrt(H)) t ─▶ router: w = softmax(W a) [n, E]
    tokens = residual * v + sum_e w_e expert_e(v)

What the question is (in Parrot: its language) decides how the experts are mixed. As in the released code
(`parrot/model/moe_model/moe.py`) every expert runs and none is cut off. That code has no load-balancing loss; the one
here is the Switch Transformer's (arXiv 2101.03961, equation 4) over the pictures of a micro-batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from mminstruct.models.connectors.base import Connector, ConnectorOptions, Instruction, mlp


class TextGuidedMoeOptions(ConnectorOptions):
    """`query`: what looks at the text, the class token (`cls`, Parrot's; needs feature: cls_patch) or the mean.

    `residual` weighs the tokens that no expert touched; `balance` the load-balancing loss, 0 for none.
    """

    experts: int = Field(default=6, ge=2)
    intermediate_size: int = Field(ge=1)
    layers: int = Field(default=2, ge=1)
    query: Literal["cls", "mean"] = "mean"
    residual: float = 1.0
    balance: float = Field(default=0.01, ge=0)


class TextGuidedMoe(Connector):
    Options = TextGuidedMoeOptions
    options: TextGuidedMoeOptions
    reads = "embeddings"

    def __init__(self, input_size: int, output_size: int, options: TextGuidedMoeOptions) -> None:
        super().__init__(input_size, output_size, options)
        self.projection = mlp(input_size, output_size, options.layers)
        self.router = nn.Linear(output_size, options.experts, bias=False)
        # Parrot's expert is Llama's MLP; heads are no part of it, but their number must divide the width.
        expert = LlamaConfig(
            hidden_size=output_size, intermediate_size=options.intermediate_size, num_attention_heads=1
        )
        self.experts = nn.ModuleList(LlamaMLP(expert) for _ in range(options.experts))

    def num_tokens(self, patches: int) -> int:
        return patches

    def forward(self, features: torch.Tensor, instruction: Instruction | None = None) -> torch.Tensor:
        return self.forward_with_loss(features, instruction)[0]

    def forward_with_loss(
        self, features: torch.Tensor, instruction: Instruction | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        assert instruction is not None and instruction.embeddings is not None  # `reads` says so
        tokens = self.projection(features)
        weights = self.route(tokens, instruction.embeddings, instruction.attention_mask)
        mixed = sum(weights[:, i, None, None] * expert(tokens) for i, expert in enumerate(self.experts))
        loss = self.options.balance * load_balance(weights) if self.options.balance else None
        return self.options.residual * tokens + mixed, loss

    def route(self, tokens: torch.Tensor, text: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The experts' weights `[n, E]` for tokens `[n, P, H]` and text `[n, T, H]` with mask `[n, T]`."""
        query = tokens[:, :1] if self.options.query == "cls" else tokens.mean(1, keepdim=True)
        gathered = nn.functional.scaled_dot_product_attention(query, text, text, mask[:, None].bool())
        weights: torch.Tensor = self.router(gathered[:, 0]).softmax(-1)
        return weights


def load_balance(weights: torch.Tensor) -> torch.Tensor:
    """`E * sum_e f_e p_e` of routing weights `[n, E]`: 1 when the experts share the work, E when one does all.

    f is the share of pictures whose largest weight is the expert's, p its mean weight; the gradient flows through p.
    """
    experts = weights.shape[-1]
    chosen = nn.functional.one_hot(weights.argmax(-1), experts).to(weights.dtype).mean(0)
    return experts * (chosen * weights.mean(0)).sum()
