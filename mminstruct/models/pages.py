"""A row as text for people: the Hugging Face model card, and the page of the whole zoo. No number is typed here.

ModelRow ──facts, sizes, licences──▶ card (README.md with YAML front matter) | docs/zoo.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from huggingface_hub import ModelCard, ModelCardData

from mminstruct import catalog
from mminstruct.models import licences
from mminstruct.models.config import FusedConfig, ModelRow, TowerConfig
from mminstruct.models.factory import read_row, skeleton
from mminstruct.models.memory import estimates
from mminstruct.models.native.config import NativeRow
from mminstruct.models.row_facts import MadeByRecipe, Measured, Number, PublishedWeights, Reason
from mminstruct.models.sizes import Size, size

AnyRow = ModelRow | NativeRow

_NATIVE = "native models"  # the heading that they share

RENEW = "mminstruct zoo docs --out docs/zoo.md"


def short(parameters: int) -> str:
    """A number of parameters as people say it: 7.1B."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if parameters >= unit:
            return f"{parameters / unit:.1f}{name}"
    return str(parameters)


def weights_text(spec: AnyRow) -> str:
    """Where trained weights come from, as one sentence."""
    match spec.weights:
        case PublishedWeights(url=url):
            return f"published: {url}"
        case MadeByRecipe(recipe=recipe):
            return f"made by `{train_command(spec, recipe)}`"
        case Reason(reason=reason):
            return f"none: {reason}"


def train_command(spec: AnyRow, recipe: str) -> str:
    return f"mminstruct train {recipe} model={spec.name} --out runs/{spec.name}"


# ---- the model card --------------------------------------------------------------------------------------------------


def model_card(name: str) -> ModelCard:
    """The card of a row: front matter as the hub wants it, then parts, use, memory, numbers, licence and limits."""
    spec, _ = read_row(name)
    whole = size(spec)
    sections = [
        f"# {spec.name}",
        spec.summary,
        f"From: {spec.origin.url} ({_paper(spec.origin.paper)}).",
        "## Parts",
        _parts_table(spec, whole),
        "## How to use",
        _use(spec),
        "## Memory",
        _memory(spec),
        "## Numbers",
        "**Reported by its makers**",
        _numbers(spec.reported),
        "**Measured by us**",
        _numbers(spec.measured),
        "## Licence",
        _licence(spec, spec.licence()),
        "## Limitations",
        _limits(spec),
    ]
    return ModelCard(f"---\n{front_matter(spec)}\n---\n\n" + "\n\n".join(sections) + "\n")


def front_matter(spec: AnyRow) -> ModelCardData:
    """What the hub reads of a card."""
    data = [] if isinstance(spec.training_data, Reason) else [d.dataset for d in spec.training_data if d.dataset]
    bases = [source.name for sources in spec.sources.values() for source in sources if source.url.startswith("https")]
    if isinstance(spec, NativeRow):
        bases = [spec.native]
    licence = spec.licence().hub()
    return ModelCardData(
        license=licence["license"],
        license_name=licence.get("license_name"),
        license_link=licence.get("license_link"),
        library_name="mminstruct",
        pipeline_tag="image-text-to-text",
        base_model=bases or None,
        datasets=sorted(set(data)) or None,
        tags=["mminstruct", "visual-instruction-tuning", spec.part_names["connector"]],
    )


def towers(spec: ModelRow) -> tuple[TowerConfig, ...]:
    """The encoder's towers; one where it is not fused."""
    encoder = spec.vision_encoder
    return encoder.towers if isinstance(encoder, FusedConfig) else (encoder,)


def _parts_table(spec: AnyRow, whole: Size) -> str:
    rows = [
        ("vision encoder", spec.part_names["vision_encoder"], f"{whole.parameters['vision_encoder']:,}"),
        ("connector", spec.part_names["connector"], f"{whole.parameters['connector']:,}"),
        ("language model", spec.part_names["language_model"], f"{whole.parameters['language_model']:,}"),
        ("all", "", f"{whole.total:,}"),
    ]
    text = _table(("part", "what", "parameters"), rows, numbers=(2,))
    if isinstance(spec, NativeRow):
        return f"{text}\n\nImages, their tokens and the prompt are what the processor of {spec.native} makes of them."
    image = spec.vision_encoder.image
    most = "at most " if spec.tiling is not None else ""
    return (
        f"{text}\n\nAn image is made {image.size} x {image.size} pixels ({image.resize}) and takes "
        f"{most}{whole.image_tokens} tokens. Chat template: `{spec.chat_template.name}`."
    )


