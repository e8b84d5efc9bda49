"""The models that a command talks with: folders of checkpoints, models of a server, or both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mminstruct.errors import ConfigError

if TYPE_CHECKING:
    from mminstruct.serving.models import Models
    from mminstruct.serving.settings import Limits

BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", help="Address of a server of OpenAI's chat API, such as http://127.0.0.1:8000/v1."),
]
ServedModels = Annotated[
    list[str] | None,
    typer.Option("--served-model", help="A model's name at that server; may be repeated. Left out: what it lists."),
]
KeyVariable = Annotated[
    str, typer.Option("--api-key-env", help="The environment's variable with the secret of that server.")
]


def open_models(
    folders: Sequence[Path],
    device: str,
    base_url: str | None = None,
    served: Sequence[str] = (),
    key_variable: str = "OPENAI_API_KEY",
    limits: Limits | None = None,
) -> Models:
    """Checkpoints first, then models of the server.

    Raises:
        ConfigError: nothing is given, two models have one name, or a server's key is missing.
        CheckpointError: a folder is no whole checkpoint.
        ServerError: the server does not answer.
    """
    from mminstruct.cli.device import pick
    from mminstruct.serving.models import Models

    if base_url is None:
        if served:
            raise ConfigError("--served-model names a model of a server; give the server's address with --base-url")
        if not folders:
            raise ConfigError("no model is given; give the folder of a checkpoint, or a server with --base-url")
        return Models.load(folders, str(pick(device)), limits)
    from mminstruct.serving.remote import remote_models

    remote = remote_models(base_url, served, key_variable=key_variable)
    if not folders:
        return remote
    try:
        local = Models.load(folders, str(pick(device)), limits)
        twice = sorted(set(local) & set(remote))
        if twice:
            local.close()
            raise ConfigError(f"a folder and a model of the server are both called {twice[0]}; rename the folder")
    except BaseException:
        remote.close()
        raise
    return Models({**local, **remote})
