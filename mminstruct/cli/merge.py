"""`mminstruct zoo merge`: a base and an adapter as one plain checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge_adapter(
    adapter: Annotated[Path, typer.Argument(help="The adapter folder of a training run, OUT/adapter.")],
    base: Annotated[Path, typer.Option(help="The checkpoint folder that it was trained on.")],
    out: Annotated[Path, typer.Option(help="The checkpoint folder to write.")],
) -> None:
    """Merge an adapter into its base; written only if the logits before and after agree.

    Example: mminstruct zoo merge runs/lora/adapter --base runs/aligned --out runs/merged
    """
    from mminstruct.files import require_new

    require_new(out)
    from mminstruct.models.adapters import folder

    difference = folder.merge_folder(adapter, base, out)
    typer.echo(f"logits differ by {difference:.1e} of the largest\nsaved: {out}")
