"""Packed rows: every conversation's logits, loss and gradients are those that it has alone, shared prefixes or not."""

from __future__ import annotations

import pytest
import torch

import mminstruct
from mminstruct.chat_template import IGNORE, Supervision, TemplateConfig
from mminstruct.models.config import ModelRow
from mminstruct.models.factory import read_row
from mminstruct.models.packing import hindrance, owners, packed, position_function, shared_runs
from mminstruct.models.parts import freeze
from mminstruct.models.segments import Segment, positions, trees, visible
from mminstruct.models.vlm import PARTS
from mminstruct.training import objectives
from tests.conftest import conversation, picture
from tests.models.native import FAMILIES, lively

QUESTIONS = ["what is it?", "is there a red circle?", "color?", "how many shapes are there, and which are they?"]


def samples(processor, sizes=((40, 40),), loss="response"):
    """Four questions about one picture, one about another, about both, about none, and two turns about the first."""
    pictures = {f"{seed}": picture(seed, size) for seed, size in zip((1, 2), (*sizes, *sizes), strict=False)}
    records = [(conversation(question, "yes, a circle", images=1), "1") for question in QUESTIONS]
    records += [(conversation("what is it?", "blue", images=1), "2")]
    records += [(conversation("and these?", "alike", images=2), "12")]
    records += [(conversation("hello", "hello, you"), "")]
    records += [(conversation("is it red?", "no", "why?", "it is blue", images=1), "1")]
    made = []
    for record, names in records:
        media = [one.model_copy(update={"path": name}) for one, name in zip(record.media, names, strict=True)]
        record = record.model_copy(update={"media": media})
        seen = [pictures[name] for name in names]
        made.append(processor.training_sample(record, seen, supervision=Supervision(loss)))
    return made


