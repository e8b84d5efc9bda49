"""InstructBLIP's builder: shares of data sets as the formula has them, templates of each kind, true answers."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import load_builder, run
from mminstruct.conversation import Conversation, ImagePart
from mminstruct.data_builders.instructblip import _SLOTS, InstructBlip, datasets, probabilities, templates
from mminstruct.data_builders.sources import Files
from mminstruct.data_builders.sources.labels import slot_names
from mminstruct.data_builders.worlds.appearances import clip
from mminstruct.data_builders.worlds.charts import chart
from mminstruct.data_builders.worlds.scenes import COLORS, SHAPES, scene
from mminstruct.errors import ConfigError, DataError
from tests.building.public_sets import write_all

NAME = re.compile(rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})")
COUNT = 700


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Conversation]:
    out = tmp_path_factory.mktemp("instructblip") / "set"
    run(load_builder("instructblip", ["split=all", f"count={COUNT}"]), out)
    return list(formats.read(out))


def of(built: list[Conversation], name: str) -> list[tuple[int, str, str]]:
    """(number of the picture, instruction, answer) of each conversation of a data set."""
    found = [one for one in built if one.task == f"instructblip+{name}"]
    assert len(found) >= 20
    numbers = [int((one.provenance.parents if one.provenance else [""])[0].rpartition("/")[2]) for one in found]
    texts = [(one.messages[0].text.strip(), one.messages[1].text) for one in found]
    return [(number, asked, answer) for number, (asked, answer) in zip(numbers, texts, strict=True)]


def drawn(*options: str) -> Counter[str]:
    """How often each data set is drawn, without drawing pictures."""
    items = load_builder("instructblip", list(options)).items()
    return Counter(one.dataset.name for picture in items for one in picture.asked)


def chi_square(counts: Counter[str], shares: dict[str, float]) -> float:
    total = sum(counts.values())
    return sum((counts[name] - total * share) ** 2 / (total * share) for name, share in shares.items())


# The 99.9 % quantile of chi-square for so many degrees of freedom.
CRITICAL = {1: 10.83, 7: 24.32}


@pytest.mark.parametrize("seed", [0, 1])
def test_data_sets_are_drawn_by_the_square_root_of_their_sizes(seed: int) -> None:
    """Section 2.4: p = sqrt(size) / sum of sqrt(size)."""
    sizes = {one.name: one.size for one in InstructBlip().chosen()}
    assert len(sizes) == 8 and len(set(sizes.values())) >= 4
    roots = {name: (size or 0) ** 0.5 for name, size in sizes.items()}
    shares = {name: root / sum(roots.values()) for name, root in roots.items()}
    counts = drawn("count=2500", f"seed={seed}")
    assert sum(counts.values()) == 2500 and set(counts) == set(shares)
    assert chi_square(counts, shares) < CRITICAL[7]
    linear = {name: (size or 0) / sum(filter(None, sizes.values())) for name, size in sizes.items()}
    assert chi_square(counts, linear) > 10 * CRITICAL[7]  # the test tells the two rules apart


def test_weights_by_hand_and_caps_change_the_shares() -> None:
    two = ["datasets=[scenes-vqa, scenes-choice]", "count=1500"]
    plain = {"scenes-vqa": math.sqrt(60000), "scenes-choice": math.sqrt(20000)}
    for options, vqa, choice in [
        ([], plain["scenes-vqa"], plain["scenes-choice"]),
        (["weights={scenes-vqa: 0.25}"], 0.25 * plain["scenes-vqa"], plain["scenes-choice"]),
        (["cap=100"], 1.0, 1.0),
    ]:
        shares = {"scenes-vqa": vqa / (vqa + choice), "scenes-choice": choice / (vqa + choice)}
        assert chi_square(drawn(*two, *options), shares) < CRITICAL[1]
    assert probabilities([4, 16, 100], [1, 1, 1]) == pytest.approx([2 / 16, 4 / 16, 10 / 16])
    assert probabilities([4, 16], [3, 0.5]) == pytest.approx([6 / 8, 2 / 8])
    # The paper lowers one and raises the other; the files do, and only where asked.
    assert datasets()["aokvqa"].weight < 1 < datasets()["okvqa"].weight
    assert InstructBlip().weight(datasets()["okvqa"]) == 1.0
    assert InstructBlip(InstructBlip.Options(adjust=True)).weight(datasets()["okvqa"]) == datasets()["okvqa"].weight


def test_each_kind_has_ten_templates_and_more_and_fills_their_slots() -> None:
    for kind, lines in templates().items():
        if kind == "llava":
            assert lines == ["{question}"]
            continue
        assert len(lines) == len({line.casefold() for line in lines}) >= 10
        wanted = {"classification": {"question"}}.get(kind, _SLOTS[kind])
        assert all(wanted <= slot_names(line) for line in lines)
    assert {one.kind for one in datasets().values()} == set(templates())
    short = [line for line in templates()["vqa"] if re.search(r"short|brief|word or two|few words", line)]
    assert len(short) >= 5  # section 2.1: data sets of short answers say so in some of their templates


def test_templates_are_all_used_and_nothing_is_left_unfilled(built: list[Conversation]) -> None:
    assert len(built) == COUNT and len({one.id for one in built}) == COUNT
    texts = [one.messages[0].text for one in built]
    assert not any("{" in text or "}" in text for text in texts)
    vqa = [one.messages[0].text.strip() for one in built if one.task == "instructblip+scenes-vqa"]
    patterns = [re.escape(line).replace(re.escape("{question}"), ".+") for line in templates()["vqa"]]
    assert all(any(re.fullmatch(pattern, text) for text in vqa) for pattern in patterns)
    for one in built:
        assert isinstance(one.messages[0].content[0], ImagePart) and one.answers
        assert one.answers[0] == one.messages[1].text
        assert one.options is None or one.answers[0] in one.options


def test_answers_about_scenes_are_true(built: list[Conversation]) -> None:
    for number, asked, answer in of(built, "scenes-vqa"):
        things = {f"{one.color} {one.shape}": one.box for one in scene(0, number).things}
        names = NAME.findall(asked)
        if "How many shapes are there" in asked:
            assert answer == str(len(things))
        elif found := re.search(r"How many (\w+)s are there", asked):
            assert answer == str(sum(name.endswith(found[1]) for name in things))
        elif found := re.search(r"How many (\w+) shapes", asked):
            assert answer == str(sum(name.startswith(found[1]) for name in things))
        elif found := re.search(r"What color is the (\w+)\?", asked):
            ground = found[1] == "background"
            assert answer == (scene(0, number).ground if ground else answer)
            assert ground or f"{answer} {found[1]}" in things
        elif found := re.search(r"What shape is the (\w+) object", asked):
            assert f"{found[1]} {answer}" in things
        elif "Is there" in asked:
            assert answer == ("yes" if names[0] in things else "no")
        elif "to the left or to the right" in asked:
            left, right = (sum(things[name][::2]) for name in names)
            assert answer == ("left" if left < right else "right")
        elif "above or below" in asked:
            one, other = (sum(things[name][1::2]) for name in names)
            assert answer == ("above" if one < other else "below")
        elif found := re.search(r"(largest|smallest)", asked):
            best = max if found[1] == "largest" else min
            assert answer == best(things, key=lambda name: things[name][2] - things[name][0])
        else:
            side = re.findall(r"nearest to the (\w+) edge", asked)[0]
            edge, best = {"left": (0, min), "top": (1, min), "right": (2, max), "bottom": (3, max)}[side]
            assert answer == best(things, key=lambda name: things[name][edge])


def test_dialogues_have_a_history_of_true_answers(built: list[Conversation]) -> None:
    for number, asked, answer in of(built, "scenes-dialogue"):
        things = {f"{one.color} {one.shape}": one for one in scene(0, number).things}
        said = re.findall(r"Q: ([^?]+\?) A: ([^.]+)\.", asked)
        assert len(said) >= 2
        for question, reply in [*said, (next(q for q in re.findall(r"[A-Z][^?:.(]+\?", asked)[::-1]), answer)]:
            if question == "How many shapes are there?":
                assert reply == str(len(things))
            elif found := re.fullmatch(r"Is there an? (\w+ \w+)\?", question):
                assert reply == ("yes" if found[1] in things else "no")
            elif found := re.fullmatch(r"Which is larger, the (\w+ \w+) or the (\w+ \w+)\?", question):
                assert reply == max(found.groups(), key=lambda name: things[name].side)


def test_reading_has_the_text_of_the_picture(built: list[Conversation]) -> None:
    for number, asked, answer in of(built, "charts-reading"):
        one = chart(0, number)
        assert one.title in asked and all(label in asked for label in one.labels)
        if found := re.search(r"What is the sum of all values(?: of ([\w ]+?))?\?", asked):
            assert answer == str(sum(one.values[one.series.index(found[1]) if found[1] else 0]))
        if found := re.search(r"For which \w+ is the value(?: of ([\w ]+?))? largest\?", asked):
            row = one.values[one.series.index(found[1]) if found[1] else 0]
            assert answer == one.labels[row.index(max(row))]


def test_videos_are_four_frames_in_order(built: list[Conversation]) -> None:
    for number, asked, answer in of(built, "clips-vqa"):
        order = [f"{one.color} {one.shape}" for one in clip(0, number).order]
        if "appears last" in asked:
            assert answer == order[-1]
        elif "at the end" in asked:
            assert answer == str(len(order))
        elif "seen first" in asked:
            assert answer == min(NAME.findall(asked), key=order.index)
    for one in built:
        frames = 4 if one.task == "instructblip+clips-vqa" else 1
        assert [part.index for part in one.messages[0].content if isinstance(part, ImagePart)] == list(range(frames))


def test_the_same_draws_with_any_seed_but_another() -> None:
    assert drawn("count=200") == drawn("count=200") != drawn("count=200", "seed=3")


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Those of Vision-Flan's tasks, and LLaVA's file."""
    root = tmp_path_factory.mktemp("copies")
    found = write_all(root)
    turns = [("human", "What is it?\n<image>"), ("gpt", "A bus."), ("human", "Which color?"), ("gpt", "Red.")]
    row = {"id": "9", "image": "9.jpg", "conversations": [{"from": who, "value": words} for who, words in turns]}
    folder = root / "llava-instruct"
    (folder / "train2017").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "train2017/9.jpg")
    (folder / "llava_instruct_150k.json").write_text(json.dumps([row, row]))
    return found | {"llava-instruct": folder}


