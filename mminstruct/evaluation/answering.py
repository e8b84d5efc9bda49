"""How often a model answers an instruction at all, judged by rules: not whether the answer is right.

    held-out conversations ─first instruction─▶ prompt ─greedy─▶ ids [B, new] ─▶ share of answers, share that ended

An answer is a text that

* ends by itself, with a token that ends generation, within the limit;
* is not empty;
* does not begin with the instruction's own text;
* opens no other turn by writing a mark of the chat template.

The instruction following score (arXiv 2307.03692, section 3) is the share of responses that a trained classifier takes
for answers rather than continuations of the instruction. Its weights are of text without pictures and are not used
here; what the rules miss is a continuation in other words that ends by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from mminstruct.conversation import Conversation, Message, TextPart
from mminstruct.data.index import cut
from mminstruct.evaluation.adapters.generating import evaluation_mode
from mminstruct.formats import media_source
from mminstruct.media import open_medium

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mminstruct.data.dataset import ConversationDataset
    from mminstruct.models.base_processor import BaseProcessor


def answer_shares(
    model: PreTrainedModel,
    processor: BaseProcessor,
    dataset: ConversationDataset,
    *,
    limit: int,
    max_new_tokens: int,
    batch_size: int,
) -> dict[str, float]:
    """`answer_share`, and `ended_share` of the first rule alone; both in [0, 1].

    Args:
        dataset: its first instructions are asked, each conversation's up to the first answer.
        limit: of so many conversations at most, spread evenly over the data set.

    Raises:
        DataError: an instruction does not fit the model's own chat template.
        MediaError: a picture cannot be opened.
    """
    units = dataset.mixture.epoch(0, 0)
    step = max(1, len(units) // limit)
    indices = [unit * dataset.branches for unit in units[::step][:limit]]
    marks = turn_marks(processor)
    ended = answered = 0
    with torch.inference_mode(), evaluation_mode(model):
        for first in range(0, len(indices), batch_size):
            asked = [_instruction(dataset.conversation(index)) for index in indices[first : first + batch_size]]
            for conversation, ids in zip(
                asked, _generate(model, processor, dataset, asked, max_new_tokens), strict=True
            ):
                own = _up_to_the_end(ids, model)
                if own is None:
                    continue
                ended += 1
                answered += is_answer(
                    str(processor.tokenizer.decode(own)), processor.decode(own), _text(conversation.messages[-1]), marks
                )
    return {"answer_share": answered / len(indices), "ended_share": ended / len(indices)}


def is_answer(raw: str, answer: str, instruction: str, marks: Sequence[str]) -> bool:
    """The rules but the first, for a text that has ended.

    Args:
        raw: the text with its special tokens.
        answer: the text without them.
    """
    repeats = bool(instruction) and answer.startswith(instruction)
    return bool(answer) and not repeats and not any(mark in raw for mark in marks)


def turn_marks(processor: BaseProcessor) -> list[str]:
    """What the chat template writes in front of a user's turn and of an answer.

    Without outer white space and the tokens that begin a prompt or end a turn: who opens a turn may leave these out.
    """
    said = {"user": "question", "assistant": "answer"}
    turns = [Message(role=role, content=[TextPart(text=said[role])]) for role in ("user", "assistant", "user")]
    found: list[str] = []
    between, answered = "", False
    for piece in processor.template.render(turns, generation_prompt=True):
        if piece.supervised:
            answered, between = True, ""
        elif piece.instruction:
            if answered:  # in front of the first one stands the system's text as well
                found.append(between)
            between = ""
        else:
            between += piece.text
    start = processor.tokenizer.bos_token or ""
    marks = [
        text.strip().removeprefix(processor.template.end).removeprefix(start).strip() for text in (*found, between)
    ]
    return [mark for mark in marks if mark]


def _instruction(conversation: Conversation) -> Conversation:
    roles = [message.role for message in conversation.messages]
    return cut(conversation, roles.index("assistant"))


def _text(message: Message) -> str:
    return "".join(part.text for part in message.content if isinstance(part, TextPart)).strip()


def _generate(
    model: PreTrainedModel,
    processor: BaseProcessor,
    dataset: ConversationDataset,
    asked: Sequence[Conversation],
    max_new_tokens: int,
) -> torch.Tensor:
    """What the model writes behind each prompt, greedily: `[B, new]`."""
    prompts = [
        processor.prompt(
            one,
            [
                open_medium(medium.kind, media_source(medium.path, dataset.media_root), processor.frame_sampling)
                for medium in one.media
            ],
        )
        for one in asked
    ]
    batch = processor.collate(prompts, padding_side="left")
    inputs = {name: value.to(model.device) for name, value in batch.items()}
    ids = cast(Any, model).generate(
        **inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, repetition_penalty=1.0
    )
    new: torch.Tensor = ids[:, batch["input_ids"].shape[1] :].cpu()
    return new


def _up_to_the_end(ids: torch.Tensor, model: PreTrainedModel) -> torch.Tensor | None:
    """The ids in front of the first that ends generation; None where there is none."""
    ends = model.generation_config.eos_token_id
    where = torch.isin(ids, torch.tensor([] if ends is None else ends, dtype=ids.dtype)).nonzero()
    return ids[: int(where[0])] if len(where) else None
