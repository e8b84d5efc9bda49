"""The chat page in a browser: `mminstruct demo DIR ...`, or `python demo/app.py --model DIR`.

One process and one port: the page, and beside it the API of the same models (`mminstruct.serving.api`). Served to this
computer only, unless a password is asked for. Nothing is sent anywhere: no telemetry, no fonts, no share link. Uploads
live in a temporary folder that goes with the process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mminstruct.errors import RunError
from mminstruct.serving.server import Address, reserve, served

if TYPE_CHECKING:
    from mminstruct.demo.page import Page
    from mminstruct.media.gate import Gate
    from mminstruct.serving.chat import Framing
    from mminstruct.serving.doors import Doors
    from mminstruct.serving.models import Models

__all__ = ["MAX_FILE_SIZE", "PORT", "Address", "require_gradio", "reserve", "running"]

PORT = 7860
MAX_FILE_SIZE = 20 * 1024**2
MAX_FILES = 8  # of the largest size, in one upload
MAX_MESSAGE = 4 * 1024**2  # bytes of anything but an upload or a request to the API
GRACE = 1  # seconds for what runs at the end: an open tab holds a connection for as long as it may

# Settings of Gradio that would widen what the page does beyond what our own options say.
_UNWANTED = ("GRADIO_SHARE", "GRADIO_ALLOWED_PATHS", "GRADIO_MCP_SERVER", "GRADIO_VIBE_MODE", "GRADIO_LOCAL_DEV_MODE")


def require_gradio() -> None:
    """Raises `RunError` where gradio, or what the API needs, is not installed."""
    missing = [name for name in ("gradio", "prometheus_client") if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(
            f"the chat page needs {' and '.join(missing)}, which is not installed; run: pip install 'mminstruct[demo]'"
        )


@contextlib.contextmanager
def running(
    models: Models,
    address: Address,
    framing: Framing | None = None,
    max_file_size: int = MAX_FILE_SIZE,
    flags: Path | None = None,
    votes: Path | None = None,
    gate: Gate | None = None,
    entrance: Doors | None = None,
) -> Iterator[Page]:
    """The page of these models and their API, served while the block runs.

    Args:
        max_file_size: bytes of one upload.
        flags: a folder for conversations that visitors flag; None switches flagging off.
        votes: a file for votes between two models.
        gate: opens media that come through the API; None opens data: URIs only.
        entrance: what a request passes; None lets in this computer only.

    Raises:
        DataError: `votes` is a file of something else.
        ConfigError: other computers reach the address, and nothing is asked of them.
        RunError: gradio is not installed, or the port was taken in the meantime.
    """
    require_gradio()
    from mminstruct.serving.tools import Toolbox

    with (
        Toolbox() as tools,
        tempfile.TemporaryDirectory(prefix="mminstruct-demo-") as folder,
        _environment(Path(folder) / "uploads") as uploads,
    ):
        # Gradio reads the environment when it is imported, so these imports come after it.
        import gradio as gr
        from starlette.middleware import Middleware

        from mminstruct.demo import compare_layout, tools_layout
        from mminstruct.demo.far_files import NoFarFiles
        from mminstruct.demo.page import MAX_WAITING, Page
        from mminstruct.demo.style import CSS, theme
        from mminstruct.demo.votes import VoteFile
        from mminstruct.media.gate import Gate
        from mminstruct.serving.api.app import create_app
        from mminstruct.serving.doors import Doors, doors

        kept = None if votes is None else VoteFile(votes)
        page = Page(models, framing, address.url, Path(folder), uploads, flags, max_file_size, kept, tools)
        entrance = entrance or Doors.of(address.host)
        entrance = dataclasses.replace(
            entrance,
            body_bytes=MAX_MESSAGE,
            body_bytes_at={"/v1": entrance.body_bytes, "/gradio_api/upload": MAX_FILES * max_file_size},
        )
        app = create_app(models, gate or Gate(), middleware=[*doors(entrance), Middleware(NoFarFiles)])
        blocks = page.build()
        blocks.queue(max_size=MAX_WAITING)
        gr.mount_gradio_app(
            app,
            blocks,
            path="/",
            server_name=address.host,
            server_port=address.port,
            footer_links=[],
            run_history=False,
            app_kwargs={"docs_url": None, "redoc_url": None},
            allowed_paths=[],
            show_error=False,
            max_file_size=max_file_size,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=theme(),
            css=CSS + compare_layout.CSS + tools_layout.CSS,
        )
        # Only of a page that was launched, and a mounted one never is, Gradio checks that files in calls were uploaded.
        blocks.has_launched = True
        with served(app, address, grace=GRACE):
            yield page


@contextlib.contextmanager
def _environment(uploads: Path) -> Iterator[Path]:
    """Gradio's settings by environment variable, as we want them while the page runs."""
    uploads.mkdir()
    wanted = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(uploads),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    before = {name: os.environ.get(name) for name in (*wanted, *_UNWANTED)}
    for name in _UNWANTED:
        os.environ.pop(name, None)
    os.environ.update(wanted)
    try:
        yield uploads
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def main() -> None:
    """`python demo/app.py --model DIR ...` is `mminstruct demo DIR ...`."""
    import argparse

    from mminstruct.cli import main as mminstruct

    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("--model", action="append", default=[])
    known, rest = parser.parse_known_args()
    sys.argv = ["mminstruct", "demo", *known.model, *rest]
    mminstruct()


if __name__ == "__main__":
    main()