def test_public_data_sets_are_read_and_repeated_when_all_is_drawn(copies: dict[str, Path], tmp_path: Path) -> None:
    wanted = [one.name for one in datasets().values() if one.world is None and one.name != "msrvtt-qa"]
    read = {one.source.folder for one in datasets().values() if isinstance(one.source, Files)}
    folders = json.dumps({name: str(path) for name, path in copies.items() if name in read})
    options = [f"folders={folders}", f"datasets={json.dumps(wanted)}", "split=all", "count=300"]
    run(load_builder("instructblip", options), tmp_path / "set")
    found = list(formats.read(tmp_path / "set"))
    assert {one.task for one in found} == {f"instructblip+{name}" for name in wanted} and len(found) == 300
    assert not any("{" in one.messages[0].text for one in found)
    for one in found:
        name = (one.task or "").partition("+")[2]
        assert one.provenance is not None and one.provenance.licence == datasets()[name].licence
        assert one.extra is not None and one.extra["citation"] in datasets()[name].citation
    said = next(one for one in found if one.task == "instructblip+llava-instruct")
    assert [one.text.strip() for one in said.messages] == ["What is it?", "A bus.", "Which color?", "Red."]
    questions = {one.messages[1].text for one in found if one.task == "instructblip+vqav2-questions"}
    assert len(questions) >= 4 and questions <= {
        *("What is in the bowl?", "Is it full?", "How many giraffes?", "Is it raining?", "How many trees?")
    }


