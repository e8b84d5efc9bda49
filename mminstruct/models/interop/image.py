"""Image preparation: `preprocessor_config.json` of the processors of transformers, read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mminstruct.errors import CheckpointError
from mminstruct.files import read_json
from mminstruct.models.config import ImageConfig

# PIL's numbers of the filters, which is how the files name them.
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
RESCALE = 1 / 255
# Classes that prepare a picture as `mminstruct.models.image` does; files before 2023 name a feature extractor.
_CLASSES = (
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPImageProcessorPil",
    "CLIPFeatureExtractor",
    "LlavaImageProcessor",
    "LlavaImageProcessorFast",
    "LlavaImageProcessorPil",
    "BlipImageProcessor",
    "BlipImageProcessorFast",
    "BlipImageProcessorPil",
)
# Those of them that never crop and need not say so.
_SQUASHING = ("BlipImageProcessor", "BlipImageProcessorFast", "BlipImageProcessorPil")
# Classes that cut it into tiles as `mminstruct.models.image.cut` does; `do_pad` of theirs pads a batch, no picture.
_TILING_CLASSES = ("LlavaNextImageProcessor", "LlavaNextImageProcessorFast", "LlavaNextImageProcessorPil")
# Theirs, where a file leaves the key out.
_PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
# What a file that leaves a key out means: the classes' own defaults.
_DEFAULTS = {"do_resize": True, "do_rescale": True, "rescale_factor": RESCALE, "do_normalize": True, "do_pad": False}


def read_image(folder: Path, size: int) -> ImageConfig:
    """How pictures are prepared for a tower that takes `size` pixels.

    Raises:
        CheckpointError: no file says it, or it says what this project cannot do; names the key.
    """
    file, settings = _checked(folder, _CLASSES)
    return _image(settings, size, _resize(file, settings, size))


def read_tiled_image(folder: Path, size: int, resolutions: Any) -> ImageConfig:
    """The same for LLaVA-NeXT's processors, whose tiles are `size` pixels.

    Args:
        resolutions: the model's, which the processor has to share.
    """
    file, settings = _checked(folder, _TILING_CLASSES)
    pinpoints = settings.get("image_grid_pinpoints", _PINPOINTS)
    if pinpoints != resolutions:
        raise CheckpointError(f"{file}: image_grid_pinpoints {pinpoints} are not the model's, {resolutions}")
    _resize(file, settings, size)
    return _image(settings, size, "squash")


def _checked(folder: Path, classes: tuple[str, ...]) -> tuple[Path, dict[str, Any]]:
    """The file and its settings, where they say nothing that this project cannot do."""
    file, settings = read_settings(folder)
    kind = settings.get("image_processor_type", settings.get("feature_extractor_type"))
    if kind not in classes:
        raise CheckpointError(f"{file}: image_processor_type {kind!r} is unknown; known: {', '.join(classes)}")
    settings = {**_DEFAULTS, **({"do_center_crop": False} if kind in _SQUASHING else {}), **settings}
    for key in ("do_resize", "do_rescale", "do_normalize"):
        if settings[key] is not True:
            raise CheckpointError(f"{file}: {key} is {settings[key]!r}; only true can be read")
    if abs(settings["rescale_factor"] - RESCALE) > 1e-9:
        raise CheckpointError(f"{file}: rescale_factor is {settings['rescale_factor']!r}; only 1/255 can be read")
    for key in ("image_mean", "image_std", "resample", "do_center_crop", "size"):
        if key not in settings:
            raise CheckpointError(f"{file}: the key {key!r} is missing")
    if settings["resample"] not in FILTERS:
        raise CheckpointError(f"{file}: resample {settings['resample']!r} is unknown; known: {sorted(FILTERS)}")
    return file, settings


def _image(settings: dict[str, Any], size: int, resize: Any) -> ImageConfig:
    return ImageConfig(
        size=size,
        mean=tuple(settings["image_mean"]),
        std=tuple(settings["image_std"]),
        resize=resize,
        interpolation=FILTERS[settings["resample"]],  # type: ignore[arg-type]
    )


def _resize(file: Path, settings: dict[str, Any], size: int) -> Any:
    square, shortest = {"height": size, "width": size}, {"shortest_edge": size}
    # A number is the shorter edge for `size` and a square for `crop_size`, as CLIP's processor reads them.
    edge = shortest if settings["size"] == size else settings["size"]
    if edge not in (shortest, square):
        raise CheckpointError(f"{file}: size {settings['size']!r} does not fit the tower, which takes {size} pixels")
    if settings["do_center_crop"]:
        if settings.get("crop_size") not in (size, square):
            raise CheckpointError(
                f"{file}: crop_size {settings.get('crop_size')!r} does not fit the tower, which takes {size} pixels"
            )
    elif edge == shortest and not settings["do_pad"]:
        raise CheckpointError(f"{file}: do_center_crop is false, but size {settings['size']!r} is no square")
    if settings["do_pad"]:
        return "pad"
    return "crop" if edge == shortest else "squash"


def read_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file and the mapping in it; transformers 5 puts it inside the processor's own file."""
    whole = folder / "processor_config.json"
    if whole.is_file():
        inside = read_json(whole).get("image_processor")
        if inside is not None:
            return whole, dict(inside)
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        raise CheckpointError(f"{folder} holds no {file.name}; nothing else says how pictures are prepared")
    return file, dict(read_json(file))


def tiled_image_settings(image: ImageConfig, resolutions: Any) -> dict[str, Any]:
    """The content of LLaVA-NeXT's `preprocessor_config.json`."""
    tile = image_settings(image.model_copy(update={"resize": "crop"}))
    own = {"image_processor_type": "LlavaNextImageProcessor", "image_grid_pinpoints": resolutions, "do_pad": True}
    return {**tile, **own}


def blip_image_settings(image: ImageConfig) -> dict[str, Any]:
    """The content of InstructBLIP's `preprocessor_config.json`, which only squashes."""
    unused = ("do_center_crop", "crop_size", "do_pad")
    kept = {key: value for key, value in image_settings(image).items() if key not in unused}
    return {**kept, "image_processor_type": "BlipImageProcessor"}


def image_settings(image: ImageConfig) -> dict[str, Any]:
    """The content of `preprocessor_config.json`."""
    numbers = {name: number for number, name in FILTERS.items()}
    square = {"height": image.size, "width": image.size}
    return {
        # CLIP's class is the one that every version knows; only LLaVA's can pad.
        "image_processor_type": "LlavaImageProcessor" if image.resize == "pad" else "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": square if image.resize == "squash" else {"shortest_edge": image.size},
        "resample": numbers[image.interpolation],
        "do_center_crop": image.resize != "squash",
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": RESCALE,
        "do_normalize": True,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
        "do_pad": image.resize == "pad",
    }
