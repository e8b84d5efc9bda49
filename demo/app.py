"""The chat page in a browser: `mminstruct demo DIR`, or `python demo/app.py --model DIR`.

One process, served to this computer only unless `--allow-public` says otherwise. Nothing is sent anywhere:
no telemetry, no fonts, no share link. Uploads live in a temporary folder that goes with the process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import os
import re
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mminstruct.errors import ConfigError, RunError

if TYPE_CHECKING:
    from mminstruct.demo.page import Page
    from mminstruct.serving.chat import Framing
    from mminstruct.serving.models import Models

HOST = "127.0.0.1"
PORT = 7860
MAX_FILE_SIZE = 20 * 1024**2

# Settings of Gradio that would widen what the page does beyond what our own options say.
_UNWANTED = ("GRADIO_SHARE", "GRADIO_ALLOWED_PATHS", "GRADIO_MCP_SERVER", "GRADIO_VIBE_MODE", "GRADIO_LOCAL_DEV_MODE")


@dataclass(frozen=True)
class Address:
    """Where the page is served."""

    host: str = HOST
    port: int = PORT
    public: bool = False

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def reserve(host: str = HOST, port: int = PORT, allow_public: bool = False) -> Address:
    """The address, checked before anything slow happens; port 0 picks a free one.

    Raises:
        ConfigError: the host is not this computer only and `allow_public` was not given.
        RunError: the port is taken, or the host is not an address of this computer.
    """
    public = not _is_loopback(host)
    if public and not allow_public:
        raise ConfigError(
            f"--host {host} lets other computers use the model and this computer's time; "
            f"leave it out, or add --allow-public if that is what you want"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the server itself does: a port whose last connections are still winding down counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError:
            raise ConfigError(f"--port {port} is no port; give a number from 0 to 65535") from None
        except socket.gaierror:
            raise RunError(f"the host {host} is unknown on this computer; give one of its addresses") from None
        except OSError as error:
            raise RunError(
                f"port {port} on {host} cannot be used ({error.strerror}); "
                f"end the program that holds it, or give another one: --port {port + 1 if port < 65535 else 0}"
            ) from None
        return Address(host, probe.getsockname()[1], public)


def require_gradio() -> None:
    """Raises `RunError` where gradio is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise RunError("the chat page needs gradio, which is not installed; run: pip install 'mminstruct[demo]'")


def file_size(text: str) -> int:
    """Bytes that `20mb` or `500kb` means. Raises `ConfigError` for anything else."""
    match = re.fullmatch(r"\s*(\d+)\s*(b|kb|mb|gb)\s*", text.lower())
    if match is None:
        raise ConfigError(f"--max-file-size {text!r} is no size; write it as 20mb or 500kb")
    return int(match[1]) * 1024 ** ("b", "kb", "mb", "gb").index(match[2])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def running(
    models: Models,
    address: Address,
    framing: Framing | None = None,
    max_file_size: int = MAX_FILE_SIZE,
    flags: Path | None = None,
    votes: Path | None = None,
) -> Iterator[Page]:
    """The page of these models, served while the block runs. Flagged conversations go to the folder `flags`, if any,
    and votes between two models to the file `votes`.

    Raises:
        DataError: `votes` is a file of something else.
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
        from starlette.middleware import Middleware

        from mminstruct.demo import compare_layout, tools_layout
        from mminstruct.demo.guard import LOOPBACK_HOSTS, Guard
        from mminstruct.demo.page import MAX_WAITING, Page
        from mminstruct.demo.style import CSS, theme
        from mminstruct.demo.votes import VoteFile

        kept = None if votes is None else VoteFile(votes)
        page = Page(models, framing, address.url, Path(folder), uploads, flags, max_file_size, kept, tools)
        blocks = page.build()
        hosts = None if address.public else LOOPBACK_HOSTS | {address.host}
        blocks.queue(max_size=MAX_WAITING)
        try:
            blocks.launch(
                server_name=address.host,
                server_port=address.port,
                prevent_thread_lock=True,
                share=False,
                inbrowser=False,
                quiet=True,
                show_error=False,
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                enable_monitoring=False,
                strict_cors=True,
                allowed_paths=[],
                max_file_size=max_file_size,
                footer_links=[],
                theme=theme(),
                css=CSS + compare_layout.CSS + tools_layout.CSS,
                app_kwargs={"middleware": [Middleware(Guard, hosts=hosts)], "docs_url": None, "redoc_url": None},
            )
        except OSError as error:
            raise RunError(f"{address.url} cannot be served ({error}); give another port with --port") from None
        try:
            yield page
        finally:
            blocks.close(verbose=False)


@contextlib.contextmanager
def _environment(uploads: Path) -> Iterator[Path]:
    """Gradio's settings by environment variable, as we want them while the page runs."""
    uploads.mkdir()
    wanted = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(uploads),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # Gradio asks its own page whether it is up, and would ask a configured proxy for it.
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost", "::1"])),
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


def wait_for_interrupt() -> None:
    """Return at Ctrl-C, or when the process is asked to end; what was begun is then cleared away in order."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    asked.wait()


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
