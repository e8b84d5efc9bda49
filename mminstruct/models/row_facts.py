"""The facts of a zoo row that no module is built of: sources and licences, weights, numbers.

What is not known takes a `reason` in place of a value, so that nothing is silently empty.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from mminstruct.config import Config
from mminstruct.models import licences


class Reason(Config):
    """Why there is no value."""

    reason: str = Field(min_length=10)


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        licences.get(name)
    return names


LicenceNames = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_known)]


class Origin(Config):
    """Who put these parts together: their code or page, and their paper."""

    url: str
    paper: str | Reason


class Source(Config):
    """Weights or data that somebody published.

    Attributes:
        name: as its makers call it; a repository of the hub where it lies there.
        licences: names of `model_zoo/parts/licences.yaml`; all of them hold.
        dataset: for data that lies on the hub, its id there.
    """

    name: str
    url: str
    licences: LicenceNames | Reason
    paper: str | Reason
    dataset: str | None = None


class PublishedWeights(Config):
    """A checkpoint of the whole model that its makers published.

    Attributes:
        import_options: what follows `mminstruct zoo import FOLDER`, or why it cannot be imported yet.
    """

    url: str
    licences: LicenceNames | Reason
    import_options: str | Reason


class MadeByRecipe(Config):
    """Weights that one of our recipes makes: `mminstruct train RECIPE model=NAME`."""

    recipe: str


class Number(Config):
    """A score.

    Attributes:
        source: where it can be looked up: a table of a paper, a page.
        note: what a reader must know to compare it.
    """

    benchmark: str
    metric: str
    value: float
    source: str
    note: str = ""


class Measured(Number):
    """A score of ours: on which commit and machine.

    Attributes:
        protocol, scorer: how it was asked and judged, by their names.
        n: how many questions.
        stderr: of the value, in its unit.
        date: of the measurement, YYYY-MM-DD.
    """

    protocol: str = ""
    scorer: str = ""
    n: int | None = None
    stderr: float | None = None
    date: str = ""
    commit: str
    machine: str


Part = Literal["vision_encoder", "language_model"]


class RowFacts(Config):
    """What `ModelRow` says beside how to build it.

    Attributes:
        origin: of the combination.
        sources: of each part's weights; several for fused encoders, none for one that starts from random numbers.
        weights: of the whole model.
        training_data: of the published weights.
        reported: by the model's makers, never by us.
        measured: by us.
        differences: from the model that the row is named after, each a sentence.
    """

    origin: Origin
    sources: dict[Part, tuple[Source, ...]]
    weights: PublishedWeights | MadeByRecipe | Reason
    training_data: tuple[Source, ...] | Reason
    reported: tuple[Number, ...] | Reason
    measured: tuple[Measured, ...] | Reason
    differences: tuple[str, ...] = ()

    def contributors(self) -> list[tuple[str, str, LicenceNames | Reason]]:
        """(what, its name, its licences) of everything whose terms hold for the model's weights."""
        found: list[tuple[str, str, Any]] = [
            (part.replace("_", " "), source.name, source.licences)
            for part, sources in self.sources.items()
            for source in sources
        ]
        if isinstance(self.weights, PublishedWeights):
            found.append(("published weights", self.weights.url, self.weights.licences))
            if not isinstance(self.training_data, Reason):
                found += [("training data", data.name, data.licences) for data in self.training_data]
        return found

    def licence(self) -> licences.Combined:
        """The strictest combination of all that contributes; what has no known licence is left out, see `unknown`."""
        named = [name for _, _, names in self.contributors() if not isinstance(names, Reason) for name in names]
        return licences.combine(named)

    def unknown(self) -> list[tuple[str, str, str]]:
        """(what, its name, the reason) of each contributor whose licence is not known."""
        return [(what, name, names.reason) for what, name, names in self.contributors() if isinstance(names, Reason)]
