"""Hostile checkpoint folders: each refused in one line, before anything in it runs or takes memory."""

from __future__ import annotations

import ast
import json
import os
import pickle
import resource
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mminstruct
from mminstruct.errors import MminstructError
from mminstruct.models import checkpoint, scan
from mminstruct.models.interop import import_checkpoint, verify
from tests.models.native import ONE_PICTURE, PICTURES

ROOT = Path(__file__).resolve().parents[2]
Edit = Callable[[Path], None]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of ours, and a native one."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("kept")
    checkpoint.save(folder / "own", *mminstruct.create("nano", tiny=True))
    checkpoint.save(folder / "native", *mminstruct.create("internvl3-1b", tiny=True))
    return folder


@pytest.fixture(params=["own", "native"])
def saved(request: pytest.FixtureRequest, kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept / request.param, tmp_path / "model"))


@pytest.fixture
def own(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept / "own", tmp_path / "model"))


def refused(folder: Path, match: str, read: Callable[[Path], object] = mminstruct.load) -> None:
    """One line, soon, and without taking memory for it."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(MminstructError, match=match) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys, `a__b` inside of `a`; the file may be new."""
    content = json.loads(path.read_text()) if path.exists() else {}
    for key, value in changes.items():
        *sections, last = key.split("__")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    path.write_text(json.dumps(content))


def test_what_was_saved_here_opens(saved: Path) -> None:
    mminstruct.load(saved)


# ---- pickles ---------------------------------------------------------------------------------------------------------


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_the_pickle_of_these_tests_does_run_code(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Touch(tmp_path / "ran")))  # noqa: S301 - that is what is shown
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "weights.pkl", "model.ckpt"])
def test_weights_as_a_pickle_only_are_refused_unopened(saved: Path, tmp_path: Path, name: str) -> None:
    (saved / scan.SINGLE).unlink()
    (saved / name).write_bytes(pickle.dumps({"weight": Touch(tmp_path / "ran")}))
    refused(saved, rf"a pickle only \({name}\), and loading one can run code; ask for safetensors")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_beside_the_weights_is_left_alone(saved: Path, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (saved / name).write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    mminstruct.load(saved)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_an_import_reads_tensors_of_a_pickle_and_runs_nothing(
    tmp_path: Path, save: Callable[[object, Path], object]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    save({"perceiver.latents": Touch(tmp_path / "ran")}, source / "checkpoint.pt")
    refused(source / "checkpoint.pt", ".", lambda path: import_checkpoint(path, tmp_path / "out", "open-flamingo"))
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


def calls(name: str) -> list[tuple[str, ast.Call]]:
    """Calls of a method of this name in everything that is shipped."""
    found = []
    for folder in ("mminstruct", "demo", "eval", "train", "data_builders", "model_zoo"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)) if f".{name}(" in text else ():
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node))
    return found


def test_nothing_shipped_loads_a_pickle_or_lets_a_checkpoints_code_run() -> None:
    loads = [(where, call) for where, call in calls("load") if ast.unparse(call.func) == "torch.load"]
    assert loads
    for where, call in loads:
        assert any(one.arg == "weights_only" and ast.unparse(one.value) == "True" for one in call.keywords), where
    for name in ("load", "loads"):
        assert [where for where, call in calls(name) if ast.unparse(call.func).startswith("pickle.")] == []
    for where, call in calls("from_pretrained"):
        told = [ast.unparse(one.value) for one in call.keywords if one.arg == "trust_remote_code"]
        assert told in ([], ["False"]), where


# ---- code, and references to it --------------------------------------------------------------------------------------

CODE = [
    ("config.json", {"auto_map": {"AutoConfig": "evil.Config"}}, "auto_map"),
    ("config.json", {"auto_map": {"AutoConfig": "somebody/repository--evil.Config"}}, "auto_map"),
    ("config.json", {"text_config__auto_map": {"AutoConfig": "evil.Config"}}, "auto_map"),
    ("config.json", {"vision_config__auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
    ("config.json", {"anything": [{"deep": {"auto_map": {"AutoModel": "evil.Model"}}}]}, "auto_map"),
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}, "auto_map"),
    ("processor_config.json", {"auto_map": {"AutoProcessor": "evil.Processor"}}, "auto_map"),
    ("processor_config.json", {"image_processor__auto_map": {"AutoImageProcessor": "evil.P"}}, "auto_map"),
    ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "evil.Processor"}}, "auto_map"),
    ("video_preprocessor_config.json", {"auto_map": {"AutoVideoProcessor": "evil.Processor"}}, "auto_map"),
    ("generation_config.json", {"custom_generate": "somebody/repository"}, "custom_generate"),
    ("config.json", {"custom_pipelines": {"x": {"impl": "evil.Pipeline"}}}, "custom_pipelines"),
    ("config.json", {"trust_remote_code": True}, "trust_remote_code"),
    ("config.json", {"_attn_implementation_internal": "somebody/kernel"}, "_attn_implementation_internal"),
    ("config.json", {"attn_implementation": "somebody/kernel"}, "attn_implementation"),
    ("config.json", {"attn_implementation": "kernels-community/flash-attn@main:f"}, "attn_implementation"),
    ("config.json", {"_attn_implementation": {"text_config": "somebody/kernel"}}, "_attn_implementation"),
    ("config.json", {"text_config___attn_implementation": "somebody/kernel"}, "_attn_implementation"),
    ("config.json", {"_experts_implementation": "somebody/kernel"}, "_experts_implementation"),
    ("config.json", {"use_kernels": True}, "use_kernels"),
]


