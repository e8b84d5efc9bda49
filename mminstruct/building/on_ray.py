"""Builds shares on the machines of a Ray cluster, then joins them: the same bytes as one machine writes.

All machines see the output's file system. A share that is whole is not built again, one that stopped goes on.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mminstruct.building.builder import load_builder
from mminstruct.building.clients import LanguageModelClient
from mminstruct.building.engine import BuildConfig, run
from mminstruct.building.join import join
from mminstruct.building.limits import BudgetConfig, Price, RateConfig
from mminstruct.errors import ConfigError, RunError
from mminstruct.files import require_new
from mminstruct.formats import native


def run_on_ray(
    name: str,
    overrides: list[str],
    out: Path,
    config: BuildConfig,
    shares: int,
    *,
    client: Callable[[], AbstractContextManager[LanguageModelClient | None]],
    price: Price | None = None,
    limit: int | None = None,
    address: str | None = None,
) -> native.Manifest:
    """The manifest of the data set in `out`, which `shares` tasks built side by side.

    Args:
        name, overrides: of the builder, as `load_builder` takes them; each task loads it anew.
        config: its rate and budget are those of all tasks together.
        client: makes a task's client.
        address: of a running cluster; None: Ray's own choice, this machine where there is none.

    Raises:
        ConfigError: Ray is missing, or the replies are to be kept in one file.
        RunError: `out` exists, or a task's process died.
        MminstructError: what a task's build raised.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError(
            "building on several machines needs Ray; install it with: pip install 'mminstruct[scale]'"
        ) from None
    if config.calls is not None:
        raise ConfigError("--calls is one file, and tasks write one each; leave it out, the logs are joined")
    require_new(out)
    folders = [out.with_name(f"{out.name}.share-{number}-of-{shares}") for number in range(shares)]
    part = _share(config, shares)

    def build(number: int) -> None:
        if (folders[number] / native.MANIFEST).is_file():
            return
        with client() as own:
            run(
                load_builder(name, overrides),
                folders[number],
                part,
                client=own,
                price=price,
                resume=True,
                limit=limit,
                share=(number, shares),
            )

    begun_here = not ray.is_initialized()
    if begun_here:
        ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    try:
        task: Any = ray.remote(num_cpus=1, max_retries=3)(build)
        ray.get([task.remote(number) for number in range(shares)])
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise RunError(f"Ray: {str(error).splitlines()[0]}; what was built is kept, run the same again") from None
    finally:
        if begun_here:
            ray.shutdown()
    manifest = join(folders, out)
    for folder in folders:
        shutil.rmtree(folder)
    return manifest


def _share(config: BuildConfig, count: int) -> BuildConfig:
    """A task's part of rate and budget."""

    def of(value: float | None) -> float | None:
        return None if value is None else value / count

    budget, rate = config.budget, config.rate
    requests = None if budget.requests is None else budget.requests // count
    tokens = None if budget.tokens is None else budget.tokens // count
    return config.model_copy(
        update={
            "budget": BudgetConfig(requests=requests, tokens=tokens, cost=of(budget.cost), minutes=budget.minutes),
            "rate": RateConfig(requests=of(rate.requests), tokens=of(rate.tokens)),
        }
    )
