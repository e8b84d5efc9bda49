"""A zoo row's YAML as one complete mapping: its base's keys, and its parts' descriptions, put in their places.

    row ──base──▶ top-level keys of both ──part──▶ vision_encoder, language_model, tokenizer, tiny, sources

A part (`model_zoo/parts/*/*.yaml`) is an encoder or a language model as its makers published it, with its licence, so
that each such fact stands in one file however many rows use it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from mminstruct import catalog
from mminstruct.config import Config, load_yaml, validate
from mminstruct.errors import ConfigError
from mminstruct.models.row_facts import Source

# What is true of one trained model and of no other that has the same parts.
_NEVER_INHERITED = ("weights", "reported", "measured", "differences")


class TinyPart(Config):
    """What shrinks a part's `architecture`; for encoders also the picture's size."""

    architecture: dict[str, Any]
    image_size: int | None = None


class EncoderPart(Config):
    """A published vision encoder: a tower as a row would write it, and where it comes from."""

    vision_encoder: dict[str, Any]
    source: Source
    tiny: TinyPart


class LanguageModelPart(Config):
    """A published language model, its tokenizer, where they come from, and how many `parameters` its makers count."""

    language_model: dict[str, Any]
    tokenizer: dict[str, Any]
    source: Source
    parameters: int
    tiny: TinyPart


def read(path: Path) -> dict[str, Any]:
    """A row's content with nothing left to look up.

    Raises:
        ConfigError: a base or a part that does not exist, or rows that are each other's base.
    """
    return _with_parts(_with_base(path), path)


def encoder_part(name: str) -> EncoderPart:
    path = catalog.find(catalog.ENCODER, name)
    return validate(EncoderPart, load_yaml(path), where=str(path))


def language_model_part(name: str) -> LanguageModelPart:
    path = catalog.find(catalog.LANGUAGE_MODEL, name)
    return validate(LanguageModelPart, load_yaml(path), where=str(path))


def _with_base(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a row says; where it names a `base`, that row's, with each key that this one gives in its place."""
    content = load_yaml(path)
    if "base" not in content:
        return content
    if path in above:
        raise ConfigError(f"{path} is, through its base, its own base; let one of the rows stand by itself")
    base = catalog.find(catalog.MODEL, str(content.pop("base")))
    inherited = {key: value for key, value in _with_base(base, (*above, path)).items() if key not in _NEVER_INHERITED}
    if "tokenizer" in inherited and base.parent != path.parent:
        inherited["tokenizer"] = _from_folder(inherited["tokenizer"], base.parent)
    return inherited | content


def _from_folder(tokenizer: dict[str, Any], start: Path) -> dict[str, Any]:
    """A row's `tokenizer` whose folders no longer depend on where its file lies."""
    moved = {**tokenizer}
    if tokenizer.get("folder") is not None:
        moved["folder"] = str(start / tokenizer["folder"])
    if tokenizer.get("instruction") is not None:
        moved["instruction"] = _from_folder(tokenizer["instruction"], start)
    return moved


def _with_parts(content: dict[str, Any], path: Path) -> dict[str, Any]:
    sources: dict[str, Any] = {}
    tiny: dict[str, Any] = {}
    encoder = content.get("vision_encoder")
    if isinstance(encoder, dict):
        towers = encoder.get("towers") if encoder.get("source") == "fused" else None
        filled = [_from_part(tower, EncoderPart, path) for tower in (towers or [encoder])]
        parts = [cast(EncoderPart, part) for _, part in filled if part is not None]
        if parts and len(parts) < len(filled):
            raise ConfigError(f"{path}: some of the fused towers are parts and some are not; write all of them one way")
        described = [{**cast(EncoderPart, part).vision_encoder, **own} if part else own for own, part in filled]
        content["vision_encoder"] = {**encoder, "towers": described} if towers else described[0]
        if parts:
            small = [part.tiny.architecture for part in parts]
            tiny |= {"vision_encoder": small if towers else small[0], "image_size": parts[0].tiny.image_size}
            sources["vision_encoder"] = [part.source.model_dump() for part in parts]
    model = content.get("language_model")
    if isinstance(model, dict):
        own, found = _from_part(model, LanguageModelPart, path)
        if found is not None:
            part = cast(LanguageModelPart, found)
            content["language_model"] = {**part.language_model, **own}
            content.setdefault("tokenizer", part.tokenizer)
            tiny["language_model"] = part.tiny.architecture
            sources["language_model"] = [part.source.model_dump()]
    if tiny:
        content["tiny"] = tiny | content.get("tiny", {})
    if sources:
        content["sources"] = sources | content.get("sources", {})
    return content


def _from_part(
    section: Any, kind: type[EncoderPart] | type[LanguageModelPart], path: Path
) -> tuple[Any, EncoderPart | LanguageModelPart | None]:
    """What the section says itself, and the part that it names."""
    if not isinstance(section, dict) or "part" not in section:
        return section, None
    name = str(section["part"])
    found = encoder_part(name) if kind is EncoderPart else language_model_part(name)
    return {key: value for key, value in section.items() if key != "part"}, found
