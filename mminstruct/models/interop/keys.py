"""Names of tensors in this project and elsewhere: explicit tables, and the rule that decides between them.

A layout is decided by the names found and by nothing else: the one that explains them all, with none missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from mminstruct.errors import CheckpointError

EMBEDDINGS = "language_model.model.embed_tokens.weight"
HEAD = "language_model.lm_head.weight"
NEWLINE = "connector.image_newline"


@dataclass(frozen=True)
class Layout:
    """One way to name the tensors: the beginning of our names and what stands in its place.

    A tensor that no beginning fits is not stored in this layout (`mminstruct` names, such as `vision_encoder.`, are
    left out on purpose where the weights of a part lie elsewhere).
    """

    name: str
    beginnings: dict[str, str]

    def translate(self, ours: str) -> str | None:
        for beginning, theirs in self.beginnings.items():
            if ours.startswith(beginning):
                return theirs + ours.removeprefix(beginning)
        return None

    def translate_all(self, ours: Iterable[str]) -> dict[str, str]:
        """Our name to theirs, of every tensor that this layout stores."""
        return {name: theirs for name in ours if (theirs := self.translate(name)) is not None}


# The layouts of `LlavaForConditionalGeneration`. The first is what the hub holds and what everybody reads; it is the
# only one that is written.
HF_LLAVA = (
    Layout(
        "hub, transformers 4.37 to 4.51",
        {
            "vision_encoder.model.": "vision_tower.vision_model.",
            "connector.projection.0.": "multi_modal_projector.linear_1.",
            "connector.projection.2.": "multi_modal_projector.linear_2.",
            "language_model.model.": "language_model.model.",
            "language_model.lm_head.": "language_model.lm_head.",
        },
    ),
    Layout(
        "transformers 4.52 and later",
        {
            "vision_encoder.model.": "model.vision_tower.vision_model.",
            "connector.projection.0.": "model.multi_modal_projector.linear_1.",
            "connector.projection.2.": "model.multi_modal_projector.linear_2.",
            "language_model.model.": "model.language_model.",
            "language_model.lm_head.": "lm_head.",
        },
    ),
    Layout(
        "in memory of transformers 5",
        {
            "vision_encoder.model.": "model.vision_tower.",
            "connector.projection.0.": "model.multi_modal_projector.linear_1.",
            "connector.projection.2.": "model.multi_modal_projector.linear_2.",
            "language_model.model.": "model.language_model.",
            "language_model.lm_head.": "lm_head.",
        },
    ),
    Layout(
        "saved by transformers 5 from a model built there",
        {
            "vision_encoder.model.": "vision_tower.",
            "connector.projection.0.": "multi_modal_projector.linear_1.",
            "connector.projection.2.": "multi_modal_projector.linear_2.",
            "language_model.model.": "language_model.model.",
            "language_model.lm_head.": "language_model.lm_head.",
        },
    ),
)

# `LlavaNextForConditionalGeneration` has the same four, and a vector for the ends of rows.
HF_LLAVA_NEXT = tuple(
    Layout(layout.name, {**layout.beginnings, NEWLINE: newline})
    for layout, newline in zip(
        HF_LLAVA, ("image_newline", "model.image_newline", "model.image_newline", "image_newline"), strict=True
    )
)

HF_INSTRUCTBLIP = (
    Layout(
        "InstructBLIP",
        {
            "vision_encoder.model.": "vision_model.",
            "connector.query_tokens": "query_tokens",
            "connector.q_former.": "qformer.",
            "connector.projection.": "language_projection.",
            "language_model.": "language_model.",
        },
    ),
)

_LLAVA_WITHOUT_TOWER = {
    "connector.projection.": "model.mm_projector.",
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    NEWLINE: "model.image_newline",
}
# The original project's folder, with the vision tower in the file or not. The first is what is written.
LLAVA = (
    Layout(
        "LLaVA, tower in the file",
        {"vision_encoder.model.": "model.vision_tower.vision_tower.vision_model.", **_LLAVA_WITHOUT_TOWER},
    ),
    Layout("LLaVA, tower elsewhere", _LLAVA_WITHOUT_TOWER),
)


def idefics(blocks: int) -> tuple[Layout, ...]:
    """`IdeficsForVisionText2Text`, which every version of transformers names alike; one layout."""
    return (
        Layout(
            "transformers' Idefics",
            {
                "vision_encoder.model.": "model.vision_model.",
                "connector.resampler.": "model.perceiver_resampler.",
                **{f"connector.blocks.{k}.layer.": f"model.gated_cross_attn_layers.{k}." for k in range(blocks)},
                "language_model.model.": "model.",
                "language_model.lm_head.": "lm_head.",
            },
        ),
    )


# A tower in a folder of its own: as the hub holds it (a whole CLIP model, its text half unread), or saved by itself.
TOWER = (
    Layout("vision model", {"vision_encoder.model.": "vision_model."}),
    Layout("vision model saved by transformers 5", {"vision_encoder.model.": ""}),
)


def match(
    layouts: Sequence[Layout], wanted: Collection[str], unread: Collection[str], found: Collection[str], where: str
) -> dict[str, str]:
    """Our name to theirs, in the layout that the names found are written in.

    Args:
        wanted: our names of what the model has to have.
        unread: our names of what may be there and is not read (layers behind the feature layer, buffers).
        found: the names in the files.
        where: the folder, for the error.

    Raises:
        CheckpointError: no layout explains the names; names the first that is unknown or missing in the nearest one.
    """
    best: tuple[int, str] | None = None
    for layout in layouts:
        names = layout.translate_all(wanted)
        missing = [theirs for theirs in names.values() if theirs not in found]
        known = {*names.values(), *layout.translate_all(unread).values()}
        unknown = [theirs for theirs in found if theirs not in known]
        if not missing and not unknown:
            return names
        problem = f"the tensor {missing[0]!r} is missing" if missing else f"the tensor {unknown[0]!r} is unknown"
        if best is None or len(missing) + len(unknown) < best[0]:
            best = (len(missing) + len(unknown), f"{problem} (nearest layout: {layout.name})")
    raise CheckpointError(f"{where}: the tensors fit no known layout: {best[1] if best else ''}; see docs/interop.md")
