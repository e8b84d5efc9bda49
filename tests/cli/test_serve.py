"""`mminstruct serve`: what ends it before a model is loaded, and a whole life of the command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import openai
import pytest
import torch
from typer.testing import CliRunner

import mminstruct
from mminstruct.cli.app import app
from mminstruct.errors import ConfigError, MminstructError
from mminstruct.models import checkpoint

KEY = "a-key-of-some-length-1234"


def complaint(*arguments: str | Path) -> MminstructError:
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)])
    assert isinstance(result.exception, MminstructError), result.output
    return result.exception


def test_other_computers_are_let_in_with_keys_only(tmp_path: Path) -> None:
    told = complaint(tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert isinstance(told, ConfigError) and "--api-key-file" in str(told)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read"), ("", "holds nothing"), ("short\n", "characters at least")]
)
def test_a_key_file_that_is_none(tmp_path: Path, content: str | None, words: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    assert words in str(complaint(tmp_path, "--api-key-file", file))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--kept-memory", "much"], "--kept-memory 'much' is no size"),
        (["--max-waiting", "-1"], "waiting"),
        (["--batch", "0"], "batch"),
        (["--port", "0", "--allow-url", "http://x"], "is no host"),
        (["--port", "99999"], "no port"),
        (["--port", "0", "--device", "abacus"], "--device abacus"),
        (["--port", "0", "--device", "cpu"], "mminstruct.json"),
    ],
)
def test_what_ends_the_command_before_it_serves(tmp_path: Path, options: list[str], words: str) -> None:
    assert words in str(complaint(tmp_path, *options))


def test_it_serves_until_it_is_asked_to_end(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = tmp_path / "run" / "model"
    checkpoint.save(folder, *mminstruct.create("nano"))
    keys = tmp_path / "keys"
    keys.write_text(f"# mine\n{KEY}\n", encoding="utf-8")
    keys.chmod(0o644)
    command = [sys.executable, "-m", "mminstruct", "serve", folder, "--port", "0", "--api-key-file", keys]
    with subprocess.Popen(
        [*map(str, command), "--device", "cpu"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            name = "/".join(folder.parts[-2:])
            found = re.fullmatch(rf"{name} answers at (http://127\.0\.0\.1:\d+/v1)  \(Ctrl-C ends it\)\n", line)
            assert found, line + process.stderr.read()
            with openai.OpenAI(api_key=KEY, base_url=found[1], max_retries=0, timeout=60) as client:
                reply = client.chat.completions.create(
                    model=name, messages=[{"role": "user", "content": "hi"}], max_tokens=3
                )
                assert reply.model == name
            for wrong in ("wrong-key-of-some-length", "x"):
                with (
                    openai.OpenAI(api_key=wrong, base_url=found[1], max_retries=0) as client,
                    pytest.raises(openai.AuthenticationError, match="API key"),
                ):
                    client.models.list()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            errors = process.stderr.read()
            assert "chmod 600" in errors  # everybody can read the keys
            assert "Traceback" not in errors and KEY not in errors
        finally:
            process.kill()
