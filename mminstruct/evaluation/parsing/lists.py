"""Lists that stand in a cell of a table as Python writes them, as VLMEvalKit's tables have the gold answers."""

from __future__ import annotations

import ast


def listed(cell: str) -> list[str]:
    """`['a', "b"]` as its texts; any other cell as the one text that it is. Numbers in the list become texts."""
    if not cell.startswith("["):
        return [cell]
    try:
        found = ast.literal_eval(cell)
    except (ValueError, SyntaxError):
        return [cell]
    return [str(each) for each in found] if isinstance(found, list) else [cell]
