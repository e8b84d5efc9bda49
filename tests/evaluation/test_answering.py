"""Which texts are answers to an instruction, by rule; marks of turns against what the templates write."""

from __future__ import annotations

import copy

import pytest
import torch

from mminstruct.chat_template import TemplateConfig
from mminstruct.conversation import Conversation, Message, text
from mminstruct.data.dataset import ConversationDataset
from mminstruct.evaluation.answering import answer_shares, is_answer, turn_marks


@pytest.mark.parametrize(
    ("template", "marks"),
    [
        ("chatml", ["<|im_start|>user", "<|im_start|>assistant"]),
        ("vicuna_v1", ["USER:", "ASSISTANT:"]),
        ("llama_2", ["[INST]", "[/INST]"]),
    ],
)
def test_marks_are_those_in_front_of_turns(pair, template, marks):
    processor = pair[1].with_template(TemplateConfig(name=template))
    processor.tokenizer = copy.copy(processor.tokenizer)
    processor.tokenizer.bos_token = "<s>"
    assert turn_marks(processor) == marks


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        ("A red circle.", True),
        ("yes", True),
        ("", False),
        ("What is it? What is it?", False),
        ("red USER: and then?", False),
    ],
)
def test_rules(raw, answer):
    assert is_answer(raw, raw, "What is it?", ["USER:", "ASSISTANT:"]) == answer


def test_shares_are_counted_over_conversations(pair, tmp_path, monkeypatch):
    """Four canned replies: an answer, one that never ends, an empty one, one that goes on as the user."""
    model, processor = pair
    end = model.generation_config.eos_token_id
    end = end if isinstance(end, int) else end[0]
    replies = ["red", "red red red red red", "", "red<|im_start|>user\n"]
    rows = [[*processor.tokenizer(reply, add_special_tokens=False)["input_ids"], end] for reply in replies]
    rows[1] = rows[1][:-1]
    width = max(map(len, rows))
    canned = torch.tensor(
        [row + [end if number != 1 else row[-1]] * (width - len(row)) for number, row in enumerate(rows)]
    )

    def generate(input_ids, **kwargs):
        return torch.cat([input_ids, canned], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    conversations = [
        Conversation(
            id=f"a/{number}",
            messages=[
                Message(role="user", content=[text(f"what is {number}")]),
                Message(role="assistant", content=[text("red")]),
            ],
        )
        for number in range(4)
    ]
    dataset = ConversationDataset(conversations, tmp_path, processor, max_length=512)
    found = answer_shares(model, processor, dataset, limit=4, max_new_tokens=8, batch_size=4)
    assert found == {"answer_share": 0.25, "ended_share": 0.75}
