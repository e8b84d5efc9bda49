"""What `mminstruct eval --model` names: a checkpoint folder of ours, one of transformers, or a server's model."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mminstruct.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from mminstruct.evaluation.adapters import Adapter
    from mminstruct.evaluation.judges import Judge


def folder_adapter(folder: Path, device: str, batch_tokens: int | None, files: Mapping[str, str] | None) -> Adapter:
    """The adapter of a folder, by what it holds: ours has mminstruct.json, a folder of transformers has none.

    Args:
        files: hashes of its files (`checkpoint_files`), where replies are to be kept.

    Raises:
        CheckpointError: it is no folder, neither of the two, or not whole.
    """
    from mminstruct.cli.device import pick
    from mminstruct.models.base_processor import FILE

    on = pick(device)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give a checkpoint's, or a server's model with --base-url")
    if (folder / FILE).is_file():
        from mminstruct.evaluation.adapters.zoo import ZooAdapter
        from mminstruct.evaluation.facts import identity, model_facts
        from mminstruct.models.checkpoint import load

        network, processor = load(folder, device=on)
        facts = model_facts(network, processor, folder)
        return ZooAdapter(
            network,
            processor,
            batch_tokens=batch_tokens,
            identity=None if files is None else identity(folder, facts["dtype"], files),
            facts=facts,
        )
    _require_transformers(folder, FILE)
    from mminstruct.evaluation.adapters.transformers_vlm import open_folder

    return open_folder(folder, device=on, batch_tokens=batch_tokens, files=files)


@contextlib.contextmanager
def endpoint_adapter(
    model: str,
    base_urls: Sequence[str],
    *,
    key_variable: str,
    concurrency: int,
    timeout: float,
    on_error: Literal["raise", "skip"],
    keep: bool,
) -> Iterator[Adapter]:
    """The adapter of a server's model, and its connections closed behind it. Raises `ConfigError`."""
    from mminstruct.building.clients import OpenAICompatibleClient
    from mminstruct.evaluation.adapters.endpoint import EndpointAdapter, EndpointConfig

    client = OpenAICompatibleClient(model, base_urls, key_variable=key_variable, timeout=timeout)
    with contextlib.closing(client):
        config = EndpointConfig(concurrency=concurrency, on_error=on_error)
        yield EndpointAdapter(client, base_urls, config, keep=keep)


@contextlib.contextmanager
def open_judge(
    model: str | None,
    base_urls: Sequence[str] | None,
    *,
    key_variable: str,
    prices: Path | None,
    concurrency: int,
    timeout: float,
    calls: Path | None,
) -> Iterator[Judge | None]:
    """The judge that the options name, if they name one.

    Args:
        calls: the log of its replies; None keeps none.

    Raises:
        ConfigError: half of a judge is named, or its key or price is missing.
    """
    if model is None and not base_urls:
        yield None
        return
    if model is None or not base_urls:
        raise ConfigError("a judge needs both --judge-url and --judge-model")
    from mminstruct.building.call_log import CallLog
    from mminstruct.building.clients import OpenAICompatibleClient
    from mminstruct.building.limits import read_price
    from mminstruct.evaluation.judges import Judge

    price = None if prices is None else read_price(prices, model)
    with contextlib.ExitStack() as stack:
        client = OpenAICompatibleClient(model, base_urls, key_variable=key_variable, timeout=timeout)
        stack.enter_context(contextlib.closing(client))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mminstruct-"))
        log = stack.enter_context(CallLog(calls or Path(folder) / "calls.sqlite"))
        yield Judge(client, log, concurrency=concurrency, price=price)


def _require_transformers(folder: Path, own_file: str) -> None:
    from mminstruct.files import read_json
    from mminstruct.models.native.checkpoint import is_native

    config = folder / "config.json"
    if not config.is_file():
        raise CheckpointError(
            f"{folder} holds neither {own_file} nor config.json; give a checkpoint folder of mminstruct or transformers"
        )
    if not is_native(folder):
        kind = read_json(config).get("model_type")
        raise CheckpointError(
            f"{folder} is a {kind!r}, which is no vision-language model that transformers knows without code of the "
            "folder's own; `mminstruct zoo import` takes LLaVA's own folders and others"
        )
