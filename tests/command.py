"""Calls the command line in this process, as a person would."""

from __future__ import annotations

import contextlib
import io
from unittest import mock

import pytest

from mminstruct.cli import main


def call(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `mminstruct ARGUMENTS`."""
    out, error = io.StringIO(), io.StringIO()
    with (
        mock.patch("sys.argv", ["mminstruct", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
        pytest.raises(SystemExit) as exit_,
    ):
        main()
    return int(exit_.value.code or 0), out.getvalue(), error.getvalue()
