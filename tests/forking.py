"""Processes forked from one server that has everything imported that a test's process needs.

A pytest process has one such server, started by the first test that needs it; so all tests share what it imports.
"""

from __future__ import annotations

import multiprocessing

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        "mminstruct.training.run",
        "mminstruct.cli.train",
        "tests.training.launching",
        "deepspeed",
        "timm",
        "tests.building.test_engine",
        "openai.resources.chat",
    ]
)
