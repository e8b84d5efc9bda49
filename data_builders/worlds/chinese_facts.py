"""What scenes, bar charts and lines of text answer in Chinese: the facts of the English worlds, by the same names.

    Scene ──of_scene──▶ Known    Chart ──of_chart──▶ Known    [line, ...] ──of_lines──▶ Known

Yes and No stay as `fills.judged` has them; who writes a reply says 是 and 否. What is written in a picture is quoted as
it stands there.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from mminstruct.data_builders.worlds import bar_charts, scene_facts, scenes, text_facts
from mminstruct.data_builders.worlds.bar_charts import Chart
from mminstruct.data_builders.worlds.fills import Fill, Known, judged
from mminstruct.data_builders.worlds.scenes import Scene, Thing

COLORS: Mapping[str, str] = MappingProxyType(
    {
        "red": "红色",
        "orange": "橙色",
        "yellow": "黄色",
        "green": "绿色",
        "blue": "蓝色",
        "purple": "紫色",
        "brown": "棕色",
        "black": "黑色",
        "white": "白色",
        "grey": "灰色",
        "pink": "粉色",
        "light blue": "浅蓝色",
    }
)
SHAPES: Mapping[str, str] = MappingProxyType(
    {"circle": "圆形", "square": "正方形", "triangle": "三角形", "diamond": "菱形"}
)
NUMBERS = ("零", "一", "两", "三", "四", "五", "六")  # in front of a measure word
_ROWS = (("左上方", "上方正中", "右上方"), ("左侧中部", "正中间", "右侧中部"), ("左下方", "下方正中", "右下方"))
PLACES = tuple(itertools.chain.from_iterable(_ROWS))
_PLAIN = 6  # pixels between widths that are compared
UNITS: Mapping[str, str] = MappingProxyType(
    {"books": "本", "trees": "棵", "visitors": "人", "loaves": "个", "goals": "球", "bicycles": "辆"}
)
_OTHERS = ("今日特价", "请勿吸烟", "推门入内", "小心台阶", "营业时间九点至六点", "会议室在二楼", "手工制作", "冬季促销")


def name(thing: Thing) -> str:
    return COLORS[thing.color] + SHAPES[thing.shape]


def place(thing: Thing) -> str:
    """In which third of the picture a thing's middle is."""
    column, row = (min(2, int(3 * middle // scenes.SIZE)) for middle in thing.centre)
    return _ROWS[row][column]


def listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{'、'.join(words[:-1])}和{words[-1]}"


def of_scene(scene: Scene, chance: random.Random) -> Known:
    """Of absent things some, by `chance`."""
    order = _Order(scene)
    away = [COLORS[color] + SHAPES[shape] for color, shape in map(str.split, scene_facts.absent(scene, chance))]
    facts = {**_pairs(order), **_ends(order, away), **_counts(scene, chance), **_each(scene, away), **_told(order)}
    return Known(caption=_caption(order), fills={key: fills for key, fills in facts.items() if fills})


class _Order:
    """A scene's things in the orders that are asked about; `plain`: whether the widest and the narrowest are so."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.across = sorted(scene.things, key=lambda thing: thing.centre[0])
        self.down = sorted(scene.things, key=lambda thing: thing.centre[1])
        self.wide = sorted(scene.things, key=lambda thing: -thing.side)
        gaps = [one.side - other.side for one, other in itertools.pairwise(self.wide)]
        self.plain = gaps[0] >= _PLAIN and gaps[-1] >= _PLAIN


def _kinds(scene: Scene) -> list[str]:
    counted = [(shape, sum(thing.shape == shape for thing in scene.things)) for shape in SHAPES]
    return [f"{NUMBERS[count]}个{SHAPES[shape]}" for shape, count in counted if count]


def _caption(order: _Order) -> str:
    scene, total = order.scene, len(order.scene.things)
    said = [
        f"图片的背景是{COLORS[scene.ground]}的，上面画着{listed([name(thing) for thing in scene.things])}。",
        f"图中一共有{NUMBERS[total]}个图形：{listed(_kinds(scene))}。",
        *(f"{name(thing)}在图片的{place(thing)}。" for thing in scene.things),
        f"从左到右依次是{listed(list(map(name, order.across)))}，所以最靠左的是{name(order.across[0])}，"
        f"最靠右的是{name(order.across[-1])}。",
        f"从上到下依次是{listed(list(map(name, order.down)))}，所以位置最高的是{name(order.down[0])}，"
        f"位置最低的是{name(order.down[-1])}。",
    ]
    if order.plain:
        said.append(f"最宽的图形是{name(order.wide[0])}，最窄的图形是{name(order.wide[-1])}。")
    return "".join([*said, "这些图形都是纯色的，彼此不相接。"])


def _pairs(order: _Order) -> dict[str, list[Fill]]:
    left, above, wider = [], [], []
    for one, other in itertools.permutations(order.scene.things, 2):
        words = {"one": name(one), "other": name(other)}
        left.append(judged(words, one.centre[0] < other.centre[0]))
        above.append(judged(words, one.centre[1] < other.centre[1]))
        if abs(one.side - other.side) >= _PLAIN:
            wider.append(judged(words, one.side > other.side))
    return {"left-of": left, "above": above, "wider": wider}


def _ends(order: _Order, away: Sequence[str]) -> dict[str, list[Fill]]:
    def end(thing: Thing) -> list[Fill]:
        others = [name(other) for other in order.scene.things if other != thing]
        return [Fill({}, name(thing), [*others, *away][: max(3, len(others))])]

    return {
        "leftmost": end(order.across[0]),
        "rightmost": end(order.across[-1]),
        "highest": end(order.down[0]),
        "lowest": end(order.down[-1]),
        "widest": end(order.wide[0]) if order.plain else [],
        "narrowest": end(order.wide[-1]) if order.plain else [],
    }


def _counts(scene: Scene, chance: random.Random) -> dict[str, list[Fill]]:
    counts = {shape: sum(thing.shape == shape for thing in scene.things) for shape in SHAPES}
    exactly = []
    for shape, count in counts.items():
        near = chance.choice([other for other in (count - 1, count + 1) if 1 <= other <= 6])
        for said in (count, near) if count else (near,):
            exactly.append(judged({"count": NUMBERS[said], "shape": SHAPES[shape]}, said == count))
    total = len(scene.things)
    near = chance.choice([other for other in (total - 1, total + 1) if 1 < other < len(NUMBERS)])

    def counted(words: dict[str, str], count: int) -> Fill:
        first = min(max(1, count - 2), 3)
        return Fill(words, f"{NUMBERS[count]}个", [f"{NUMBERS[n]}个" for n in range(first, first + 4) if n != count])

    return {
        "exactly": exactly,
        "count": [counted({"shape": SHAPES[shape]}, count) for shape, count in counts.items() if count],
        "total": [counted({}, total)],
        "total-is": [judged({"count": NUMBERS[number]}, number == total) for number in (total, near)],
    }


def _each(scene: Scene, away: Sequence[str]) -> dict[str, list[Fill]]:
    grounds = [COLORS[ground] for ground in sorted(set(scenes.GROUNDS) - {scene.ground})]
    ground = COLORS[scene.ground]
    alone = [thing for thing in scene.things if sum(other.shape == thing.shape for other in scene.things) == 1]
    only = [thing for thing in scene.things if sum(other.color == thing.color for other in scene.things) == 1]
    colors, shapes = [COLORS[color] for color in scenes.COLORS], list(SHAPES.values())

    def others(all_of_them: Sequence[str], right: str) -> list[str]:
        return [one for one in all_of_them if one != right]

    return {
        "there": [judged({"item": name(thing)}, True) for thing in scene.things]
        + [judged({"item": one}, False) for one in away[: len(scene.things)]],
        "which-there": [Fill({}, name(thing), away[:8]) for thing in scene.things],
        "background-is": [judged({"color": one}, one == ground) for one in (ground, *grounds)],
        "background": [Fill({}, ground, grounds)],
        "where": [Fill({"thing": name(one)}, place(one), others(PLACES, place(one))) for one in scene.things],
        "color": [
            Fill({"shape": SHAPES[one.shape]}, COLORS[one.color], others(colors, COLORS[one.color])) for one in alone
        ],
        "shape": [
            Fill({"color": COLORS[one.color]}, SHAPES[one.shape], others(shapes, SHAPES[one.shape])) for one in only
        ],
    }


def _told(order: _Order) -> dict[str, list[Fill]]:
    """Answers of whole sentences."""
    across, down, wide, scene = order.across, order.down, order.wide, order.scene
    total = NUMBERS[len(across)]
    ends = (
        f"最宽的图形是{name(wide[0])}，在图片的{place(wide[0])}；最窄的图形是{name(wide[-1])}，"
        f"在图片的{place(wide[-1])}。"
    )
    return {
        "order-across": [Fill({}, f"从左到右依次是{listed(list(map(name, across)))}，最靠左的是{name(across[0])}。")],
        "order-down": [Fill({}, f"位置最高的是{name(down[0])}，从上到下依次是{listed(list(map(name, down)))}。")],
        "kinds": [
            Fill({}, f"图中一共有{total}个图形：{listed(_kinds(scene))}。背景是{COLORS[scene.ground]}的。"),
        ],
        "about": [
            Fill({"thing": name(one)}, f"{name(one)}在图片的{place(one)}。{''.join(_beside(order, one))}")
            for one in scene.things
        ],
        "compare": [
            Fill({"one": name(one), "other": name(other)}, _compared(one, other))
            for one, other in itertools.permutations(scene.things, 2)
            if abs(one.side - other.side) >= _PLAIN
        ],
        "ends": [Fill({}, ends)] if order.plain else [],
    }


def _beside(order: _Order, thing: Thing) -> Iterator[str]:
    at = order.across.index(thing)
    if at == 0:
        yield f"没有比它更靠左的图形，它右边紧接着的是{name(order.across[1])}。"
    elif at == len(order.across) - 1:
        yield f"没有比它更靠右的图形，它左边紧接着的是{name(order.across[-2])}。"
    else:
        yield f"从左到右看，它在{name(order.across[at - 1])}和{name(order.across[at + 1])}之间。"
    at = order.down.index(thing)
    if at == 0:
        yield "它的位置比其他图形都高。"
    elif at == len(order.down) - 1:
        yield "它的位置比其他图形都低。"
    else:
        yield f"它比{name(order.down[at - 1])}低，比{name(order.down[at + 1])}高。"


def _compared(one: Thing, other: Thing) -> str:
    width = "宽" if one.side > other.side else "窄"
    side = "左" if one.centre[0] < other.centre[0] else "右"
    height = "高" if one.centre[1] < other.centre[1] else "低"
    said = f"{name(one)}比{name(other)}{width}，位置更靠{side}，也更{height}。"
    if one.color == other.color:
        said += f"两者都是{COLORS[one.color]}的。"
    return said + (f"两者都是{SHAPES[one.shape]}。" if one.shape == other.shape else "")


def of_chart(chart: Chart, chance: random.Random) -> Known:
    facts = {**_chart_judged(chart, chance), **_chart_named(chart, chance), **_chart_told(chart)}
    return Known(
        caption=_chart_caption(chart),
        text=tuple(chart.text()),
        knowledge=f"标题为“{chart.title}”，单位是{UNITS[chart.unit]}。",
        fills={key: fills for key, fills in facts.items() if fills},
    )


def _ranked(chart: Chart) -> list[tuple[str, int]]:
    return sorted(chart.bars, key=lambda bar: -bar[1])


def _bars(bars: Sequence[tuple[str, int]], unit: str) -> str:
    return "、".join(f"{bar}（{value}{unit}）" for bar, value in bars)


def _chart_caption(chart: Chart) -> str:
    ranked, unit = _ranked(chart), UNITS[chart.unit]
    (most, greatest), (second, _), (least, smallest) = ranked[0], ranked[1], ranked[-1]
    total = sum(value for _, value in chart.bars)
    return (
        f"这是一张柱状图，标题是“{chart.title}”。白色背景上有{NUMBERS[len(chart.bars)]}根{COLORS[chart.color]}的柱子，"
        f"每根柱子上方写着数值，下方写着名称。从左到右，各柱子依次是{_bars(chart.bars, unit)}。最高的柱子是{most}，"
        f"数值为{greatest}{unit}；第二高的是{second}；最矮的柱子是{least}，数值为{smallest}{unit}。"
        f"最大值与最小值相差{greatest - smallest}{unit}，所有柱子的数值加起来一共是{total}{unit}。"
    )


def _chart_judged(chart: Chart, chance: random.Random) -> dict[str, list[Fill]]:
    value_is, more_than = [], []
    for bar, value in chart.bars:
        (wrong,) = bar_charts.near(value, chance, 1)
        value_is += [judged({"bar": bar, "value": str(said)}, said == value) for said in (value, int(wrong))]
        for said in (value - chance.randint(1, 2), value + chance.randint(1, 9)):
            more_than.append(judged({"bar": bar, "value": str(said), "unit": UNITS[chart.unit]}, value > said))
    names = dict.fromkeys(bar for _, _, row in bar_charts.SUBJECTS for bar in row)
    others = [bar for bar in names if bar not in dict(chart.bars)]
    return {
        "taller": [
            judged({"one": one, "other": other}, first > second)
            for (one, first), (other, second) in itertools.permutations(chart.bars, 2)
        ],
        "value-is": value_is,
        "more-than": more_than,
        "bar-there": [judged({"bar": bar}, True) for bar, _ in chart.bars]
        + [judged({"bar": bar}, False) for bar in chance.sample(others, len(chart.bars))],
    }


def _chart_named(chart: Chart, chance: random.Random) -> dict[str, list[Fill]]:
    ranked, names = _ranked(chart), [bar for bar, _ in chart.bars]
    row = next(row for title, _, row in bar_charts.SUBJECTS if title == chart.title)
    pool = [*names, *(bar for bar in row if bar not in names)]

    def bar(right: str, words: dict[str, str]) -> Fill:
        return Fill(words, right, [other for other in pool if other != right][: max(3, len(names) - 1)])

    def number(right: int, words: dict[str, str]) -> Fill:
        return Fill(words, str(right), bar_charts.near(right, chance))

    count, color = len(names), COLORS[chart.color]
    return {
        "value": [number(value, {"bar": one}) for one, value in chart.bars],
        "tallest": [bar(ranked[0][0], {})],
        "second": [bar(ranked[1][0], {})],
        "shortest": [bar(ranked[-1][0], {})],
        "first-bar": [bar(names[0], {})],
        "last-bar": [bar(names[-1], {})],
        "bar-of": [bar(one, {"value": str(value)}) for one, value in chart.bars],
        "bar-count": [Fill({}, f"{NUMBERS[count]}根", [f"{NUMBERS[n]}根" for n in range(3, 7) if n != count])],
        "bar-color": [Fill({}, color, [COLORS[one] for one in sorted(bar_charts.COLORS) if COLORS[one] != color])],
        "chart-title": [Fill({}, chart.title, [t for t, _, _ in bar_charts.SUBJECTS if t != chart.title])],
        "gap": [number(ranked[0][1] - ranked[-1][1], {})],
        "sum": [number(sum(value for _, value in chart.bars), {})],
    }


def _chart_told(chart: Chart) -> dict[str, list[Fill]]:
    ranked, unit = _ranked(chart), UNITS[chart.unit]
    (most, greatest), (least, smallest) = ranked[0], ranked[-1]
    sums = " + ".join(str(value) for _, value in chart.bars)
    total = sum(value for _, value in chart.bars)
    return {
        "ranking": [Fill({}, f"从高到低，各柱子依次是{_bars(ranked, unit)}。")],
        "range": [
            Fill(
                {"unit": unit},
                f"最矮的柱子是{least}（{smallest}{unit}），最高的是{most}（{greatest}{unit}），"
                f"相差{greatest} - {smallest} = {greatest - smallest}{unit}。",
            )
        ],
        "total-told": [Fill({"unit": unit}, f"把所有柱子的数值加起来：{sums} = {total}{unit}。")],
        "describe": [
            Fill(
                {},
                f"这是一张柱状图，标题是“{chart.title}”，有{NUMBERS[len(chart.bars)]}根{COLORS[chart.color]}的柱子："
                f"{_bars(chart.bars, unit)}。",
            )
        ],
        "compare-bars": [
            Fill(
                {"one": one, "other": other},
                f"{one}的数值是{first}{unit}，{other}的数值是{second}{unit}，"
                f"所以{one if first > second else other}的柱子更高。",
            )
            for (one, first), (other, second) in itertools.permutations(chart.bars, 2)
        ],
    }


def of_lines(text: Sequence[str], knowledge: str, caption: str, chance: random.Random) -> Known:
    """As `text_facts.known`."""
    lines = list(dict.fromkeys(text))
    quoted = [f"“{line}”" for line in lines]
    told = (
        f"图片中可以读到{len(lines)}行文字，从上到下依次是{'、'.join(quoted)}。这些文字都能够看清楚。" if lines else ""
    )
    if not lines:
        return Known(caption=caption, knowledge=knowledge)
    seen = {line.casefold() for line in lines}
    others = [other for other in (*_OTHERS, *text_facts.OTHERS) if other.casefold() not in seen]
    chance.shuffle(others)
    count = len(lines)
    fills = {
        "line-there": [judged({"line": f"“{line}”"}, line in lines) for line in (*lines, *others)],
        "which-line": [Fill({}, line, others) for line in lines],
        "line-count": [Fill({}, f"{count}行", [f"{n}行" for n in range(1, count + 4) if n != count])],
        "first-line": [Fill({}, lines[0], [*lines[1:], *others])],
        "last-line": [Fill({}, lines[-1], [*lines[:-1], *others])],
        "after-line": [
            Fill({"line": f"“{one}”"}, other, [*(rest for rest in lines if rest not in (one, other)), *others])
            for one, other in itertools.pairwise(lines)
        ],
        "all-lines": [Fill({}, told)],
        "around-lines": [Fill({}, f"图片中第一行文字是{quoted[0]}，最后一行可以读到的文字是{quoted[-1]}。")],
        "text-use": [Fill({}, f"把图片中的文字从上到下读完，可以读到{'、'.join(quoted)}这些内容。")],
    }
    return Known(caption=caption or told, text=tuple(lines), knowledge=knowledge, fills=fills)
