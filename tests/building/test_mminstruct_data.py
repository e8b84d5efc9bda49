"""MMInstruct's builder: true answers in two worlds, exact forms of replies, rules, and pictures of one's own."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.building.clients import OpenAICompatibleClient
from mminstruct.building.options import lettered
from mminstruct.conversation import Conversation
from mminstruct.data_builders import mminstruct_data as mminstruct
from mminstruct.data_builders.worlds import bar_charts, chinese_facts, text_facts
from mminstruct.data_builders.worlds.fills import Known, places
from mminstruct.data_builders.worlds.scenes import NUMBERS, Scene, Thing, scene
from mminstruct.errors import ConfigError, DataError, MediaError, ReplyError
from tests.building.chat_server import serving

SHAPES, CHARTS = 60, 40
NAME = r"(?:the )?(\w+ (?:circle|square|triangle|diamond))"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mminstruct") / "set"
    run(load_builder("mminstruct-data", [f"quotas={{shapes: {SHAPES}, charts: {CHARTS}}}"]), out)
    return out


@pytest.fixture(scope="module")
def found(built: Path) -> list[Conversation]:
    return list(formats.read(built))


def asked(found: list[Conversation], domain: str, *kinds: str) -> list[tuple[int, str, str, Conversation]]:
    """(number of the picture, question without options and ending, answer in words, record)."""
    rows = []
    for one in found:
        _, name, _, number, kind, _ = one.id.split("/")
        if name == domain and kind in kinds:
            question, answer = one.messages[0].text.strip().split("\n")[0], one.messages[1].text
            if one.options is not None:
                answer = one.options["ABCD".index(answer)]
            rows.append((int(number), question, answer, one))
    return rows


def named(drawn: Scene) -> dict[str, Thing]:
    return {f"{thing.color} {thing.shape}": thing for thing in drawn.things}


def across(things: dict[str, Thing]) -> list[str]:
    return sorted(things, key=lambda name: things[name].box[0] + things[name].box[2])


def down(things: dict[str, Thing]) -> list[str]:
    return sorted(things, key=lambda name: things[name].box[1] + things[name].box[3])


def wide(things: dict[str, Thing]) -> list[str]:
    return sorted(things, key=lambda name: things[name].box[0] - things[name].box[2])


def part(thing: Thing) -> str:
    left, top, right, bottom = thing.box
    rows = ["top", "", "bottom"][(3 * (top + bottom) > 672) + (3 * (top + bottom) > 1344)]
    columns = ["left", "", "right"][(3 * (left + right) > 672) + (3 * (left + right) > 1344)]
    return f"at the {rows} {columns}".replace("  ", " ").strip() if rows or columns else "in the middle"


def truth_of_shapes(question: str, drawn: Scene) -> str:
    """By the boxes. Raises where the question is none of the domain's."""
    things = named(drawn)
    if match := re.fullmatch(rf"(?:Is|Does) {NAME} (?:to the left of|lie further left than) {NAME}\?", question):
        return "Yes" if across(things).index(match[1]) < across(things).index(match[2]) else "No"
    if match := re.fullmatch(rf"Is (?:the middle of )?{NAME} (?:above|higher than that of) {NAME}\?", question):
        return "Yes" if down(things).index(match[1]) < down(things).index(match[2]) else "No"
    if match := re.fullmatch(rf"Is {NAME} wider than {NAME}\?", question):
        one, other = (things[match[place]].box for place in (1, 2))
        assert abs((one[2] - one[0]) - (other[2] - other[0])) >= 6
        return "Yes" if one[2] - one[0] > other[2] - other[0] else "No"
    if match := re.fullmatch(r"(?:Is there|Can you see) (a|an) (\w+ \w+) .*\?", question):
        assert (match[1] == "an") == (match[2][0] in "aeiou")
        return "Yes" if match[2] in things else "No"
    if match := re.fullmatch(r"Is the background (.+)\?", question):
        return "Yes" if match[1] == drawn.ground else "No"
    if match := re.fullmatch(r"(Is|Are) there exactly (\w+) (\w+?)(s?) in the picture\?", question):
        assert (match[1] == "Is") == (match[2] == "one") == (not match[4])
        return "Yes" if match[2] == NUMBERS[sum(thing.shape == match[3] for thing in drawn.things)] else "No"
    if match := re.fullmatch(r"Are there (\w+) shapes altogether\?", question):
        return "Yes" if match[1] == NUMBERS[len(things)] else "No"
    if match := re.fullmatch(
        rf"(?:Where in the picture is|Where is|In which part of the picture can) {NAME}.*", question
    ):
        return part(things[match[1]])
    if match := re.fullmatch(r"How many (\w+?)s (?:are there|does the picture have)\?", question):
        return NUMBERS[sum(thing.shape == match[1] for thing in drawn.things)]
    if match := re.fullmatch(r"What color (?:does|is) the (\w+)(?: have)?\?", question):
        if match[1] == "background":
            return drawn.ground
        (color,) = [thing.color for thing in drawn.things if thing.shape == match[1]]
        return color
    if match := re.fullmatch(r"(?:What kind of shape is the (\w+) one|Which shape is (\w+))\?", question):
        (shape,) = [thing.shape for thing in drawn.things if thing.color in (match[1], match[2])]
        return shape
    return {
        "Which shape is furthest to the left?": f"the {across(things)[0]}",
        "What is furthest to the left?": f"the {across(things)[0]}",
        "Which shape is furthest to the right?": f"the {across(things)[-1]}",
        "What is furthest to the right?": f"the {across(things)[-1]}",
        "Which shape is higher up than all the others?": f"the {down(things)[0]}",
        "Which shape is the highest?": f"the {down(things)[0]}",
        "Which is the lowest of the shapes?": f"the {down(things)[-1]}",
        "What lies lower than everything else?": f"the {down(things)[-1]}",
        "Which of the shapes is the widest?": f"the {wide(things)[0]}",
        "Which shape is the widest?": f"the {wide(things)[0]}",
        "Which one is the narrowest?": f"the {wide(things)[-1]}",
        "Which shape is the narrowest?": f"the {wide(things)[-1]}",
        "What is the color of the background?": drawn.ground,
        "How many shapes are there in all?": NUMBERS[len(things)],
    }[question]


