"""The examples in `docs/formats.md` and `docs/formats/` are what the readers read and the writers write."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mminstruct import formats
from mminstruct.conversation import Conversation
from mminstruct.formats.native import Manifest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [page.read_text(encoding="utf-8") for page in [DOCS / "formats.md", *sorted(DOCS.glob("formats/*.md"))]]
NO_JSON = {"mavis", "mimicit", "minigpt4"}  # their files are described
EXAMPLES = [found for page in PAGES for found in re.findall(r"```json ([\w-]+)\n(.*?)```", page, re.DOTALL)]


def test_each_format_has_its_section_and_example() -> None:
    sections = [name for page in PAGES for name in re.findall(r"^##? ([a-z0-9-]+)$", page, re.MULTILINE)]
    assert sorted(sections) == sorted(formats.FORMATS)
    written = {name for name, found in formats.FORMATS.items() if found.write}
    assert {name for name, _ in EXAMPLES} == {*written, "manifest"} - NO_JSON


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
