"""Connectors: one file each, one contract, and the table of their names."""

from __future__ import annotations

from mminstruct.config import validate
from mminstruct.errors import ConfigError, did_you_mean
from mminstruct.models.config import ConnectorConfig
from mminstruct.models.connectors.average_pool import AveragePool
from mminstruct.models.connectors.base import Connector, ConnectorOptions, Instruction
from mminstruct.models.connectors.gated_cross_attention import GatedCrossAttention
from mminstruct.models.connectors.linear import Linear
from mminstruct.models.connectors.mlp import Mlp
from mminstruct.models.connectors.perceiver import Perceiver
from mminstruct.models.connectors.pixel_shuffle import PixelShuffle
from mminstruct.models.connectors.q_former import QFormer
from mminstruct.models.connectors.text_guided_moe import TextGuidedMoe

CONNECTORS: dict[str, type[Connector]] = {
    "linear": Linear,
    "mlp": Mlp,
    "pixel_shuffle": PixelShuffle,
    "average_pool": AveragePool,
    "perceiver": Perceiver,
    "q_former": QFormer,
    "text_guided_moe": TextGuidedMoe,
    "gated_cross_attention": GatedCrossAttention,
}


def build(config: ConnectorConfig, input_size: int, output_size: int) -> Connector:
    """The connector that a config names. Raises `ConfigError` for an unknown kind or option."""
    if config.kind not in CONNECTORS:
        raise ConfigError(f"no connector is called {config.kind!r}.{did_you_mean(config.kind, CONNECTORS)}")
    kind = CONNECTORS[config.kind]
    options = validate(kind.Options, config.options, where=f"connector {config.kind}")
    return kind(input_size, output_size, options)


__all__ = ["CONNECTORS", "Connector", "ConnectorOptions", "GatedCrossAttention", "Instruction", "build"]
