"""The parts of a model that a stage names under `activation_checkpointing`, each by the means of its own library."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from transformers import PreTrainedModel

from mminstruct.models.parts import part
from mminstruct.models.recompute import recompute_layers
from mminstruct.models.vlm import VisionLanguageModel


@contextlib.contextmanager
def activation_checkpointing(model: PreTrainedModel, names: Sequence[str]) -> Iterator[None]:
    """Within, the named parts (`vision_encoder`, `language_model`) keep only what goes into their layers.

    Raises:
        ConfigError: a part has no layers that can be computed again.
    """
    switches = [_switch(model, name) for name in names]
    for switch in switches:
        switch(True)
    try:
        yield
    finally:
        for switch in switches:
            switch(False)


def _switch(model: PreTrainedModel, name: str) -> Callable[[bool], None]:
    if name == "vision_encoder" and isinstance(model, VisionLanguageModel):
        return model.vision_encoder.checkpoint_activations
    module = part(model, name)
    return lambda enable: recompute_layers(module, enable)
