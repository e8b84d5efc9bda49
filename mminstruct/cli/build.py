"""`mminstruct build`: images and annotations into conversations."""

from __future__ import annotations

import typer

app = typer.Typer(help="Build conversations.", no_args_is_help=True)


@app.command("list")
def list_builders() -> None:
    """List the builders."""
