"""Where and how the page is served: address, port, environment, guard; the command that starts and ends it."""

from __future__ import annotations

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

import pytest

from mminstruct.demo.app import MAX_FILE_SIZE, Address, file_size, reserve
from mminstruct.demo.page import Page
from mminstruct.errors import ConfigError, RunError
from mminstruct.models import checkpoint
from mminstruct.serving.generator import Generator


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_a_loopback_host_is_served_and_port_0_is_a_free_one(host: str) -> None:
    address = reserve(host, 0)
    assert not address.public and address.port > 0
    assert address.url == f"http://{host}:{address.port}"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_a_host_that_others_reach_needs_the_flag(host: str) -> None:
    with pytest.raises(ConfigError, match="--allow-public"):
        reserve(host, 0)


def test_the_flag_permits_it() -> None:
    assert reserve("0.0.0.0", 0, allow_public=True).public


def test_a_taken_port_is_told_with_the_remedy(taken: int) -> None:
    with pytest.raises(RunError, match=rf"port {taken} on 127\.0\.0\.1 .* --port {taken + 1}"):
        reserve(port=taken)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port(port: int) -> None:
    with pytest.raises(ConfigError, match="no port"):
        reserve(port=port)


def test_an_unknown_or_foreign_host() -> None:
    with pytest.raises(RunError, match="cannot be used"):
        reserve("192.0.2.1", 0, allow_public=True)


def test_ipv6_addresses_are_written_in_brackets() -> None:
    assert Address("::1", 80).url == "http://[::1]:80"


@pytest.mark.parametrize(("text", "size"), [("20mb", MAX_FILE_SIZE), (" 5 KB ", 5120), ("7b", 7), ("1gb", 2**30)])
def test_file_sizes(text: str, size: int) -> None:
    assert file_size(text) == size


@pytest.mark.parametrize("text", ["", "20", "mb", "-1mb", "1.5mb", "1tb"])
def test_file_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="20mb"):
        file_size(text)


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