def truth_of_charts(question: str, chart: bar_charts.Chart) -> str:
    """By the bars, which a test below reads off the pixels."""
    bars = dict(chart.bars)
    ranked = sorted(bars, key=lambda name: -bars[name])
    if match := re.fullmatch(r"Is the bar of (\w+) taller than the bar of (\w+)\?", question):
        return "Yes" if bars[match[1]] > bars[match[2]] else "No"
    if match := re.fullmatch(r"Does (\w+) have a greater value than (\w+)\?", question):
        return "Yes" if bars[match[1]] > bars[match[2]] else "No"
    if match := re.fullmatch(r"Is the value of (\w+) (\d+)\?", question):
        return "Yes" if bars[match[1]] == int(match[2]) else "No"
    if match := re.fullmatch(r"Does the chart give (\d+) as the value of (\w+)\?", question):
        return "Yes" if bars[match[2]] == int(match[1]) else "No"
    if match := re.fullmatch(r"Does (\w+) have more than (\d+) \w+\?", question):
        return "Yes" if bars[match[1]] > int(match[2]) else "No"
    if match := re.fullmatch(r"(?:Is there a bar for|Does the chart have a bar with the name) (\w+)\?", question):
        return "Yes" if match[1] in bars else "No"
    if match := re.fullmatch(
        r"What (?:is the value of|value does|number is written above) (\w+)(?: have)?\?", question
    ):
        return str(bars[match[1]])
    if match := re.fullmatch(r"(?:To which|Which) bar (?:does the value|has the value) (\d+)(?: belong)?\?", question):
        return next(name for name, value in bars.items() if value == int(match[1]))
    if re.fullmatch(rf"How many {chart.unit} are there in all the bars together\?|What is the sum .*", question):
        return str(sum(bars.values()))
    return {
        "Which bar is the tallest?": ranked[0],
        "What is the tallest bar?": ranked[0],
        "Which bar is the second tallest?": ranked[1],
        "Which bar comes second in height?": ranked[1],
        "Which bar has the smallest value?": ranked[-1],
        "Which is the shortest bar?": ranked[-1],
        "Which bar is the first from the left?": next(iter(bars)),
        "What is the name of the first bar?": next(iter(bars)),
        "Which bar is the last on the right?": list(bars)[-1],
        "What is the name of the last bar?": list(bars)[-1],
        "How many bars does the chart have?": NUMBERS[len(bars)],
        "How many bars are there?": NUMBERS[len(bars)],
        "What color are the bars?": chart.color,
        "In which color are the bars drawn?": chart.color,
        "What is the title of the chart?": chart.title,
        "What does the title say?": chart.title,
        "By how much does the greatest value exceed the smallest?": str(bars[ranked[0]] - bars[ranked[-1]]),
        "What is the difference between the greatest and the smallest value?": str(bars[ranked[0]] - bars[ranked[-1]]),
    }[question]


