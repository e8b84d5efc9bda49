"""Tokens and scores equal pycocoevalcap's own (a file of its outputs), a slow re-statement, and hand-computed cases."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation import scorers
from mminstruct.evaluation.parsing.ngrams import common_subsequence
from mminstruct.evaluation.parsing.ptb import PUNCTUATION, caption_tokens, tokens
from mminstruct.evaluation.scorers.captions import METRIC, rouge_l

from .files import score, write_json, write_lines

OFFICIAL = json.loads(Path(__file__).with_name("pycocoevalcap.json").read_text(encoding="utf-8"))


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_tokens_are_those_of_the_java_program() -> None:
    found = tokens(OFFICIAL["sentences"])
    assert len(found) == len(OFFICIAL["tokens"]) > 500
    for sentence, ours, real in zip(OFFICIAL["sentences"], found, OFFICIAL["tokens"], strict=True):
        assert ours == real, repr(sentence)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("A man's t-shirt isn't grey, (really).", "a man 's t-shirt is n't grey -lrb- really -rrb-"),
        ("You cannot say gonna!!", "you can not say gon na !!"),
        ('He said "stop" -- and so...', "he said stop and so"),
        ("1 1/2 cups of £5 tea", "1\u00a01/2 cups of # 5 tea"),
        ("in the U.S. The dog", "in the u.s. the dog"),
        ("a 😀 face\u2028here", "a face here"),
        ("", ""),
    ],
)
def test_caption_tokens(sentence: str, expected: str) -> None:
    assert caption_tokens([sentence]) == [expected]


def test_the_stop_of_an_abbreviation_depends_on_the_next_sentence() -> None:
    assert tokens(["cats etc.", "Dogs run"])[0] == "cats etc. ."
    assert tokens(["cats etc.", "dogs run"])[0] == "cats etc."


def test_every_sentence_has_its_line() -> None:
    given = ["a\rb", "", "c\nd", "\u2029", "end."]
    assert tokens(given) == ["a b", "", "c d", "", "end ."]


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["official", "vlmevalkit"])
def test_scores_are_those_of_pycocoevalcap(variant: str, tmp_path: Path) -> None:
    gold = write_json(tmp_path / "gold.json", OFFICIAL["references"])
    found = score("captions", gold, write_json(tmp_path / "c.json", OFFICIAL["captions"]), "--variant", variant)
    expected = OFFICIAL["scores"][variant]
    assert found["score"] == pytest.approx(expected["CIDEr"], abs=1e-12)
    for name in ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"):
        assert found["figures"][name] == pytest.approx(expected[name], abs=1e-12), name
    items, texts = scorers.read(METRIC, gold, tmp_path / "c.json")
    each = [verdict.score for verdict in METRIC.variant(variant).score(items, texts).verdicts]
    assert each == pytest.approx(expected["each"], abs=1e-12)


def test_the_example_of_clipscore(tmp_path: Path) -> None:
    """jmhessel/clipscore, example/: CIDEr 0.5637 with tokens, and less on the raw strings."""
    cats = ["two cats are sleeping next to each other.", "a grey cat is cuddling with an orange cat on a blanket."]
    dogs = ["a dog is wearing ear muffs as it lies on a carpet.", "headphones are placed on a dogs ears."]
    cats.append("the orange cat is happy that the black cat is close to it.")
    dogs.insert(1, "a black dog and an orange cat are looking at the photographer.")
    captions = {
        "image1": "an orange cat and a grey cat are lying together.",
        "image2": "a black dog wearing headphones looks at the camera as an orange cat walks in the background.",
    }
    gold = write_json(tmp_path / "refs.json", {"image1": cats, "image2": dogs})
    results = write_json(tmp_path / "good_captions.json", captions)
    assert score("captions", gold, results)["score"] == pytest.approx(0.5637, abs=5e-5)
    assert score("captions", gold, results, "--variant", "vlmevalkit")["score"] == pytest.approx(0.5569, abs=5e-5)


def slow_scores(captions: list[str], golds: list[list[str]]) -> dict[str, float]:
    """The formulas by lists and loops, on strings that are split at blanks."""

    def grams(text: str, order: int) -> list[str]:
        words = text.split()
        return [" ".join(words[i : i + order]) for i in range(len(words) - order + 1)]

    bleus, product = [], 1.0
    lengths = [len(caption.split()) for caption in captions]
    closest = [
        sorted((abs(len(g.split()) - n), len(g.split())) for g in group)[0][1]
        for n, group in zip(lengths, golds, strict=True)
    ]
    for order in (1, 2, 3, 4):
        right = there = 0
        for caption, group in zip(captions, golds, strict=True):
            mine = grams(caption, order)
            there += max(0, len(caption.split()) - order + 1)
            right += sum(
                min(mine.count(g), max(grams(ref, order).count(g) for ref in group)) for g in sorted(set(mine))
            )
        product *= (right + 1e-15) / (there + 1e-9)
        ratio = (sum(lengths) + 1e-15) / (sum(closest) + 1e-9)
        bleus.append(product ** (1 / order) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1))
    cider = 0.0
    for caption, group in zip(captions, golds, strict=True):
        for ref in group:
            for order in (1, 2, 3, 4):
                vocabulary = sorted(set(grams(caption, order)) | set(grams(ref, order)))
                weight = {
                    g: math.log(len(golds))
                    - math.log(max(1, sum(any(g in grams(r, order) for r in gs) for gs in golds)))
                    for g in vocabulary
                }
                a = [grams(caption, order).count(g) * weight[g] for g in vocabulary]
                b = [grams(ref, order).count(g) * weight[g] for g in vocabulary]
                norm = math.hypot(*a) * math.hypot(*b) if vocabulary else 0
                delta = len(grams(caption, 2)) - len(grams(ref, 2))
                if norm:
                    dot = sum(min(x, y) * y for x, y in zip(a, b, strict=True))
                    cider += dot / norm * math.exp(-(delta**2) / 72) / 4 / len(group) * 10 / len(golds)
    return {"Bleu_1": bleus[0], "Bleu_2": bleus[1], "Bleu_3": bleus[2], "Bleu_4": bleus[3], "CIDEr": cider}


def test_scores_equal_the_slow_ones() -> None:
    draw = random.Random(3)
    words = ["a", "dog", "Dog", "runs", "on", "grass", "1", "é", "."]

    def caption() -> str:
        return " ".join(draw.choice(words) for _ in range(draw.randrange(0, 9)))

    for _ in range(150):
        size = draw.randrange(1, 8)
        golds = [[caption() for _ in range(draw.randrange(1, 4))] for _ in range(size)]
        texts = [caption() for _ in range(size)]
        items = [scorers.Item(id=str(number), answers=tuple(group)) for number, group in enumerate(golds)]
        found = METRIC.variant("vlmevalkit").score(items, texts).figures
        for name, value in slow_scores(texts, golds).items():
            assert found[name] == pytest.approx(value, abs=1e-9), (name, texts, golds)


def test_longest_common_subsequence() -> None:
    def slow(first: str, second: str) -> int:
        if not first or not second:
            return 0
        if first[0] == second[0]:
            return 1 + slow(first[1:], second[1:])
        return max(slow(first[1:], second), slow(first, second[1:]))

    draw = random.Random(4)
    for _ in range(300):
        first, second = ("".join(draw.choice("ab c") for _ in range(draw.randrange(0, 7))) for _ in range(2))
        assert common_subsequence(first, second) == slow(first, second)


def test_rouge_takes_precision_and_recall_of_different_references() -> None:
    # Precision 2/2 with the long reference, recall 1/1 with the short one: neither alone gives 1.
    assert rouge_l("a b", ["a x y b", "a"]) == pytest.approx(1.0)
    assert rouge_l("a b", ["a x y b"]) == pytest.approx(2.44 * 0.5 / (0.5 + 1.44))
    assert rouge_l("", ["a"]) == 0.0


def test_one_image_scores_no_cider() -> None:
    found = METRIC.variant().score([scorers.Item(id="1", answers=("a dog runs on grass",))], ["a dog runs on grass"])
    assert found.score == 0.0 and found.figures["Bleu_4"] == pytest.approx(1.0)


def test_bigrams_measure_the_length() -> None:
    # Unigram "a" is in both images, so only the words of order 1 and 2 of image 2 have an idf of log 2.
    items = [scorers.Item(id="1", answers=("b c",)), scorers.Item(id="2", answers=("d",))]
    verdicts = METRIC.variant("vlmevalkit").score(items, ["b", "d"]).verdicts
    # "b" against "b c": cosine 1 / sqrt 2 of clipped weights, 0 and 1 bigrams apart; only order 1 of 4 counts.
    assert verdicts[0].score == pytest.approx(10 / 4 / math.sqrt(2) * math.exp(-1 / 72))
    assert verdicts[1].score == pytest.approx(10 / 4)


def test_no_images_have_no_figures_and_parts_have_their_own() -> None:
    variant = METRIC.variant()
    assert set(variant.total([], []).values()) == {None}
    items = [scorers.Item(id=str(n), answers=(f"dog {n}",), kind="near" if n else "far") for n in range(3)]
    found = variant.score(items, ["dog 0", "cat", None])
    assert found.figures["CIDEr far"] == found.verdicts[0].score > 0
    assert found.figures["CIDEr near"] == 0.0 and found.unparsed == 1
    assert variant.total(items[:1], found.verdicts[:1])["score"] == found.verdicts[0].score


# --- files ------------------------------------------------------------------------------------------------------------

RESULTS = [{"image_id": 1, "caption": "A dog."}, {"image_id": 2, "caption": "a cat sits"}]


def test_coco_nocaps_karpathy_and_flickr_files_give_one_score(tmp_path: Path) -> None:
    captions = {1: ["a dog", "The dog."], 2: ["a cat sits"], 3: ["not predicted"]}
    notes = [{"image_id": n, "id": 10 * n, "caption": c} for n, group in captions.items() for c in group]
    images = [{"id": n, "domain": "in-domain", "file_name": f"{n}.jpg"} for n in captions]
    coco = write_json(tmp_path / "coco.json", {"info": {}, "images": images, "annotations": notes})
    results = write_json(tmp_path / "results.json", RESULTS)
    found = score("captions", coco, results)
    assert found["n"] == 2 and found["figures"]["CIDEr in-domain"] == found["score"] > 0
    split = [
        {
            "filename": f"{n}.jpg",
            "cocoid": n,
            "split": "train" if n == 3 else "test",
            "sentences": [{"raw": c} for c in group],
        }
        for n, group in captions.items()
    ]
    karpathy = write_json(tmp_path / "dataset.json", {"images": split, "dataset": "coco"})
    plain = write_json(tmp_path / "plain.json", captions)
    token = tmp_path / "results_20130124.token"
    token.write_text("".join(f"{n}#{i}\t{c}\n" for n, group in captions.items() for i, c in enumerate(group)))
    for gold in (karpathy, plain, token, write_json(tmp_path / "list.json", notes)):
        assert score("captions", gold, results)["score"] == pytest.approx(found["score"])
    lines = write_lines(tmp_path / "results.jsonl", RESULTS)
    assert score("captions", coco, lines)["score"] == found["score"]


@pytest.mark.parametrize(
    ("gold", "results", "message"),
    [
        ({"images": [], "annotations": [{"image_id": 1}]}, RESULTS, r"entry 0: caption: Field required"),
        ({"1": []}, RESULTS, r"'1' has no caption"),
        ({"1": ["a"], "2": ["b"]}, [*RESULTS, RESULTS[0]], r"entry 2 has the id '1'"),
        ({"1": ["a"]}, RESULTS, r"has the id '2', which the gold file lacks"),
        ({"1": ["a"]}, {"1": ["a", "b"]}, r"'1' has 2 captions"),
        ({"1": [3]}, {"1": "a"}, r"captions.0: Input should be a valid string"),
    ],
)
def test_wrong_files(gold: Any, results: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        score("captions", write_json(tmp_path / "gold.json", gold), write_json(tmp_path / "r.json", results))


def test_a_wrong_token_file_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.token"
    path.write_text("1.jpg#0\ta dog\n1.jpg a cat\n")
    with pytest.raises(DataError, match=r"x.token:2 is not 'image.jpg#0"):
        METRIC.gold(path)


def test_punctuation_is_upper_case_where_tokens_are_lower() -> None:
    assert "-LRB-" in PUNCTUATION and "-lrb-" not in PUNCTUATION


def test_the_example_of_aac_metrics(tmp_path: Path) -> None:
    """README of aac-metrics 0.6.0 (MIT licence): bleu_1 is 0.4278, cider_d 0.9614, of each 1.3641 and 0.5587."""
    spoken = ["a man speaks.", "someone speaks.", "a man is speaking while a bird is chirping in the background"]
    gold = write_json(tmp_path / "gold.json", {"1": spoken, "2": ["rain is falling hard on a surface"]})
    said = write_json(tmp_path / "said.json", {"1": "a man is speaking", "2": "rain falls"})
    found = score("captions", gold, said)
    assert found["score"] == pytest.approx(0.9614, abs=5e-5)
    assert found["figures"]["Bleu_1"] == pytest.approx(0.4278, abs=5e-5)
    verdicts = METRIC.variant("official").score(METRIC.gold(gold), list(METRIC.predictions(said).values())).verdicts
    assert [verdict.score for verdict in verdicts] == pytest.approx([1.3641, 0.5587], abs=5e-5)
