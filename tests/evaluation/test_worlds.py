"""The benchmark `worlds`: balance, protocols, cache; an answerer that knows all is right, one that guesses is not."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mminstruct import catalog
from mminstruct.building import load_builder
from mminstruct.conversation import ImagePart, TextPart
from mminstruct.errors import ConfigError, DataError
from mminstruct.eval import worlds
from mminstruct.evaluation.adapters import Adapter
from mminstruct.evaluation.benchmark import Benchmark, Item, load_benchmark
from mminstruct.evaluation.item import Item as AnyItem
from mminstruct.evaluation.parsing.plain import plain
from mminstruct.evaluation.requests import Reply, Request
from mminstruct.evaluation.results import run_benchmark

STILL = [kind for kind in worlds.KINDS if kind != "video"]


@pytest.fixture
def cache(worlds_cache: Path) -> Path:
    return worlds_cache


def bench(cache: Path, *options: str, kinds: Sequence[str] = STILL, count: int = 48) -> Benchmark:
    return load_benchmark("worlds", [f"data_cache={cache}", f"count={count}", f"kinds=[{', '.join(kinds)}]", *options])


@pytest.fixture
def items(cache: Path) -> list[Item]:
    return bench(cache).questions()


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_each_kind_has_as_many_questions_as_asked_for(items: list[Item]) -> None:
    assert Counter(item.kind for item in items) == dict.fromkeys(STILL, 48)
    assert all(path.is_file() for item in items for path in item.images)
    assert len({(item.question, item.images, item.after) for item in items}) == len(items)


def test_guessing_by_prior_gives_no_more_than_chance(items: list[Item]) -> None:
    forms: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        if item.choices and not item.after:
            forms[item.kind, item.detail].append(item)
    assert len(forms) == 45
    for form, found in forms.items():
        chance = len(found) / len(found[0].choices)
        assert len({len(item.choices) for item in found}) == 1, form
        for what in (
            Counter(item.answers[0] for item in found),
            Counter(item.choices.index(item.answers[0]) for item in found),
        ):
            assert max(what.values()) <= chance, (form, what)
        for item in found:
            assert len({plain(option) for option in item.choices}) == len(item.choices)
            assert not {plain(answer) for answer in item.answers[1:]} & {
                plain(option) for option in item.choices if option != item.answers[0]
            }


def test_the_rank_of_a_number_among_its_options_tells_nothing(items: list[Item]) -> None:
    """Right answers are as often the smallest as the middle ones: wrong numbers do not lie around them."""
    ranks = Counter(
        sorted(map(int, item.choices)).index(int(item.answers[0]))
        for item in items
        if len(item.choices) == 4 and all(option.lstrip("-").isdigit() for option in item.choices)
    )
    assert sum(ranks.values()) > 150 and max(ranks.values()) < 0.36 * sum(ranks.values()), ranks


def test_the_seed_is_no_builders_default() -> None:
    seeds = {getattr(load_builder(name).options, "seed", None) for name in catalog.names(catalog.BUILDER)}
    assert worlds.SEED not in seeds and 0 in seeds


def test_the_version_stands_for_these_questions(tmp_path: Path) -> None:
    """Other questions for the same options need another VERSION; then write the new digest here."""
    lines = [
        line
        for kind in STILL
        for line in (bench(tmp_path, kinds=[kind], count=3).folder(kind) / "questions.jsonl")  # type: ignore[attr-defined]
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    said = [(line["id"], line["question"], line["answers"], line["choices"]) for line in map(json.loads, lines)]
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    assert (worlds.VERSION, digest[:16]) == (1, "c3db31253439e8ef")


# --- how it is asked --------------------------------------------------------------------------------------------------


def parts(benchmark: Benchmark, item: Item, replies: Sequence[str] = ()) -> list[list[str]]:
    """Each turn's parts; pictures by their numbers."""
    conversation = benchmark.request(item, replies).conversation
    return [
        [
            f"<{part.index}>" if isinstance(part, ImagePart) else part.text if isinstance(part, TextPart) else "<video>"
            for part in message.content
        ]
        for message in conversation.messages
    ]


