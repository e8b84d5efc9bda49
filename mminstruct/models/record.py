"""An evaluation's scores as measured numbers of a zoo row: put into its YAML, everything else left as it stands.

    report.json, timing.json ── entries ──▶ [Measured] ── recorded ──▶ the row's text with them under `measured`

The YAML is never written anew: comments, order and line breaks are a person's. An entry takes the place of the one of
the same benchmark, protocol and scorer, so recording a report twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mminstruct.errors import ConfigError, DataError
from mminstruct.files import read_json, write_text
from mminstruct.models.row_facts import Measured

KEY = "measured"


def record(row: Path, report: Path) -> list[Measured]:
    """Put a report's scores into a row's file; those that were not there yet, or otherwise, are returned.

    Raises:
        DataError: `report.json` or `timing.json` beside it is missing or not one of an evaluation of whole benchmarks.
        ConfigError: the row's `measured` is written in a way that nothing can be put into.
    """
    found, text = entries(report), row.read_text(encoding="utf-8")
    fresh = []
    for entry in found:
        changed = recorded(text, entry, str(row))
        if changed != text:
            fresh.append(entry)
            text = changed
    if fresh:
        write_text(row, text)
    return fresh


def entries(report: Path) -> list[Measured]:
    """The scores of a `report.json`, one for each benchmark."""
    content, timing = read_json(report), read_json(report.with_name("timing.json"))
    try:
        date, machine = timing["created"][:10], timing["machine"]
        return [_entry(numbers, content, date, machine, report) for numbers in content["benchmarks"].values()]
    except (KeyError, TypeError) as error:
        raise DataError(f"{report} is no report of this version's eval ({error} is missing); evaluate again") from None


def _entry(numbers: Mapping[str, Any], report: Mapping[str, Any], date: str, machine: str, path: Path) -> Measured:
    if numbers["limit"] is not None:
        raise DataError(
            f"{path}: of {numbers['name']} only the first {numbers['limit']} questions were asked; "
            "only whole benchmarks are recorded, so evaluate without --limit"
        )
    if numbers["score"] is None:
        raise DataError(f"{path}: the score of {numbers['name']} is undefined; there is nothing to record")
    share, code, weights = numbers["best"] == 1, report["code"], report["checkpoint"].get("weights")
    factor = 100 if share else 1
    commit = code["commit"][:12] + (" with changes" if code["changed"] else "") if code["commit"] else "not a checkout"
    protocol, error = numbers["protocol"]["name"], numbers["score_stderr"]
    return Measured(
        benchmark=numbers["name"],
        metric=f"{numbers['scorer'].partition('.')[0]}{', %' if share else ''}",
        value=round(factor * numbers["score"], 2),
        stderr=None if error is None else round(factor * error, 2),
        n=numbers["n"],
        protocol=protocol,
        scorer=numbers["scorer"],
        source=f"mminstruct eval {numbers['name']} protocol={protocol}",
        date=date,
        commit=f"mminstruct {code['version']}" if code["commit"] is None else commit,
        machine=machine,
        note=f"weights {weights[:12]}" if weights else "",
    )


def recorded(text: str, entry: Measured, where: str) -> str:
    """The text of a row with an entry in it. Raises `ConfigError` where `measured` is not as rows write it."""
    row = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(row, yaml.MappingNode):
        raise ConfigError(f"{where} is no row of the zoo; name one of: mminstruct zoo list")
    block = _block(entry)
    for key, value in row.value:
        if key.value != KEY:
            continue
        if isinstance(value, yaml.MappingNode):  # the reason why there was none
            indented = "\n".join(f"  {line}" for line in block)
            return _same_but(text, text[: key.start_mark.index] + f"{KEY}:\n{indented}" + text[_end(text, value) :])
        if not isinstance(value, yaml.SequenceNode) or value.flow_style or not value.value:
            raise ConfigError(f"{where}: `{KEY}` is neither a reason nor a list with a line for each key; write it so")
        for item in value.value:
            old = yaml.safe_load(text[item.start_mark.index - item.start_mark.column : _end(text, item)])[0]
            if _name(old) == _name(entry.model_dump()):
                if old == _content(entry):
                    return text
                lines = _indented(block, item.start_mark.column)
                return _same_but(text, text[: item.start_mark.index] + lines + text[_end(text, item) :])
        last = value.value[-1]
        column = last.start_mark.column
        added = "\n" + " " * (column - 2) + "- " + _indented(block, column)
        place = (text + "\n").index("\n", _end(text, last))  # behind a comment on its last line
        return _same_but(text, text[:place] + added + text[place:])
    indented = "\n".join(f"  {line}" for line in block)
    return _same_but(text, f"{text.rstrip()}\n{KEY}:\n{indented}\n")


def _same_but(before: str, after: str) -> str:
    """`after`, having made sure that nothing else has changed."""
    old, new = yaml.safe_load(before), yaml.safe_load(after)
    old.pop(KEY, None)
    kept = {key: value for key, value in new.items() if key != KEY}
    assert kept == old, "recording a number changed another key"
    return after


def _name(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes two entries results of the same kind."""
    return entry["benchmark"], entry.get("protocol", ""), entry.get("scorer", "")


def _content(entry: Measured) -> dict[str, Any]:
    return {key: value for key, value in entry.model_dump().items() if value not in (None, "")}


def _block(entry: Measured) -> list[str]:
    """An item of a YAML list, a line for each key."""
    lines = [
        yaml.safe_dump({key: value}, allow_unicode=True, width=10_000).strip() for key, value in _content(entry).items()
    ]
    return [("- " if number == 0 else "  ") + line for number, line in enumerate(lines)]


def _indented(block: Sequence[str], column: int) -> str:
    """The same without the dash, for a place where keys begin at a column."""
    return ("\n" + " " * column).join(line[2:] for line in block)


def _end(text: str, node: yaml.Node) -> int:
    """Where a node's own text ends; the marks of block nodes lie behind blank lines and comments that follow."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    end = int(node.end_mark.index)
    return len(text[:end].rstrip())
