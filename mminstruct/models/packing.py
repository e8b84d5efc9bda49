"""Several conversations in one row of tokens, each blind to the others, and what they begin with alike only once.

    samples ─shared_runs─▶ neighbours with a common beginning ─in_a_row─▶ tokens [1, L], positions, table of segments

In a causal model what is seen of a prefix does not depend on what follows, so losses and gradients are those of the
conversations one by one, while the prefix is computed once. What a segment is: `mminstruct.models.segments`; how they
are kept apart: `mminstruct.models.packed_attention`; which models can do it: `hindrance`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from mminstruct.chat_template import IGNORE
from mminstruct.conversation import Media
from mminstruct.models.packed_attention import PACKED
from mminstruct.models.segments import Segment, as_mask, positions
from mminstruct.models.vlm import VisionLanguageModel

# Native models, by their type, of which a test has found a row equal to separate samples. Others need not be: Gemma 3
# lets the tokens of a picture see each other, and some see a whole prompt from each of its tokens.
_NATIVE = frozenset({"qwen2_5_vl", "qwen3_vl", "idefics3", "llava_onevision", "internvl"})
_THREE_POSITIONS = frozenset({"qwen2_5_vl", "qwen3_vl"})
# What a processor makes of one conversation.
Sample = dict[str, torch.Tensor]


def hindrance(model: PreTrainedModel) -> str | None:
    """Why a model's conversations cannot stand in one row; None where they can."""
    if isinstance(model, VisionLanguageModel):
        if not model.connector.in_prompt:
            return "gated cross-attention looks at the last picture of a row, whichever conversation it belongs to"
    elif model.config.model_type not in _NATIVE:
        return f"models of the type {model.config.model_type} have not been compared in rows with separate samples"
    language_model = _language_model(model)
    config = language_model.config.get_text_config()
    if not language_model._supports_attention_backend:
        return f"the attention of {type(language_model).__name__} does not go through transformers' interface"
    kinds = sorted(set(config.to_dict().get("layer_types") or ()) - {"full_attention", "sliding_attention"})
    if kinds:
        return f"{type(language_model).__name__} has layers of the kind {kinds[0]}, which carry a state along the row"
    if config.to_dict().get("attn_logit_softcapping") is not None:
        return f"{type(language_model).__name__} caps its attention, which SDPA does not"
    return None


@contextlib.contextmanager
def packed(model: PreTrainedModel) -> Iterator[None]:
    """Within, the model's language model takes packed rows, and other batches as before."""
    language_model = _language_model(model)
    before = language_model.config._attn_implementation
    language_model.set_attn_implementation(PACKED)
    try:
        yield
    finally:
        language_model.set_attn_implementation(before)


def _language_model(model: PreTrainedModel) -> Any:
    return model.language_model if isinstance(model, VisionLanguageModel) else model.get_decoder()


def position_function(model: PreTrainedModel) -> Callable[[Sample], torch.Tensor] | None:
    """What makes a sample's positions where they are more than a count: three `[3, L]` in Qwen's multimodal rotary
    embedding. None for other models."""
    if model.config.model_type not in _THREE_POSITIONS:
        return None
    inner: Any = model.base_model

    def of(sample: Sample) -> torch.Tensor:
        if "image_grid_thw" not in sample:
            return torch.arange(len(sample["input_ids"])).expand(3, -1)
        found: torch.Tensor = inner.get_rope_index(
            sample["input_ids"].unsqueeze(0),
            mm_token_type_ids=sample["mm_token_type_ids"].unsqueeze(0),
            image_grid_thw=sample["image_grid_thw"],
        )[0]
        return found[:, 0]

    return of


