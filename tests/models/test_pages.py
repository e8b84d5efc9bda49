"""Model cards that the hub can read, and a zoo page that is as fresh as the rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard import metadata_load

import mminstruct
from mminstruct.models import pages
from mminstruct.models.config import ModelRow
from mminstruct.models.factory import read_row
from mminstruct.models.sizes import size

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def page() -> str:
    return pages.zoo_page()


def test_zoo_page_is_fresh(page):
    kept = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
    assert kept == page, f"docs/zoo.md is stale; renew it: make docs (or {pages.RENEW})"


def test_zoo_page_has_every_row_once_with_its_size(page):
    lines = page.splitlines()
    for name in mminstruct.list_models():
        (line,) = [line for line in lines if line.startswith(f"| `{name}` |")]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        spec, _ = read_row(name)
        assert cells[5] == pages.short(size(spec).total) and cells[7].startswith(spec.licence().title)


@pytest.mark.parametrize("row", ["nano", "llava-1.5-7b", "llavar-13b", "prism-dinosiglip-7b", "siglip2-llama-3.2-1b"])
def test_the_hub_reads_our_cards(row, tmp_path):
    """By huggingface_hub's own parser: nothing of what we wrote is lost, and the text follows the front matter."""
    spec, _ = read_row(row)
    (tmp_path / "README.md").write_text(str(pages.model_card(row)), encoding="utf-8")
    card = ModelCard.load(tmp_path / "README.md")
    assert isinstance(card.data, ModelCardData)
    front = metadata_load(tmp_path / "README.md")
    assert front == card.data.to_dict()
    assert {key: front[key] for key in spec.licence().hub()} == spec.licence().hub()
    assert front["pipeline_tag"] == "image-text-to-text" and front["library_name"] == "mminstruct"
    sections = [line for line in card.text.splitlines() if line.startswith("## ")]
    assert [line[3:] for line in sections] == [
        "Parts",
        "How to use",
        "Memory",
        "Numbers",
        "Licence",
        "Limitations",
    ]


@pytest.mark.parametrize("row", mminstruct.list_models())
def test_front_matter_of_every_row(row):
    """Base models are repositories `owner/name`; a licence that the hub has no id for has a name and a link."""
    spec, _ = read_row(row)
    front = yaml.safe_load(str(pages.front_matter(spec)))
    if isinstance(spec, ModelRow):
        fetched = [tower for tower in pages.towers(spec) if tower.weights]
        assert len(front.get("base_model", [])) == len(fetched) + bool(spec.language_model.weights)
    else:
        assert front["base_model"] == [spec.native]
    for name in front.get("base_model", []) + front.get("datasets", []):
        assert name.count("/") == 1
    assert (front["license"] == "other") == ("license_name" in front) == ("license_link" in front)


def test_a_card_keeps_the_makers_numbers_apart_from_ours():
    text = str(pages.model_card("bunny-1.0-3b"))
    reported, _, measured = text.partition("**Reported by its makers**")[2].partition("**Measured by us**")
    assert "| POPE | F1, % | 86.8 |" in reported and "None: " in measured.partition("## Licence")[0]
    text = str(pages.model_card("nano"))
    reported, _, measured = text.partition("**Reported by its makers**")[2].partition("**Measured by us**")
    assert "None: " in reported
    assert "| easy-VQA (test) | accuracy, % | 99.96 | benchmarks/quickstart.md;" in measured
    assert "commit 94d36d7, 2 cores of an AMD EPYC, no GPU" in measured


def test_a_card_names_what_is_not_known_and_what_differs():
    text = str(pages.model_card("tgdoc-7b"))
    assert "not known: the repository states no licence for its weights" in text
    assert "CC-BY-NC-4.0 is the strictest" in text and "no commercial use" in text
    assert "* It was trained with a token before and one after each image" in text


def test_measured_numbers_stand_in_the_benchmark_page():
    """No figure of ours that its own page does not have, with its commit."""
    for name in mminstruct.list_models():
        measured = read_row(name)[0].measured
        for number in measured if isinstance(measured, tuple) else ():
            page = (ROOT / number.source).read_text(encoding="utf-8")
            assert f"{number.value:g}" in page and number.commit in page