@pytest.mark.parametrize(("name", "changes", "key"), CODE, ids=lambda value: str(value)[:60])
def test_a_reference_to_code_is_refused(saved: Path, name: str, changes: dict[str, Any], key: str) -> None:
    edit_json(saved / name, **changes)
    refused(saved, rf"{name} names code to (run|fetch) \({key}\)")


@pytest.mark.parametrize("read", [verify, checkpoint.skeleton, lambda path: import_checkpoint(path, path.parent / "x")])
def test_every_way_into_a_folder_is_guarded(own: Path, read: Callable[[Path], object]) -> None:
    edit_json(own / "config.json", text_config__auto_map={"AutoConfig": "evil.Config"})
    refused(own, "names code to run", read)


def test_the_tower_and_the_base_of_an_import_are_looked_at_too(own: Path, tmp_path: Path) -> None:
    shutil.copytree(own, tmp_path / "evil")
    edit_json(tmp_path / "evil" / "config.json", auto_map={"AutoConfig": "evil.Config"})
    for place in ("vision_tower", "base"):
        refused(own, "evil/config.json names code", lambda p, at=place: import_checkpoint(  # type: ignore[misc]
            p, tmp_path / "out", "llava", **{at: tmp_path / "evil"}))  # fmt: skip


@pytest.mark.parametrize("way", ["eager", "sdpa", "flash_attention_2", None, {"text_config": "sdpa", "": None}])
def test_ways_to_compute_that_transformers_has_are_no_code(own: Path, way: object) -> None:
    edit_json(own / "config.json", _attn_implementation=way, auto_map=None, trust_remote_code=False)
    scan.scan(own)


@pytest.mark.parametrize("name", ["modeling_evil.py", "native.so", "custom_generate/generate.py", "x.pyc"])
def test_files_of_code_are_refused(saved: Path, name: str) -> None:
    (saved / name).parent.mkdir(exist_ok=True)
    (saved / name).write_text("raise SystemExit")
    refused(saved, f"{name} is code, and no code of a checkpoint is ever run here")


def test_an_adapter_in_place_of_a_native_model_names_no_other_model(kept: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(kept / "native", tmp_path / "model")
    edit_json(folder / "adapter_config.json", base_model_name_or_path="/etc", peft_type="LORA")
    refused(folder, "holds adapter_config.json, so it is no whole model")


# ---- templates -------------------------------------------------------------------------------------------------------

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__init__.__globals__ }}",
    "{{ raise_exception.__globals__['os'].system('touch ran') }}",
    "{{ cycler.__init__.__globals__.os.popen('touch ran').read() }}",
    "{{ lipsum.__globals__ }}",
    "{% for x in range(1000000) %}x{% endfor %}",
    "{{ messages.append(1) }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_cannot_leave_its_sandbox(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(kept / "native", tmp_path / "model"))
    (folder / "chat_template.jinja").write_text(template)

    def answer(path: Path) -> object:
        return mminstruct.load(path)[1].prompt(ONE_PICTURE.model_copy(update={"messages": []}), PICTURES[:1])

    with pytest.raises(MminstructError) as caught:
        answer(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["chat_template.jinja", "additional_chat_templates/other.jinja"])
def test_a_template_of_a_book_is_refused(saved: Path, place: str) -> None:
    (saved / place).parent.mkdir(exist_ok=True)
    (saved / place).write_text("{# #}" * 50_000)
    refused(saved, "a chat template of 250,000 characters is above the limit")
    (saved / place).unlink()
    edit_json(saved / "tokenizer_config.json", chat_template="{# #}" * 50_000)
    refused(saved, "a chat template of .* is above the limit")


# ---- what lies elsewhere ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "anything"])
def test_a_link_out_of_the_folder_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    (saved / name).unlink(missing_ok=True)
    (saved / name).symlink_to(secret)
    refused(saved, f"{name} is a link that leads out of the checkpoint")


def test_links_of_the_hubs_cache_are_followed(own: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--x" / "blobs", tmp_path / "models--x" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(own.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    mminstruct.load(snapshot)


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "sub/../../x.safetensors", "..", "", "model.bin", 3, None]
)
def test_an_index_names_only_files_beside_it(saved: Path, name: object) -> None:
    shutil.copy(saved / scan.SINGLE, saved.parent / "outside.safetensors")
    (saved / scan.INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    refused(saved, r"(is no \.safetensors file beside it|has no weight_map of file names)")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "{", "\x00", "[" * 10**5]
)
def test_an_index_that_is_none(saved: Path, content: str) -> None:
    (saved / scan.INDEX).write_text(content)
    refused(saved, "(has no weight_map of file names|is no mapping|is not JSON that can be read)")


