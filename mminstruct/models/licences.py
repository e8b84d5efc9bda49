"""Licences, and what follows from several at once: a row's licence is computed of its parts, never written by hand.

licence names of the parts ──table (`model_zoo/parts/licences.yaml`)──▶ terms ──union──▶ Combined
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from mminstruct import catalog
from mminstruct.config import Config, load_yaml, validate
from mminstruct.errors import ConfigError, did_you_mean

# From the strictest to the mildest. Which of two licences binds is decided by the strictest term that each has.
Term = Literal[
    "research_only",
    "non_commercial",
    "no_other_models",
    "user_limit",
    "share_alike",
    "use_policy",
    "naming",
    "attribution",
]
TERMS: tuple[Term, ...] = get_args(Term)

MEANING: Mapping[Term, str] = MappingProxyType(
    {
        "research_only": "for research only",
        "non_commercial": "no commercial use",
        "no_other_models": "what it writes may not be used to improve or compete with other models",
        "user_limit": "a licence of one's own is needed above a number of users",
        "share_alike": "what is made of it stays under the same licence",
        "use_policy": "some uses are forbidden, and whoever gets it must be told so",
        "naming": "what is made of it must name it",
        "attribution": "its notices are kept",
    }
)
_NOT_COMMERCIAL: frozenset[Term] = frozenset({"research_only", "non_commercial"})


class Licence(Config):
    """One licence: its `title`, where its text stands, its id on the Hugging Face hub (`other` where it has none)."""

    title: str
    url: str
    hub: str
    terms: tuple[Term, ...]

    @property
    def permissive(self) -> bool:
        """Whether it asks for nothing but to keep its notices."""
        return set(self.terms) <= {"attribution"}

    def strictness(self) -> tuple[int, ...]:
        """Sorts licences: smaller is stricter."""
        places = sorted(TERMS.index(term) for term in self.terms)
        return (*places, len(TERMS))


class Table(Config):
    """The licences by name."""

    licences: dict[str, Licence]


@functools.cache
def table() -> Mapping[str, Licence]:
    """All licences that rows may name."""
    path = catalog.folder(catalog.MODEL) / "parts" / "licences.yaml"
    return MappingProxyType(validate(Table, {"licences": load_yaml(path)}, where=str(path)).licences)


def get(name: str) -> Licence:
    """Raises `ConfigError` for a name that the table does not have."""
    if name not in table():
        raise ConfigError(
            f"no licence is called {name!r}.{did_you_mean(name, table())} "
            "A new one is an entry of model_zoo/parts/licences.yaml"
        )
    return table()[name]


@dataclass(frozen=True)
class Combined:
    """What holds for something made of several parts.

    Attributes:
        names: every licence that contributes, the strictest first.
        binding: those whose strictest terms no other licence exceeds; one, or several that are equally strict.
        terms: the union of all terms, the strictest first.
    """

    names: tuple[str, ...]
    binding: tuple[str, ...]
    terms: tuple[Term, ...]

    @property
    def commercial(self) -> bool:
        return not _NOT_COMMERCIAL & set(self.terms)

    @property
    def title(self) -> str:
        """All licences that ask for more than notices; the binding one where none does."""
        demanding = [name for name in self.names if not get(name).permissive]
        return " + ".join(demanding or self.names)

    def hub(self) -> dict[str, str]:
        """A card's `license` and, where no single id of the hub says it all, `license_name` and `license_link`."""
        demanding = [name for name in self.names if not get(name).permissive]
        one = demanding or list(self.binding)
        if len(one) == 1 and get(one[0]).hub != "other":
            return {"license": get(one[0]).hub}
        slug = re.sub(r"[^a-z0-9.]+", "-", "-and-".join(one).lower()).strip("-")
        return {"license": "other", "license_name": slug, "license_link": get(self.binding[0]).url}


def combine(names: Sequence[str]) -> Combined:
    """The strictest combination of licences, by name.

    Raises:
        ConfigError: there is none, or one that the table does not have.
    """
    if not names:
        raise ConfigError("nothing here has a licence; name that of each part (`sources`)")
    known = {name: get(name) for name in names}  # each once
    ordered = sorted(known, key=lambda name: (known[name].strictness(), name))
    strictest = known[ordered[0]].strictness()
    union = {term for licence in known.values() for term in licence.terms}
    return Combined(
        names=tuple(ordered),
        binding=tuple(name for name in ordered if known[name].strictness() == strictest),
        terms=tuple(term for term in TERMS if term in union),
    )
