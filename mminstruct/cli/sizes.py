"""Numbers of bytes as people write them: `20mb`."""

from __future__ import annotations

import re

from mminstruct.errors import ConfigError

_UNITS = ("b", "kb", "mb", "gb")


def read_size(text: str, option: str) -> int:
    """Bytes that `20mb` or `500kb` means. Raises `ConfigError`, which names the option, for anything else."""
    match = re.fullmatch(r"\s*(\d+)\s*(b|kb|mb|gb)\s*", text.lower())
    if match is None:
        raise ConfigError(f"{option} {text[:100]!r} is no size; write it as 20mb or 500kb")
    return int(match[1]) * 1024 ** _UNITS.index(match[2])
