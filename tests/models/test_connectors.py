"""The connector contract: as many tokens as counted, shapes right, every parameter used."""

from __future__ import annotations

import pytest
import torch

from mminstruct.errors import ConfigError
from mminstruct.models import connectors
from mminstruct.models.config import ConnectorConfig

CASES = [
    ConnectorConfig(kind="linear"),
    ConnectorConfig(kind="mlp2x_gelu"),
    ConnectorConfig(kind="pixel_shuffle", options={"factor": 2}),
    ConnectorConfig(kind="pixel_shuffle", options={"factor": 3, "projection": "mlp2x_gelu"}),
]


def test_every_connector_is_in_the_cases():
    assert {case.kind for case in CASES} == set(connectors.CONNECTORS)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case):
    connector = connectors.build(case, input_size=8, output_size=12)
    tokens = connector(torch.randn(2, 36, 8))
    assert tokens.shape == (2, connector.num_tokens(36), 12)
    tokens.sum().backward()
    assert all(p.grad is not None for p in connector.parameters())


def test_pixel_shuffle_joins_neighbours_row_by_row():
    """Against the obvious loop: token (r, c) holds its 2x2 block, row by row."""
    connector = connectors.build(ConnectorConfig(kind="pixel_shuffle"), input_size=3, output_size=12)
    with torch.no_grad():
        connector.projection.weight.copy_(torch.eye(12))
        connector.projection.bias.zero_()
    grid = torch.randn(1, 4, 6 - 2, 3)
    tokens = connector(grid.reshape(1, 16, 3)).reshape(2, 2, 12)
    for r in range(2):
        for c in range(2):
            block = [grid[0, 2 * r + i, 2 * c + j] for i in range(2) for j in range(2)]
            assert torch.allclose(tokens[r, c], torch.cat(block), atol=1e-6)


@pytest.mark.parametrize(
    ("case", "patches", "message"),
    [
        (ConnectorConfig(kind="pixel_shuffle"), 37, "found 37 patches"),
        (ConnectorConfig(kind="pixel_shuffle"), 25, "whose side it divides"),
    ],
)
def test_grids_that_do_not_fit(case, patches, message):
    with pytest.raises(ConfigError, match=message):
        connectors.build(case, 8, 8).num_tokens(patches)


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'mlp2x_gelu'"):
        connectors.build(ConnectorConfig(kind="mlp_gelu"), 8, 8)
    with pytest.raises(ConfigError, match=r"unknown key 'factr'\. Did you mean 'factor'"):
        connectors.build(ConnectorConfig(kind="pixel_shuffle", options={"factr": 2}), 8, 8)
