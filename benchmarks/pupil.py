"""Builders that show pictures, against a seeing model behind `mminstruct serve`: one that learnt of their templates.

    python benchmarks/pupil.py lesson --out OUT               # questions and replies of templates; a recipe for a model
    mminstruct train OUT/recipe.yaml --out OUT/run
    mminstruct serve OUT/run/model --port PORT
    python benchmarks/pupil.py exam --base-url http://127.0.0.1:PORT/v1 --out OUT/exam

A lesson is what the log of a build has: the messages that a model is shown, and the template's reply. The exam is of
scenes and clips that no lesson had; what the model says of them is held against what the worlds know.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mminstruct import catalog
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.building.clients import OpenAICompatibleClient
from mminstruct.building.request import Completion, Request
from mminstruct.config import load_yaml
from mminstruct.conversation import Conversation, message
from mminstruct.data_builders.worlds import album_facts, clip_facts, clips, scenes
from mminstruct.files import read_jsonl
from mminstruct.formats import native

LESSON, EXAM = 1, 2  # seeds of the worlds
BUILDERS = {
    "captioning": "captioning:kinds=[brief,words]",
    "videosavi": "videosavi:questions=2:frames=4:frame_side=128",
    "videosavi-candidates": "videosavi:variant=candidates:questions=1:candidates=3:frames=4:frame_side=128",
}
OPTIMIZER = {"learning_rate": 1e-3, "betas": [0.9, 0.98], "weight_decay": 0.05, "warmup": 0.05}
RECIPE = {
    "name": "pupil",
    "summary": "What templates said of scenes and clips.",
    "model": "pupil.yaml",
    "stages": [{"name": "tune", "train": ["vision_encoder", "connector", "language_model"], **OPTIMIZER}],
}


def lesson(out: Path, items: dict[str, int], epochs: int) -> None:
    """Build by templates, and write each question with its reply as a conversation to train on."""
    out.mkdir(parents=True)
    sources = []
    for label, count in items.items():
        name, *options = BUILDERS[label].split(":")
        number = "items" if name == "captioning" else "clips"
        built = out / label
        run(load_builder(name, [*options, f"{number}={count}", f"seed={LESSON}"]), built)
        path = out / f"{label}-asked"
        native.write(asked(built), path)
        sources.append({"path": str(path), "media_root": str(built)})
    (out / "pupil.yaml").write_text(yaml.safe_dump(pupil(), sort_keys=False), encoding="utf-8")
    stage = RECIPE["stages"][0] | {"epochs": epochs, "batch_size": 32}  # type: ignore[index, operator]
    data = {"mixture": sources}
    recipe = RECIPE | {"model": str(out / "pupil.yaml"), "data": data, "stages": [stage]}
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


def pupil() -> dict[str, Any]:
    """nano, but it sees more of a picture, sixteen tokens, and has a wider language model to put it into words."""
    nano = load_yaml(catalog.find(catalog.MODEL, "nano"))
    nano["language_model"]["architecture"] |= {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4}
    return {
        "name": "pupil",
        "base": "nano",
        "summary": "Learns what templates say, for a measurement.",
        "vision_encoder": nano["vision_encoder"] | {"image": nano["vision_encoder"]["image"] | {"size": 128}},
        "language_model": nano["language_model"],
        "weights": {"reason": "made for a measurement"},
        "reported": {"reason": "it is ours"},
        "measured": {"reason": "not in its row"},
    }


def asked(built: Path) -> Iterator[Conversation]:
    """What a model is shown, and the template's reply; but for clips that the builder dropped, with their frames."""
    with sqlite3.connect(built / "calls.sqlite") as connection:
        for key, request, reply in connection.execute("SELECT key, request, reply FROM calls ORDER BY key"):
            found, said = Request.model_validate_json(request), Completion.model_validate_json(reply)
            if not all((built / medium.path).is_file() for medium in found.media):
                continue
            yield Conversation(
                id=key,
                messages=[*found.messages, message("assistant", said.text)],
                media=found.media,
                task=found.prompt,
            )