def seeds_met(questions: list[str], domain: str, *kinds: str) -> bool:
    """Whether each seed question was asked, with its places filled."""
    file = mminstruct.load_domain(mminstruct.SEEDS / f"{domain}.yaml")
    patterns = [
        re.sub(r"<\w+>", ".+", re.escape(seed))
        for kind in kinds
        for seed in file.seeds[kind]  # type: ignore[index]
    ]
    return all(any(re.fullmatch(pattern, question) for question in questions) for pattern in patterns)


def test_every_short_answer_is_true(found: list[Conversation]) -> None:
    """Judgement, choice and short: computed again from boxes and bars, by the wording of the question alone."""
    kinds = ("judgement", "choice", "short")
    shapes = asked(found, "shapes", *kinds)
    for number, question, answer, _ in shapes:
        if question != "Which of these shapes can be seen in the picture?":  # see below
            assert truth_of_shapes(question, scene(0, number)) == answer, (number, question)
    charts = asked(found, "charts", *kinds)
    for number, question, answer, _ in charts:
        assert truth_of_charts(question, bar_charts.chart(0, number)) == answer, (number, question)
    for domain, rows in (("shapes", shapes), ("charts", charts)):
        assert seeds_met([question for _, question, _, _ in rows], domain, *kinds)


def test_wrong_options_are_wrong(found: list[Conversation]) -> None:
    for domain in ("shapes", "charts"):
        for number, question, answer, one in asked(found, domain, "choice"):
            assert one.options is not None and len({option.casefold() for option in one.options}) == 4
            if question == "Which of these shapes can be seen in the picture?":
                there = [option for option in one.options if option.removeprefix("the ") in named(scene(0, number))]
                assert there == [answer]
            lines = one.messages[0].text.strip().split("\n")
            assert lines[1:5] == [f"{letter}. {option}" for letter, option in zip("ABCD", one.options, strict=True)]
            assert one.answers == [one.messages[1].text]


