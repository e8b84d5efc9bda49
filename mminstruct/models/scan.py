"""What is looked at in a folder of weights before anything of it is opened: nothing in it may run or be absurd.

    scan(folder)                 names, links, configs: code, references to code, other folders, sizes that no model has
    files = safe_weights(folder) the safetensors files; never a pickle
    require_plausible(model, files, folder)   a model on the meta device against the bytes that are there to fill it

transformers has its own locks (`trust_remote_code` is off, templates are rendered in a sandbox). This one stands before
them, because theirs have had holes, and says what is wrong before anybody is asked whether to run it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from torch import nn

from mminstruct.errors import CheckpointError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# Keys that name code, a kernel of the hub among them; what is empty names none.
_CODE_KEYS = frozenset(
    {
        "auto_map",
        "custom_generate",
        "custom_pipelines",
        "trust_remote_code",
        "kernel_config",
        "use_kernels",
        "allow_all_kernels",
    }
)
# Keys that choose among ways to compute; transformers fetches the one that is written as `owner/repository`.
_WAY_KEYS = frozenset(
    {
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "experts_implementation",
        "_experts_implementation",
        "_experts_implementation_internal",
    }
)
_CODE_SUFFIXES = frozenset({".py", ".pyc", ".so", ".pyd", ".dll", ".dylib"})
_PICKLE_SUFFIXES = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"})
# Read by libraries that know no code, and too large to walk through.
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json"})

# These have to be mappings; some readers of transformers take it for granted.
_MAPPINGS = frozenset(
    {
        "adapter.json",
        "adapter_config.json",
        "config.json",
        "generation_config.json",
        "mminstruct.json",
        "preprocessor_config.json",
        "processor_config.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "video_preprocessor_config.json",
    }
)

# What libraries raise, each in its way, where a file of a checkpoint holds something that they did not expect.
UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)

MAX_CONFIG_BYTES = 16 * 2**20
MAX_TEMPLATE_CHARACTERS = 100_000
MAX_ENTRIES = 10_000
MAX_SIZE = 2**28  # the largest integer in a config that says how large something is
MAX_COUNT = 1024
MAX_PRODUCT = 2**20
# Integers of a config that no memory is taken for.
_NO_SIZES = frozenset({"rope_theta", "model_max_length", "max_length"})
# How many modules of a kind there are: each one is made, however small. What a config multiplies is multiplied here.
_COUNTS = frozenset(
    {
        "num_hidden_layers",
        "num_layers",
        "n_layer",
        "n_layers",
        "depth",
        "encoder_layers",
        "decoder_layers",
        "num_experts",
        "num_local_experts",
        "n_routed_experts",
        "n_shared_experts",
    }
)


def scan(folder: Path) -> None:
    """Look at a folder of weights, and at the folders in it that transformers reads.

    Raises:
        CheckpointError: it holds code or names some, leads out of itself, or describes what no model is.
    """
    for number, path in enumerate(_entries(folder)):
        if number == MAX_ENTRIES:
            raise CheckpointError(f"{folder} holds more than {MAX_ENTRIES} files; give the folder of one checkpoint")
        _require_inside(path, folder)
        if path.suffix in _CODE_SUFFIXES:
            raise CheckpointError(
                f"{path} is code, and no code of a checkpoint is ever run here; remove it if the model is one that "
                f"transformers knows, or else use another model"
            )
        if path.suffix == ".jinja" and path.is_file():
            _require_short(path.stat().st_size, path)
        if path.suffix == ".json" and path.is_file() and path.name not in _VOCABULARIES:
            _scan_config(path)


def safe_weights(folder: Path) -> list[Path]:
    """The safetensors files of a model's weights, as their index names them.

    Raises:
        CheckpointError: there are none, or only pickles; one is missing; the index names something outside.
    """
    files = files_of_index(folder / INDEX) if (folder / INDEX).is_file() else [folder / SINGLE]
    for file in files:
        if file.is_file():
            continue
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLE_SUFFIXES)
        if pickles and not any(folder.glob("*.safetensors")):
            raise CheckpointError(
                f"{folder} holds its weights as a pickle only ({pickles[0]}), and loading one can run code; ask for "
                f"safetensors, or save the model as safetensors where you trust it"
            )
        raise CheckpointError(f"{folder} holds no {file.name}; the checkpoint is incomplete, copy or save it again")
    return files


def files_of_index(index: Path) -> list[Path]:
    """The files that an index of weights names, `NAME.KIND.index.json` those of its kind, all beside it.

    Raises:
        CheckpointError: it names something else.
    """
    names = _read(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{index} has no weight_map of file names; copy or save it again")
    kind = index.name.removesuffix(".index.json").rpartition(".")[2]
    for name in names.values():
        if Path(name).name != name or not name.endswith(f".{kind}"):
            raise CheckpointError(f"{index} names {name!r}, which is no .{kind} file beside it; copy or save it again")
    return [index.parent / name for name in sorted(set(names.values()))]


def require_plausible(model: nn.Module, files: Sequence[Path], folder: Path) -> None:
    """Raises `CheckpointError` where a model would take far more memory than its files have bytes to fill it.

    Args:
        model: on the meta device.
    """
    wanted = sum(tensor.numel() for tensor in [*model.parameters(), *model.buffers()])
    held = sum(file.stat().st_size for file in files)
    if wanted > 16 * held + 2**26:  # four bits a number, what is shared stored once, and buffers that nobody stores
        raise CheckpointError(
            f"{folder}/config.json describes a model of {wanted:,} numbers, which {held:,} bytes of weights cannot "
            f"hold; copy or save it again"
        )


@contextlib.contextmanager
def described_by(folder: Path, name: str = "config.json") -> Iterator[None]:
    """A block that makes a config or an empty model of what a file of a folder says.

    Raises `CheckpointError` where nothing can be made of it; what a wrong value leads to, each library says in its way.
    """
    try:
        yield
    except UNREADABLE as error:
        raise CheckpointError(
            f"{folder / name} describes no model that can be made ({type(error).__name__}: {error}); copy or save it "
            f"again"
        ) from error


def _entries(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from sorted(path.iterdir())


def _require_inside(path: Path, folder: Path) -> None:
    if not path.is_symlink():
        return
    own = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":  # the hub's cache, where files lie beside the snapshots
        own.append(folder.resolve().parents[1] / "blobs")
    if not any(path.resolve().is_relative_to(place) for place in own):
        raise CheckpointError(f"{path} is a link that leads out of the checkpoint; put the file itself there")


def _require_short(length: int, where: Path) -> None:
    if length > MAX_TEMPLATE_CHARACTERS:
        raise CheckpointError(
            f"{where}: a chat template of {length:,} characters is above the limit of {MAX_TEMPLATE_CHARACTERS:,}; "
            f"give the model its own one"
        )


def _read(path: Path) -> Any:
    size = path.stat().st_size
    if size > MAX_CONFIG_BYTES:
        raise CheckpointError(f"{path} has {size:,} bytes, above the limit of {MAX_CONFIG_BYTES:,}; copy it again")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):  # no JSON, no UTF-8, a number of more digits than Python reads
        raise CheckpointError(f"{path} is not JSON that can be read; copy or save it again") from None
    if not isinstance(content, dict) and (path.name in _MAPPINGS or path.name.endswith(".index.json")):
        raise CheckpointError(f"{path} is no mapping of keys; copy or save it again")
    return content


def _scan_config(path: Path) -> None:
    content = _read(path)
    if path.name == "config.json":
        _require_sane(content, path)
    _look_for_code(content, path)


def _look_for_code(value: Any, where: Path) -> None:
    """In this value of a config and all that are in it."""
    if isinstance(value, list):
        for one in value:
            _look_for_code(one, where)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key in _CODE_KEYS and inner:
            raise CheckpointError(
                f"{where} names code to run ({key}), and no code of a checkpoint is ever run here; use a model that "
                f"transformers knows by itself"
            )
        if key in _WAY_KEYS and not _plain_words(inner):
            raise CheckpointError(f"{where} names code to fetch ({key}); remove the key")
        if key == "chat_template":
            _require_short(len(json.dumps(inner)), where)
        _look_for_code(inner, where)


def _plain_words(value: Any) -> bool:
    """Whether ways to compute are named, for all parts or for each: `sdpa`, `{"text_config": "eager"}`."""
    if isinstance(value, dict):
        return all(_plain_words(one) for one in value.values())
    return value is None or isinstance(value, bool) or (isinstance(value, str) and value.replace("_", "a").isalnum())


def _require_sane(value: Any, where: Path, key: str = "") -> None:
    """In this value of `config.json` and all that are in it."""
    if isinstance(value, list):
        for one in value:
            _require_sane(one, where, key)
    elif isinstance(value, dict):
        product = 1
        for name, inner in value.items():
            _require_sane(inner, where, name)
            if name in _COUNTS and isinstance(inner, int):
                product *= max(inner, 1)
                if inner > MAX_COUNT or product > MAX_PRODUCT:
                    raise CheckpointError(f"{where}: {name} is {inner:,}, which no model has; copy or save it again")
    elif isinstance(value, int) and abs(value) > MAX_SIZE and key not in _NO_SIZES:
        raise CheckpointError(f"{where}: {key} is {value:,}, which no model has; copy or save it again")
