"""New experts and router columns in the mixture layers of a language model that stays as it is.

The method is MoExtend's (arXiv 2408.03511):

    the layer's router:   x [T, H] ─▶ logits [T, E] ─▶ the k experts of each token, and their weights [T, k]
    at places of pictures:  [logits, x W'] [T', E + n] ─softmax─▶ the k largest of E + n; n experts and W' are new
    a text's token meets the E old experts alone, so a text without pictures gives the old logits, bit for bit, always

The language model's classes and weights are untouched: hooks on its modules lead picture tokens past the new parts,
which lie beside the language model and hold every new number. Which tokens are a picture's (`image_places [B, L]`)
goes into the language model as a keyword; transformers passes it on to each decoder layer and its attention, in the
first run and in the one that gradient checkpointing repeats. There it is taken, right before the mixture of the same
layer needs it, so nothing is kept from one forward to the next or to the backward. A token that is generated is text.

What departs from the paper and its code (github.com/zhongshsh/MoExtend), and why, is in docs/models.md.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.mixtral.modeling_mixtral import MixtralDecoderLayer, MixtralSparseMoeBlock, MixtralTopKRouter
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeDecoderLayer, Qwen2MoeSparseMoeBlock
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeDecoderLayer, Qwen3MoeSparseMoeBlock

from mminstruct.errors import ConfigError, DataError
from mminstruct.models.config import ExpertExtensionConfig
from mminstruct.models.in_step import calls_everything

PLACES = "image_places"

# Families whose layer keeps its experts in stacked parameters behind a router that returns (logits, weights, indices).
_LAYERS = (MixtralDecoderLayer, Qwen2MoeDecoderLayer, Qwen3MoeDecoderLayer)
_MIXTURES = (MixtralSparseMoeBlock, Qwen2MoeSparseMoeBlock, Qwen3MoeSparseMoeBlock)


class LayerExtension(nn.Module):
    """The new parts of one mixture layer, and the hooks that lead tokens to them.

    Args:
        layer: the decoder layer; it gets hooks and stays otherwise as it is.
        config: the language model's.
    """

    def __init__(self, layer: nn.Module, config: Any, extension: ExpertExtensionConfig) -> None:
        super().__init__()
        mixture: Any = layer.mlp
        self.old, hidden = mixture.gate.weight.shape
        self.top_k = mixture.gate.top_k
        # Mixtral always lets the weights of the chosen experts sum to one, the Qwen families say so in their config.
        self.sums_to_one = isinstance(mixture.gate, MixtralTopKRouter) or mixture.gate.norm_topk_prob
        self.router = nn.Linear(hidden, extension.experts, bias=False)
        small = copy.deepcopy(config)
        small.num_experts = extension.experts
        self.experts = type(mixture.experts)(small)
        self.experts.config = config  # which implementation runs is said there, and may be changed later
        self.calibration: nn.Module | None = None
        if extension.calibration:
            columns = self.old + extension.experts
            last = nn.Linear(extension.calibration, columns, bias=False)
            nn.init.zeros_(last.weight)  # as in the paper's code: at first it changes nothing
            self.calibration = nn.Sequential(nn.Linear(columns, extension.calibration, bias=False), nn.GELU(), last)
        self.draw(config.initializer_range)
        # Each lives from one hook to the next within a single run of the layer.
        self._places: torch.Tensor | None = None
        self._pairs: tuple[torch.Tensor, ...] | None = None
        mixture.gate.register_forward_hook(self._reroute)
        mixture.experts.register_forward_pre_hook(self._take_out_new)
        mixture.experts.register_forward_hook(self._put_back_new)

    @torch.no_grad()
    def draw(self, std: float) -> None:
        """Random numbers, as transformers draws an expert's and a router's."""
        for tensor in (self.router.weight, self.experts.gate_up_proj, self.experts.down_proj):
            nn.init.normal_(tensor, std=std)

    @torch.no_grad()
    def copy(self, mixture: Any, experts: Sequence[int]) -> None:
        """Let the new experts and columns begin as those old ones, one for each."""
        for new, old in zip(range(self.router.out_features), experts, strict=True):
            self.router.weight[new].copy_(mixture.gate.weight[old])
            self.experts.gate_up_proj[new].copy_(mixture.experts.gate_up_proj[old])
            self.experts.down_proj[new].copy_(mixture.experts.down_proj[old])

    def route(self, states: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights `[T, k]` (float32) and indices `[T, k]` of the chosen among all experts; from E on they are new.

        Args:
            states: `[T, H]`.
            logits: `[T, E]`, what the old router says of them.
        """
        shares = torch.cat([logits, self.router(states)], dim=-1).softmax(dim=-1, dtype=torch.float32)
        chosen = shares.topk(self.top_k, dim=-1).indices
        if self.calibration is not None:  # as in the paper's code it changes how much an expert weighs, not which runs
            shares = shares + self.calibration(shares.to(states.dtype)).float()
        weights = shares.gather(-1, chosen)
        if self.sums_to_one:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights, chosen

    # ---- hooks, in the order in which a layer runs them ------------------------------------------------------------

    def see(self, places: torch.Tensor | None) -> None:
        """The places `[B, L]` of pictures in this run of the layer; None where the caller knows of none."""
        self._places = places

    def _reroute(self, gate: nn.Module, args: tuple[torch.Tensor], output: tuple[torch.Tensor, ...]) -> Any:
        logits, weights, chosen = output
        places, self._places = self._places, None
        tokens = logits.shape[0]
        if places is None:
            places = torch.zeros(tokens, dtype=torch.bool, device=logits.device)
        if places.numel() != tokens:
            raise DataError(
                f"{PLACES} names {list(places.shape)} places, but the language model reads {tokens} tokens; "
                "give it one for each token of the input"
            )
        # No place at all runs through here too: in training every parameter then still gets a gradient (of zeros),
        # without which DDP and ZeRO-3 wait for ever.
        rows = places.flatten().nonzero().squeeze(-1)
        new_weights, new_chosen = self.route(args[0].reshape(tokens, -1)[rows], logits[rows])
        weights = weights.index_copy(0, rows, new_weights.to(weights.dtype))
        return logits, weights, chosen.index_copy(0, rows, new_chosen)

    def _take_out_new(self, experts: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        states, chosen, weights = args
        is_new = (chosen >= self.old).flatten()
        new = is_new.nonzero().squeeze(-1)
        if not len(new):
            if not calls_everything(self):
                return None
            # One token with weight zero, so that every parameter gets a gradient here as well.
            self._pairs = (new, new, states[:1], chosen.new_zeros(1, 1), 0 * weights[:1, :1])
            return None
        old = (~is_new).nonzero().squeeze(-1)
        tokens, flat, flat_weights = states[new // self.top_k], chosen.flatten(), weights.flatten()
        self._pairs = (old, new, tokens, flat[new, None] - self.old, flat_weights[new, None])
        return states[old // self.top_k], flat[old, None], flat_weights[old, None]

    def _put_back_new(self, experts: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
        if self._pairs is None:
            return None
        (old, new, states, chosen, weights), self._pairs = self._pairs, None
        added = self.experts(states, chosen, weights)
        if not len(new):
            return output + added.sum()
        pairs = output.new_zeros(len(old) + len(new), output.shape[-1])
        pairs = pairs.index_copy(0, old, output).index_copy(0, new, added.to(output.dtype))
        return pairs.unflatten(0, (-1, self.top_k)).sum(dim=1)


class ExpertExtension(nn.Module):
    """All new experts and router columns of a language model.

    Args:
        language_model: a Mixtral, Qwen2-MoE or Qwen3-MoE; it gets hooks and keeps its own parameters.

    Raises:
        ConfigError: the language model has no such layer, or not where the config wants one.
    """

    def __init__(self, language_model: PreTrainedModel, config: ExpertExtensionConfig) -> None:
        super().__init__()
        self.config = config
        text_config = language_model.config.get_text_config()
        layers = _layers(language_model)
        extended = {
            index: LayerExtension(layers[index], text_config, config)
            for index in _which(config, mixtures_of(language_model), len(layers))
        }
        self.layers = nn.ModuleDict({str(index): extension for index, extension in extended.items()})
        for index, layer in enumerate(layers):
            layer.self_attn.register_forward_pre_hook(_TakePlaces(extended.get(index)), with_kwargs=True)
        self.start(language_model)

    def start(self, language_model: PreTrainedModel, experts: Mapping[int, Sequence[int]] | None = None) -> None:
        """Set every new number to where training begins.

        Args:
            language_model: the one that was extended, with the weights that are to be copied.
            experts: the old experts that each extended layer copies, one for each new one (`routing.most_used` finds
                them with pictures); default: what the config says, where copies are of the first ones.
        """
        if experts is None and self.config.start == "random":
            return  # each layer has drawn its own
        mixtures = mixtures_of(language_model)
        for name, extension in self.layers.items():
            assert isinstance(extension, LayerExtension)
            chosen = range(self.config.experts) if experts is None else experts[int(name)]
            extension.copy(mixtures[int(name)], chosen)


class _TakePlaces:
    """A hook on a layer's attention, the only one of its modules that is handed the keywords of the model's call.

    An object and no closure, so that a deep copy of the model leads to the copy's new parts.
    """

    def __init__(self, extension: LayerExtension | None) -> None:
        self.extension = extension

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if self.extension is not None:
            self.extension.see(kwargs.get(PLACES))
        return args, {name: value for name, value in kwargs.items() if name != PLACES}


def mixtures_of(language_model: PreTrainedModel) -> dict[int, Any]:
    """The mixture of each decoder layer that has one, by the layer's index."""
    return {i: layer.mlp for i, layer in enumerate(_layers(language_model)) if isinstance(layer.mlp, _MIXTURES)}


def _layers(language_model: PreTrainedModel) -> list[Any]:
    return [module for module in language_model.modules() if isinstance(module, _LAYERS)]


def _which(config: ExpertExtensionConfig, mixtures: dict[int, Any], count: int) -> list[int]:
    """The layers that get new experts, of `count` with these mixtures."""
    if not mixtures:
        families = ", ".join(layer.__name__.removesuffix("DecoderLayer") for layer in _LAYERS)
        raise ConfigError(f"expert_extension: the language model has no mixture layers of the kinds {families}")
    # Behind the last layer nothing looks at a picture's place any more, so new experts there would never learn.
    possible = set(mixtures) - {count - 1}
    if isinstance(config.layers, tuple):
        wanted = set(config.layers)
    else:
        every = 1 if config.layers == "all" else config.layers.every
        wanted = possible & set(range(every - 1, count, every))
    if not wanted or wanted - possible:
        raise ConfigError(
            f"expert_extension.layers: {config.layers} wants layers that cannot have new experts, or none; "
            f"those that can are {', '.join(map(str, sorted(possible))) or 'none'} (mixtures, without the last layer)"
        )
    fewest = min(mixture.gate.weight.shape[0] for mixture in mixtures.values())
    if config.start == "copy" and config.experts > fewest:
        raise ConfigError(
            f"expert_extension: {config.experts} new experts cannot begin as copies of {fewest}; use start: random"
        )
    return sorted(wanted)