def test_every_long_answer_of_shapes_is_true(found: list[Conversation]) -> None:
    rows = asked(found, "shapes", "long")
    for number, question, answer, _ in rows:
        drawn = scene(0, number)
        things = named(drawn)
        said = re.findall(NAME, answer)
        if "from left to right?" in question:
            assert said == [*across(things), across(things)[0]]
        elif "from top to bottom?" in question:
            assert said == [down(things)[0], *down(things)]
        elif question.startswith("Which kinds"):
            counts = Counter(thing.shape for thing in drawn.things)
            told = re.findall(r"(\w+) (circle|square|triangle|diamond)(s?)", answer)
            assert {(count, shape) for count, shape, _ in told} == {(NUMBERS[n], shape) for shape, n in counts.items()}
            assert all((count != "one") == bool(plural) for count, _, plural in told)
            assert f"There are {NUMBERS[len(things)]} shapes" in answer and f"background is {drawn.ground}" in answer
        elif question.startswith(("Where is", "What can you say")):
            (name,) = re.findall(NAME, question)
            assert answer.startswith(f"The {name} is {part(things[name])} of the picture.")
            row, column = across(things), down(things)
            at = row.index(name)
            if "further to the left" in answer:
                assert at == 0 and said[1] == row[1]
            elif "further to the right" in answer:
                assert at == len(row) - 1 and said[1] == row[-2]
            else:
                assert said[1:3] == [row[at - 1], row[at + 1]]
            at = column.index(name)
            if match := re.search(rf"It is lower than {NAME} and higher than {NAME}\.", answer):
                assert [match[1], match[2]] == [column[at - 1], column[at + 1]]
            else:
                assert answer.endswith(f"It is {'higher up' if at == 0 else 'lower down'} than everything else.")
                assert at in (0, len(column) - 1)
        elif question.startswith("How do the"):
            one, other = re.findall(NAME, question)
            wider = wide(things).index(one) < wide(things).index(other)
            left = across(things).index(one) < across(things).index(other)
            high = down(things).index(one) < down(things).index(other)
            assert answer.startswith(
                f"The {one} is {'wider' if wider else 'narrower'} than the {other}. It is further to the "
                f"{'left' if left else 'right'} and {'higher up' if high else 'lower down'}."
            )
            both = re.findall(r"Both are (\w+)\.", answer)
            assert both == [word for word in one.split() if word in other.split()] or both == [f"{one.split()[1]}s"]
        else:
            assert question == "Which shape is the widest and which the narrowest, and where are they?"
            assert said == [wide(things)[0], wide(things)[-1]]
            assert re.findall(r"which is (.+?)\.", answer) == [part(things[name]) for name in said]
    assert seeds_met([question for _, question, _, _ in rows], "shapes", "long")


def test_every_long_answer_of_charts_is_true(found: list[Conversation]) -> None:
    rows = asked(found, "charts", "long")
    for number, question, answer, _ in rows:
        chart = bar_charts.chart(0, number)
        bars = dict(chart.bars)
        ranked = sorted(bars, key=lambda name: -bars[name])
        told = [(name, int(value)) for name, value in re.findall(r"([A-Z]\w+) (?:with|has) (\d+)", answer)]
        assert all(bars[name] == value for name, value in told)
        if question.startswith("How do the bars rank"):
            assert [name for name, _ in told] == ranked
        elif question.startswith("What range"):
            assert [name for name, _ in told] == [ranked[0], ranked[-1]]
            one, other, gap = map(int, re.findall(r"(\d+) - (\d+) = (\d+)", answer)[0])
            assert (one, other, gap) == (bars[ranked[0]], bars[ranked[-1]], one - other)
        elif "come to together" in question:
            total, end = re.findall(r"gives (.+) = (\d+)", answer)[0]
            assert [int(value) for value in total.split(" + ")] == list(bars.values())
            assert int(end) == sum(bars.values()) and chart.unit in answer
        elif question == "What does the chart show?":
            assert told == list(chart.bars) and repr(chart.title) in answer and f"{chart.color} bars" in answer
        else:
            assert len(told) == 2 and max(told, key=lambda one: one[1])[0] == re.findall(r"bar of (\w+) is", answer)[0]
    assert seeds_met([question for _, question, _, _ in rows], "charts", "long")


def test_charts_show_their_bars() -> None:
    """Runs of the bars' color in the picture's rows: as many as there are, as high as their values are."""
    for number in range(20):
        chart = bar_charts.chart(0, number)
        picture = chart.draw()
        color = bar_charts.COLORS[chart.color]
        row = [picture.getpixel((x, bar_charts.BASE - 2)) == color for x in range(picture.width)]
        starts = [x for x in range(1, picture.width) if row[x] and not row[x - 1]]
        heights = []
        for x in starts:
            heights.append(sum(picture.getpixel((x + 3, y)) == color for y in range(picture.height)))
        assert len(heights) == len(chart.bars)
        values = [value for _, value in chart.bars]
        for height, value in zip(heights, values, strict=True):
            assert abs(height - 210 * value / max(values)) <= 2
        differences = [abs(one - other) for one, other in itertools.combinations(values, 2)]
        assert min(differences) >= 2
        assert sorted(chart.text()) == sorted([chart.title, *map(str, values), *dict(chart.bars)])


