"""A data set's card: the README.md that the hub of Hugging Face shows, of what the data set and its log hold.

    Figures, manifest, dead letters, log of replies ──▶ YAML front matter and Markdown

No time, host, folder or price of the day stands in it, so a build that was killed and went on has the same card as an
undisturbed one. Usage is that of all replies that the build's items got, whether what was made of them was kept,
dropped or failed; other builds that share the log do not count. Money is only computed where prices are given.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from mminstruct.building.figures import Figures
from mminstruct.building.limits import Price
from mminstruct.building.usage import Counts
from mminstruct.conversation import Conversation, Message, TextPart

README = "README.md"
_BAR = 32
_CUT = 600  # characters of a text in an example
_ROWS = 12
# The identifiers of the hub, for licences as records write them.
_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "isc"),
    *("cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
    *("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "unlicense"),
    *("odbl", "pddl", "odc-by", "openrail", "wtfpl"),
)
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(
    figures: Figures,
    *,
    builder: dict[str, Any] | None = None,
    failures: Counter[str] | None = None,
    usage: Counts | None = None,
    price: Price | None = None,
    title: str = "Data set",
    shards: bool = True,
) -> str:
    """The card's text.

    Args:
        builder: what the manifest says of how it was built.
        failures: how many items could not be used, by reason.
        usage: of the replies, where there is a log of them.
        price: by which their cost was counted; None: none is said.
        title: of a data set that no builder made.
        shards: whether it lies in shards, whose files the hub is to be told of.
    """
    said = builder or {}
    parts = [
        _front(figures, said, title, shards),
        f"# {said.get('name', title)}",
        _what(figures, said),
        _built(figures, said, failures or Counter()),
        _usage(usage or {}, price),
        _histograms(figures),
        _examples(figures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front(figures: Figures, said: dict[str, Any], title: str, shards: bool) -> str:
    licence = _licence(figures, said)
    size = next((name for most, name in _SIZES if figures.conversations < most), "n>1M")
    tasks = ["visual-question-answering", "image-text-to-text"] if figures.media["image"] else ["text-generation"]
    if figures.media["video"]:
        tasks = [*tasks, "video-text-to-text"]
    front: dict[str, Any] = {"pretty_name": said.get("name", title)}
    front |= {"license": licence} if licence in _LICENCES else {"license": "other", "license_name": licence}
    front |= {"task_categories": tasks, "size_categories": [size], "tags": ["visual-instruction-tuning", "mminstruct"]}
    if shards:
        front["configs"] = [{"config_name": "default", "data_files": "shard-*.jsonl"}]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120)}---"


def _licence(figures: Figures, said: dict[str, Any]) -> str:
    """The hub's name where all is of one licence that it knows; else what is said, as a name without spaces."""
    named = sorted(figures.licences) or [str(said.get("licence", "not stated"))]
    if len(named) == 1 and named[0].lower() in _LICENCES:
        return named[0].lower()
    return "-".join(re.findall(r"[a-z0-9.]+", "-and-".join(named).lower()))[:96] or "unknown"


def _what(figures: Figures, said: dict[str, Any]) -> str:
    rows = [("conversations", f"{figures.conversations:,}")]
    rows += [(f"turns: {role}", f"{count:,}") for role, count in sorted(figures.turns.items())]
    if figures.preferences:
        rows.append(("with a better and a worse continuation", f"{figures.preferences:,}"))
    if figures.media["image"]:
        rows.append(("pictures", f"{figures.media['image']:,}, {len(figures.pictures):,} different ones"))
    if figures.media["video"]:
        rows.append(("videos", f"{figures.media['video']:,}"))
    licences = figures.licences or Counter({str(said["licence"]): figures.conversations} if "licence" in said else {})
    rows += [(f"licence: {name}", f"{count:,} conversations") for name, count in sorted(licences.items())]
    return _table(("", ""), rows)


def _built(figures: Figures, said: dict[str, Any], failures: Counter[str]) -> str:
    rows = [("builder", f"{said['name']}, version {said['version']}")] if "version" in said else []
    model = said.get("model")
    if model:
        drawn = ", ".join(f"{key} {value}" for key, value in model["parameters"].items())
        rows.append(("model", f"{model['name']} ({model['backend']}{', ' + drawn if drawn else ''})"))
    rows += [("the first items only", f"{said['limit']:,}")] if "limit" in said else []
    rows += [
        (f"option {name}", json.dumps(value, ensure_ascii=False)) for name, value in said.get("options", {}).items()
    ]
    rows += [(f"dropped: {rule}", f"{count:,}") for rule, count in said.get("dropped", {}).items()]
    rows += [(f"items that failed: {reason}", f"{count:,}") for reason, count in sorted(failures.items())]
    parts = ["## How it was built", _table(("", ""), rows)] if rows else []
    if figures.sources:
        most = [(name, f"{count:,}") for name, count in _most(figures.sources)]
        more = len(figures.sources) - len(most)
        parts += ["## Sources", _table(("source", "named by records"), most)]
        parts += [f"and {more:,} more." if more else ""]
    return "\n\n".join(part for part in parts if part)


