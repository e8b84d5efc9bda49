"""Checkpoints of other projects: read into this project's folder, and written from it, one tensor at a time.

import_checkpoint("llava-1.5-7b-hf", "runs/llava", chat_template="vicuna_v1")
export_checkpoint("runs/llava", "runs/llava-hf", "hf-llava")
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from mminstruct.errors import CheckpointError, ConfigError, did_you_mean
from mminstruct.files import new_folder, require_new
from mminstruct.models.interop import hf_instructblip, hf_llava, idefics, llava, open_flamingo
from mminstruct.models.interop.parts import Opened, open_own, read_config
from mminstruct.models.interop.stream import MAX_SHARD_SIZE
from mminstruct.models.interop.verify import Report, verify
from mminstruct.models.scan import scan

# Formats that a folder holds whole, and those that may need a vision tower and a language model from elsewhere.
_WHOLE: dict[str, Callable[[Path, Path, str | None, int | str], None]] = {
    **{kind.name: partial(hf_llava.read, kind) for kind in (hf_llava.LLAVA, hf_llava.LLAVA_NEXT)},
    hf_instructblip.NAME: hf_instructblip.read,
    idefics.NAME: idefics.read,
}
_IN_PIECES = {llava.NAME: llava.read, open_flamingo.NAME: open_flamingo.read}
_WRITERS: dict[str, Callable[[Opened, Path, int | str], None]] = {
    **{kind.name: partial(hf_llava.write_model, kind) for kind in (hf_llava.LLAVA, hf_llava.LLAVA_NEXT)},
    hf_instructblip.NAME: hf_instructblip.write_model,
    llava.NAME: llava.write_model,
    idefics.NAME: idefics.write_model,
}
FORMATS = (*_WHOLE, *_IN_PIECES)

# What config.json says of itself: (model_type, architecture). The original's first releases shared the model_type that
# transformers took later.
_KINDS = {
    ("llava", hf_llava.LLAVA.architecture): hf_llava.LLAVA.name,
    ("llava_next", hf_llava.LLAVA_NEXT.architecture): hf_llava.LLAVA_NEXT.name,
    ("instructblip", hf_instructblip.ARCHITECTURE): hf_instructblip.NAME,
    ("idefics", idefics.ARCHITECTURE): idefics.NAME,
    # What training did not save whole (LoRA, a projector alone) keeps the architecture of its language model.
    **{(kind, name): llava.NAME for kind, names in llava.ARCHITECTURES.items() for name in names},
}


def detect(folder: Path) -> str:
    """The format of a folder, by the exact words of its config.json. Raises `CheckpointError` for any other words.

    OpenFlamingo's has no config.json and is known by its file.
    """
    if open_flamingo.is_source(folder):
        return open_flamingo.NAME
    settings = read_config(folder)
    architectures = settings.get("architectures") or [None]
    kind = (settings.get("model_type"), architectures[0])
    if kind not in _KINDS:
        raise CheckpointError(
            f"{folder}/config.json: model_type {kind[0]!r} with architecture {kind[1]!r} is no format that can be "
            f"imported; known: {', '.join(f'{a} {b}' for a, b in _KINDS)} (or name one with --format)"
        )
    return _KINDS[kind]


def import_checkpoint(
    source: str | Path,
    out: str | Path,
    format: str | None = None,
    vision_tower: str | Path | None = None,
    base: str | Path | None = None,
    chat_template: str | None = None,
    max_shard_size: int | str = MAX_SHARD_SIZE,
) -> str:
    """Write a checkpoint folder of this project from another project's; it appears whole or not at all.

    Args:
        source: a local folder, or OpenFlamingo's `checkpoint.pt`.
        format: one of `FORMATS`; default: what the folder's config.json says.
        vision_tower: a local folder of the vision tower, for the formats `llava` and `open-flamingo`.
        base: a local folder of the language model that a LoRA folder, or a projector alone, of the format `llava`, or
            an OpenFlamingo, was trained on.
        chat_template: needed where the folder does not say it (`vicuna_v1` for LLaVA-1.5).
        max_shard_size: of one file of weights, which is also what memory holds.

    Returns:
        The format.

    Raises:
        CheckpointError: what is there cannot be held as it is; one line with the key or the tensor.
        RunError: `out` exists and is not empty.
    """
    folder, out = Path(source), Path(out)
    require_new(out)
    for place in (folder, vision_tower, base):
        if place is not None and Path(place).is_dir():
            scan(Path(place))
    name = _known(format) if format is not None else detect(folder)
    if name in _WHOLE and (vision_tower is not None or base is not None):
        raise ConfigError(f"the format {name} is whole by itself; drop --vision-tower and --base")
    with new_folder(out) as temporary:
        if name in _WHOLE:
            _WHOLE[name](folder, temporary, chat_template, max_shard_size)
        else:
            tower = None if vision_tower is None else Path(vision_tower)
            model = None if base is None else Path(base)
            _IN_PIECES[name](folder, temporary, chat_template, tower, model, max_shard_size)
    return name


def export_checkpoint(
    folder: str | Path, out: str | Path, format: str, max_shard_size: int | str = MAX_SHARD_SIZE
) -> None:
    """Write a checkpoint of this project in another project's format; it appears whole or not at all.

    Raises:
        CheckpointError: the model has a part that the format cannot hold.
        RunError: `out` exists and is not empty.
    """
    out = Path(out)
    require_new(out)
    if _known(format) not in _WRITERS:
        raise ConfigError(f"the format {format} can be imported only; a model is exported as {', '.join(_WRITERS)}")
    write = _WRITERS[format]
    opened = open_own(Path(folder))
    with new_folder(out) as temporary:
        write(opened, temporary, max_shard_size)


def _known(format: str) -> str:
    if format not in FORMATS:
        raise ConfigError(f"no checkpoint format is called {format!r}.{did_you_mean(format, FORMATS)}")
    return format


__all__ = ["FORMATS", "Report", "detect", "export_checkpoint", "import_checkpoint", "verify"]
