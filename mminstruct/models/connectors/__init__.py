"""Connectors: one file each, one contract, and the table of their names."""

from __future__ import annotations

from mminstruct.config import validate
from mminstruct.errors import ConfigError, did_you_mean
from mminstruct.models.config import ConnectorConfig
from mminstruct.models.connectors.base import Connector, ConnectorOptions
from mminstruct.models.connectors.linear import Linear
from mminstruct.models.connectors.mlp import Mlp2xGelu
from mminstruct.models.connectors.pixel_shuffle import PixelShuffle

CONNECTORS: dict[str, type[Connector]] = {"linear": Linear, "mlp2x_gelu": Mlp2xGelu, "pixel_shuffle": PixelShuffle}


def build(config: ConnectorConfig, input_size: int, output_size: int) -> Connector:
    """The connector that a config names. Raises `ConfigError` for an unknown kind or option."""
    if config.kind not in CONNECTORS:
        raise ConfigError(f"no connector is called {config.kind!r}.{did_you_mean(config.kind, CONNECTORS)}")
    kind = CONNECTORS[config.kind]
    options = validate(kind.Options, config.options, where=f"connector {config.kind}")
    return kind(input_size, output_size, options)


__all__ = ["CONNECTORS", "Connector", "ConnectorOptions", "build"]