def test_captions_say_what_is_asked_and_are_the_models(found: list[Conversation]) -> None:
    captions = {one.id.rsplit("/", 2)[0]: one.messages[1].text for one in found if one.task == "mminstruct+caption"}
    assert len(captions) == SHAPES + CHARTS
    for one in found:
        if one.task != "mminstruct+caption":
            assert one.extra is not None and one.extra["caption"] == captions[one.id.rsplit("/", 2)[0]]
            assert one.provenance is not None and len(one.provenance.call_ids) == 2
        assert one.provenance is not None and one.provenance.parents == ["/".join(one.id.split("/")[1:4])]


def test_as_many_yes_as_no_and_as_many_questions_as_asked_for(found: list[Conversation], built: Path) -> None:
    for kind, count in {"judgement": 4, "choice": 3, "long": 3, "short": 3}.items():
        by_picture = Counter(one.id.rsplit("/", 1)[0] for one in found if one.task == f"mminstruct+{kind}")
        assert set(by_picture.values()) == {count}, kind
        assert len(by_picture) == SHAPES + CHARTS
    answers: dict[str, list[str]] = {}
    for one in found:
        if one.task == "mminstruct+judgement":
            answers.setdefault(one.id.rsplit("/", 1)[0], []).append(one.messages[1].text)
    assert all(sorted(each) == ["No", "No", "Yes", "Yes"] for each in answers.values())
    assert len({tuple(each) for each in answers.values()}) == 6  # in every order


def test_right_options_stand_at_all_places_alike(found: list[Conversation]) -> None:
    letters = Counter(one.messages[1].text for one in found if one.task == "mminstruct+choice")
    expected = sum(letters.values()) / 4
    assert sum((letters[letter] - expected) ** 2 / expected for letter in "ABCD") < 16.27  # 0.1 % at 3 degrees


def test_a_model_that_always_puts_the_right_option_first_is_evened_out() -> None:
    chance = random.Random(0)
    question = mminstruct.Question("Q?", "right", ("right", "b", "c", "d"))
    drawn = [mminstruct._placed(question, chance) for _ in range(2000)]
    places_of = Counter(one.options.index("right") for one in drawn)
    assert sum((places_of[place] - 500) ** 2 / 500 for place in range(4)) < 16.27
    assert {tuple(option for option in one.options if option != "right") for one in drawn} == {("b", "c", "d")}


def test_endings_are_ten_of_each_type_and_are_used(found: list[Conversation]) -> None:
    for kind in mminstruct.TYPES:
        endings = mminstruct.prompt_file().types[kind].endings
        assert len(set(endings)) == 10
        used = {one.messages[0].text.split("\n")[-1] for one in found if one.task == f"mminstruct+{kind}"}
        assert used == set(endings)
    requests = {one.messages[0].text.strip() for one in found if one.task == "mminstruct+caption"}
    assert requests == set(mminstruct.prompt_file().requests)


def test_seed_questions_name_facts_with_their_places() -> None:
    drawn = {name: [mminstruct.WORLDS[name](0, n, ["en", "zh"]).known for n in range(40)] for name in mminstruct.WORLDS}
    lines = (["EXIT", "Gate 3"], "", "", random.Random(0))
    known: dict[str, list[Known]] = {name: [one["en"] for one in found] for name, found in drawn.items()}
    known |= {f"{name}.zh": [one["zh"] for one in found] for name, found in drawn.items()}
    known |= {"pictures": [text_facts.known(*lines)], "pictures.zh": [chinese_facts.of_lines(*lines)]}
    for domain, all_known in known.items():
        facts: dict[str, set[str]] = {}
        for one in all_known:
            for name, fills in one.fills.items():
                facts[name] = set(fills[0].words)
                assert all(set(fill.words) == facts[name] for fill in fills)
        named_facts = set()
        for seeds in mminstruct.load_domain(mminstruct.SEEDS / f"{domain}.yaml").seeds.values():
            for seed, fact in seeds.items():
                if fact is not None:
                    assert facts[fact] == places(seed), seed
                    named_facts.add(fact)
        assert named_facts == set(facts)  # no fact is computed in vain


