"""Sizes as people write them."""

from __future__ import annotations

import pytest

from mminstruct.cli.sizes import read_size
from mminstruct.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size"), [("20mb", 20 * 2**20), (" 5 KB ", 5120), ("7b", 7), ("1gb", 2**30), ("0b", 0)]
)
def test_sizes(text: str, size: int) -> None:
    assert read_size(text, "--x") == size


@pytest.mark.parametrize("text", ["", "20", "mb", "-1mb", "1.5mb", "1tb"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--x .* 20mb"):
        read_size(text, "--x")
