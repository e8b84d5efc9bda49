"""Liger's Triton kernels (arXiv 2410.10989) in place of a language model's norms, rotary embeddings and feed-forwards.

What they compute is the same, in one pass over memory instead of several, and they keep less for the backward pass. Of
its kernels the fused head with cross-entropy is left out: the head here runs on supervised places only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.integrations.liger import apply_liger_kernel

from mminstruct.errors import ConfigError
from mminstruct.models.vlm import VisionLanguageModel


def require_liger(model: PreTrainedModel) -> None:
    """Raises `ConfigError` where the kernels cannot run, or Liger has none for models of the type."""
    if not torch.cuda.is_available():
        raise ConfigError("kernels: liger needs a GPU, and torch sees none here; take it out")
    if importlib.util.find_spec("liger_kernel") is None:
        raise ConfigError("kernels: liger needs a package that is not installed; pip install 'mminstruct[gpu]'")
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    kind = _patched(model).config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise ConfigError(f"Liger has no kernels for models of the type {kind}; take kernels: liger out")


@contextlib.contextmanager
def liger(model: PreTrainedModel) -> Iterator[None]:
    """Within, a model computes with the kernels, and so would any other of its type.

    Liger replaces functions and classes in transformers' modules and methods of the model's own, for good. They run on
    a GPU only, so afterwards all of that is put back: a model is merged and saved on a CPU, if it must be.
    """
    target = _patched(model)
    sources = [module for name, module in sys.modules.items() if name.startswith("transformers.models.")]
    globals_before = [(module, dict(vars(module))) for module in sources]
    before = [(module, set(vars(module))) for module in target.modules()]
    apply_liger_kernel(target, {"fused_linear_cross_entropy": False, "cross_entropy": False})
    added = [(module, set(vars(module)) - names) for module, names in before]
    try:
        yield
    finally:
        for module, names in added:
            for name in names:
                delattr(module, name)
        for source, values in globals_before:
            vars(source).update(values)


def _patched(model: PreTrainedModel) -> Any:
    return model.language_model if isinstance(model, VisionLanguageModel) else model
