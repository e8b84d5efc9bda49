"""Feature caches of a run: which stages may have one, and each filled before the first stage that can use it.

With several processes the first one computes what is missing, and the others wait for its signs of life, so that no
time limit of the communication ends a long fill.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel, TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled

from mminstruct.conversation import Media
from mminstruct.data import feature_fill
from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.feature_cache import CachedMedia, FeatureCache, describe
from mminstruct.errors import ConfigError, MminstructError
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel
from mminstruct.training.config import Recipe, StageConfig

log = logging.getLogger(__name__)

_ALIVE = 5.0  # seconds between two signs of life

# What a cache depends on (`describe`), and the key of each path.
Filled = tuple[dict[str, Any], dict[str, str]]


def require_cacheable(recipe: Recipe, model: PreTrainedModel) -> None:
    """Raises `ConfigError` for a stage whose encoder's features cannot be cached."""
    for number, stage in enumerate(recipe.stages):
        if stage.feature_cache is None:
            continue
        if not isinstance(model, VisionLanguageModel):
            raise ConfigError(
                f"stage {stage.name!r} has feature_cache, but a {type(model).__name__} is transformers' own and calls "
                "its encoder itself; take feature_cache out"
            )
        if stage.feature_cache.pooled and model.pooled_shape == model.feature_shape:
            raise ConfigError(
                f"stage {stage.name!r} has feature_cache.pooled, but its connector does not begin by pooling features, "
                "as average_pool does; take pooled out"
            )
        if is_deepspeed_zero3_enabled() and any(one.changes("vision_encoder") for one in recipe.stages[:number]):
            raise ConfigError(
                f"stage {stage.name!r} has feature_cache behind a stage that changes the vision_encoder, and under "
                "ZeRO-3 no process holds its weights whole; take feature_cache out, or use deepspeed=zero2"
            )


def attach_caches(
    recipe: Recipe,
    number: int,
    datasets: Sequence[ConversationDataset],
    model: PreTrainedModel,
    settings: TrainingArguments,
) -> None:
    """Fill and attach the caches of all stages from `number` on up to the first that changes the encoder.

    The model has the weights that stage `number` begins with; called again, it does what is left.

    Raises:
        RunError: a cache does not fit its limit or its disk.
        MediaError: a medium cannot be opened.
        DataError: a cache is damaged.
    """
    for stage, dataset in zip(recipe.stages[number:], datasets[number:], strict=True):
        if stage.feature_cache is not None and dataset.cached is None:
            assert isinstance(model, VisionLanguageModel)  # `require_cacheable` has been asked
            work = _fill(stage, recipe, dataset, model, settings)
            description, keys = _by_the_first(work, settings.process_index)
            dataset.use(CachedMedia(FeatureCache(stage.feature_cache.folder, description), keys))
        if stage.changes("vision_encoder"):
            return


def _by_the_first(work: Generator[None, None, Filled], process: int) -> Filled:
    """What the first process's work gives, on all processes; its errors, too."""
    told = time.monotonic()
    while True:
        news: list[Any] = [None]
        failure = None
        if process == 0:
            try:
                next(work)
            except StopIteration as ended:
                news = [ended.value]
            except MminstructError as error:
                news, failure = [error], error
            if news == [None] and time.monotonic() - told < _ALIVE:
                continue
        told = time.monotonic()
        (found,) = broadcast_object_list(news, from_process=0)
        if failure is not None:
            raise failure
        if isinstance(found, MminstructError):
            raise found
        if found is not None:
            filled: Filled = found
            return filled


def _fill(
    stage: StageConfig,
    recipe: Recipe,
    dataset: ConversationDataset,
    model: VisionLanguageModel,
    settings: TrainingArguments,
) -> Generator[None, None, Filled]:
    """Compute what a stage's cache lacks."""
    config, processor = stage.feature_cache, dataset.processor
    assert config is not None and isinstance(processor, Processor)
    media = list(dataset.conversations.media())
    keys = yield from feature_fill.hash_media(media, dataset.media_root)
    distinct = {keys[one.path]: one for one in media}
    description = describe(model, processor, config, recipe.precision)

    def missing() -> tuple[FeatureCache, list[tuple[str, Media]], int]:
        cache = FeatureCache(config.folder, description)
        lacking = [(key, one) for key, one in distinct.items() if key not in cache]
        return cache, lacking, feature_fill.estimate([one for _, one in lacking], processor, config, cache.shape)

    cache, lacking, needed = missing()
    log.info(
        "stage %s: feature cache %s lacks %d of %d media, %s",
        stage.name, cache.folder, len(lacking), len(distinct), feature_fill.size(needed),
    )  # fmt: skip
    if not lacking:
        return description, keys
    feature_fill.require_room(needed, config)
    if len(lacking) == len(distinct) and _looks(stage, dataset, keys, settings.world_size) <= 1:
        log.warning(
            "stage %s: its feature cache does not pay in this run, which looks at every picture once; "
            "it pays when another run looks at them again",
            stage.name,
        )
    config.folder.mkdir(parents=True, exist_ok=True)
    with (config.folder / "lock").open("a") as lock:
        yield from feature_fill.locked(config.folder, lock)
        cache, lacking, needed = missing()  # another run may have filled it meanwhile
        cache.clear()
        if lacking:
            feature_fill.require_room(needed, config)
            encoder = model.vision_encoder.to(settings.device)
            yield from feature_fill.fill(
                cache, lacking, dataset.media_root, processor, encoder, settings.device,
                bfloat16=settings.bf16, workers=recipe.workers,
                **({"pool": model.connector.pooled} if config.pooled else {}),
            )  # fmt: skip
    return description, keys


def _looks(stage: StageConfig, dataset: ConversationDataset, keys: Mapping[str, str], processes: int) -> float:
    """How often the encoder would run for a picture in a stage without a cache, about."""
    epochs = stage.epochs
    if stage.steps is not None and stage.pack_tokens is None:
        epochs = stage.steps * stage.batch_size * stage.accumulate * processes / dataset.units
    if stage.share_prefix is not False:
        return epochs  # questions about one picture stay together
    seeing = int((dataset.conversations.first >= 0).sum())
    return epochs * seeing / max(1, len(set(keys.values())))