def test_prompts_are_llavas(cache: Path, items: list[Item]) -> None:
    short, letters = bench(cache), bench(cache, "protocol=letters")
    item = next(item for item in items if item.id == "counting/0")
    ask = "How many shapes are there in the picture?"
    assert parts(short, item) == [["<0>", f"\n{ask}\nAnswer the question using a single word or phrase."]]
    chosen = next(item for item in letters.questions() if item.id == "counting/0")
    options = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", item.choices, strict=True))
    assert parts(letters, chosen) == [
        ["<0>", f"\n{ask}\n{options}\nAnswer with the option's letter from the given choices directly."]
    ]
    assert item.choices["ABCD".index(chosen.answers[0])] == item.answers[0]
    first = bench(cache, "protocol=first-token")
    assert first.request(chosen).choices == ("A", "B", "C", "D") and letters.request(chosen).choices == ()
    assert "instructions" not in {item.kind for item in first.questions()}


def test_examples_stand_in_front_with_their_answers(cache: Path, items: list[Item]) -> None:
    item = next(item for item in items if item.kind == "in-context" and item.detail == "naming")
    told = item.facts["told"]
    (turn,) = parts(bench(cache), item)
    assert turn[::2] == ["<0>", "<1>", "<2>", "<3>", "<4>"]
    assert turn[1::2][:-1] == [f"\nWhat is this called?\nAnswer: {answer}\n\n" for answer in told]
    assert turn[-1] == "\nWhat is this called?\nAnswer the question using a single word or phrase."


def test_later_turns_hold_the_models_own_replies(cache: Path, items: list[Item]) -> None:
    first, second, third = [item for item in items if item.kind == "instructions"][:3]
    benchmark = bench(cache)
    assert second.after == (first.id,) and third.after == (first.id, second.id)
    assert parts(benchmark, first) == [["<0>", f"\n{first.question}"]]
    assert parts(benchmark, third, ["one", "two"]) == [
        ["<0>", f"\n{first.question}"], ["one"], [second.question], ["two"], [third.question]
    ]  # fmt: skip
    assert len(third.facts["checks"]) == 2 and second.facts["checks"] == first.facts["checks"]


# --- who is right -----------------------------------------------------------------------------------------------------


