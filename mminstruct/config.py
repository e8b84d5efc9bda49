"""Strict YAML configs: unknown keys are errors with a suggestion, `key=value` overrides any of them.

data = load_yaml(path)                     # duplicate keys refused, line numbers in errors
apply_overrides(data, ["stages.0.epochs=2", "data.path=out"])
recipe = validate(Recipe, data, where=str(path))
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from mminstruct.errors import ConfigError, did_you_mean

try:  # libyaml, several times as fast; a PyYAML that was built without it has none
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]


class Config(BaseModel):
    """Base of every config: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=BaseModel)


class _Loader(SafeLoader):
    """YAML's safe loader that refuses a key given twice and reads `1e-3` as a number (YAML 1.1 wants `1.0e-3`)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if key in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(node.value)


_Loader.add_implicit_resolver("!exponent", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_constructor("!exponent", _float)


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeEncodeError) as error:  # the second of an argument that is no text
        raise ConfigError(f"{where}: not valid YAML: {error}") from None


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises `ConfigError` with the line where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); check the path") from None
    data = _parse(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, found {type(data).__name__}")
    return data


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Set `a.b.0.c=value` items in `data`, in place; values are YAML. Returns `data`.

    Raises `ConfigError` for an item that is not `key=value` or that walks through something that is no mapping.
    """
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {item!r} is not of the form key=value")
        *parents, last = key.split(".")
        place: Any = data
        for depth, name in enumerate(parents):
            where = ".".join(parents[: depth + 1])
            is_list = isinstance(place, list)
            place = place[_list_index(name, place, item)] if is_list else place.setdefault(name, {})
            if not isinstance(place, dict | list):
                raise ConfigError(f"override {item!r}: {where!r} is a value, not a section")
        parsed = _parse(value, f"override {item!r}")
        if isinstance(place, list):
            place[_list_index(last, place, item)] = parsed
        else:
            place[last] = parsed
    return data


def _list_index(name: str, items: list[Any], override: str) -> int:
    if not name.isdigit() or int(name) >= len(items):
        raise ConfigError(f"override {override!r}: {name!r} is not an index of a list of {len(items)}")
    return int(name)


def validate(model: type[C], data: dict[str, Any], where: str) -> C:
    """`data` as a `model`. Raises `ConfigError`, one line, naming the first offending key and the nearest known one."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(model, error)}") from None


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    found = error.errors(include_url=False)
    # A misspelt key is also a missing one; the misspelling is what helps.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    # Pydantic puts the tag of a union's member into the location; who wrote the YAML has no such key.
    key = ".".join(str(part) for part in _without_tags(model, first["loc"]))
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        discriminator = first["ctx"]["discriminator"].strip("'")
        key = f"{key}.{discriminator}" if key else discriminator
        if first["type"] == "union_tag_not_found":
            return f"the key {key!r} is missing"
        return f"{key}: {first['ctx']['tag']!r} is none of {first['ctx']['expected_tags']}"
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        return f"unknown key {key!r}.{did_you_mean(name, _fields_at(model, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"the key {key!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (found {first['input']!r})" if key else message


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that a pydantic error location leads to."""
    return [name for candidate in _walk(model, location)[0] for name in candidate.model_fields]


def _without_tags(model: type[BaseModel], location: tuple[int | str, ...]) -> list[int | str]:
    return _walk(model, location)[1]


def _walk(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[type[BaseModel]], list[int | str]]:
    """The models that may stand at a pydantic error location, and the location without tags of unions."""
    candidates: list[type[BaseModel]] = [model]
    path: list[int | str] = []
    for part in location:
        tagged = [candidate for candidate in candidates if part in _tags(candidate)]
        if tagged and len(candidates) > 1:
            candidates = tagged
            continue
        path.append(part)
        for candidate in candidates:
            if part in candidate.model_fields:
                candidates = _models_in(candidate.model_fields[str(part)].annotation)
                break
    return candidates, path


def _tags(model: type[BaseModel]) -> set[Any]:
    """Values of the fields that can have only one, by which a discriminated union tells its members apart."""
    literals = [typing.get_args(field.annotation) for field in model.model_fields.values() if _is_literal(field)]
    return {values[0] for values in literals if len(values) == 1}


def _is_literal(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is typing.Literal


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [found for argument in typing.get_args(annotation) for found in _models_in(argument)]


def dump_yaml(model: BaseModel) -> str:
    """The config with every default written out, for the `config.resolved.yaml` beside each output."""
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