ASKED = mminstruct.Asked("shapes", "A red square.", "", ["Is <one> red?"], {"Is <one> red?": None}, Known(""))


def replied(*texts: dict[str, str]) -> str:
    return "\n".join(
        f"<{tag}{number}>{value}</{tag}{number}>"
        for number, each in enumerate(texts, start=1)
        for tag, value in each.items()
    )


def judged(*answers: str) -> str:
    return replied(*({"Q": f"Question {number}?", "A": answer} for number, answer in enumerate(answers)))


def chosen(options: str, answer: str) -> str:
    good = "A. one\nB. two\nC. three\nD. four"
    rest = [{"Q": f"Q{number}?", "C": good, "A": "A"} for number in range(2)]
    return replied({"Q": "Which?", "C": options, "A": answer}, *rest)


GOOD = "A. red\nB. green\nC. blue\nD. black"


@pytest.mark.parametrize(
    ("kind", "reply", "problem"),
    [
        ("judgement", "Yes, there is a square.", "there is no <Q1>"),
        ("judgement", "<Q1>A?</Q1><A1>Yes</A1><Q2>B?</Q2><A2>No", "<A2> is missing, or has no end"),
        ("judgement", "<Q1>A?</Q1><A1>Yes</A1><Q3>B?</Q3><A3>No</A3>", "<Q2> is missing"),
        ("judgement", judged("Yes", "No"), "there are 2 questions; write 4"),
        ("judgement", judged("Yes", "Yes", "yes.", "No"), "3 answers are Yes and 1 No; there must be two of each"),
        ("judgement", judged("Yes", "No", "Maybe", "No"), "<A3> is 'Maybe', neither Yes nor No"),
        ("judgement", judged("Yes", "No", "Yes", "No").replace("Question 1", "question 0"), "stands twice"),
        ("choice", chosen("A. red\nB. green\nC. blue", "A"), "<C1> has options with A, B, C in front; write 4, A to D"),
        ("choice", chosen(f"{GOOD}\nE. white", "A"), "<C1> has options with A, B, C, D, E in front"),
        ("choice", chosen("red, green, blue, black", "A"), "<C1> has options with nothing in front"),
        ("choice", chosen("A. red\nB. Red.\nC. blue\nD. black", "A"), "two options of <C1> are equal"),
        ("choice", chosen("A. red\nB. green\nC. blue\nD. All of the above", "D"), "is about other options"),
        ("choice", chosen(GOOD, "E"), "the answer 'E' of <A1> is not among the options"),
        ("choice", chosen(GOOD, "white"), "the answer 'white' of <A1> is not among the options"),
        ("choice", chosen(GOOD, "B. blue"), "<A1> is 'B. blue', but the option B is 'green'"),
        ("long", judged("Yes.", "No.", "So."), "<A1> has fewer than 8 words"),
        (
            "short",
            judged("red", "two", "one two three four five six seven eight nine ten eleven"),
            "more than 10 words",
        ),
    ],
)
def test_replies_of_another_form_are_refused(kind: mminstruct.Type, reply: str, problem: str) -> None:
    with pytest.raises(ReplyError, match=re.escape(problem)):
        mminstruct.TYPES[kind].parse(reply, ASKED)


def test_options_and_answers_are_read_as_models_write_them() -> None:
    lines = "(A) Vitamin C. Much of it\n B) a cat\nC: one\ntwo\nD. blue"
    assert lettered(lines, 4, "<C1>") == ["Vitamin C. Much of it", "a cat", "one two", "blue"]
    assert lettered("A. red B. green C. blue D. black", 4, "<C1>") == ["red", "green", "blue", "black"]
    for answer in ("B", "(B)", "B.", "B. green", "green", "Green"):
        first = mminstruct.TYPES["choice"].parse(chosen(GOOD, answer), ASKED)[0]
        assert (first.answer, first.options) == ("green", ["red", "green", "blue", "black"])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source list in MMInstruct's form, with a caption at one of them."""
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    Image.new("RGB", (30, 20), "blue").save(tmp_path / "b.jpg")
    caption = (
        "A blue sign with white letters hangs over a door; two people wait below it, and one of them has a red bag."
    )
    rows = [
        {"image_path": "a.png", "text": ["EXIT", "Gate 3"], "bing_tag": "A station"},
        {"image_path": "b.jpg", "text": [], "gpt4v_caption_interface": caption, "gpt4v_prompt": "..."},
    ]
    path = tmp_path / "source.json"
    path.write_text(json.dumps(rows))
    return path