def exam(url: str, model: str, out: Path, items: int, labels: list[str]) -> None:
    client = OpenAICompatibleClient(model, [url], timeout=600)
    config = BuildConfig.model_validate(
        {"workers": 4, "on_error": "skip", "max_errors": 100_000, "asking": {"parameters": {"temperature": 0}}}
    )
    sys.stdout.write(
        "| builder | items | left out | conversations | dropped | seconds | right |\n|---|---|---|---|---|---|---|\n"
    )
    for label in labels:
        name, *options = BUILDERS[label].split(":")
        number = "items" if name == "captioning" else "clips"
        start = time.perf_counter()
        built = run(
            load_builder(name, [*options, f"{number}={items}", f"seed={EXAM}"]), out / label, config, client=client
        )
        took = time.perf_counter() - start
        note = built.builder or {}
        judge = captions_right if name == "captioning" else pairs_right
        right = judge([Conversation.model_validate(row) for _, row in read_jsonl(out / label / "shard-00000.jsonl")])
        dropped = sum(note.get("dropped", {}).values())
        sys.stdout.write(
            f"| {label} | {items} "
            f"| {note.get('failed', 0)} | {built.conversations} | {dropped} | {took:.0f} | {right} |\n"
        )
        sys.stdout.flush()
    client.close()


def captions_right(found: list[Conversation]) -> str:
    """How many sentences are true of their scenes, and how many captions in all their sentences."""
    sentences, whole = Counter[bool](), Counter[bool]()
    for one in found:
        scene = scenes.scene(EXAM, int(one.provenance.parents[0].rpartition("/")[2]))  # type: ignore[union-attr]
        true = {*scene.captions(), *album_facts.things_of(scene)}
        said = [part.rstrip(".") + "." for part in one.messages[-1].text.split(". ")]
        right = [sentence in true for sentence in said]
        sentences.update(right)
        whole[all(right)] += 1
    return f"sentences {told(sentences)}, captions {told(whole)}"


def pairs_right(found: list[Conversation]) -> str:
    """How many chosen and rejected answers are true, where the world knows the question."""
    chosen, rejected, unknown = Counter[bool](), Counter[bool](), 0
    for one in found:
        parent = one.provenance.parents[0]  # type: ignore[union-attr]
        known = clip_facts.known(clips.clip(EXAM, int(parent.rpartition("/")[2])), random.Random(parent))
        answers = {fact.question: fact.answer for fact in known}
        question = one.messages[0].text.strip()
        assert one.preference is not None
        if question not in answers:
            unknown += 1
            continue
        chosen[one.preference.chosen[0].text == answers[question]] += 1
        rejected[one.preference.rejected[0].text == answers[question]] += 1
    return f"chosen {told(chosen)}, rejected {told(rejected)}, of no such question {unknown}"


def told(counts: Counter[bool]) -> str:
    whole = counts.total()
    return f"{counts[True]} of {whole} ({counts[True] / whole:.1%})" if whole else "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["lesson", "exam"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base-url")
    parser.add_argument("--model", default="model", help="its name at the server")
    parser.add_argument("--scenes", type=int, default=4000)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--items", type=int, default=100, help="of the exam, each builder")
    parser.add_argument("builders", nargs="*", help=f"of {', '.join(BUILDERS)}; left out, all")
    arguments = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "any")
    if arguments.what == "lesson":
        counts = {label: arguments.scenes if label == "captioning" else arguments.clips for label in BUILDERS}
        lesson(arguments.out, counts, arguments.epochs)
    elif arguments.base_url is None:
        parser.error("give --base-url")
    else:
        exam(arguments.base_url, arguments.model, arguments.out, arguments.items, arguments.builders or [*BUILDERS])


if __name__ == "__main__":
    main()
