"""The recipe's ``select`` section."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from infra.config import Section, enumerated, known
from infra.schemas.languages import Language
from infra.schemas.quality_rules import RULES
from infra.schemas.signals import SIGNALS
from tasks.select.rank import SIMPLE
from tasks.select.repeated_text.config import Lines, Substrings

NUMBERS = frozenset({*SIGNALS, "language_score"})
FILTER_OF = {rule.name: name for name, rules in RULES.items() for rule in rules}

Filter = Annotated[str, known("quality filter", frozenset(RULES)), enumerated(RULES)]
RuleName = Annotated[str, known("rule", frozenset(FILTER_OF)), enumerated(FILTER_OF)]
Score = Annotated[float, Field(ge=0, le=1)]
Limit = Annotated[float, Field(allow_inf_nan=False)]
Pii = Literal["keep", "mask", "drop"]


def _preference(key: str) -> str:
    way, _, name = key.partition(":")
    if key in SIMPLE or (way in ("highest", "lowest") and name in NUMBERS):
        return key
    raise ValueError(
        f"{key!r} is no preference; there are {', '.join(SIMPLE)}, and highest: or lowest: with "
        f"one of {', '.join(sorted(NUMBERS))}"
    )


Preference = Annotated[str, AfterValidator(_preference)]


class Override(Section):
    """What is different for one source; what is left out is as for all."""

    languages: dict[Language, Score] | None = Field(None, description="instead of the general ones")
    quality: tuple[Filter, ...] | None = Field(None, description="instead of the general ones")
    rules: dict[RuleName, Limit | None] = Field(
        default_factory=dict, description="limits that differ from the general ones"
    )
    pii: Pii | None = Field(None, description="instead of the general choice")


class Gates(Section):
    """What a document of one source has to pass, before duplicates are looked at."""

    languages: dict[Language, Score]
    quality: tuple[Filter, ...]
    rules: dict[RuleName, Limit | None]
    pii: Pii


class SelectConfig(Section):
    """Which documents become the corpus.

    The defaults are FineWeb's for English (datatrove ``examples/fineweb.py``): language score 0.65
    and the rules of Gopher, C4 and FineWeb with their published limits (``infra/schemas/quality_rules.py``).
    """

    languages: dict[Language, Score] = Field(
        default_factory=lambda: {"en": 0.65},
        description="languages to keep, each with the least score; empty keeps every language",
    )
    quality: tuple[Filter, ...] = Field(
        ("gopher_repetition", "gopher_quality", "c4", "fineweb"),
        description="quality filters, applied in this order; empty applies none",
    )
    rules: dict[RuleName, Limit | None] = Field(
        default_factory=dict,
        description="limits of single rules instead of the published ones; null switches one off",
    )
    pii: Pii = Field(
        "mask",
        description="personal data: kept, masked by its kind, or the documents that hold any dropped",
    )
    overrides: dict[str, Override] = Field(
        default_factory=dict, description="what is different for single sources, by source name"
    )
    survivor: tuple[Preference, ...] = Field(
        ("source", "longest"),
        description="which of several copies stays, by these in turn: source (as the recipe lists "
        "them), longest, shortest, newest, oldest (by the document's date), highest:SIGNAL or "
        "lowest:SIGNAL of an annotation; the smaller id decides last",
    )
    one_per_url: bool = Field(
        False,
        description="keep one document per web address, chosen by survivor among those that pass "
        "the rules, before copies are looked at",
    )
    lines: Lines | None = Field(
        None, description="take repeated lines out of the texts that stay; left out: none"
    )
    substrings: Substrings | None = Field(
        None, description="take long runs of words that an earlier document has out; left out: none"
    )
    max_source_loss: float = Field(
        0.9,
        ge=0,
        le=1,
        description="greatest share of a source's documents that may be lost to duplication; "
        "beyond it the run stops",
    )
    min_source_documents: int = Field(
        20, ge=1, description="documents a source needs for max_source_loss to be asked of it"
    )

    def gates(self, source: str | None) -> Gates:
        """What holds for one source."""
        own = self.overrides.get(source or "", Override.model_validate({}))
        return Gates(
            languages=self.languages if own.languages is None else own.languages,
            quality=self.quality if own.quality is None else own.quality,
            rules={**self.rules, **own.rules},
            pii=self.pii if own.pii is None else own.pii,
        )

    @model_validator(mode="after")
    def _no_idle_rules(self) -> Self:
        """A limit for a filter that is not applied would silently do nothing."""
        everywhere = {*self.quality, *(f for o in self.overrides.values() for f in o.quality or ())}
        _check_used(self.rules, everywhere, "rules")
        for source, own in self.overrides.items():
            _check_used(own.rules, set(self.gates(source).quality), f"overrides.{source}.rules")
        return self


def _check_used(rules: Mapping[str, float | None], filters: set[str], where: str) -> None:
    for rule in rules:
        if FILTER_OF[rule] not in filters:
            raise ValueError(f"{where}: {rule} belongs to {FILTER_OF[rule]}, which is not applied")
