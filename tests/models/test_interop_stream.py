"""Tensors from files to files: nothing is kept that is not needed, and broken files are named."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import mminstruct
from mminstruct.errors import CheckpointError
from mminstruct.models import checkpoint
from mminstruct.models.interop import verify
from mminstruct.models.interop.stream import Source, write
from tests.models.interop import WEIGHTS, change

# Copies models of 8 files in files of the same size and prints by how much memory rose for each; what a process maps of
# a file is not counted, the system takes it back when it likes.
COPY = """
import re, sys
from pathlib import Path
from mminstruct.models.interop.stream import Source, write

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

most = [0]
import mminstruct.models.interop.stream as stream
save = stream.save_file
def watched(tensors, *rest, **options):
    most[0] = max(most[0], anonymous())
    save(tensors, *rest, **options)
    most[0] = max(most[0], anonymous())
stream.save_file = watched
for folder in map(Path, sys.argv[1:]):
    source, copy = Source(folder), folder / "copy"
    plan = {name: source.planned(name) for name in source.tensors}
    write(copy, dict(list(plan.items())[:1]))  # what the libraries need for themselves is there now
    (copy / "model.safetensors").unlink()
    most, before = [0], anonymous()
    write(copy, plan, 16 * 2**20)
    print(most[0] - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded_by_one_file(tmp_path):
    tensors = {f"part.{index:02}": torch.randn(2**21) for index in range(16)}  # 128 MiB, two tensors to a file
    names, folders = list(tensors), [tmp_path / kind for kind in ("safetensors", "bin")]
    for source in folders:
        (source / "copy").mkdir(parents=True)
        files = {}
        for number in range(8):
            shard = {name: tensors[name] for name in names[2 * number : 2 * number + 2]}
            file = f"part-{number}.{source.name}"
            if source.name == "bin":
                torch.save(shard, source / file)
            else:
                save_file(shard, source / file)
            files |= dict.fromkeys(shard, file)
        kind = "model.safetensors" if source.name == "safetensors" else "pytorch_model.bin"
        (source / f"{kind}.index.json").write_text(json.dumps({"weight_map": files}))
    # Tensors of a real model are given back to the system when freed; glibc would keep ones as small as these.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}
    done = subprocess.run([sys.executable, "-c", COPY, *folders], capture_output=True, text=True, check=True, env=env)
    rises = [int(line) for line in done.stdout.split()]
    assert len(rises) == 2 and max(rises) < 1.3 * 16 * 2**20, rises
    for source in folders:
        assert len(list((source / "copy").glob("*.safetensors"))) == 8
        copied = Source(source / "copy")
        assert all(torch.equal(copied.read(name), tensor) for name, tensor in tensors.items())


def test_tied_tensors_of_a_bin_file_are_written_apart(tmp_path):
    shared = torch.randn(4, 4)
    torch.save({"a": shared, "b": shared.t()}, tmp_path / "pytorch_model.bin")
    source = Source(tmp_path)
    write(tmp_path, {name: source.planned(name) for name in source.tensors})
    found = load_file(tmp_path / WEIGHTS)
    assert torch.equal(found["a"], shared) and torch.equal(found["b"], shared.t())


def test_files_that_are_not_there_or_broken(tmp_path):
    with pytest.raises(CheckpointError, match="holds no weights; expected one of"):
        Source(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin cannot be read|more than tensors"):
        Source(tmp_path)
    torch.save([torch.zeros(1)], tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="is not a dictionary of tensors"):
        Source(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        Source(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"holds no one\.safetensors, which its"):
        Source(tmp_path)


# ---- verify ----------------------------------------------------------------------------------------------------------

NAME = "connector.projection.weight"


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda t: {k: v for k, v in t.items() if k != NAME}, f"the tensor '{NAME}' is missing"),
        (lambda t: t | {"extra": torch.zeros(1)}, "the tensor 'extra' is none of the model's"),
        (lambda t: t | {NAME: torch.zeros(1, 2)}, f"the tensor '{NAME}' has shape \\[1, 2\\]"),
        (lambda t: t | {NAME: t[NAME] / 0}, f"the tensor '{NAME}' holds numbers that are not finite"),
    ],
    ids=["missing", "extra", "shape", "not finite"],
)
def test_verify_names_what_is_wrong(tmp_path, edit, problem):
    checkpoint.save(tmp_path / "model", *mminstruct.create("nano", tiny=True))
    assert verify(tmp_path / "model").problems == []
    change(tmp_path / "model", edit)
    (found,) = verify(tmp_path / "model").problems
    assert re.match(problem, found)


def test_verify_counts(tmp_path):
    model, processor = mminstruct.create("llava-1.5-7b", tiny=True, dtype=torch.bfloat16)
    checkpoint.save(tmp_path / "model", model, processor)
    report = verify(tmp_path / "model")
    assert report.tensors == len(model.state_dict())
    assert report.parameters == sum(model.parameter_counts().values())
    assert report.dtypes == ["bfloat16"]