def medium_number(*media: Media) -> int:
    """A number that stands for media in their order, made of their hashes or, where there is none, of their paths."""
    digest = hashlib.blake2b(repr([one.sha256 or one.path for one in media]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class Run(NamedTuple):
    """Neighbouring samples, and how many of their first tokens stand in the row only once."""

    samples: list[Sample]
    prefix: int


def shared_runs(samples: Sequence[Sample], share: bool, keys: Sequence[int] | None = None) -> list[Run]:
    """Samples in their order, neighbours together where standing behind one prefix saves tokens.

    A prefix holds whole media, at least one, and ends in front of the token before the first supervised one: each
    conversation then predicts its own tokens from its own, except for those that no loss is taken on.

    Args:
        samples: what `training_sample` makes. `places` `[n, 4]` says of each medium a number that stands for it, where
            it begins, how many tokens it takes, and of how many pictures it is.
        keys: of each sample. Those of one key are known to begin alike (two answers to one prompt) and share what they
            do, a medium or none; those of different keys share nothing.
    """
    runs: list[Run] = []
    for number, sample in enumerate(samples):
        if share and runs and (keys is None or keys[number] == keys[number - 1]):
            members, prefix = runs[-1]
            common = min(prefix or _limit(members[0]), _common(members[0], sample, with_medium=keys is None))
            if common * len(members) > prefix * (len(members) - 1):
                runs[-1] = Run([*members, sample], common)
                continue
        runs.append(Run([sample], 0))
    return runs


def _limit(sample: dict[str, torch.Tensor]) -> int:
    """How many tokens stand in front of the one that predicts the first supervised token."""
    supervised = (sample["labels"][1:] != IGNORE).nonzero()
    return int(supervised[0]) if len(supervised) else 0


def _common(one: Sample, two: Sample, with_medium: bool) -> int:
    """How many tokens two samples may share: see `shared_runs`.

    Args:
        with_medium: nothing, where they have no medium in common.
    """
    length = min(_limit(one), _limit(two))
    differing = (one["input_ids"][:length] != two["input_ids"][:length]).nonzero()
    common = int(differing[0]) if len(differing) else length
    held = not with_medium
    for place, other in zip(_places(one), _places(two), strict=False):
        _, start, count, _ = place
        if place != other or start + count > common:
            common = min(common, start)  # no medium is cut, and other pixels are other tokens
            break
        held = True
    return common if held else 0


def _places(sample: Sample) -> list[list[int]]:
    found: list[list[int]] = sample["places"].tolist() if "places" in sample else []
    return found


def owners(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Which sample each place of a batch belongs to, `[B, L]`, counted as they were given to `pack` or `collate`.

    A place that several samples share belongs to none, -1; there is no loss on it. The result is where the labels are.
    """
    labels, mask = batch["labels"], batch["attention_mask"]
    if mask.ndim == 2:
        return torch.arange(len(labels), device=labels.device).unsqueeze(1).expand_as(labels)
    segments = [Segment(*row) for row in mask[0, 0].tolist()]
    parents = {segment.parent for segment in segments}
    leaves = itertools.count()
    numbers = [-1 if number in parents else next(leaves) for number in range(len(segments))]
    lengths = torch.tensor([segment.length for segment in segments])
    return torch.tensor(numbers).repeat_interleave(lengths).unsqueeze(0).to(labels.device)


def in_a_row(
    samples: Sequence[Sample], names: Iterable[str], share: bool, keys: Sequence[int] | None = None
) -> tuple[dict[str, torch.Tensor], list[tuple[Sample, int]]]:
    """Samples one behind the other, what neighbours share only once.

    Args:
        samples: what `training_sample` makes; with `position_ids` `[..., L]` where these are more than a count.
        names: of the tensors `[L]` with one number a token, `input_ids` and `labels` among them.
        keys: see `shared_runs`.

    Returns:
        Those tensors and `position_ids` `[..., 1, L]`, `attention_mask` `[1, 1, S, 3]`; and each sample with the number
        of its first tokens that stand in the row already.
    """
    segments: list[Segment] = []
    pieces: list[tuple[Sample, slice]] = []
    behind: list[tuple[Sample, int]] = []
    for run in shared_runs(samples, share, keys):
        parent = -1
        for number, sample in enumerate(run.samples):
            behind.append((sample, run.prefix if number else 0))
            cuts = [slice(run.prefix, None)]
            if number == 0 and run.prefix:
                parent = len(segments)
                cuts = [slice(0, run.prefix), *cuts]
            for cut in cuts:
                start = sum(segments[-1][:2]) if segments else 0
                segments.append(Segment(start, len(sample["input_ids"][cut]), parent if cut.start else -1))
                pieces.append((sample, cut))
    row = {name: torch.cat([sample[name][cut] for sample, cut in pieces]).unsqueeze(0) for name in names}
    # What stands in front of a segment in the row is not what comes before it.
    row["labels"][0, [segment.start for segment in segments]] = IGNORE
    row["attention_mask"] = as_mask(segments)
    if "position_ids" in samples[0]:
        places = torch.cat([sample["position_ids"][..., cut] for sample, cut in pieces], dim=-1)
    else:
        places = positions(segments)
    return row | {"position_ids": places.unsqueeze(-2)}, behind