@pytest.mark.parametrize(
    ("options", "error", "cause"),
    [
        (["datasets=[vqav3]"], ConfigError, "no data set is called 'vqav3'. Did you mean 'vqav2'"),
        (["datasets=[gqa]"], ConfigError, "the data set gqa is not of split=train; choose split=all"),
        (
            ["datasets=[okvqa]"],
            ConfigError,
            r"reads a local copy \(OpenEnded_mscoco_train2014_questions.*folders.okvqa=DIR",
        ),
        (["folders={gqq: x}"], ConfigError, "no data set reads 'gqq'. Did you mean 'gqa'"),
        (["datasets=[okvqa]", "folders={okvqa: nowhere}"], DataError, "nowhere/.* does not exist; check the path"),
    ],
)
def test_what_cannot_be_built(options: list[str], error: type[Exception], cause: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=cause):
        run(load_builder("instructblip", options), tmp_path / "set")


def test_frames_of_a_video_file_have_their_times(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    folder = tmp_path / "msrvtt"
    (folder / "TrainValVideo").mkdir(parents=True)
    with av.open(str(folder / "TrainValVideo/video7.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height = 64, 32
        for level in range(16):
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 32), (level * 16, 0, 0)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    row = {"answer": "woman", "category_id": 14, "id": 3, "question": "who is singing?", "video_id": 7}
    (folder / "train_qa.json").write_text(json.dumps([row]))
    options = ["datasets=[msrvtt-qa]", "split=heldout", f"folders.msrvtt-qa={folder}", "count=1"]
    run(load_builder("instructblip", options), tmp_path / "set")
    (one,) = formats.read(tmp_path / "set")
    assert len(one.media) == 4 and one.answers == ["woman"] and "who is singing?" in one.messages[0].text
    times = [(media.timestamps or [-1.0])[0] for media in one.media]
    assert times == sorted(times) and times[0] == 0.0 and times[-1] == pytest.approx(15 / 8)