def answers(body: dict[str, Any]) -> str:
    """A model that keeps to the form, and says more than the caption does in some places."""
    system = body["messages"][0]["content"]
    if "yes or by no" in system:
        return judged("Yes", "No", "Yes", "No").replace("Question", "Is a bag red, in place")
    if "four different options" in system:
        return chosen("A. red\nB. green\nC. blue\nD. black", "A").replace("Which?", "What color is the bag?")
    if "whole sentences" in system:
        lines = [
            "Two people wait below the blue sign, and one has a red bag.",
            "There are 17 people who wait below the blue sign at the door.",
            "An enormous purple dinosaur dances happily near volcanoes erupting tonight.",
        ]
        return replied(*({"Q": f"What {n} happens?", "A": line} for n, line in enumerate(lines)))
    if "at most ten words" in system:
        return replied(
            {"Q": "What color is the bag?", "A": "red"},
            {"Q": "What does the description say?", "A": "a sign"},
            {"Q": "Zebra xylophone quartz jumps?", "A": "two people"},
        )
    return "A red wall " + "and a door " * 20


def test_a_model_looks_and_writes_and_rules_leave_out(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    broken: set[str] = set()

    def first_breaks(body: dict[str, Any]) -> str:
        """The first reply to each question lacks its last tag."""
        if len(body["messages"]) <= 2 and body["messages"][0]["content"].startswith("You write"):
            broken.add(body["messages"][0]["content"])
            return answers(body).rsplit("</", 1)[0]
        return answers(body)

    with serving(first_breaks) as server:
        client = OpenAICompatibleClient("m", [server.url])
        overrides = [f"source={source}", "min_closeness=0.05", "kinds=[caption, judgement, choice, long, short]"]
        run(load_builder("mminstruct-data", overrides), tmp_path / "set", client=client)
        client.close()
    asked_of = [request["messages"] for request in server.requests]
    (look,) = [messages for messages in asked_of if isinstance(messages[1]["content"], list)]  # b.jpg has a caption
    assert look[1]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert "EXIT\nGate 3" in look[1]["content"][1]["text"]
    told = [messages for messages in asked_of if len(messages) == 4]
    assert len(broken) == 4 and len(told) == 8
    assert all("is missing, or has no end" in messages[3]["content"] for messages in told)
    prompts = [messages[1]["content"] for messages in told]
    assert sum("Prior knowledge: A station" in prompt for prompt in prompts) == 4
    assert sum("Prior knowledge: Empty" in prompt for prompt in prompts) == 4
    assert all(len(re.findall(r"^- ", prompt, re.MULTILINE)) == 3 for prompt in prompts)
    records = {one.id: one for one in formats.read(tmp_path / "set")}
    second = [name for name in records if name.startswith("mminstruct/source/1/")]
    assert [name.split("/", 3)[3] for name in second] == [
        *("caption/0", "judgement/0", "judgement/1", "judgement/2", "judgement/3"),
        *("choice/0", "long/0", "short/0"),
    ]
    build = json.loads((tmp_path / "set/manifest.json").read_text())["builder"]
    assert (
        build["dropped"]["a number is not in the caption"] == 3 + 1
    )  # of the first picture, whose caption has no people, and of the other
    assert build["dropped"]["speaks of the description"] == 2
    assert build["dropped"]["too far from the seed questions"] == 2 + 3
    assert records["mminstruct/source/1/long/0"].scores is not None
    assert records["mminstruct/source/1/long/0"].scores["support"] == 1.0


def test_dropped_judgements_take_one_of_the_other_answer_with_them() -> None:
    from mminstruct.building import Job

    builder = load_builder("mminstruct-data")
    assert isinstance(builder, mminstruct.MMInstruct)
    job = Job(builder, "x", Path(), None)
    questions = [
        mminstruct.Question("Is the square red?", "Yes"),
        mminstruct.Question("Is there a purple elephant dancing?", "Yes"),
        mminstruct.Question("Is the square green?", "No"),
        mminstruct.Question("Is the square blue?", "No"),
    ]
    kept = builder._kept(questions, "judgement", ASKED, job)
    assert [question.text for question, _ in kept] == ["Is the square red?", "Is the square green?"]
    assert job.dropped == {"too few words are in the caption": 1, "more Yes than No, or No than Yes": 1}


def test_templates_read_lines_of_text(source: Path, tmp_path: Path) -> None:
    """And say plainly that they know nothing of a picture without any."""
    settings = BuildConfig(on_error="skip")
    run(load_builder("mminstruct-data", [f"source={source}"]), tmp_path / "set", settings)
    records = list(formats.read(tmp_path / "set"))
    assert {one.id.split("/")[2] for one in records} == {"0"} and len(records) == 15
    for one in records:
        if one.task == "mminstruct+judgement":
            (line,) = re.findall("'(.+)'", one.messages[0].text)
            assert (one.messages[1].text == "Yes") == (line in ("EXIT", "Gate 3"))
    (letter,) = [json.loads(line) for line in (tmp_path / "set/dead-letters.jsonl").read_text().splitlines()]
    assert letter["item"] == "source/1" and "too little is known of the picture" in letter["problem"]


def test_broken_sources(source: Path, tmp_path: Path) -> None:
    rows = json.loads(source.read_text())[:1]
    rows += [{"image_path": "gone.png"}, {"image_path": 3}, {"image_path": "a.png", "qa_raw": "x"}]
    rows += [{"image_path": "a.png", "err": "429"}, "a.png", {"image_path": "a.png", "colour": 1}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(load_builder("mminstruct-data", [f"source={path}"]), tmp_path / "a", BuildConfig(on_error="skip"))
    problems = [json.loads(line)["problem"] for line in (tmp_path / "a/dead-letters.jsonl").read_text().splitlines()]
    for problem, cause in zip(
        problems,
        [
            "gone.png does not exist",
            "rows.jsonl:3: image_path: Input should be a valid string; mend or drop it",
            "rows.jsonl:4 has replies (qa_raw), not facts",
            "rows.jsonl:5 says that its captioner failed",
            "rows.jsonl:6: Input should be a valid dictionary",
            "rows.jsonl:7: colour: Extra inputs are not permitted",
        ],
        strict=True,
    ):
        assert cause in problem
    with pytest.raises(MediaError, match=r"gone\.png"):
        run(load_builder("mminstruct-data", [f"source={path}"]), tmp_path / "b")
    with pytest.raises(DataError, match=r"pictres.yaml of the domain 'pictres'\. Did you mean 'pictures'"):
        run(load_builder("mminstruct-data", [f"source={path}", "domain=pictres"]), tmp_path / "c")
    with pytest.raises(DataError, match=r"no world draws pictures of the domain 'shape'\. Did you mean 'shapes'"):
        run(load_builder("mminstruct-data", ["quotas={shape: 3}"]), tmp_path / "d")
    with pytest.raises(ConfigError, match="give each domain one picture at least"):
        load_builder("mminstruct-data", ["quotas={shapes: 0}"])


def test_seed_questions_of_ones_own_and_quotas(source: Path, tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    types = {kind: {f"Is {kind} <line>?": "line-there"} for kind in ("judgement", "choice", "long", "short")}
    (tmp_path / "seeds/signs.yaml").write_text(json.dumps({"summary": "signs", "seeds": types}))
    overrides = [f"source={source}", "domain=signs", f"seeds={tmp_path / 'seeds'}", "quotas={signs: 1}"]
    run(load_builder("mminstruct-data", [*overrides, "kinds=[judgement]"]), tmp_path / "set")
    questions = [one.messages[0].text.strip().split("\n")[0] for one in formats.read(tmp_path / "set")]
    assert len(questions) == 4 and all(re.fullmatch("Is judgement '.+'\\?", question) for question in questions)
