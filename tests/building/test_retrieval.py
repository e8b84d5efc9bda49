"""Retrieval: BM25 and features against the obvious slow way, ties by number, the same everywhere."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mminstruct.building.clip import Clip
from mminstruct.building.retrieval import Bm25, cut, nearest, picture_features
from mminstruct.building.words import content_words, numbers, support, text_features, words
from mminstruct.errors import CheckpointError


def slow_bm25(texts: list[list[str]], query: list[str], k1: float = 1.2, b: float = 0.75) -> list[float]:
    mean = sum(len(text) for text in texts) / len(texts)
    having = {word: sum(word in text for text in texts) for word in query}
    scores = []
    for text in texts:
        score = 0.0
        for word in query:
            n = having[word]
            f = text.count(word)
            idf = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
            score += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * len(text) / mean))
        scores.append(score)
    return scores


def test_bm25_is_what_the_formula_says() -> None:
    chance = random.Random(0)
    vocabulary = [f"{one}q{other}" for one in "abcdefgh" for other in "klmno"]
    texts = [chance.choices(vocabulary, k=chance.randint(1, 30)) for _ in range(60)]
    index = Bm25([" ".join(text) for text in texts])
    for _ in range(50):
        query = chance.choices([*vocabulary, "unknown"], k=chance.randint(1, 8))
        expected = slow_bm25(texts, query)
        assert index.scores(" ".join(query)) == pytest.approx(expected)
        left_out = set(chance.sample(range(60), 5))
        order = sorted((n for n in range(60) if n not in left_out), key=lambda n: (-round(expected[n], 9), n))
        order = [number for number in order if expected[number] > 0]
        k = chance.randint(1, 60)
        assert index.search(" ".join(query), k, left_out) == order[:k]


def test_equal_texts_come_in_their_order_and_strangers_not_at_all() -> None:
    index = Bm25(["a b", "c", "a b", "A, b!", "d"])
    assert index.search("b", 2) == [0, 2] and index.search("b", 9) == [0, 2, 3]
    assert index.search("x", 3) == index.search("b", 0) == Bm25([]).search("b", 3) == []


def test_words_of_any_writing() -> None:
    assert words("Don't stop, 3x_y!") == ["don't", "stop", "3", "x", "y"]
    assert words("日本 Tokyo塔 한국") == ["日", "本", "tokyo", "塔", "한", "국"]
    assert words("有两个三角形") == ["有", "2", "个", "三", "角", "形"] and numbers("十条线, 3 个圆") == {"10", "3"}
    evidence = content_words("图中有两个红色的三角形。")
    assert support("三角形是红色的", evidence) == 1.0 and support("三角形是蓝色的", evidence) == 0.8
    assert cut(" a  b\nc d ", 3) == "a b c"


def test_nearest_is_the_full_sort() -> None:
    features = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    features[10] = features[20]
    for row in range(50):
        order = sorted((n for n in range(50) if n != row), key=lambda n: (-float(features[n] @ features[row]), n))
        assert nearest(features[row], features, 7, [row]) == order[:7]
        everything = nearest(features[row], features, 100)
        assert sorted(everything) == list(range(50)) and everything.index(20) == everything.index(10) + 1


def test_features_tell_what_is_alike() -> None:
    """Recomputed pixel by pixel for the colours; by hand for one hashed word."""
    red, blue = (Image.new("RGB", (64, 64), color) for color in ((255, 0, 0), (0, 0, 255)))
    half = Image.new("RGB", (64, 64), (255, 0, 0))
    half.paste((0, 0, 255), (32, 0, 64, 64))
    one, two, three = (picture_features(picture) for picture in (red, blue, half))
    assert one @ one == pytest.approx(1) and one @ three > one @ two and two @ three > one @ two
    flipped = picture_features(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert flipped @ three < 0.9 < three @ three  # the same colours in other places
    shares = np.zeros(64)
    shares[3 * 16], shares[3] = math.sqrt(0.5), math.sqrt(0.5)  # bins of red and of blue
    assert three[48:] == pytest.approx(shares / math.sqrt(2), abs=1e-6)
    import zlib

    expected = np.zeros(1024)
    for term in ("a", "b", "a b"):
        expected[zlib.crc32(term.encode()) % 1024] += 1
    assert text_features("A b") == pytest.approx(expected / np.linalg.norm(expected), abs=1e-3)
    assert not text_features("").any()
    same, near, far = (text_features(text) for text in ("how many red", "how many blue", "where is it"))
    assert same @ near > 0.3 > same @ far


def test_features_of_an_open_clip_model(tmp_path: Path) -> None:
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"size": [32, 32]}})
    )
    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    found = Clip(tmp_path)
    picture = Image.new("RGB", (32, 32), (10, 200, 30))
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    pixels = (torch.tensor([10, 200, 30])[:, None, None] / 255 - mean) / std
    with torch.inference_mode():
        expected = model.eval().encode_image(pixels.expand(3, 32, 32)[None])[0]
    assert found.picture(picture) == pytest.approx((expected / expected.norm()).numpy(), abs=1e-4)
    assert found.text("a cat") @ found.text("a cat") == pytest.approx(1, abs=1e-5)
    assert found.text("a cat") @ found.text("nine dogs run") < 0.999
    with pytest.raises(CheckpointError, match="has no open_clip_config"):
        Clip(tmp_path / "none")
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="is no open_clip model that can be loaded"):
        Clip(tmp_path)