def gradients(model, batches) -> tuple[float, dict[str, torch.Tensor]]:
    objective = objectives.get("sft")
    model.zero_grad()
    total = 0.0
    for batch in batches:
        output = objective(model, batch)
        output.loss_sum.backward()
        total += output.loss_sum.item()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal_training(model, processor, made, share: bool) -> None:
    model.train()
    alone, expected = gradients(model, [processor.collate([one], padding_side="right") for one in made])
    position_ids = position_function(model)
    if position_ids is not None:
        made = [one | {"position_ids": position_ids(one)} for one in made]
    with packed(model):
        batch = processor.pack(made, share_prefix=share)
        together, found = gradients(model, [batch])
    if share and "instruction_ids" not in batch:
        assert batch["input_ids"].numel() < sum(len(one["input_ids"]) for one in made)
    assert together == pytest.approx(alone, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


PREFIX_ROWS = [
    name
    for name in [*mminstruct.list_models("nano"), *mminstruct.list_models("nano-*")]
    if name not in ("nano-gated-cross-attention", "nano-text-guided-moe")  # its balance is of a whole micro-batch
]


@pytest.mark.parametrize("share", [False, True], ids=["apart", "shared"])
@pytest.mark.parametrize("row", PREFIX_ROWS)
def test_packed_equals_separate(row, share):
    """Loss and every gradient, for each kind of connector, tiles among them."""
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    if model.experts is not None:
        for extension in model.experts.layers.values():
            extension.draw(0.2)  # new experts begin as copies of old ones, and which of two alike runs is chance
    assert_equal_training(model, processor, samples(processor, ((40, 40), (90, 30))), share)


@pytest.mark.parametrize("share", [False, True], ids=["apart", "shared"])
@pytest.mark.parametrize("row", [name for name in FAMILIES if name != "gemma-3-4b-it"])
def test_native_models_packed_equal_separate(row, share):
    """Multimodal rotary positions among them, pictures in nested rows, and what is left of pictures behind a prefix."""
    model, processor = lively(row)
    assert hindrance(model) is None
    freeze(model, PARTS)
    assert_equal_training(model, processor, samples(processor, ((50, 40), (90, 33))), share)
    text = [one for one in samples(processor) if "places" not in one]
    assert_equal_training(model, processor, text, share=False)


@pytest.mark.parametrize(("loss", "template"), [("response+instruction", "chatml"), ("all", "vicuna_v1")])
def test_packed_equals_separate_whatever_is_supervised(loss, template):
    """A shared prefix ends before the first loss, wherever that is; here it would hold the picture and its question."""
    torch.manual_seed(0)
    model, processor = mminstruct.create("nano", tiny=True)
    made = samples(processor.with_template(TemplateConfig(name=template)), loss=loss)
    assert all(run.prefix == 0 for run in shared_runs(made, share=True))
    assert_equal_training(model, processor, made, share=False)


WHOLE_ROWS = [name for name in mminstruct.list_models() if isinstance(read_row(name)[0], ModelRow)]
# Why a row's conversations are padded: its connector, its language model's attention, or the model as a whole.
HINDERED = {
    "gated cross-attention": {"nano-gated-cross-attention", "otter-9b", *mminstruct.list_models("idefics-*")}
    | set(mminstruct.list_models("open-flamingo-*")),
    "does not go through": {"llava-1.0-mpt-7b", "siglip2-bloomz-1.7b"},
    "caps its attention": {"siglip2-gemma-2-2b"},
}


@torch.no_grad()
@pytest.mark.parametrize("row", WHOLE_ROWS)
def test_every_row_packs_or_says_why_not(row):
    """For each language model of the zoo, sliding windows and grouped heads among them."""
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    reason = hindrance(model)
    assert [words for words in HINDERED if row in HINDERED[words]] == [
        words for words in HINDERED if words in str(reason)
    ]
    if reason is not None:
        return
    made = samples(processor)
    model.eval()
    alone = [model(**_inputs(processor.collate([one]))).logits[0] for one in made]
    with packed(model):
        batch = processor.pack(made, share_prefix=model.connector.reads == "nothing")
        together = model(**_inputs(batch)).logits[0]
    segments = [Segment(*line) for line in batch["attention_mask"][0, 0].tolist()]
    leaves = [s for number, s in enumerate(segments) if number not in {other.parent for other in segments}]
    assert len(leaves) == len(made)
    for segment, logits in zip(leaves, alone, strict=True):
        torch.testing.assert_close(
            together[segment.start : segment.start + segment.length], logits[-segment.length :], rtol=1e-4, atol=1e-4
        )


def _inputs(batch):
    return {name: value for name, value in batch.items() if name != "labels"}


def test_a_native_model_that_was_not_compared_is_not_packed():
    """Gemma 3 lets the tokens of a picture see each other."""
    reason = hindrance(mminstruct.create("gemma-3-4b-it", tiny=True)[0])
    assert reason is not None and "gemma3 have not been compared" in reason


def test_samples_of_one_key_share_what_they_begin_with_and_no_others_do():
    """A picture or none; three answers to one question, and the same question under another key."""
    _, processor = mminstruct.create("nano", tiny=True)
    told = [processor.training_sample(conversation("what is it?", answer), []) for answer in ("a", "b", "c", "a")]
    assert [len(run.samples) for run in shared_runs(told, share=True)] == [1, 1, 1, 1]
    runs = shared_runs(told, share=True, keys=[0, 0, 0, 1])
    assert [len(run.samples) for run in runs] == [3, 1]
    assert runs[0].prefix == int((told[0]["labels"] != IGNORE).nonzero()[0]) - 1
    batch = processor.pack(told, keys=[0, 0, 0, 1])
    found, padded = owners(batch), owners(processor.collate(told, padding_side="right"))
    assert found[0, : runs[0].prefix].tolist() == [-1] * runs[0].prefix
    for number in range(4):
        mine = batch["labels"][found == number]
        assert mine[mine != IGNORE].tolist() == told[number]["labels"][told[number]["labels"] != IGNORE].tolist()
        assert (padded[number] == number).all()


def test_a_window_reaches_back_by_position_and_not_by_place():
    """Behind a prefix of ten, the second branch's first token sees the prefix's end, not the first branch."""
    tree = [Segment(0, 10, -1), Segment(10, 4, 0), Segment(14, 4, 0)]
    assert positions(tree).tolist() == [*range(10), 10, 11, 12, 13, 10, 11, 12, 13]
    assert visible(tree, 18)[14].nonzero().flatten().tolist() == [*range(10), 14]
    assert visible(tree, 18, window=3)[14].nonzero().flatten().tolist() == [8, 9, 14]
    assert visible(tree, 18, window=3)[17].nonzero().flatten().tolist() == [15, 16, 17]


def test_trees_may_have_any_depth():
    """What a token sees is its own path: by walking up the parents of each."""
    segments = [
        Segment(0, 3, -1),
        Segment(3, 2, 0),
        Segment(5, 2, 1),
        Segment(7, 1, 1),
        Segment(8, 2, 0),
        Segment(10, 4, -1),
    ]
    assert [len(tree) for tree in trees(segments)] == [5, 1]
    owner = [number for number, s in enumerate(segments) for _ in range(s.length)]
    for token in range(10):
        path, number = set(), owner[token]
        while number >= 0:
            path.add(number)
            number = segments[number].parent
        expected = [other for other in range(token + 1) if owner[other] in path]
        assert visible(trees(segments)[0], 10)[token].nonzero().flatten().tolist() == expected


def test_prefixes_hold_whole_pictures_and_stop_before_the_loss():
    _, processor = mminstruct.create("nano", tiny=True)
    made = samples(processor)
    runs = shared_runs(made, share=True)
    assert [len(run.samples) for run in runs] == [4, 1, 1, 1, 1]
    first = made[0]
    end = int(first["places"][0, 1] + first["places"][0, 2])
    supervised = int((first["labels"] != IGNORE).nonzero()[0])
    assert end <= runs[0].prefix < supervised
    assert all(run.prefix == 0 for run in runs[1:])
    assert [len(run.samples) for run in shared_runs(made, share=False)] == [1] * 8
    # Other pixels under the same words are another beginning, and so is a second picture that only one of them has.
    assert len(shared_runs([made[0], made[4]], share=True)) == 2
    # Two whose answers are about to differ share the question as well, but not the token that the loss is taken at.
    again = {**made[0], "input_ids": made[0]["input_ids"].clone()}
    (run,) = shared_runs([made[0], again], share=True)
    assert run.prefix == supervised - 1
