"""Vision-Flan's builder: each task's file is whole, each answer true, and copies of data sets are read as published."""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.conversation import Conversation, ImagePart
from mminstruct.data_builders.sources import Files, World
from mminstruct.data_builders.vision_flan import FOLDER, tasks
from mminstruct.data_builders.worlds.charts import Chart, chart
from mminstruct.data_builders.worlds.scenes import COLORS, GROUNDS, NUMBERS, SHAPES, scene
from mminstruct.errors import ConfigError, DataError, MminstructError
from mminstruct.evidence.facts import facts_of
from tests.building.public_sets import EXPECTED, write_all

CAP = 24
WORLD_TASKS = [name for name, task in tasks().items() if isinstance(task.source, World)]
FILE_TASKS = [name for name, task in tasks().items() if isinstance(task.source, Files)]
NAME = re.compile(rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})")

Box = tuple[int, int, int, int]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Conversation]]:
    out = tmp_path_factory.mktemp("flan") / "set"
    run(load_builder("vision-flan", ["split=all", f"cap={CAP}"]), out)
    return by_task(out)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small copies of all data sets, in their published layouts."""
    return write_all(tmp_path_factory.mktemp("copies"))


def by_task(out: Path) -> dict[str, list[Conversation]]:
    found: dict[str, list[Conversation]] = defaultdict(list)
    for one in formats.read(out):
        found[one.task or ""].append(one)
    return found


def given(one: Conversation) -> str:
    """What stands below the instruction."""
    return one.messages[0].text.strip().partition("\n\n")[2]


def said(one: Conversation) -> str:
    return one.messages[1].text


# --- the files --------------------------------------------------------------------------------------------------------


def test_there_are_many_tasks_and_no_two_word_their_instruction_alike() -> None:
    assert len(WORLD_TASKS) >= 55 and len(FILE_TASKS) >= 35 and len(list(FOLDER.glob("*.yaml"))) == len(tasks())
    counts = Counter(one.casefold().strip(" .?!") for task in tasks().values() for one in task.instructions)
    assert counts.most_common(1)[0][1] == 1
    for task in tasks().values():
        assert len(task.instructions) >= 2 and all(len(one.split()) >= 5 for one in task.instructions)
        assert re.match(r"@\w+\{\w+,\n", task.citation) and task.citation.rstrip().endswith("}")
        assert task.citation.count("{") == task.citation.count("}") and "title = {" in task.citation
        assert task.cap == 10_000 and task.licence
    assert 0.1 < sum(task.held_out for task in tasks().values()) / len(tasks()) < 0.4


@pytest.mark.parametrize("change", ["{shape.color}", "{0}", "{shape"])
def test_templates_have_plain_slots(change: str, tmp_path: Path) -> None:
    source = (FOLDER / "scenes-count-shape.yaml").read_text(encoding="utf-8").replace("{shape}", change)
    (tmp_path / "scenes-count-shape.yaml").write_text(source, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"the template .*"):
        tasks(tmp_path)


# --- worlds: every answer is computed again of boxes and values -------------------------------------------------------


def center(box: Box, axis: int) -> float:
    return (box[axis] + box[axis + 2]) / 2


def width(box: Box) -> int:
    return box[2] - box[0]


def cell(box: Box) -> str:
    columns, rows = ("left", "middle", "right"), ("top", "middle", "bottom")
    row, column = rows[int(center(box, 1) // 112)], columns[int(center(box, 0) // 112)]
    return "center" if row == column == "middle" else f"{row} {column}"


def ordered(things: dict[str, Box], key: Callable[[Box], float]) -> list[str]:
    return sorted(things, key=lambda name: key(things[name]))


def from_side(things: dict[str, Box], side: str) -> list[str]:
    axis, sign = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}[side]
    return ordered(things, lambda box: sign * center(box, axis))


def numbers(text: str) -> list[float]:
    return [float(one) for one in re.findall(r"\d+(?:\.\d+)?", text)]


def boxed(things: dict[str, Box], text: str) -> str:
    """The name of the thing whose box a text gives."""
    wanted = numbers(text)
    assert len(wanted) == 4
    near = [
        name for name, box in things.items() if all(abs(a - b / 336) < 0.0051 for a, b in zip(wanted, box, strict=True))
    ]
    assert len(near) == 1
    return near[0]


def holds(things: dict[str, Box], statement: str) -> bool:
    names = NAME.findall(statement)
    if not names:
        return f"shows {NUMBERS[len(things)]} shapes" in statement
    one, other = things[names[0]], things[names[1]]
    words = {
        "to the left": center(one, 0) < center(other, 0),
        "to the right": center(one, 0) > center(other, 0),
        "above": center(one, 1) < center(other, 1),
        "below": center(one, 1) > center(other, 1),
    }
    (true,) = [value for word, value in words.items() if word in statement]
    return true


def scene_answer(kind: str, things: dict[str, Box], ground: str, text: str) -> str:
    """The right answer, of the boxes and of the words that a conversation shows; the text below the instruction."""
    names, shapes = NAME.findall(text), re.findall("|".join(SHAPES), text)
    listed = [name.split() for name in things]
    sizes = ordered(things, width)
    match kind:
        case "count":
            return str(len(things))
        case "count-shape":
            return str(sum(shape == shapes[0] for _, shape in listed))
        case "count-color":
            return str(sum(color in text.split() for color, _ in listed))
        case "color-of-shape":
            (color,) = [color for color, shape in listed if shape == shapes[0]]
            return f"The {shapes[0]} is {color}."
        case "shape-of-color":
            (shape,) = [shape for color, shape in listed if f" {color} object" in text]
            return f"It is a {shape}."
        case "ground":
            return ground
        case "presence" | "same-shape":
            yes = names[0] in things if kind == "presence" else names[0].split()[1] == names[1].split()[1]
            return "yes" if yes else "no"
        case "relation":
            side = "left" if center(things[names[1]], 0) < center(things[names[0]], 0) else "right"
            return f"The {names[1]} is to the {side} of the {names[0]}."
        case "height":
            return "above" if center(things[names[0]], 1) < center(things[names[1]], 1) else "below"
        case "place":
            return cell(things[names[0]])
        case "extreme" | "without":
            first, second, *_ = from_side(things, re.findall(r"Side: (\w+)", text)[0])
            return f"The {first}." if kind == "extreme" else f"Without the {first}, the {second} is outermost."
        case "largest":
            return sizes[-1]
        case "smallest":
            return sizes[0]
        case "compare-sizes":
            return f"The {max(names, key=lambda name: width(things[name]))} is larger."
        case "nearest":
            here = [center(things[names[0]], axis) for axis in (0, 1)]
            others = {name: box for name, box in things.items() if name != names[0]}
            return ordered(others, lambda box: sum((center(box, axis) - here[axis]) ** 2 for axis in (0, 1)))[0]
        case "order":
            return ", ".join(ordered(things, lambda box: center(box, int("top to bottom" in text))))
        case "size-order":
            return ", ".join(sizes)
        case "count-beside":
            here, sign = center(things[names[0]], 0), 1 if "to the left" in text else -1
            return str(sum(sign * center(box, 0) < sign * here for box in things.values()))
        case "odd-one-out":
            counts = Counter(shape for _, shape in listed)
            assert len(counts) == 2 and min(counts.values()) == 1
            (odd,) = [name for name in things if counts[name.split()[1]] == 1]
            return f"The {odd}, because all others are {max(counts, key=lambda shape: counts[shape])}s."
        case "more-shapes":
            counts = Counter(shape for _, shape in listed)
            assert counts[shapes[0]] != counts[shapes[1]]
            return f"There are more {max(shapes, key=lambda shape: counts[shape])}s."
        case "statement":
            return "true" if holds(things, text) else "false"
        case "name-in-box":
            return boxed(things, text.partition("]")[0])
        case "colors":
            return ", ".join(sorted({color for color, _ in listed}))
        case "shapes":
            return ", ".join(sorted({shape for _, shape in listed}))
    raise AssertionError(f"no check of {kind}")


@functools.cache
def known(number: int) -> tuple[dict[str, Box], str]:
    found = scene(0, number)
    return {f"{thing.color} {thing.shape}": thing.box for thing in found.things}, found.ground


@pytest.mark.parametrize("task", [name for name in WORLD_TASKS if name.startswith("scenes+")])
def test_answers_about_scenes_are_true(task: str, worlds: dict[str, list[Conversation]]) -> None:
    kind = task.partition("+")[2]
    assert len(worlds[task]) == CAP
    for one in worlds[task]:
        things, ground = known(int(one.id.rpartition("/")[2]))
        text, reply = given(one), said(one)
        if kind == "locate":
            assert boxed(things, reply) == text
        elif kind == "detect":
            lines = reply.split("\n")
            assert [line.partition(":")[0] for line in lines] == ordered(things, lambda box: center(box, 0))
            assert all(boxed(things, line.partition(":")[2]) == line.partition(":")[0] for line in lines)
        elif kind == "refer":
            name = boxed(things, text)
            words = set(reply.split())
            fitting = [other for other in things if words & {*COLORS, *SHAPES} <= set(other.split())]
            assert fitting == [name] and (" at the " not in reply or cell(things[name]) in reply)
        elif kind == "question":
            side = re.findall(r"the (\w+) edge", reply)[0]
            assert text == f"Answer: {from_side(things, side)[0]}"
        elif kind == "caption":
            counted = {
                f"{NUMBERS[count]} {shape}" for shape, count in Counter(name.split()[1] for name in things).items()
            }
            assert all(part in reply for part in counted) or (all(name in reply for name in things) and ground in reply)
        elif kind == "description":
            assert ground in reply
            for name, box in things.items():
                assert f"The {name} is at the {cell(box)}".replace("at the center", "in the center") in reply
            if largest := re.findall(r"The (\w+ \w+) is the largest", reply):
                assert largest == [max(things, key=lambda name: width(things[name]))]
        else:
            assert reply == scene_answer(kind, things, ground, text)


def series(one: Chart, text: str) -> tuple[int, ...]:
    """The values that a question is about."""
    named = [
        row for name, row in zip(one.series, one.values, strict=True) if f" of {name}" in text or f"({name})" in text
    ]
    assert len(named) == 1 or len(one.series) == 1
    return named[0] if named else one.values[0]


def chart_answer(kind: str, one: Chart, text: str) -> str:
    """The right answer, of the values and of the words that a conversation shows."""
    unit = "%" if one.kind == "pie" else ""
    match kind:
        case "type":
            return {"bar": "bar chart", "line": "line chart", "pie": "pie chart", "table": "table"}[one.kind]
        case "title":
            return one.title
        case "axis":
            return one.label_kind if "horizontal" in text else one.quantity
        case "label-count":
            return str(len(one.labels))
        case "series-count":
            return str(len(one.series))
        case "color-of-name" | "name-of-color":
            legend = dict(zip(one.labels if one.kind == "pie" else one.series, one.colors, strict=True))
            if kind == "color-of-name":
                return legend[re.findall(r"Name: (.+)\. Options", text)[0]]
            return {color: name for name, color in legend.items()}[re.findall(r"drawn in (\w+)\?", text)[0]]
        case "best-series":
            column = one.labels.index(re.findall(r"Label: (.+)\. Choose", text)[0])
            return one.series[max(range(len(one.series)), key=lambda index: one.values[index][column])]
        case "cell":
            row, column = re.findall(r"Row: (.+)\. Column: (.+)\.", text)[0]
            return str(one.values[one.series.index(column)][one.labels.index(row)])
        case "majority":
            return "yes" if 2 * max(one.values[0]) > sum(one.values[0]) else "no"
        case "together":
            a, b = (one.values[0][one.labels.index(name)] for name in text.split(" and "))
            return f"{a}% + {b}% = {a + b}%"
    row = series(one, text)
    value = dict(zip(one.labels, row, strict=True))
    ranked = sorted(value, key=lambda name: -value[name])
    match kind:
        case "value":
            return f"{value[text.partition(' (')[0]]}{unit}"
        case "label-of-value":
            (label,) = [name for name in value if f"is {value[name]}{unit}." in text]
            return label
        case "largest":
            return ranked[0]
        case "second":
            return ranked[1]
        case "smallest":
            return f"{ranked[-1]} ({value[ranked[-1]]}{unit})"
        case "order":
            return ", ".join(ranked)
        case "compare":
            names = re.fullmatch(r".*: (.+) or (.+)\?", text)
            assert names is not None
            return max(names.groups(), key=lambda name: value[name])
        case "difference":
            names = re.match(r"Between (.+) and (.+), what", text)
            assert names is not None
            low, high = sorted(value[name] for name in names.groups())
            return f"{high} - {low} = {high - low}"
        case "range":
            return str(max(row) - min(row))
        case "total":
            return f"{' + '.join(map(str, row))} = {sum(row)}"
        case "mean":
            assert sum(row) % len(row) == 0
            return f"{sum(row)} / {len(row)} = {sum(row) // len(row)}"
        case "above":
            limit = int(re.findall(r"greater than (\d+)%?\?", text)[0])
            assert limit not in row
            return str(len([number for number in row if number > limit]))
        case "trend":
            start = re.findall(r", from (.+) to ", text)[0]
            place = one.labels.index(start)
            return "rises" if row[place + 1] > row[place] else "falls"
        case "greatest-change":
            steps = {f"{one.labels[i]} to {one.labels[i + 1]}": abs(row[i + 1] - row[i]) for i in range(len(row) - 1)}
            assert list(steps.values()).count(max(steps.values())) == 1
            return max(steps, key=lambda span: steps[span])
        case "statement":
            if found := re.fullmatch(r"Claim: The value.* for (.+) is (larger|smaller) than that for (.+)\.", text):
                true = (value[found[1]] > value[found[3]]) == (found[2] == "larger")
            else:
                found = re.fullmatch(r"Claim: The (largest|smallest) value.* is that for (.+)\.", text)
                assert found is not None
                true = found[2] == (ranked[0] if found[1] == "largest" else ranked[-1])
            return "true" if true else "false"
    raise AssertionError(f"no check of {kind}")


@pytest.mark.parametrize("task", [name for name in WORLD_TASKS if name.startswith("charts+")])
def test_answers_about_charts_are_true(task: str, worlds: dict[str, list[Conversation]]) -> None:
    kind = task.partition("+")[2]
    assert len(worlds[task]) == CAP
    for conversation in worlds[task]:
        one = chart(0, int(conversation.id.rpartition("/")[2]))
        text, reply = given(conversation), said(conversation)
        if kind == "question":
            row = series(one, reply)
            best = (max if "largest" in reply else min)(row)
            assert text == f"Answer: {one.labels[row.index(best)]}"
        elif kind == "transcription":
            rows = [line.split(" | ") for line in reply.split("\n")[1:]]
            assert [row[0] for row in rows] == list(one.labels)
            columns = zip(*[[int(part.rstrip("%")) for part in row[1:]] for row in rows], strict=True)
            assert tuple(columns) == one.values
        elif kind == "summary":
            highs = re.findall(r"largest value.*? is (\d+)%? for (\w+), the smallest (\d+)%? for (\w+)\.", reply)
            for found, row in zip(highs, one.values, strict=True):
                high, low = max(row), min(row)
                assert found == (str(high), one.labels[row.index(high)], str(low), one.labels[row.index(low)])
        else:
            assert reply == chart_answer(kind, one, text)


def test_both_answers_of_a_pair_are_common(worlds: dict[str, list[Conversation]]) -> None:
    """A model that always says yes, or true, or left, is right about as often as not."""
    for name, found in worlds.items():
        if tasks()[name].options and len(found[0].options or []) == 2 and "majority" not in name:
            places = Counter(
                (one.options or []).index((one.answers or [""])[0]) for one in found if len(one.options or []) == 2
            )
            assert min(places[0], places[1]) >= 0.15 * sum(places.values()), name


# --- records ----------------------------------------------------------------------------------------------------------


def test_records_say_task_options_answers_licence_and_source(worlds: dict[str, list[Conversation]]) -> None:
    assert set(worlds) == set(WORLD_TASKS)
    for name, found in worlds.items():
        task = tasks()[name]
        assert len({one.id for one in found}) == len(found) == CAP
        wordings = {one.messages[0].text.strip().partition("\n\n")[0] for one in found}
        assert wordings == set(task.instructions)
        for one in found:
            assert one.provenance is not None and one.provenance.licence == "Apache-2.0"
            assert one.extra is not None and one.extra["citation"] == f"mminstruct_{name.partition('+')[0]}"
            facts, (parent,) = facts_of(one), one.provenance.parents
            if parent.startswith("scenes/"):
                boxes = scene(*map(int, parent.split("/")[1:])).boxes()
                assert facts is not None and [(each.category, each.bbox) for each in facts.instances] == boxes
            else:
                assert facts is None
            assert isinstance(one.messages[0].content[-1], ImagePart)  # behind the text, as published
            assert one.answers and (one.answers[0] in said(one)) and "{" not in one.messages[0].text
            if task.options is not None:
                assert one.options is not None and one.answers[0] in one.options
                if "{options}" in task.input:
                    assert all(option in given(one) for option in one.options)


def test_tasks_give_alike_often_from_the_first_item_on(tmp_path: Path) -> None:
    run(load_builder("vision-flan", ["split=all"]), tmp_path / "set", limit=120)
    counts = Counter(one.task for one in formats.read(tmp_path / "set"))
    assert set(counts) == set(WORLD_TASKS)
    most = max(counts.values())
    behind = [name for name, count in counts.items() if count < most - 1]
    assert len(behind) <= 10, behind  # those that few pictures fit, as `mean`, where the sum must be divisible


def test_options_of_the_builder(tmp_path: Path) -> None:
    options = ["tasks=[charts+value, 'scenes+l*']", "cap=5", "per_picture=1", "picture=before", "seed=4"]
    run(load_builder("vision-flan", options), tmp_path / "set")
    found = list(formats.read(tmp_path / "set"))
    assert Counter(one.task for one in found) == {"charts+value": 5, "scenes+largest": 5, "scenes+locate": 5}
    assert len({one.media[0].path for one in found}) == 15
    assert all(isinstance(one.messages[0].content[0], ImagePart) for one in found)
    run(load_builder("vision-flan", [*options[:3], "picture=either", "seed=5"]), tmp_path / "other")
    assert {type(one.messages[0].content[0]).__name__ for one in formats.read(tmp_path / "other")} == {
        "ImagePart",
        "TextPart",
    }
    heldout = load_builder("vision-flan", ["split=heldout"])
    held = {task.name for task in heldout.chosen()}  # type: ignore[attr-defined]
    trained = {task.name for task in load_builder("vision-flan").chosen()}  # type: ignore[attr-defined]
    assert held and trained and not held & trained and held | trained == set(WORLD_TASKS)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (
            ["tasks=[vqav2+answer]"],
            r"reads a local copy of VQA v2 \(v2_OpenEnded_mscoco_train2014_questions.*folders.vqav2",
        ),
        (["tasks=[scenes+cuont]"], "no task is called 'scenes.cuont'. Did you mean 'scenes.count'"),
        (["tasks=[scenes+refer]"], "scenes.refer is not of split=train; add split=heldout"),
        (["folders={vqav3: x}"], "no task reads 'vqav3'. Did you mean 'vqav2'"),
        (["folders={vqav2: nowhere}"], "nowhere is no folder; folders.vqav2 names that of the local copy"),
        (["tasks=['gqa+*']"], "no task of gqa.* has its data; give folders"),
    ],
)
def test_what_cannot_be_built(options: list[str], cause: str, tmp_path: Path) -> None:
    with pytest.raises(MminstructError, match=cause):
        run(load_builder("vision-flan", options), tmp_path / "set")


# --- local copies of public data sets ---------------------------------------------------------------------------------


def built_of(copies: dict[str, Path], out: Path, *options: str) -> dict[str, list[Conversation]]:
    folders = json.dumps({name: str(path) for name, path in copies.items()})
    patterns = json.dumps(sorted({f"{name.partition('+')[0]}+*" for name in FILE_TASKS}))
    run(load_builder("vision-flan", [f"folders={folders}", f"tasks={patterns}", "split=all", *options]), out)
    return by_task(out)


def test_every_task_of_a_public_data_set_reads_its_published_layout(copies: dict[str, Path], tmp_path: Path) -> None:
    found = built_of(copies, tmp_path / "set")
    assert set(found) == set(FILE_TASKS)
    for name, conversations in found.items():
        task = tasks()[name]
        for one in conversations:
            assert one.provenance is not None and one.provenance.licence == task.licence
            assert one.extra == {"citation": task.citation_key}
            assert "{" not in one.messages[0].text + said(one) and said(one).strip()
            assert one.answers and (task.options is None or one.answers[0] in (one.options or []))
            with Image.open(tmp_path / "set" / one.media[0].path) as picture:
                assert picture.size == (one.media[0].width, one.media[0].height)
    for name, pairs in EXPECTED.items():
        assert [(given(one), said(one)) for one in sorted(found[name], key=lambda one: one.id)] == pairs, name


def test_of_many_instances_a_random_part_is_taken(copies: dict[str, Path], tmp_path: Path) -> None:
    everything = built_of(copies, tmp_path / "a")
    part = built_of(copies, tmp_path / "b", "cap=1")
    again = built_of(copies, tmp_path / "c", "cap=1", "seed=1")
    assert all(len(found) == 1 for found in part.values())
    ids = {one.id for found in everything.values() for one in found}
    first, second = ({one.id for found in some.values() for one in found} for some in (part, again))
    assert first < ids and second < ids and first != second


def test_broken_copies_are_named(copies: dict[str, Path], tmp_path: Path) -> None:
    def build(folder: str, task: str, file: str, content: object) -> None:
        path = tmp_path / folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        run(load_builder("vision-flan", [f"tasks=[{task}]", f"folders.{folder}={tmp_path / folder}"]), tmp_path / "set")

    with pytest.raises(DataError, match=r"train_balanced_questions\.json:1 is not JSON"):
        build("gqa", "gqa+answer", "train_balanced_questions.json", "{")
    with pytest.raises(DataError, match=r"row 7 has no field 'imageId'; it has answer, question"):
        build("gqa", "gqa+answer", "train_balanced_questions.json", {"7": {"question": "?", "answer": "a"}})
    with pytest.raises(
        DataError, match=r"names the picture 'images/\.\./\.\./x\.jpg', which is not in the data set's folder"
    ):
        row = {"question": "?", "answer": "a", "imageId": "../../x"}
        build("gqa", "gqa+answer", "train_balanced_questions.json", {"7": row})
    with pytest.raises(DataError, match=r"row 7 has no answer in 'answer'"):
        Image.new("L", (2, 2)).save(tmp_path / "gqa" / "1.jpg")
        (tmp_path / "gqa/images").mkdir()
        Image.new("L", (2, 2)).save(tmp_path / "gqa/images/1.jpg")
        build("gqa", "gqa+answer", "train_balanced_questions.json", {"7": {"question": "?", "imageId": 1}})
    with pytest.raises(DataError, match=r"train\.json has no list 'annotations'|has no list 'annotations' of mappings"):
        build("coco", "coco+count", "annotations/instances_train2017.json", {"images": []})
    with pytest.raises(DataError, match="has 0 folders; each class of pictures wants one"):
        build("classes", "classes+name", "train/readme.txt", "")


def test_a_broken_picture_is_left_out_alone(copies: dict[str, Path], tmp_path: Path) -> None:
    """With `skip` the others of its data set stay."""
    copy = shutil.copytree(copies["gqa"], tmp_path / "gqa")
    (copy / "images/1.jpg").write_bytes(b"no picture")
    options = ["tasks=[gqa+answer]", f"folders.gqa={copy}"]
    manifest = run(load_builder("vision-flan", options), tmp_path / "set", BuildConfig(on_error="skip"))
    assert manifest.conversations == 1 and manifest.builder is not None and manifest.builder["failed"] == 1


def test_a_task_of_ones_own_is_one_file(tmp_path: Path) -> None:
    """The example of the page."""
    page = (Path(__file__).parents[2] / "docs/builders/vision-flan.md").read_text(encoding="utf-8")
    example = re.findall(r"```yaml\n(name: .*?)```", page, re.DOTALL)[0]
    (tmp_path / "tasks").mkdir()
    name = re.findall(r"name: (\S+)", example)[0]
    (tmp_path / f"tasks/{name.replace('+', '-')}.yaml").write_text(example, encoding="utf-8")
    (tmp_path / "birds/pictures").mkdir(parents=True)
    Image.new("RGB", (8, 6), (0, 90, 0)).save(tmp_path / "birds/pictures/1.png")
    row = {"picture": "1.png", "place": "a garden", "bird": "robin"}
    (tmp_path / "birds/train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    options = [f"task_folder={tmp_path / 'tasks'}", f"folders.birds={tmp_path / 'birds'}", f"tasks=[{name}]"]
    run(load_builder("vision-flan", options), tmp_path / "set")
    (one,) = formats.read(tmp_path / "set")
    assert given(one) == "The picture was taken in a garden." and said(one) == "It is a robin."
    assert set(GROUNDS) and one.answers == ["robin"]