def _use(spec: AnyRow) -> str:
    lines: list[str] = []
    if isinstance(spec, NativeRow):
        folder = spec.native.rpartition("/")[2]
        lines = [f"mminstruct chat {folder} --image photo.jpg --question 'What is in the picture?'"]
        lines.append(f"mminstruct train my_recipe.yaml model={folder}")
        return (
            f"Fetch {spec.native} into the folder `{folder}`; it is opened as it is.\n\n```\n"
            + "\n".join(lines)
            + "\n```"
        )
    match spec.weights:
        case PublishedWeights(url=url, import_options=str() as options):
            folder = url.rstrip("/").rpartition("/")[2]
            lines = [f"mminstruct zoo import {folder} {options} --out runs/{spec.name}"]
            before = f"Fetch {url} into the folder `{folder}`, and the vision tower that the command names, then:"
        case PublishedWeights(url=url, import_options=Reason(reason=reason)):
            before = f"The published weights ({url}) cannot be read here yet: {reason}. The same parts, untrained:"
            lines = [f"mminstruct zoo create {spec.name} --pretrained --out runs/{spec.name}"]
        case MadeByRecipe(recipe=recipe):
            before = "No weights are published; a recipe makes them:"
            lines = [train_command(spec, recipe)]
        case Reason(reason=reason):
            before = f"No trained weights: {reason}. The parts, untrained:"
            lines = [f"mminstruct zoo create {spec.name} --pretrained --out runs/{spec.name}"]
    block = "\n".join(
        [*lines, f'mminstruct chat runs/{spec.name} --image photo.jpg --question "What is in the picture?"']
    )
    if isinstance(spec.weights, MadeByRecipe):
        block = block.replace(f"chat runs/{spec.name}", f"chat runs/{spec.name}/model")
    return f"{before}\n\n```\n{block}\n```"


def _memory(spec: AnyRow) -> str:
    table = estimates(skeleton(spec))
    run = ", ".join(f"{value:.1f} GB in {kind}" for kind, value in table.pop("run").items())
    cases = list(next(iter(table.values())))
    rows = [(name, *(f"{values[case]:.1f}" for case in cases)) for name, values in table.items()]
    text = _table(("GB to", *cases), rows, numbers=range(1, len(cases) + 1))
    return (
        f"To run: {run}. To train with AdamW, on each device:\n\n{text}\n\n"
        "Arithmetic on the weights, not a measurement; activations and the cache of a chat come on top."
    )


def _numbers(numbers: Sequence[Number] | Reason) -> str:
    if isinstance(numbers, Reason):
        return f"None: {numbers.reason}."
    rows = [
        (n.benchmark, n.metric, _value(n), "; ".join(text for text in (n.source, n.note, _run(n)) if text))
        for n in numbers
    ]
    return _table(("benchmark", "metric", "value", "source"), rows, numbers=(2,))


def _value(number: Number) -> str:
    if isinstance(number, Measured) and number.stderr is not None:
        return f"{number.value:g} ± {number.stderr:g}"
    return f"{number.value:g}"


def _run(number: Number) -> str:
    """How a number of ours was measured."""
    if not isinstance(number, Measured):
        return ""
    parts = [
        f"protocol {number.protocol}" if number.protocol else "",
        f"scorer {number.scorer}" if number.scorer else "",
        f"{number.n:,} questions" if number.n is not None else "",
        number.date,
        f"commit {number.commit}",
        number.machine,
    ]
    return ", ".join(part for part in parts if part)


def _licence(spec: AnyRow, licence: licences.Combined) -> str:
    rows = [
        (what, name, ", ".join(names) if not isinstance(names, Reason) else f"not known: {names.reason}")
        for what, name, names in spec.contributors()
    ]
    named = "\n".join(f"* {name}: [{licences.get(name).title}]({licences.get(name).url})" for name in licence.names)
    terms = "\n".join(f"* {licences.MEANING[term]}" for term in licence.terms)
    return (
        f"Everything that follows holds at once; {' and '.join(licence.binding)} is the strictest.\n\n"
        f"{_table(('what', 'name', 'licence'), rows)}\n\n{named}\n\nTogether they say:\n\n{terms}\n\n"
        "Computed from the licences of the parts; no legal advice."
    )


