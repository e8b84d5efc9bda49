"""The examples in `docs/formats.md` and in `docs/formats/` are what the readers read and the writers write."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mminstruct import formats
from mminstruct.conversation import Conversation
from mminstruct.formats.native import Manifest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "formats.md", *sorted((DOCS / "formats").glob("*.md"))]
PAGE = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
FOLDERS = {"mimicit"}  # their files are shown as such
EXAMPLES = re.findall(r"```json (\w+)\n(.*?)```", PAGE, re.DOTALL)


def test_each_format_has_its_section_and_example() -> None:
    assert set(re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)) == set(formats.FORMATS)
    written = {name for name, found in formats.FORMATS.items() if found.write}
    assert {name for name, _ in EXAMPLES} == {*written, "manifest"} - FOLDERS


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_examples_are_what_is_read_and_written(name: str, example: str, tmp_path: Path) -> None:
    value = json.loads(example)
    if name == "manifest":
        assert Manifest.model_validate(value).model_dump(mode="json") == value
        return
    if name == "native":
        assert Conversation.model_validate(value).model_dump(mode="json", exclude_none=True) == value
        return
    items = value if isinstance(value, list) else [value]
    (tmp_path / "given.json").write_text(json.dumps(items), encoding="utf-8")
    formats.write(formats.read(tmp_path / "given.json"), tmp_path / "written.json", name)
    assert json.loads((tmp_path / "written.json").read_text(encoding="utf-8")) == items
