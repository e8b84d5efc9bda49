"""Strict configs: every slip is one line that names the place and the nearest right name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from mminstruct.config import Config, apply_overrides, dump_yaml, load_yaml, validate
from mminstruct.errors import ConfigError


class Inner(Config):
    rate: float = 0.1
    names: list[str] = Field(default_factory=list)


class Cat(Config):
    kind: Literal["cat"]
    lives: int = 9


class Dog(Config):
    kind: Literal["dog"]
    tricks: int = 0


class Outer(Config):
    title: str
    inner: Inner = Inner()
    parts: list[Inner] = Field(default_factory=list)
    either: Inner | None = None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat(kind="cat")
    by_name: dict[str, Inner] = Field(default_factory=dict)


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "c.yaml").write_text(text)
    return tmp_path / "c.yaml"


def test_round_trip(tmp_path):
    config = Outer(title="é", parts=[Inner(rate=1e-5)])
    assert validate(Outer, load_yaml(write(tmp_path, dump_yaml(config))), "c") == config


NUMBERS = [("1e-3", 1e-3), ("2E5", 2e5), ("-1.5e-3", -1.5e-3), ("0.1", 0.1), ("3", 3)]


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_numbers_as_people_write_them(tmp_path, text, value):
    loaded = load_yaml(write(tmp_path, f"rate: {text}"))["rate"]
    assert loaded == value and type(loaded) is type(value)


@pytest.mark.parametrize("text", ["1e", "e5", "1e-3x", "v1e3"])
def test_words_stay_words(tmp_path, text):
    assert load_yaml(write(tmp_path, f"name: {text}"))["name"] == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: a\ntitle: b", r"c\.yaml:2: not valid YAML: the key 'title' stands twice"),
        ("title: [a", r"c\.yaml:\d: not valid YAML"),
        ("- a", "expected a mapping of keys, found list"),
        ("", "expected a mapping of keys, found NoneType"),
    ],
)
def test_broken_yaml(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_yaml(write(tmp_path, text))


def test_yaml_cannot_make_objects(tmp_path):
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml(write(tmp_path, "a: !!python/object/apply:os.system ['true']"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"title": "a", "titel": 1}, "c: unknown key 'titel'. Did you mean 'title'"),
        ({"title": "a", "inner": {"rat": 1}}, "unknown key 'inner.rat'. Did you mean 'rate'"),
        ({"title": "a", "parts": [{}, {"nmes": []}]}, "unknown key 'parts.1.nmes'. Did you mean 'names'"),
        ({"title": "a", "either": {"rates": 1}}, "unknown key 'either.rates'. Did you mean 'rate'"),
        ({"titel": "a"}, "unknown key 'titel'. Did you mean 'title'"),
        ({}, "the key 'title' is missing"),
        # The kind that pydantic puts into a location is no key; a key of a mapping that reads like one is.
        ({"title": "a", "pet": {"kind": "cat", "lifes": 1}}, "unknown key 'pet.lifes'. Did you mean 'lives'"),
        ({"title": "a", "pet": {"kind": "dog", "lives": 1}}, r"unknown key 'pet.lives'. Known: kind, tricks"),
        ({"title": "a", "pet": {"kind": "dog", "tricks": "x"}}, r"c: pet.tricks: .*integer"),
        ({"title": "a", "pet": {"kind": "dog", "dog": 1}}, "unknown key 'pet.dog'"),
        ({"title": "a", "pet": {"lives": 1}}, "c: the key 'pet.kind' is missing"),
        ({"title": "a", "pet": {"kind": "cow"}}, "c: pet.kind: 'cow' is none of 'cat', 'dog'"),
        ({"title": "a", "by_name": {"cat": {"rat": 1}}}, "unknown key 'by_name.cat.rat'. Did you mean 'rate'"),
        ({"title": "a", "inner": {"rate": "fast"}}, r"inner.rate: .*number.* \(found 'fast'\)"),
    ],
)
def test_what_does_not_fit(data, message):
    with pytest.raises(ConfigError, match=message):
        validate(Outer, data, where="c")


def test_overrides():
    data = {"title": "a", "parts": [{"rate": 1}, {"rate": 2}]}
    apply_overrides(data, ["title=b=c", "inner.rate=1e-4", "parts.1.rate=5", "inner.names=[x, y]", "either=null"])
    config = validate(Outer, data, "c")
    assert config.title == "b=c" and config.inner == Inner(rate=1e-4, names=["x", "y"])
    assert [part.rate for part in config.parts] == [1, 5] and config.either is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("title", "not of the form key=value"),
        ("=1", "not of the form key=value"),
        ("title.x=1", "'title' is a value, not a section"),
        ("parts.7.rate=1", "'7' is not an index of a list of 1"),
        ("parts.x=1", "'x' is not an index"),
        ("inner.rate=[", "not valid YAML"),
        ("inner.rate=\udcff", "not valid YAML"),
    ],
)
def test_broken_overrides(override, message):
    with pytest.raises(ConfigError, match=message):
        apply_overrides({"title": "a", "parts": [{}], "inner": {}}, [override])
