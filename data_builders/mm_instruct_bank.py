"""Second of three steps of MM-Instruct: many instructions become a bank of general ones, one of each cluster.

    instructions ──text vectors, k-means──▶ clusters ──a model sums each up──▶ general instructions   (for mm-instruct)

Instructions are those of a data set that mm-instruct-expand built; without one, what its templates write of 200 scenes.
A record shows the members that are nearest to the cluster's middle and answers with the general instruction, which
`extra` has too. The paper clusters 50,000 into some 300, by a model's embedding; here vectors are hashed words
(`mminstruct/building/words.py`), so that no weights are needed and clusters are the same on every machine.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from mminstruct import formats
from mminstruct.building import BadItem, Builder, Job
from mminstruct.building.clusters import distances, k_means
from mminstruct.building.prompt import Prompt, Told, dialogue
from mminstruct.building.request import Parameters
from mminstruct.building.words import text_vectors, words
from mminstruct.config import Config
from mminstruct.conversation import Conversation, Message, message
from mminstruct.data_builders.mm_instruct_expand import (
    EXPAND,
    LEAST,
    MOST,
    PictureOptions,
    expanding,
    pictures,
    prompt_file,
    unfit,
)
from mminstruct.errors import DataError, ReplyError

GENERAL = "one of the objects"


@dataclass(frozen=True)
class Cluster:
    """
    Attributes:
        members: from the middle outwards.
        things: names that single pictures gave to them.
        parents: ids of the records that they come from.
    """

    id: str
    members: Sequence[str]
    things: Sequence[str]
    parents: Sequence[str]


class SummarisePrompt(Prompt[Cluster, str]):
    name = "mm-instruct/summarise"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.3, max_tokens=256)

    def messages(self, facts: Cluster) -> list[Message]:
        file = prompt_file().summarise
        members = "\n".join(f"- {member}" for member in facts.members)
        return dialogue(Told(system=file.system), file.question.format(members=members))

    def parse(self, reply: str, facts: Cluster) -> str:
        found = reply.strip().strip("\"'").strip()
        if "\n" in found:
            raise ReplyError("there is more than one line; write one task and nothing else")
        count = len(words(found))
        if not LEAST <= count <= MOST:
            raise ReplyError(f"the task has {count} words; write {LEAST} to {MOST}")
        return found

    def template(self, facts: Cluster, rng: random.Random) -> str:
        """The member nearest to the middle, with no thing of its picture."""
        names = "|".join(map(re.escape, sorted(facts.things, key=len, reverse=True)))
        return re.sub(rf"the (?:{names})\b", GENERAL, facts.members[0]) if names else facts.members[0]


SUMMARISE = SummarisePrompt()


class MMInstructBank(Builder[Cluster]):
    name = "mm-instruct-bank"
    version = "1"
    summary = (
        "MM-Instruct's second step: instructions are clustered, and a model sums each cluster up in a general one."
    )
    licence = "Apache-2.0"
    asks = True

    class Options(Config):
        """What is built.

        Args:
            expanded: a data set that mm-instruct-expand built; left out, what templates write of scenes.
            clusters: at most so many.
            seed: of the first centres.
            shown: how many members of a cluster the model is shown.
            least: clusters with fewer members are left out.
        """

        expanded: Path | None = None
        clusters: int = Field(default=24, ge=1)
        seed: int = 0
        shown: int = Field(default=10, ge=1)
        least: int = Field(default=3, ge=1)

    options: Options

    def items(self) -> Iterator[Cluster]:
        found = _template_instructions() if self.options.expanded is None else _instructions(self.options.expanded)
        if not found:
            raise DataError(f"{self.options.expanded} has no instructions; build it with mm-instruct-expand")
        vectors = text_vectors([text for text, _, _ in found])
        labels, centres = k_means(vectors, self.options.clusters, self.options.seed)
        away = distances(vectors, centres)
        for cluster in range(len(centres)):
            rows = [row for row in range(len(found)) if labels[row] == cluster]
            rows.sort(key=lambda row: (away[row, cluster], row))
            yield Cluster(
                f"cluster/{cluster}",
                [found[row][0] for row in rows],
                sorted({thing for row in rows for thing in found[row][2]}),
                list(dict.fromkeys(found[row][1] for row in rows)),
            )

    def make(self, item: Cluster, job: Job) -> Iterator[Conversation]:
        if len(item.members) < self.options.least:
            job.drop("a cluster has too few members")
            return
        members = list(dict.fromkeys(item.members))[: self.options.shown]
        answer = job.ask(SUMMARISE, Cluster(item.id, members, item.things, item.parents))
        listed = "\n".join(f"- {member}" for member in members)
        asked = f"Sum these instructions up in a single one that fits any picture:\n{listed}"
        yield Conversation(
            id=f"mm-instruct-bank/{item.id}",
            messages=[message("user", asked), message("assistant", answer.value)],
            task="mm-instruct+summarise",
            extra={"instruction": answer.value, "members": len(item.members)},
            provenance=job.provenance(item.parents, answer),
        )


def _instructions(path: Path) -> list[tuple[str, str, list[str]]]:
    """(instruction, id of its record, names of things in its picture). Raises `DataError` where a record has none."""
    found = []
    for record in formats.read(path):
        match record.extra:
            case {"instructions": [*some], "things": [*things]} if all(
                isinstance(one, str) for one in [*some, *things]
            ):
                found += [(one, record.id, things) for one in some]
            case _:
                raise DataError(
                    f"{path}: {record.id!r} has no instructions in extra; give a data set of mm-instruct-expand"
                )
    return found


def _template_instructions() -> list[tuple[str, str, list[str]]]:
    """Four of each of 200 scenes."""
    found = []
    for picture in pictures(PictureOptions(scenes=200)):
        assert not isinstance(picture, BadItem)  # the world has none
        chance = random.Random(f"mm-instruct-bank/{picture.id}")
        facts = expanding(picture, 4, chance)
        things = [name for name, _ in picture.things]
        for instruction in EXPAND.parse(EXPAND.template(facts, chance), facts):
            if unfit(instruction, facts.seeds) is None:
                found.append((instruction, picture.id, things))
    return found


BUILDER = MMInstructBank
