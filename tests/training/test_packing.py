"""Training on packed rows: the same weights as on padded ones, whatever shares a prefix and however it is cut."""

from __future__ import annotations

import json
import random

import pytest
import torch

import mminstruct
from mminstruct.errors import ConfigError, DataError
from mminstruct.models import checkpoint
from mminstruct.training.run import train
from tests.conftest import picture
from tests.training.conftest import WORDS, largest_difference, make_recipe, weights
from tests.training.test_exactness import metrics


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Twelve questions about three pictures and two conversations without one, in mixed order."""
    folder = tmp_path_factory.mktemp("questions")
    rng = random.Random(0)
    items = []
    for index in range(14):
        words = lambda low, high: " ".join(rng.choices(WORDS, k=rng.randint(low, high)))  # noqa: E731
        about = None if index >= 12 else f"{index % 3}.png"
        mark = "<image>\n" if about else ""
        turns = [{"from": "human", "value": mark + words(2, 9)}, {"from": "gpt", "value": words(1, 20)}]
        items.append({"id": str(index), **({"image": about} if about else {}), "conversations": turns})
    for number in range(3):
        picture(number, (30, 24)).save(folder / f"{number}.png")
    rng.shuffle(items)
    (folder / "data.json").write_text(json.dumps(items))
    return folder


def run(workspace, questions, out, **stage):
    settings = {"data": {"path": str(questions / "data.json")}, **stage.pop("settings", {})}
    train(make_recipe(workspace, [stage], **settings), out)
    return weights(out / "model")


def test_sharing_changes_no_weight(workspace, questions, tmp_path):
    """Each step sees all conversations, so only how they stand in the row differs."""
    stage = {"batch_size": 14, "steps": 4}
    apart = run(workspace, questions, tmp_path / "apart", share_prefix=False, **stage)
    shared = run(workspace, questions, tmp_path / "shared", **stage)
    packs = run(workspace, questions, tmp_path / "packs", pack_tokens=100_000, steps=4)
    small = run(workspace, questions, tmp_path / "small", pack_tokens=90, accumulate=4, epochs=4.0)
    assert largest_difference(apart, shared) < 1e-5
    assert largest_difference(apart, packs) < 1e-5
    assert largest_difference(weights(workspace / "model"), apart) > 1e-3
    lines = {name: metrics(tmp_path / name) for name in ("apart", "shared", "packs", "small")}
    for name in ("shared", "packs"):
        for one, other in zip(lines["apart"], lines[name], strict=True):
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
            assert other["supervised_tokens"] == one["supervised_tokens"]
            assert other["padding_share"] == 0.0
    assert small.keys() == apart.keys() and sum(line["supervised_tokens"] for line in lines["small"]) == sum(
        line["supervised_tokens"] for line in lines["apart"]
    )


@pytest.mark.parametrize("loss", ["response+instruction", "all"])
def test_other_losses_pack_and_accumulate_alike(workspace, questions, tmp_path, loss):
    """More tokens are supervised than the answers', and how a step is split or packed changes nothing."""
    answers = run(workspace, questions, tmp_path / "answers", batch_size=14, steps=2)
    whole = run(workspace, questions, tmp_path / "whole", loss=loss, batch_size=14, steps=2)
    split = run(workspace, questions, tmp_path / "split", loss=loss, batch_size=7, accumulate=2, steps=2)
    packs = run(workspace, questions, tmp_path / "packs", loss=loss, pack_tokens=100_000, steps=2)
    assert largest_difference(whole, split) < 1e-5 and largest_difference(whole, packs) < 1e-5
    assert largest_difference(whole, answers) > 1e-4
    fewer, more = (metrics(tmp_path / name)[0]["supervised_tokens"] for name in ("answers", "whole"))
    assert more > 1.2 * fewer


def test_padding_where_packing_is_not_possible_gives_the_same(workspace, questions, tmp_path):
    """A language model whose attention cannot be packed trains on padded rows, without being asked to."""
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "model", *mminstruct.create("nano-gated-cross-attention", tiny=True))
    settings = {"model": str(tmp_path / "model")}
    run(workspace, questions, tmp_path / "padded", batch_size=14, steps=2, settings=settings)
    assert all(line["padding_share"] > 0 for line in metrics(tmp_path / "padded"))
    for asked, words in (
        ({"pack_tokens": 500}, "has pack_tokens, but gated"),
        ({"share_prefix": True}, "share_prefix"),
    ):
        with pytest.raises(ConfigError, match=words):
            run(workspace, questions, tmp_path / "no", settings=settings, **asked)
        assert not (tmp_path / "no").exists()


def test_a_connector_that_reads_the_question_shares_nothing(workspace, questions, tmp_path):
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "model", *mminstruct.create("nano-instruct-q-former", tiny=True))
    settings = {"model": str(tmp_path / "model")}
    run(workspace, questions, tmp_path / "apart", batch_size=14, steps=2, settings=settings)
    assert all(line["padding_share"] == 0 for line in metrics(tmp_path / "apart"))
    with pytest.raises(ConfigError, match="reads the question"):
        run(workspace, questions, tmp_path / "no", share_prefix=True, settings=settings)


def test_a_conversation_larger_than_a_pack_is_named(workspace, questions, tmp_path):
    with pytest.raises(DataError, match=r"conversation '\d+' has \d+ tokens, more than pack_tokens 12; raise it"):
        run(workspace, questions, tmp_path / "no", pack_tokens=12)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_nothing(workspace, questions, tmp_path, workers):
    none = run(workspace, questions, tmp_path / "none", pack_tokens=200, steps=5)
    some = run(workspace, questions, tmp_path / "some", pack_tokens=200, steps=5, settings={"workers": workers})
    assert largest_difference(none, some) == 0.0