class Knowing(Adapter):
    """Answers from a table: (prompt's last turn, last picture or clip, answers before) -> text."""

    def __init__(self, benchmark: Benchmark, say: Mapping[str, str]) -> None:
        self._benchmark, self._say = benchmark, say
        self.asked: list[str] = []

    @property
    def identity(self) -> None:
        return None

    def answer(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        for place, request in enumerate(requests):
            text = self._say[request.conversation.id]
            scores = {choice: float(choice == text) for choice in request.choices} or None
            self.asked.append(request.conversation.id)
            yield [(place, Reply(text=text, tokens=1, finish="choice" if scores else "end", scores=scores))]

    def facts(self) -> dict[str, Any]:
        return {}


def obedient(item: AnyItem) -> str:
    """The gold, said as the instructions of the item want it; written without the checker."""
    text = f"it is clearly {item.answers[0]} and nothing else"
    wants = {check["id"]: check.get("kwargs", {}) for check in item.facts["checks"]}
    if "sentences:start" in wants:
        text = f"i see that {text}"
    if "startend:end_checker" in wants:
        text = f"{text}, that is all"
    if "change_case:english_capital" in wants:
        text = text.upper()
    return f'"{text}"' if "startend:quotation" in wants else text


@pytest.mark.parametrize("protocol", ["llava-1.5", "letters", "first-token"])
def test_who_knows_everything_is_right_everywhere(cache: Path, protocol: str) -> None:
    benchmark = bench(cache, f"protocol={protocol}")
    say = {item.id: obedient(item) if item.facts.get("checks") else item.answers[0] for item in benchmark.questions()}
    numbers = run_benchmark(Knowing(benchmark, say), benchmark, blank=False).numbers()
    assert numbers["accuracy"] == 1.0 and numbers["n"] == (528 if protocol == "llava-1.5" else 480)


def test_who_disobeys_is_wrong_though_the_gold_is_said(cache: Path) -> None:
    benchmark = bench(cache, kinds=["instructions"])
    say = {item.id: f"It is {item.answers[0]}." for item in benchmark.questions()}
    result = run_benchmark(Knowing(benchmark, say), benchmark, blank=False)
    figures = result.scores["worlds"].figures
    assert figures["content"] == 1.0 and figures["follows"] == 0.0 and result.numbers()["accuracy"] == 0.0


@pytest.mark.parametrize("protocol", ["llava-1.5", "letters"])
def test_who_always_gives_the_commonest_answer_is_no_better_than_chance(cache: Path, protocol: str) -> None:
    benchmark = bench(cache, f"protocol={protocol}", kinds=[kind for kind in STILL if kind != "instructions"])
    found = benchmark.questions()
    golds: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for item in found:
        golds[item.kind, item.detail][item.answers[0]] += 1
    say = {item.id: max(sorted(golds[item.kind, item.detail]), key=golds[item.kind, item.detail].__getitem__)
           for item in found}  # fmt: skip
    by_type = run_benchmark(Knowing(benchmark, say), benchmark, blank=False).numbers()["by_type"]
    for kind in benchmark.options.kinds:  # type: ignore[attr-defined]
        of = [item for item in found if item.kind == kind]
        chance = sum(1 / len(item.choices) for item in of) / len(of)
        assert by_type[kind]["accuracy"] <= chance + 1e-9, kind
        if protocol == "letters":
            assert by_type[kind]["accuracy"] >= chance - 1e-9, kind


# --- the cache --------------------------------------------------------------------------------------------------------


def test_drawn_once_and_the_same_everywhere(tmp_path: Path) -> None:
    one, other = (bench(tmp_path / name, kinds=["spatial", "in-context"], count=5) for name in "ab")
    first = {
        path.relative_to(tmp_path / "a"): path.read_bytes()
        for _ in one.questions()
        for path in one_files(tmp_path / "a")
    }
    stamps = {path: path.stat().st_mtime_ns for path in one_files(tmp_path / "a")}
    assert [item.question for item in one.questions()] == [item.question for item in other.questions()]
    assert first == {path.relative_to(tmp_path / "b"): path.read_bytes() for path in one_files(tmp_path / "b")}
    assert stamps == {path: path.stat().st_mtime_ns for path in one_files(tmp_path / "a")}
    assert {path.parts[0] for path in first} == {f"{worlds.VERSION}-{worlds.SEED}-5"}
    others = bench(tmp_path / "a", "seed=5", kinds=["spatial"], count=5).questions()
    assert [item.question for item in others] != [item.question for item in one.questions()[:5]]


def one_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_the_default_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (item,) = load_benchmark("worlds", ["count=1", "kinds=[counting]"]).questions()
    assert item.images[0].is_relative_to(tmp_path / "mminstruct" / "worlds")


def test_wrong_options_and_broken_caches(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no kind 'countin'.*Did you mean 'counting'"):
        bench(tmp_path, kinds=["countin"])
    benchmark = bench(tmp_path, kinds=["counting"], count=2)
    item = benchmark.questions()[0]
    item.images[0].unlink()
    with pytest.raises(DataError, match=r"is gone; remove .*counting, and it is drawn again"):
        benchmark.questions()
    (item.images[0].parent / "questions.jsonl").write_text('{"id": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"questions.jsonl:1 is broken; remove"):
        benchmark.questions()


def test_answers_are_in_no_order(items: list[Item]) -> None:
    """The forms come in turn, their targets do not."""
    golds = [item.answers[0] for item in items if item.kind == "yes-no"]
    assert golds.count("yes") == golds.count("no") == 24
    assert golds != sorted(golds) and random.Random(0).sample(golds, 48) != golds
