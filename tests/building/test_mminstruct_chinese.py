"""MMInstruct's builder in Chinese and in rounds: answers computed again from boxes and bars, by the words alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import Job, load_builder, run
from mminstruct.building.clients import OpenAICompatibleClient
from mminstruct.building.options import lettered, named_option
from mminstruct.conversation import Conversation
from mminstruct.data_builders import mminstruct_data as mminstruct
from mminstruct.data_builders.worlds.bar_charts import Chart, chart
from mminstruct.data_builders.worlds.fills import Known
from mminstruct.data_builders.worlds.scenes import Scene, Thing, scene
from mminstruct.errors import DataError, ReplyError
from tests.building.chat_server import serving
from tests.building.test_mminstruct_data import asked as english
from tests.building.test_mminstruct_data import judged, replied, truth_of_charts, truth_of_shapes

COLORS = dict(
    zip(
        "红橙黄绿蓝紫棕黑白灰粉",
        ["red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white", "grey", "pink"],
        strict=True,
    )
) | {"浅蓝": "light blue"}
SHAPES = {"圆形": "circle", "正方形": "square", "三角形": "triangle", "菱形": "diamond"}
DIGITS = {"一": 1, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6}
NAME = rf"([{''.join(COLORS)[:8]}]色(?:{'|'.join(SHAPES)}))"
PLACES = {("左", "上"): "左上方", ("", "上"): "上方正中", ("右", "上"): "右上方"}
PLACES |= {("左", ""): "左侧中部", ("", ""): "正中间", ("右", ""): "右侧中部"}
PLACES |= {("左", "下"): "左下方", ("", "下"): "下方正中", ("右", "下"): "右下方"}
BAR = r"([A-Z][a-z]+)"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("chinese") / "set"
    run(load_builder("mminstruct-data", ["quotas={shapes: 30, charts: 25}", "languages=[zh, en]"]), out)
    return out


@pytest.fixture(scope="module")
def found(built: Path) -> list[Conversation]:
    return list(formats.read(built))


def rounds(found: list[Conversation], domain: str, *kinds: str) -> list[tuple[int, str, str, Conversation]]:
    """(number of the picture, question, answer in words, record) of each turn in Chinese."""
    rows = []
    for one in found:
        _, name, _, number, *language, kind, _ = one.id.split("/")
        if name == domain and language == ["zh"] and kind in kinds:
            for asked, said in zip(one.messages[::2], one.messages[1::2], strict=True):
                answer = said.text if one.options is None else one.options["ABCD".index(said.text)]
                rows.append((int(number), asked.text.strip().split("\n")[0], answer, one))
    return rows


def box(things: dict[str, Thing], name: str) -> tuple[int, int, int, int]:
    return things[name].box


def places(thing: Thing) -> str:
    left, top, right, bottom = thing.box
    row = "上" if 3 * (top + bottom) < 672 else "下" if 3 * (top + bottom) > 1344 else ""
    column = "左" if 3 * (left + right) < 672 else "右" if 3 * (left + right) > 1344 else ""
    return PLACES[column, row]


def named(drawn: Scene) -> dict[str, Thing]:
    color = {english: chinese for chinese, english in COLORS.items()}
    shape = {english: chinese for chinese, english in SHAPES.items()}
    return {f"{color[one.color]}色{shape[one.shape]}": one for one in drawn.things}


class Seen:
    """A scene in Chinese: its things in the orders that are asked about."""

    def __init__(self, drawn: Scene) -> None:
        self.things = named(drawn)
        self.ground = next(f"{chinese}色" for chinese, name in COLORS.items() if name == drawn.ground)
        self.across = sorted(self.things, key=lambda name: sum(self.things[name].box[::2]))
        self.down = sorted(self.things, key=lambda name: sum(self.things[name].box[1::2]))
        self.wide = sorted(self.things, key=lambda name: self.things[name].box[0] - self.things[name].box[2])

    def count(self, shape: str) -> int:
        return sum(name.endswith(shape) for name in self.things)

    def before(self, order: list[str], one: str, other: str) -> str:
        return "是" if order.index(one) < order.index(other) else "否"


def truth_of_scene(question: str, drawn: Scene) -> str | None:
    """None where the answer is one of several that are right."""
    seen = Seen(drawn)
    for order, pattern in (
        (seen.across, rf"{NAME}在{NAME}的左边吗？"),
        (seen.down, rf"{NAME}在{NAME}的上方吗？"),
        (seen.down, rf"{NAME}的中心比{NAME}的中心高吗？"),
        (seen.wide, rf"{NAME}比{NAME}宽吗？"),
    ):
        if match := re.fullmatch(pattern, question):
            return seen.before(order, match[1], match[2])
    if match := re.fullmatch(rf"与{NAME}相比，{NAME}是不是更靠左？", question):
        return seen.before(seen.across, match[2], match[1])
    if match := re.fullmatch(rf"(?:图中有|能在图片里看到){NAME}吗？", question):
        return "是" if match[1] in seen.things else "否"
    if match := re.fullmatch(r"图片的背景是(.+)的吗？", question):
        return "是" if match[1] == seen.ground else "否"
    if match := re.fullmatch(r"图中恰好有(.)个(.+)吗？", question):
        return "是" if DIGITS[match[1]] == seen.count(match[2]) else "否"
    if match := re.fullmatch(r"图中一共有(.)个图形吗？", question):
        return "是" if DIGITS[match[1]] == len(seen.things) else "否"
    if match := re.search(rf"(?:^{NAME}在图片的什么位置|^{NAME}在哪里？$|哪个部分能找到{NAME})", question):
        return places(seen.things[next(filter(None, match.groups()))])
    if match := re.search(r"(?:有几个|有多少个)(圆形|正方形|三角形|菱形|图形)？", question):
        count = len(seen.things) if match[1] == "图形" else seen.count(match[1])
        return next(f"{digit}个" for digit, value in DIGITS.items() if value == count)
    if "背景" in question:
        return seen.ground
    if match := re.fullmatch(r"(.+?)(?:是什么颜色的|的颜色是什么)？", question):
        (name,) = [name for name in seen.things if name.endswith(match[1])]
        return name[:2]
    if match := re.fullmatch(r"(?:哪种图形是)?(.色)的(?:图形是什么形状)?？", question):
        (name,) = [name for name in seen.things if name.startswith(match[1])]
        return name[2:]
    if "下列" in question:
        return None
    words = {"最靠左": seen.across[0], "最靠右": seen.across[-1], "最高": seen.down[0], "最低": seen.down[-1]}
    words |= {"最宽": seen.wide[0], "最窄": seen.wide[-1]}
    (answer,) = {answer for word, answer in words.items() if word in question}
    return answer


def truth_of_chart(question: str, drawn: Chart) -> str:
    bars = dict(drawn.bars)
    ranked = sorted(bars, key=lambda name: -bars[name])

    def yes(true: bool) -> str:
        return "是" if true else "否"

    if match := re.fullmatch(rf"{BAR}的(?:柱子比|数值是否大于){BAR}的(?:高吗|数值)？", question):
        return yes(bars[match[1]] > bars[match[2]])
    if match := re.fullmatch(rf"(?:图中)?{BAR}(?:的|对应的)数值(?:是|为)(\d+)(?:吗|，对吗)？", question):
        return yes(bars[match[1]] == int(match[2]))
    if match := re.fullmatch(rf"{BAR}超过(\d+)\S+了吗？", question):
        return yes(bars[match[1]] > int(match[2]))
    if match := re.fullmatch(rf"(?:图中有名为|柱状图里有没有){BAR}(?:的柱子吗|这根柱子)？", question):
        return yes(match[1] in bars)
    if match := re.fullmatch(rf"{BAR}(?:的数值是多少|对应的数值是多少|的柱子上方写着什么数字)？", question):
        return str(bars[match[1]])
    if match := re.search(r"数值(?:是)?(\d+)", question):
        return next(name for name, value in bars.items() if value == int(match[1]))
    count = next(f"{digit}根" for digit, value in DIGITS.items() if value == len(bars))
    color = next(f"{chinese}色" for chinese, name in COLORS.items() if name == drawn.color)
    answers = {
        "最大值": str(bars[ranked[0]] - bars[ranked[-1]]),
        "加起来": str(sum(bars.values())),
        "第二": ranked[1],
        "最高": ranked[0],
        "最矮": ranked[-1],
        "最小？": ranked[-1],
        "第一根": next(iter(bars)),
        "最后一根": list(bars)[-1],
        "最右边": list(bars)[-1],
        "几根": count,
        "颜色": color,
        "标题": drawn.title,
    }
    (answer,) = {answer for word, answer in answers.items() if word in question}
    return answer


def test_every_short_answer_in_chinese_is_true(found: list[Conversation]) -> None:
    kinds = ("judgement", "choice", "short")
    shapes, charts = rounds(found, "shapes", *kinds), rounds(found, "charts", *kinds)
    assert len(shapes) > 290 and len(charts) > 240
    for number, question, answer, one in shapes:
        truth = truth_of_scene(question, scene(0, number))
        if truth is None:
            there = [option for option in one.options or () if option in named(scene(0, number))]
            assert there == [answer], question
        else:
            assert answer == truth, (number, question)
    for number, question, answer, _ in charts:
        assert answer == truth_of_chart(question, chart(0, number)), (number, question)
    for rows, domain in ((shapes, "shapes"), (charts, "charts")):
        seeds = mminstruct.load_domain(mminstruct.SEEDS / f"{domain}.zh.yaml").seeds
        for kind in kinds:
            for seed in seeds[kind]:  # type: ignore[index]
                pattern = re.sub(r"<\w+>", ".+", re.escape(seed))
                assert any(re.fullmatch(pattern, question) for _, question, _, _ in rows), seed


def test_every_long_answer_and_round_in_chinese_is_true(found: list[Conversation]) -> None:
    met: Counter[str] = Counter()
    for number, question, answer, _ in rounds(found, "shapes", "long", "rounds"):
        seen = Seen(scene(0, number))
        said, about = re.findall(NAME, answer), re.findall(NAME, question)
        if "从左到右" in question:
            met["across"] += said == [*seen.across, seen.across[0]]
        elif "从上到下" in question:
            met["down"] += said == [seen.down[0], *seen.down]
        elif "哪几种" in question:
            counts = {(DIGITS[n], shape) for n, shape in re.findall(r"(.)个(圆形|正方形|三角形|菱形)", answer)}
            assert counts == {(seen.count(shape), shape) for shape in SHAPES if seen.count(shape)}
            met["kinds"] += f"背景是{seen.ground}的" in answer
        elif "最宽和最窄" in question:
            ends = [seen.wide[0], seen.wide[-1]]
            told = re.findall(rf"{NAME}，在图片的(.+?)[；。]", answer)
            met["ends"] += told == [(name, places(seen.things[name])) for name in ends]
        elif "比较" in question:
            one, other = about
            width = "宽" if seen.before(seen.wide, one, other) == "是" else "窄"
            side = "左" if seen.before(seen.across, one, other) == "是" else "右"
            height = "高" if seen.before(seen.down, one, other) == "是" else "低"
            assert answer.startswith(f"{one}比{other}{width}，位置更靠{side}，也更{height}。")
            same = {one[:2]} & {other[:2]} | {one[2:]} & {other[2:]}
            met["compare"] += set(re.findall(r"两者都是(.+?)的?。", answer)) == same
        else:
            (name,) = about
            assert answer.startswith(f"{name}在图片的{places(seen.things[name])}。")
            at, high = seen.across.index(name), seen.down.index(name)
            if "更靠左" in answer:
                assert at == 0 and said[1] == seen.across[1]
            elif "更靠右" in answer:
                assert at == len(seen.across) - 1 and said[1] == seen.across[-2]
            else:
                assert said[1:3] == [seen.across[at - 1], seen.across[at + 1]]
            if match := re.search(rf"它比{NAME}低，比{NAME}高。", answer):
                assert [match[1], match[2]] == [seen.down[high - 1], seen.down[high + 1]]
            else:
                assert high == (0 if answer.endswith("都高。") else len(seen.down) - 1)
            met["about"] += 1
    for number, question, answer, _ in rounds(found, "charts", "long", "rounds"):
        drawn = chart(0, number)
        bars = dict(drawn.bars)
        ranked = sorted(bars, key=lambda name: -bars[name])
        told = [(name, int(value)) for name, value in re.findall(rf"{BAR}(?:（|的数值是)(\d+)", answer)]
        assert told == [(name, bars[name]) for name, _ in told]
        if "从高到低" in question:
            met["ranking"] += [name for name, _ in told] == ranked
        elif "相差几" in question:
            assert [name for name, _ in told] == [ranked[-1], ranked[0]]
            one, other, gap = map(int, re.findall(r"(\d+) - (\d+) = (\d+)", answer)[0])
            met["range"] += (one, other, gap) == (bars[ranked[0]], bars[ranked[-1]], one - other)
        elif "一共" in question:
            total, end = re.findall(r"：(.+) = (\d+)", answer)[0]
            met["total"] += [*map(int, total.split(" + "))] == [*bars.values()] and int(end) == sum(bars.values())
        elif "展示了什么" in question:
            met["describe"] += told == list(drawn.bars) and f"“{drawn.title}”" in answer
        else:
            met["bars"] += max(told, key=lambda one: one[1])[0] == re.findall(rf"所以{BAR}的", answer)[0]
    assert all(
        met[name] >= 5 for name in ("across", "down", "kinds", "ends", "compare", "about", "ranking", "range", "total")
    )
    assert met["describe"] + met["bars"] > 20
    assert met.total() == len(rounds(found, "shapes", "long", "rounds")) + len(
        rounds(found, "charts", "long", "rounds")
    )


def test_both_languages_ask_about_every_picture(found: list[Conversation]) -> None:
    """Truths of one are truths of the other; a conversation has three rounds, the picture in front of the first."""
    for one in found:
        chinese = "/zh/" in one.id
        assert one.extra is not None and one.extra["language"] == ("zh" if chinese else "en")
        asked = "".join(message.text for message in one.messages[::2])
        assert bool(re.search("[一-鿿]", asked)) == chinese
        assert sum(part.type == "image" for message in one.messages for part in message.content) == 1
        if "/rounds/" in one.id:
            assert [message.role for message in one.messages] == ["user", "assistant"] * 3
            questions = [message.text for message in one.messages[::2]]
            assert len(set(questions)) == 3 and one.options is one.answers is None
            endings = mminstruct.prompt_file("zh" if chinese else "en").types["rounds"].endings
            assert questions[0].strip().split("\n")[1] in endings and all("\n" not in each for each in questions[1:])
    tasks = Counter((one.task, (one.extra or {})["language"]) for one in found)
    assert tasks["mminstruct+rounds", "zh"] == tasks["mminstruct+rounds", "en"] == 55
    in_english = [one for one in found if "/zh/" not in one.id]
    for number, question, answer, _ in english(in_english, "shapes", "short"):
        assert truth_of_shapes(question, scene(0, number)) == answer
    for number, question, answer, _ in english(in_english, "charts", "short"):
        assert truth_of_charts(question, chart(0, number)) == answer


SEED = {"图片里有<one>吗？": None}
ASKED = mminstruct.Asked("图形", "图片里有一个红色正方形，在左边。", "", list(SEED), SEED, Known(""), "zh")


def test_replies_are_read_as_models_write_chinese() -> None:
    reply = judged("是。", "否", "对", "不是").replace("Question", "图片里有第")
    assert [one.answer for one in mminstruct.TYPES["judgement"].parse(reply, ASKED)] == ["Yes", "No", "Yes", "No"]
    with pytest.raises(ReplyError, match="'也许', neither 是 nor 否"):
        mminstruct.TYPES["judgement"].parse(judged("也许", "否", "是", "否"), ASKED)
    for written in (
        "A、红色\nB、绿色\nC、蓝色\nD、黑色",
        "A．红色 B．绿色 C．蓝色 D．黑色",
        "A：红色\nB：绿色\nC：蓝色\nD：黑色",
    ):
        options = lettered(written, 4, "<C1>")
        assert options == ["红色", "绿色", "蓝色", "黑色"]
        assert {named_option(one, options, "<A1>") for one in ("B", "B、绿色", "绿色", "B. 绿色")} == {"绿色"}
    with pytest.raises(ReplyError, match="is about other options"):
        lettered("A. 红色\nB. 绿色\nC. 蓝色\nD. 以上都不是", 4, "<C1>")
    long = [{"Q": f"问题{n}？", "A": "红色正方形在图片的左边，" * 2} for n in "一二三四五六"]
    assert len(mminstruct.TYPES["rounds"].parse(replied(*long[:5]), ASKED)) == 5
    for count, problem in ((2, "there are 2 questions; write 3 to 5"), (6, "there are 6 questions; write 3 to 5")):
        with pytest.raises(ReplyError, match=problem):
            mminstruct.TYPES["rounds"].parse(replied(*long[:count]), ASKED)
    with pytest.raises(ReplyError, match="fewer than 15 words"):
        mminstruct.TYPES["rounds"].parse(replied({"Q": "几？", "A": "三个"}, *long[:2]), ASKED)


def test_a_conversation_ends_before_the_round_that_a_rule_leaves_out() -> None:
    builder = load_builder("mminstruct-data")
    assert isinstance(builder, mminstruct.MMInstruct)
    good = mminstruct.Question("图片里有什么图形吗？", "图片里有一个红色正方形，在左边。")
    later = mminstruct.Question("它在哪里？", "正方形在图片的左边。")
    for bad, rule in (
        (mminstruct.Question("根据描述，还有什么？", "图片里有红色正方形。"), "speaks of the description"),
        (mminstruct.Question("有几个？", "图片里有 7 个红色正方形。"), "a number is not in the caption"),
        (mminstruct.Question("还有呢？", "远处飞来许多漂亮鸽子，孩子们欢呼雀跃。"), "too few words are in the caption"),
    ):
        job = Job(builder, "x", Path(), None)
        assert [one for one, _ in builder._kept([good, later, bad, later], "rounds", ASKED, job)] == [good, later]
        assert job.dropped == {rule: 1}
        assert not builder._kept([good, bad, later], "rounds", ASKED, job)
        assert job.dropped == {rule: 2, "fewer than two rounds are left": 1}


def test_a_source_names_domains_with_quotas_and_captions_of_a_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caption serves the language that it is written in; for the other the model looks."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    caption = "一扇红色的门前站着两个人，其中一个人背着蓝色的包，门上挂着一块写有白色文字的牌子，旁边停着一辆自行车。"
    rows: list[dict[str, Any]] = [
        {"image_path": "a.png", "gpt4v_caption_interface": caption, "domain": domain}
        for domain in ("doors", "doors", "doors", "pictures")
    ]
    (tmp_path / "source.json").write_text(json.dumps(rows))
    (tmp_path / "seeds").mkdir()
    for name in ("doors.zh.yaml", "pictures.zh.yaml"):
        (tmp_path / "seeds" / name).write_text(
            json.dumps({"summary": "门", "seeds": {"judgement": {"门是什么颜色？": None}}})
        )
    reply = judged("是", "否", "是", "否").replace("Question", "门是什么颜色，第")
    options = [f"source={tmp_path / 'source.json'}", f"seeds={tmp_path / 'seeds'}", "quotas={doors: 2}"]
    with serving(lambda body: reply) as server:
        client = OpenAICompatibleClient("m", [server.url])
        build = [*options, "kinds=[judgement]", "min_support=0"]
        run(load_builder("mminstruct-data", [*build, "languages=[zh]"]), tmp_path / "set", client=client)
        client.close()
    assert len(server.requests) == 1  # the caption is there, and the questions on three equal ones are one request
    assert caption in server.requests[0]["messages"][1]["content"] and "图片描述" in str(server.requests[0])
    records = list(formats.read(tmp_path / "set"))
    assert Counter((one.extra or {})["domain"] for one in records) == {"doors": 8, "pictures": 4}
    assert {one.messages[1].text for one in records} == {"是", "否"}
    with pytest.raises(DataError, match=r"has no seed questions pictures\.yaml of the domain 'pictures'"):
        run(load_builder("mminstruct-data", [*options, "languages=[en]"]), tmp_path / "english")
