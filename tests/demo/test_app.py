"""Where and how the page is served: address, port, environment, guard; the command that starts and ends it."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from typer.testing import CliRunner

from mminstruct.cli.app import app
from mminstruct.demo.app import reserve, running
from mminstruct.demo.page import Page
from mminstruct.errors import ConfigError
from mminstruct.models import checkpoint
from mminstruct.serving.doors import Doors
from mminstruct.serving.generator import Generator
from mminstruct.serving.lock import Secrets
from mminstruct.serving.models import Models


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


# ---- the running page, without a browser -----------------------------------------------------------------------------


def fetch(url: str, **headers: str) -> tuple[int, dict[str, str], str]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode(errors="replace")


def test_the_page_may_load_from_itself_only(served: Page) -> None:
    status, headers, _ = fetch(served.url)
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy and "img-src 'self' data: blob:" in policy
    assert "http" not in policy
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "localhost.evil"]
)
def test_another_name_for_this_computer_is_refused(served: Page, host: str) -> None:
    """DNS rebinding: a foreign name that points here."""
    assert fetch(served.url, Host=host)[0] in (400, 403)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
def test_the_page_of_another_site_is_refused(served: Page, origin: str) -> None:
    assert fetch(f"{served.url}/gradio_api/upload", Origin=origin)[0] == 403


def test_this_computer_is_welcome(served: Page) -> None:
    port = served.url.rsplit(":", 1)[1]
    assert fetch(served.url, Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 200


def test_files_of_the_computer_are_not_served(served: Page) -> None:
    for path in ("/etc/passwd", str(Path(__file__)), str(Path.cwd() / "pyproject.toml")):
        assert fetch(f"{served.url}/gradio_api/file={path}")[0] in (403, 404)


def test_telemetry_is_off_and_nothing_is_shared(served: Page) -> None:
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    config = fetch(f"{served.url}/config")[2]
    assert '"analytics_enabled":false' in config.replace(" ", "")
    assert "fonts.googleapis" not in fetch(served.url)[2] + fetch(f"{served.url}/theme.css")[2]


# ---- the API beside the page -----------------------------------------------------------------------------------------


def test_the_page_and_the_api_share_a_port_and_the_models(served: Page) -> None:
    with openai.OpenAI(api_key="none", base_url=f"{served.url}/v1", max_retries=0, timeout=60) as client:
        assert [model.id for model in client.models.list()] == list(served.models)
        reply = client.chat.completions.create(
            model=served.models.first, messages=[{"role": "user", "content": "hi"}], max_tokens=3
        )
        assert reply.usage is not None and reply.usage.completion_tokens == 3
    assert '"status":"ok"' in fetch(f"{served.url}/health")[2]
    assert f'mminstruct_new_tokens_total{{model="{served.models.first}"}}' in fetch(f"{served.url}/metrics")[2]
    assert "<gradio-app" in fetch(served.url)[2]


def test_a_page_of_another_site_cannot_use_the_api(served: Page) -> None:
    request = urllib.request.Request(
        f"{served.url}/v1/chat/completions", data=b"{}", headers={"Origin": "https://evil.example"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=20)
    assert caught.value.code == 403


def test_a_password_opens_the_page_and_a_key_the_api(generator: Generator) -> None:
    doors = Doors.of("127.0.0.1", keys=Secrets.of("key-" * 5), passwords=Secrets.of("open sesame"))
    basic = "Basic " + base64.b64encode(b"anyone:open sesame").decode()
    with running(Models({"nano": generator}), reserve(port=0), entrance=doors) as page:
        assert fetch(page.url)[0] == fetch(f"{page.url}/config")[0] == 401
        assert fetch(f"{page.url}/v1/models")[0] == fetch(f"{page.url}/metrics")[0] == 401
        assert fetch(f"{page.url}/health")[0] == 200
        assert fetch(page.url, Authorization=basic)[0] == fetch(f"{page.url}/config", Authorization=basic)[0] == 200
        assert fetch(f"{page.url}/v1/models", Authorization="Bearer " + "key-" * 5)[0] == 200
        assert fetch(f"{page.url}/v1/models", Authorization=basic)[0] == 401
        assert fetch(page.url, Authorization="Bearer " + "key-" * 5)[0] == 401


def test_other_computers_are_let_in_with_a_password_only(tmp_path: Path) -> None:
    for options in (["--host", "0.0.0.0", "--port", "0"], ["--api-key-file", str(tmp_path / "keys")]):
        (tmp_path / "keys").write_text("a-key-of-some-length\n", encoding="utf-8")
        result = CliRunner().invoke(app, ["demo", str(tmp_path), *options])
        assert isinstance(result.exception, ConfigError) and "--password-file" in str(result.exception)


# ---- the command -----------------------------------------------------------------------------------------------------


def test_a_taken_port_ends_the_command_before_the_model_is_loaded(taken: int, tmp_path: Path) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "mminstruct", "demo", str(tmp_path / "no model"), "--port", str(taken)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: port {taken} on 127.0.0.1") and "--port" in line
    assert time.monotonic() - started < 8


def test_the_script_serves_a_checkpoint_until_it_is_interrupted(generator: Generator, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "run" / "model", generator.model, generator.processor)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    script = Path(__file__).parents[2] / "demo" / "app.py"
    options = ["--model", str(tmp_path / "run" / "model"), "--port", "0", "--instruction", "Be brief."]
    with subprocess.Popen(
        [sys.executable, str(script), *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            lines = []
            url = None
            while url is None:
                line = process.stdout.readline()
                assert line, "".join(lines)
                lines.append(line)
                url = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert line.startswith("run/model is at")
            status, _, html = fetch(url[0])
            assert status == 200 and "instruction: Be brief." in html
            assert any(temporary.glob("mminstruct-demo-*"))
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert not any(temporary.glob("mminstruct-demo-*"))