def _usage(usage: Counts, price: Price | None) -> str:
    if not usage:
        return ""
    rows = [
        (prompt, f"{model} ({backend})", *(f"{n:,}" for n in (one.replies, one.read, one.cached, one.written, one.cut)))
        for (prompt, backend, model), one in usage.items()
    ]
    head = ("prompt and version", "model", "replies", "tokens read", "of them cached", "written", "not ended by itself")
    told = (
        "Of all replies that the items got, whether what was made of them was kept or left out, as the server counted; "
        "templates count nothing."
    )
    cost = sum(one.cost for one in usage.values())
    money = [f"By {price.said} these replies cost ${cost:,.2f}."] if price is not None else []
    return "\n\n".join(["## What was asked", _table(head, rows), told, *money])


def _histograms(figures: Figures) -> str:
    parts = ["## Distributions"]
    if set(figures.tasks) != {""}:
        named = [(name or "(none)", count) for name, count in _most(figures.tasks)]
        parts.append(_bars("tasks", named, figures.conversations))
    parts.append(_bars("turns in a conversation", _grouped(figures.turns_each), figures.conversations))
    parts.append(_bars("pictures in a conversation", _grouped(figures.images_each), figures.conversations))
    edges = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    lengths: Counter[int] = Counter(max(edge for edge in edges if edge <= count) for count in figures.words)
    names = {low: _range(low, high) for low, high in zip(edges, (*edges[1:], None), strict=True)}
    shown = [(names[edge], lengths[edge]) for edge in edges if lengths[edge]]
    parts.append(_bars("words in an answer", shown, len(figures.words)))
    return "\n\n".join(part for part in parts if part)


def _range(low: int, high: int | None) -> str:
    return f"{low} and more" if high is None else str(low) if high == low + 1 else f"{low} to {high - 1}"


def _grouped(counts: Counter[int]) -> list[tuple[str, int]]:
    """Few numbers one by one; many, those beyond the last row together."""
    numbers = sorted(counts)
    shown = [(str(number), counts[number]) for number in numbers[:_ROWS]]
    rest = numbers[_ROWS:]
    return [*shown, *([(f"{rest[0]} and more", sum(counts[number] for number in rest))] if rest else [])]


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:_ROWS]


def _bars(name: str, rows: Sequence[tuple[str, int]], total: int) -> str:
    """A histogram of text in a block of code."""
    if not rows:
        return ""
    labels = [" ".join(label.split())[:40].replace("`", "'") for label, _ in rows]
    width, most = max(map(len, labels)), max(count for _, count in rows)
    lines = [
        f"{label:<{width}}  {'█' * max(1, round(_BAR * count / most)):<{_BAR}}  {count:,} ({100 * count / total:.1f} %)"
        for label, (_, count) in zip(labels, rows, strict=True)
    ]
    return "\n".join(["```", f"{name}:", *lines, "```"])


def _examples(figures: Figures) -> str:
    shown = [_example(one) for one in figures.examples.values()]
    return "\n\n".join(["## Examples", *shown]) if shown else ""


def _example(conversation: Conversation) -> str:
    lines = [f"### `{_inline(conversation.id)}`"]
    for message in conversation.messages:
        lines += _turn(message.role, message, conversation)
    sides = conversation.preference
    for name, said in (("better", sides.chosen), ("worse", sides.rejected)) if sides else ():
        for message in said:
            lines += _turn(f"{message.role}, {name}", message, conversation)
    return "\n\n".join(lines)


def _turn(name: str, message: Message, conversation: Conversation) -> list[str]:
    lines = [f"**{name}**"]
    for part in message.content:
        if isinstance(part, TextPart):
            lines += [_quoted(part.text)] if part.text.strip() else []
            continue
        medium = conversation.media[part.index]
        path = medium.path
        local = not path.startswith("data:") and not Path(path).is_absolute()
        lines.append(f"![{part.type}](<{_address(path)}>)" if local else f"({part.type})")
    return lines


def _address(path: str) -> str:
    return re.sub(r"[<>\\\r\n]", "_", path)


def _quoted(text: str) -> str:
    """Somebody's text as a block of code, in which nothing of it is markup."""
    short = text.strip()
    short = short if len(short) <= _CUT else f"{short[:_CUT]} ..."
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", short)), default=0))
    return f"{fence}text\n{short}\n{fence}"


def _inline(text: str) -> str:
    return " ".join(text.split()).replace("`", "'")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [[_inline(cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)])