# ---- weights that lie ------------------------------------------------------------------------------------------------


def header(content: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


LIES = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "header of exabytes": header({}, length=2**63 - 1),
    "header beyond the file": header({}, length=2**40),
    "header of 99 MB that is not there": header({}, length=99_000_000),
    "no JSON": header(b"{'a': 1}"),
    "no mapping": header([1, 2]),
    "nested deeply": header(b"[" * 100_000),
    "shape and bytes differ": header({"a": entry([4], 0, 8)}, b"\0" * 8),
    "offsets overlap": header({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, b"\0" * 12),
    "offsets leave a hole": header({"a": entry([2], 0, 8), "b": entry([2], 12, 20)}, b"\0" * 20),
    "offsets run backwards": header({"a": entry([2], 8, 0)}, b"\0" * 8),
    "offsets beyond the file": header({"a": entry([2**40], 0, 2**42)}, b"\0" * 8),
    "negative offset": header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}', b"\0" * 8),
    "shape that overflows": header({"a": entry([2**33, 2**33], 0, 8)}, b"\0" * 8),
    "unknown number format": header({"a": entry([2], 0, 8, "F7")}, b"\0" * 8),
    "no offsets": header({"a": {"dtype": "F32", "shape": [2]}}, b"\0" * 8),
    "bytes behind the end": header({"a": entry([2], 0, 8)}, b"\0" * 80),
    "a pickle": pickle.dumps(Touch(Path("never"))),
}


@pytest.mark.parametrize("lie", LIES)
def test_weights_that_lie_about_themselves_are_refused(saved: Path, lie: str) -> None:
    (saved / scan.SINGLE).write_bytes(LIES[lie])
    refused(saved, "(not a whole safetensors file|cannot be opened as a native model|cannot hold)")


@pytest.mark.parametrize("lie", LIES)
def test_verify_refuses_them_too(own: Path, lie: str) -> None:
    (own / scan.SINGLE).write_bytes(LIES[lie])
    refused(own, "not a whole safetensors file", verify)


def test_a_pipe_in_place_of_the_weights_is_not_waited_for(saved: Path) -> None:
    (saved / scan.SINGLE).unlink()
    os.mkfifo(saved / scan.SINGLE)
    refused(saved, "holds no model.safetensors")


# ---- configs that lie ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["text_config__hidden_size", "text_config__intermediate_size", "text_config__vocab_size"]
)
@pytest.mark.parametrize("size", [10**7, 10**8, 10**9, 10**18, 10**40])
def test_sizes_that_the_weights_do_not_have_are_refused_before_they_are_made(saved: Path, key: str, size: int) -> None:
    edit_json(saved / "config.json", **{key: size})
    refused(saved, "(cannot hold|which no model has|describes no model|has shape|another shape)")


@pytest.mark.parametrize("count", [10**4, 10**9, 2**63])
def test_counts_of_layers_that_no_model_has_are_refused(saved: Path, count: int) -> None:
    edit_json(saved / "config.json", text_config__num_hidden_layers=count)
    refused(saved, "num_hidden_layers is .* which no model has")


def test_two_hundred_layers_that_are_not_there_are_refused(saved: Path) -> None:
    edit_json(saved / "config.json", text_config__num_hidden_layers=200, text_config__layer_types=None)
    refused(saved, "(lacks|cannot hold|describes no model)")


@pytest.mark.parametrize("value", [0, -1, "many", None, [], {}, 0.5, True, "1" * 5000])
@pytest.mark.parametrize("key", ["text_config__hidden_size", "text_config__num_attention_heads", "text_config"])
def test_values_that_make_no_model_are_refused_in_a_line(saved: Path, key: str, value: object) -> None:
    edit_json(saved / "config.json", **{key: value})
    refused(saved, ".")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json", "mminstruct.json"])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"null", b"\xff\xfe", b'{"a": ' + b"9" * 5000 + b"}", b"[" * 10**5]
)
def test_a_config_that_is_none_is_refused_in_a_line(saved: Path, name: str, content: bytes) -> None:
    (saved / name).write_bytes(content)
    try:
        mminstruct.load(saved)
    except MminstructError as error:
        assert "\n" not in str(error)


def test_a_config_of_megabytes_is_not_read(saved: Path) -> None:
    (saved / "config.json").write_bytes(b'{"a": "' + b"x" * scan.MAX_CONFIG_BYTES + b'"}')
    refused(saved, "above the limit")


def test_a_folder_of_many_files_is_no_checkpoint(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MAX_ENTRIES", 5)
    refused(own, "holds more than 5 files")


def test_the_weights_of_these_tests_are_untouched(kept: Path) -> None:
    assert load_file(kept / "own" / scan.SINGLE) and load_file(kept / "native" / scan.SINGLE)