def _limits(spec: AnyRow) -> str:
    common = (
        "It may describe what is not in a picture, and text in a picture may act on it as an instruction. "
        "Nobody here has tested it for bias or for any use that matters."
    )
    if not spec.differences:
        return common
    apart = "\n".join(f"* {line}" for line in spec.differences)
    return f"{common}\n\nHow it differs from the model that it is named after:\n\n{apart}"


def _paper(paper: str | Reason) -> str:
    return paper if isinstance(paper, str) else f"no paper: {paper.reason}"


# ---- the page of the whole zoo ---------------------------------------------------------------------------------------


def zoo_page() -> str:
    """`docs/zoo.md`: every row, in a table for each project that it comes from; native models have one of theirs."""
    groups: dict[str, list[AnyRow]] = {}
    for name in catalog.names(catalog.MODEL):
        spec, _ = read_row(name)
        groups.setdefault(_NATIVE if isinstance(spec, NativeRow) else spec.origin.url, []).append(spec)
    used = {licence for specs in groups.values() for spec in specs for licence in spec.licence().names}
    text = [
        "# The zoo",
        f"Written by `{RENEW}`; a test fails when it is stale. Do not edit it, edit the rows in `model_zoo/`.",
        f"{sum(map(len, groups.values()))} models. *Size* counts all parameters, *tokens* are those of one image. "
        "*Licence* names every one of the parts', the data's and the weights' licences that asks for more than keeping "
        "notices, the strictest first; a star: one of them is not known (`mminstruct zoo card NAME` says which). "
        "*Weights*: published by the project, with a tick where `mminstruct zoo import` reads them, or the recipe "
        "that makes them. Numbers stand in the cards, the makers' apart from ours.",
    ]
    for url, specs in sorted(groups.items(), key=lambda group: (not _elsewhere(group[0]), _project(group[0]).lower())):
        papers = sorted({spec.origin.paper for spec in specs if isinstance(spec.origin.paper, str)})
        text.append("## " + _project(url))
        links = ", ".join(f"[{paper.rpartition('/')[2]}]({paper})" for paper in papers)
        place = f"<{url}>" if _elsewhere(url) else f"[{url}](../{url})"
        if url == _NATIVE:
            place = "transformers' own classes and processors ([how they work here](models.md#native-models))"
        text.append(place + (f", papers: {links}" if links else ""))
        text.append(
            _table(
                (
                    "model",
                    "vision encoder",
                    "px",
                    "connector",
                    "language model",
                    "size",
                    "tokens",
                    "licence",
                    "weights",
                ),
                [_row(spec) for spec in specs],
                numbers=(2, 5, 6),
            )
        )
    text.append("## Licences")
    text.append(
        _table(
            ("name", "licence", "what it asks"),
            [
                (name, f"[{licence.title}]({licence.url})", "; ".join(licences.MEANING[term] for term in licence.terms))
                for name, licence in sorted(licences.table().items())
                if name in used
            ],
        )
    )
    return "\n\n".join(text) + "\n"


def _elsewhere(url: str) -> bool:
    """Whether it is an address, and not a file of this repository."""
    return url.startswith("https://")


def _project(url: str) -> str:
    """`owner/name` of a repository, the address of any other page, or the file in this one."""
    host, _, path = url.removeprefix("https://").partition("/")
    if host == "github.com":
        return "/".join(path.split("/")[:2])
    return f"{host}/{path}".rstrip("/") if _elsewhere(url) else url


def _row(spec: AnyRow) -> tuple[str, ...]:
    whole = size(spec)
    match spec.weights:
        case PublishedWeights(url=url, import_options=options):
            weights = f"[published]({url})" + (" ✓" if isinstance(options, str) else "")
        case MadeByRecipe(recipe=recipe):
            weights = f"`{recipe}`"
        case Reason():
            weights = "none"
    return (
        f"`{spec.name}`",
        spec.part_names["vision_encoder"],
        "any" if isinstance(spec, NativeRow) else str(spec.vision_encoder.image.size),
        spec.part_names["connector"],
        spec.part_names["language_model"],
        short(whole.total),
        "by size" if whole.image_tokens is None else str(whole.image_tokens),
        spec.licence().title + ("*" if spec.unknown() else ""),
        weights,
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """Markdown; columns `numbers` are set to the right."""
    right = set(numbers)
    lines = [head, ["---:" if place in right else "---" for place in range(len(head))], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
