"""Liger's Triton kernels (arXiv 2410.10989) in place of a language model's norms, rotary embeddings and feed-forwards.

What they compute is the same, in one pass over memory instead of several, and they keep less for the backward pass. Of
its kernels the fused head with cross-entropy is left out: the head here runs on supervised places only.
"""

from __future__ import annotations

import importlib.util

import torch
from transformers import PreTrainedModel
from transformers.integrations.liger import apply_liger_kernel

from mminstruct.errors import ConfigError
from mminstruct.models.vlm import VisionLanguageModel


def require_liger() -> None:
    """Raises `ConfigError` where the kernels cannot run."""
    if not torch.cuda.is_available():
        raise ConfigError("kernels: liger needs a GPU, and torch sees none here; take it out")
    if importlib.util.find_spec("liger_kernel") is None:
        raise ConfigError("kernels: liger needs a package that is not installed; pip install 'mminstruct[gpu]'")


def use_liger(model: PreTrainedModel) -> None:
    """Put the kernels into a model's language model, or into a native model; a second time changes nothing.

    Raises:
        ConfigError: Liger knows no models of the type.
    """
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    target = model.language_model if isinstance(model, VisionLanguageModel) else model
    kind = target.config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise ConfigError(f"Liger has no kernels for models of the type {kind}; take kernels: liger out")
    apply_liger_kernel(target, {"fused_linear_cross_entropy": False, "cross_entropy": False})
