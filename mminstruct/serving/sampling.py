"""The next token of one answer, out of logits `[V]`: bias, penalties, temperature, filters, a drawing of its own.

Each answer has its own sampler and its own random numbers, so what it draws does not depend on who else asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from mminstruct.serving.settings import GenerationSettings


class Sampler:
    """Draws the tokens of one answer.

    Args:
        prompt: the ids of the prompt, for the repetition penalty.
        never: ids that are never generated (the places of pictures).
    """

    def __init__(
        self, settings: GenerationSettings, prompt: Sequence[int], never: Sequence[int], device: torch.device
    ) -> None:
        self._settings = settings
        self._device = device
        self._seen = set(prompt)
        self._made: Counter[int] = Counter()
        self._never = torch.tensor(sorted(never), dtype=torch.long, device=device)
        self._random: torch.Generator | None = None
        if settings.temperature > 0:
            self._random = torch.Generator(device=device)
            if settings.seed is None:
                self._random.seed()
            else:
                self._random.manual_seed(settings.seed)

    @property
    def takes_the_likeliest(self) -> bool:
        """Whether this is plain greedy decoding, which a batch can do for all its rows at once."""
        settings = self._settings
        return (
            settings.temperature == 0
            and settings.repetition_penalty == 1
            and settings.presence_penalty == settings.frequency_penalty == 0
            and not settings.logit_bias
        )

    def draw(self, logits: torch.Tensor) -> int:
        """The next token. `logits` `[V]` are left as they are."""
        settings = self._settings
        scores = logits.float().index_fill(0, self._never, -torch.inf)
        if not self.takes_the_likeliest:
            scores = self._penalised(scores)
        if self._random is None:
            token = int(scores.argmax())
        else:
            scores = _filtered(scores / settings.temperature, settings)
            token = int(torch.multinomial(scores.softmax(-1), 1, generator=self._random))
        self.took(token)
        return token

    def took(self, token: int) -> None:
        """A token was chosen elsewhere (by a batch)."""
        self._made[token] += 1

    def _penalised(self, scores: torch.Tensor) -> torch.Tensor:
        settings = self._settings
        for token, bias in settings.logit_bias.items():
            if token < len(scores):
                scores[token] += bias
        if settings.repetition_penalty != 1:
            seen = torch.tensor(sorted(self._seen | self._made.keys()), dtype=torch.long, device=self._device)
            found = scores[seen]
            penalty = settings.repetition_penalty
            scores[seen] = torch.where(found < 0, found * penalty, found / penalty)
        if self._made and (settings.presence_penalty or settings.frequency_penalty):
            made = torch.tensor(list(self._made), dtype=torch.long, device=self._device)
            times = torch.tensor(list(self._made.values()), dtype=scores.dtype, device=self._device)
            scores[made] -= settings.presence_penalty + settings.frequency_penalty * times
        return scores


def _filtered(scores: torch.Tensor, settings: GenerationSettings) -> torch.Tensor:
    """Tokens that are not drawn from set to minus infinity, as transformers' warpers do one after the other."""
    if 0 < settings.top_k < len(scores):
        least = scores.topk(settings.top_k).values[-1]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if settings.top_p < 1:
        ordered, places = scores.sort()
        behind = ordered.softmax(-1).cumsum(-1) <= 1 - settings.top_p
        behind[-1] = False
        scores = scores.index_fill(0, places[behind], -torch.inf)
    if settings.min_p > 0:
        shares = scores.softmax(-1)
        scores = scores.masked_fill(shares < settings.min_p * shares.max(), -torch.inf)
    return scores
