"""`mminstruct zoo`: what models there are, what they are made of, new ones (and those of `interop` and `merge`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mminstruct.cli import interop, zoo_pages
from mminstruct.cli.merge import merge_adapter

app = typer.Typer(help="List, show, create, import, export and document models.", no_args_is_help=True)
app.command("import")(interop.import_model)
app.command("export")(interop.export_model)
app.command("verify")(interop.verify_model)
app.command("card")(zoo_pages.card)
app.command("docs")(zoo_pages.docs)
app.command("record")(zoo_pages.record)
app.command("merge")(merge_adapter)


@app.command("list")
def list_models(
    pattern: Annotated[str, typer.Argument(help="A shell pattern, e.g. 'llava*'.")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the zoo's models with their parts, size, licence and source.

    Example: mminstruct zoo list 'siglip2*'
    """
    from mminstruct import catalog
    from mminstruct.models import pages
    from mminstruct.models.factory import read_row
    from mminstruct.models.sizes import size

    rows = []
    for name in catalog.names(catalog.MODEL, pattern):
        row, _ = read_row(name)
        whole = size(row)
        rows.append(
            {
                "name": name,
                "parameters": whole.total,
                "image_tokens": whole.image_tokens,
                **row.part_names,
                "licence": row.licence().title,
                "commercial_use": row.licence().commercial,
                "source": row.origin.url,
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Column, Table

    right = {"justify": "right", "no_wrap": True}
    table = Table(
        Column("model", no_wrap=True),
        Column("size", **right),  # type: ignore[arg-type]
        Column("tokens", **right),  # type: ignore[arg-type]
        Column("vision encoder, connector, language model", overflow="fold"),
        Column("licence", overflow="fold"),
    )
    for found in rows:
        parts = f"{found['vision_encoder']} + {found['connector']} + {found['language_model']}"
        table.add_row(
            str(found["name"]),
            pages.short(int(str(found["parameters"]))),
            str(found["image_tokens"]),
            parts,
            str(found["licence"]),
        )
    Console().print(table)


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="A model's name or the path of a row's YAML.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one model: parts and settings, parameters, tokens an image, licence, source, and memory to run and train.

    Memory is arithmetic on the weights, in gigabytes; activations and the cache of a chat come on top.

    Example: mminstruct zoo show llava-1.5-7b
    """
    from mminstruct.models.factory import read_row, skeleton
    from mminstruct.models.memory import estimates
    from mminstruct.models.sizes import size

    row, _ = read_row(model)
    whole, licence = size(row), row.licence()
    facts = {
        **row.model_dump(mode="json", include={"name", "summary"}),
        "parameters": whole.parameters | {"all": whole.total},
        "image_tokens": whole.image_tokens,
        "memory_gb": {
            name: {case: round(value, 3) for case, value in cases.items()}
            for name, cases in estimates(skeleton(row)).items()
        },
        "licence": {
            "names": list(licence.names),
            "binding": list(licence.binding),
            "terms": list(licence.terms),
            "commercial_use": licence.commercial,
            "not_known": [{"what": what, "name": name, "reason": why} for what, name, why in row.unknown()],
        },
        **row.model_dump(mode="json", exclude={"tiny", "name", "summary"}),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    import yaml

    typer.echo(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=120), nl=False)


@app.command()
def create(
    model: Annotated[str, typer.Argument(help="A model's name or the path of a row's YAML.")],
    out: Annotated[Path, typer.Option(help="The checkpoint folder to write.")],
    pretrained: Annotated[bool, typer.Option(help="Take the parts' weights from where the row says.")] = False,
    tiny: Annotated[bool, typer.Option(help="The row's miniature, for tests and dry runs.")] = False,
    seed: Annotated[int, typer.Option(help="Of the random weights.")] = 0,
) -> None:
    """Create a model that is not trained yet and save it.

    Example: mminstruct zoo create nano --out runs/untrained
    """
    from mminstruct.files import require_new

    require_new(out)
    import torch

    from mminstruct.models import checkpoint
    from mminstruct.models.factory import create as create_model
    from mminstruct.models.parts import parameter_counts

    torch.manual_seed(seed)
    built, processor = create_model(model, pretrained=pretrained, tiny=tiny)
    checkpoint.save(out, built, processor)
    for part, count in parameter_counts(built).items():
        typer.echo(f"{part}: {count:,} parameters, weights: {processor.config.origins[part]}")
    typer.echo(f"saved: {out}")
