"""docs/security.md promises tests: each one that it names exists, and each row of its tables names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| ") and line.count("|") > 4 and not line.startswith("| Threat")
]


def test_the_page_names_many_tests_and_a_file_for_none_that_it_does_not_show() -> None:
    assert len(NAMED) > 50 and len(ROWS) > 30
    assert set(re.findall(r"tests/[\w/]+\.py", PAGE)) == {file for file, _ in NAMED} | {"tests/test_security_page.py"}


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_each_test_that_is_named_exists(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {name for where, name in NAMED if where == file} - found == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_each_row_has_a_defence_a_place_that_exists_and_a_test(row: list[str]) -> None:
    _, defence, places, tests = row
    assert defence and re.search(r"::test_\w+`", tests)
    for place in re.findall(r"`([^`]+)`", places):
        assert (ROOT / place).is_file(), place
