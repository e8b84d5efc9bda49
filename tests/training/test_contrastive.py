"""Contrast of pictures and texts: a slow hand-written loss, however pairs are packed and spread over processes."""

from __future__ import annotations

import pytest
import torch
from open_clip.loss import ClipLoss

import mminstruct
from mminstruct import formats
from mminstruct.config import validate
from mminstruct.conversation import Conversation, Media
from mminstruct.data.dataset import MicroBatches
from mminstruct.data.image_text import ImageTextDataset, sides
from mminstruct.data.plan import MicroBatch
from mminstruct.errors import ConfigError, DataError
from mminstruct.models.packing import packed, position_function
from mminstruct.models.parts import freeze
from mminstruct.training import objectives
from mminstruct.training.config import StageConfig
from mminstruct.training.run import train
from tests.conftest import picture, turns
from tests.models.native import lively
from tests.training.conftest import WORDS, largest_difference, make_recipe, weights
from tests.training.launching import train_on_two
from tests.training.test_exactness import metrics

ALL = ["vision_encoder", "connector", "language_model"]


def pair(name: str, question: str, text: str, shown: int) -> Conversation:
    return Conversation(id=name, messages=turns(question, text, images=1), media=[Media(path=f"{shown}.png")])


# The last two: a picture again with another text, and a text again with another picture.
PAIRS = [
    pair("a", "what is it?", "a red circle", 0),
    pair("b", "what is the shape?", "blue", 1),
    pair("c", "what is it?", "there is no shape", 2),
    pair("d", "what is it?", "the image of a green triangle", 0),
    pair("e", "what color?", " blue ", 3),
]
# Of the sums over the others in the formula: who is in none with whom.
ALIKE = {(0, 3), (3, 0), (1, 4), (4, 1)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures; five pairs, some alike; 34 pairs, some alike, for two processes."""
    folder = tmp_path_factory.mktemp("image-text")
    for number in range(12):
        picture(number, (30, 24)).save(folder / f"{number}.png")
    formats.write(PAIRS, folder / "pairs", "native")
    many = [pair(f"{n}", "what is it?", " ".join(WORDS[n % 14 : n % 14 + 2]), n % 12) for n in range(34)]
    formats.write(many, folder / "many", "native")
    return folder


def by_hand(embeddings: list[tuple[torch.Tensor, torch.Tensor]], temperature: float, alike) -> torch.Tensor:
    """Pair by pair, each direction by itself."""
    total = torch.zeros(())
    cosine = lambda a, b: (a @ b) / (a.norm() * b.norm() * temperature)  # noqa: E731
    for i, (image, text) in enumerate(embeddings):
        others = [pair for j, pair in enumerate(embeddings) if (i, j) not in alike]
        to_texts = torch.stack([cosine(image, other) for _, other in others]).exp().sum()
        to_images = torch.stack([cosine(other, text) for other, _ in others]).exp().sum()
        own = cosine(image, text).exp()
        total = total - ((own / to_texts).log() + (own / to_images).log()) / 2
    return total


def embedded(model, dataset) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each side alone through the language model's body, up to its own last state."""
    found = []
    for conversation in dataset.conversations:
        shown, told = sides(conversation)
        states = []
        for side, pictures in ((shown, [picture(int(shown.media[0].path[0]), (30, 24))]), (told, [])):
            inputs = dataset.processor.prompt(side, pictures)
            embeddings = model.embed(inputs["input_ids"][None], inputs.get("pixel_values"))[0]
            states.append(model.language_model.model(inputs_embeds=embeddings).last_hidden_state[0, -1])
        found.append((states[0], states[1]))
    return found


def batch_of(dataset, pack: bool, indices=(0, 1, 2, 3, 4), counts: bool = True, positions=None):
    batch = MicroBatches(dataset, pack, False, positions)[MicroBatch(list(indices), counts)]
    assert batch.pop("conversations") == (2 * len(indices) if counts else 0)
    return batch


@pytest.fixture
def made(data):
    torch.manual_seed(0)
    model, processor = mminstruct.create("nano", tiny=True)
    return model.train(), ImageTextDataset(PAIRS, data, processor, max_length=512)


@pytest.mark.parametrize("pack", [False, True], ids=["padded", "packed"])
def test_loss_and_gradients_equal_the_hand_written(made, pack):
    model, dataset = made
    expected = by_hand(embedded(model, dataset), 0.5, ALIKE)
    expected.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    batch = batch_of(dataset, pack)
    objective = objectives.get("contrastive", temperature=0.5)
    with packed(model):
        output = objective(model, batch)
        output.loss_sum.backward()
    assert int(output.count) == int(objective.count(batch)) == 5
    assert output.loss_sum.item() == pytest.approx(expected.item(), rel=1e-5)
    found = {name: p.grad for name, p in model.named_parameters()}
    assert largest_difference(found, wanted) < 1e-5 and max(float(g.abs().max()) for g in wanted.values()) > 1e-2


def test_without_doubles_it_is_clips_loss(made):
    """That of open_clip, and the accuracies of its matrix."""
    model, dataset = made
    with torch.no_grad():
        three = embedded(model, dataset)[:3]
        images, texts = (torch.nn.functional.normalize(torch.stack(one)) for one in zip(*three, strict=True))
        output = objectives.get("contrastive", temperature=0.1)(model, batch_of(dataset, False, [0, 1, 2]))
    expected = ClipLoss()(images, texts, logit_scale=10.0)
    assert (output.loss_sum / output.count).item() == pytest.approx(expected.item(), rel=1e-5)
    for name, matrix in (("image_to_text", images @ texts.T), ("text_to_image", texts @ images.T)):
        right = (matrix.argmax(1) == torch.arange(3)).sum()
        assert output.metrics[f"{name}_accuracy_sum"] == right


def test_a_batch_that_only_keeps_step_counts_nothing(made):
    model, dataset = made
    objective = objectives.get("contrastive")
    batch = batch_of(dataset, True, [0, 1], counts=False)
    assert objective.count(batch) == 0
    with packed(model):
        output = objective(model, batch)
    output.loss_sum.backward()
    assert output.loss_sum == 0 and int(output.count) == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("row", ["qwen2.5-vl-3b", "smolvlm-256m", "internvl3-1b"])
def test_native_rows_equal_padded_batches_and_single_prompts(data, row):
    model, processor = lively(row)
    freeze(model, ALL)
    dataset = ImageTextDataset(PAIRS, data, processor, max_length=512)
    objective = objectives.get("contrastive", temperature=0.5)
    found = []
    for pack in (False, True):
        batch = batch_of(dataset, pack, positions=position_function(model) if pack else None)
        model.zero_grad()
        with packed(model):
            output = objective(model, batch)
            output.loss_sum.backward()
        head = model.get_output_embeddings().weight
        assert head.grad is not None  # whether or not it is the embeddings' own: DDP waits for it
        found.append((output, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}))
    (padded, wanted), (in_a_row, gradients) = found
    assert in_a_row.loss_sum.item() == pytest.approx(padded.loss_sum.item(), rel=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    assert largest_difference(gradients, wanted) < 1e-5 * max(1.0, largest) and largest > 1e-2
    states = []
    with torch.no_grad():
        for sample in dataset.samples(range(5)):
            alone = processor.collate([{name: value for name, value in sample.items() if name != "labels"}])
            states.append(model.base_model(**alone).last_hidden_state[0, -1])
    expected = by_hand(list(zip(states[0::2], states[1::2], strict=True)), 0.5, ALIKE)
    assert padded.loss_sum.item() == pytest.approx(expected.item(), rel=1e-5)


def test_training_brings_each_picture_to_its_text(workspace, data, tmp_path):
    """In packs, which hold both sides of all pairs; nothing is logged that counts tokens."""
    objective = {"kind": "contrastive", "temperature": 0.05}
    stage = {"objective": objective, "pack_tokens": 400, "steps": 45}
    source = {"path": str(data / "pairs"), "media_root": str(data)}
    train(make_recipe(workspace, [stage], data=source), tmp_path / "out")
    lines = metrics(tmp_path / "out")
    assert all(line["pairs"] == 5 and line["padding_share"] == 0 for line in lines)
    assert lines[-1]["loss"] < 0.2 * lines[0]["loss"]
    assert lines[-1]["image_to_text_accuracy"] == lines[-1]["text_to_image_accuracy"] == 1.0
    assert lines[0]["image_to_text_accuracy"] < 1.0 and "supervised_tokens" not in lines[0]


def test_features_of_a_frozen_encoder_come_from_the_cache(workspace, data, tmp_path):
    stage = {"objective": "contrastive", "train": ["connector", "language_model"], "batch_size": 5, "steps": 3}
    source = {"path": str(data / "pairs"), "media_root": str(data)}
    cache = {"feature_cache": {"folder": str(tmp_path / "features"), "dtype": "float32"}}
    for name, extra in (("without", {}), ("with", cache)):
        train(make_recipe(workspace, [stage | extra], data=source), tmp_path / name)
    assert list((tmp_path / "features").rglob("*.safetensors"))
    without, cached = (weights(tmp_path / name / "model") for name in ("without", "with"))
    assert largest_difference(without, cached) < 1e-5 < 1e-3 < largest_difference(without, weights(workspace / "model"))


def test_two_processes_equal_one(workspace, data, tmp_path):
    """Pairs of both are negatives and doubles of each other; of the last step's micro-batches one process has one, the
    other none. Then, in the same run, the mean over conversations."""
    stages = [
        {"objective": {"kind": "contrastive", "temperature": 0.1}},
        {"objective": {"kind": "sft", "average": "conversation"}},
    ]
    source = {"data": {"path": str(data / "many"), "media_root": str(data)}}
    one, two = (
        make_recipe(workspace, [{**stage, "batch_size": size, "accumulate": 2} for stage in stages], **source)
        for size in (4, 2)
    )
    train(one, tmp_path / "one")
    train_on_two(two, tmp_path)
    before = weights(workspace / "model")
    for model in ("stages/1-s0/model", "model"):
        assert largest_difference(before, weights(tmp_path / "one" / model)) > 1e-3
        assert largest_difference(weights(tmp_path / "one" / model), weights(tmp_path / "two" / model)) < 1e-5
    first, second = (metrics(tmp_path / name) for name in ("one", "two"))
    for lines in (first, second):
        assert [line["pairs"] for line in lines[:5]] == [8, 8, 8, 8, 2]
        assert [line["supervised_conversations"] for line in lines[5:]] == [8, 8, 8, 8, 2]
    for a, b in zip(first, second, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a.get("image_to_text_accuracy") == b.get("image_to_text_accuracy")


def test_tokens_of_both_sides_are_counted(made):
    _, dataset = made
    for index in range(5):
        assert dataset.index.tokens[index] == batch_of(dataset, True, [index])["input_ids"].shape[1]


def test_what_is_no_pair_is_named(workspace, data, tmp_path):
    source = {"path": str(data / "pairs"), "media_root": str(data)}

    def run(settings=None, **stage):
        recipe = make_recipe(workspace, [{"objective": "contrastive", **stage}], **{"data": source, **(settings or {})})
        train(recipe, tmp_path / "no")

    with pytest.raises(DataError, match=r"conversation '\d+' is no pair of a picture and a text"):
        run({"data": {"path": str(workspace / "data/data.json")}})
    with pytest.raises(DataError, match="'plain' pairs an image with its caption"):
        run(chat_template={"name": "plain"})
    with pytest.raises(DataError, match=r"conversation '\w' has \d+ tokens, more than max_length 12"):
        run({"max_length": 12})
    with pytest.raises(ConfigError, match="are never cut"):
        run({"data": {**source, "too_long": "truncate"}})
    with pytest.raises(ConfigError, match="a micro-batch of one pair has nothing to tell it from"):
        run(batch_size=1, accumulate=4)
    assert not (tmp_path / "no").exists()
    with pytest.raises(ConfigError, match="loss: all is for objectives of tokens"):
        stage = {"name": "s", "train": ["connector"], "learning_rate": 1e-3, "objective": "contrastive", "loss": "all"}
        validate(StageConfig, stage, where="test")
