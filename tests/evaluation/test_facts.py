"""What a report says of the run: the code by its commit, the checkpoint by its bytes."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import mminstruct
from mminstruct.evaluation.facts import checkpoint_files, checkpoint_hashes, code, identity, machine


def git(folder: Path, *arguments: str) -> str:
    named = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", str(folder), *named, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_code_is_a_commit_and_what_differs_from_it(tmp_path: Path) -> None:
    assert code(tmp_path) == {"version": mminstruct.__version__, "commit": None, "changed": None}
    git(tmp_path, "init", "-q")
    assert code(tmp_path)["commit"] is None, "nothing is committed yet"
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-q", "-m", "a")
    (tmp_path / "notes.txt").write_text("of one's own\n")
    clean = code(tmp_path)
    assert (clean["commit"], clean["changed"]) == (git(tmp_path, "rev-parse", "HEAD"), False)
    (tmp_path / "a.py").write_text("a = 2\n")
    assert code(tmp_path) == clean | {"changed": True}


def test_weights_and_processor_are_known_by_their_bytes(tmp_path: Path) -> None:
    for name, content in {"model.safetensors": "w", "config.json": "{}", "README.md": "a", "x.index.json": "b"}.items():
        (tmp_path / name).write_text(content)
    files = checkpoint_files(tmp_path)
    assert files == {
        "config.json": hashlib.sha256(b"{}").hexdigest(),
        "model.safetensors": hashlib.sha256(b"w").hexdigest(),
    }
    before = checkpoint_hashes(files)
    assert identity(tmp_path, "float32", files) == identity(tmp_path, "float32")
    (tmp_path / "model.safetensors").write_text("v")
    after = checkpoint_hashes(checkpoint_files(tmp_path))
    assert after["weights"] != before["weights"] and after["processor"] == before["processor"]
    (tmp_path / "README.md").write_text("other words")
    assert checkpoint_hashes(checkpoint_files(tmp_path)) == after


def test_the_machine_has_cores_and_a_name() -> None:
    assert "cores of " in machine() and len(machine()) > 12
