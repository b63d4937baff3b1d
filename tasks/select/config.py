"""The recipe's ``select`` section."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from infra.config import ConfigModel, json_enum, one_of
from infra.schemas.languages import Language
from infra.schemas.quality_rules import RULES
from infra.schemas.signals import SIGNALS
from tasks.select.rank import SIMPLE_KEYS
from tasks.select.repeated_text.config import LineDedupConfig, SubstringDedupConfig

NUMERIC_COLUMNS = frozenset({*SIGNALS, "language_score"})
FILTER_BY_RULE = {rule.name: name for name, rules in RULES.items() for rule in rules}

Filter = Annotated[str, one_of("quality filter", frozenset(RULES)), json_enum(RULES)]
RuleName = Annotated[str, one_of("rule", frozenset(FILTER_BY_RULE)), json_enum(FILTER_BY_RULE)]
Score = Annotated[float, Field(ge=0, le=1)]
Threshold = Annotated[float, Field(allow_inf_nan=False)]
PiiAction = Literal["keep", "mask", "drop"]


def _check_preference(key: str) -> str:
    way, _, name = key.partition(":")
    if key in SIMPLE_KEYS or (way in ("highest", "lowest") and name in NUMERIC_COLUMNS):
        return key
    raise ValueError(
        f"{key!r} is no preference; there are {', '.join(SIMPLE_KEYS)}, and highest: or lowest: with "
        f"one of {', '.join(sorted(NUMERIC_COLUMNS))}"
    )


Preference = Annotated[str, AfterValidator(_check_preference)]


class SourceOverride(ConfigModel):
    """What is different for one source; what is left out is as for all."""

    languages: dict[Language, Score] | None = Field(None, description="instead of the general ones")
    quality_filters: tuple[Filter, ...] | None = Field(
        None, description="instead of the general ones"
    )
    thresholds: dict[RuleName, Threshold | None] = Field(
        default_factory=dict, description="limits that differ from the general ones"
    )
    pii: PiiAction | None = Field(None, description="instead of the general choice")


class SourceFilters(ConfigModel):
    """What a document of one source has to pass, before duplicates are looked at."""

    languages: dict[Language, Score]
    quality_filters: tuple[Filter, ...]
    thresholds: dict[RuleName, Threshold | None]
    pii: PiiAction


class SelectConfig(ConfigModel):
    """Which documents become the corpus.

    The defaults are FineWeb's for English (datatrove ``examples/fineweb.py``): language score 0.65
    and the rules of Gopher, C4 and FineWeb with their published limits (``infra/schemas/quality_rules.py``).
    """

    languages: dict[Language, Score] = Field(
        default_factory=lambda: {"en": 0.65},
        description="languages to keep, each with the least score; empty keeps every language",
    )
    quality_filters: tuple[Filter, ...] = Field(
        ("gopher_repetition", "gopher_quality", "c4", "fineweb"),
        description="quality filters, applied in this order; empty applies none",
    )
    thresholds: dict[RuleName, Threshold | None] = Field(
        default_factory=dict,
        description="limits of single rules instead of the published ones; null switches one off",
    )
    pii: PiiAction = Field(
        "mask",
        description="personal data: kept, masked by its kind, or the documents that hold any dropped",
    )
    per_source: dict[str, SourceOverride] = Field(
        default_factory=dict, description="what is different for single sources, by source name"
    )
    prefer: tuple[Preference, ...] = Field(
        ("source", "longest"),
        description="which of several copies stays, by these in turn: source (as the recipe lists "
        "them), longest, shortest, newest, oldest (by the document's date), highest:SIGNAL or "
        "lowest:SIGNAL of an annotation; the smaller id decides last",
    )
    dedup_urls: bool = Field(
        False,
        description="keep one document per web address, chosen by prefer among those that pass "
        "the rules, before copies are looked at",
    )
    line_dedup: LineDedupConfig | None = Field(
        None, description="take repeated lines out of the texts that stay; left out: none"
    )
    substring_dedup: SubstringDedupConfig | None = Field(
        None, description="take long runs of words that an earlier document has out; left out: none"
    )
    max_source_duplicate_fraction: float = Field(
        0.9,
        ge=0,
        le=1,
        description="greatest share of a source's documents that may be lost to duplication; "
        "beyond it the run stops",
    )
    min_source_documents: int = Field(
        20,
        ge=1,
        description="documents a source needs before max_source_duplicate_fraction is checked",
    )

    def filters_for(self, source: str | None) -> SourceFilters:
        """What holds for one source."""
        own = self.per_source.get(source or "", SourceOverride.model_validate({}))
        return SourceFilters(
            languages=self.languages if own.languages is None else own.languages,
            quality_filters=self.quality_filters
            if own.quality_filters is None
            else own.quality_filters,
            thresholds={**self.thresholds, **own.thresholds},
            pii=self.pii if own.pii is None else own.pii,
        )

    @model_validator(mode="after")
    def _reject_unused_thresholds(self) -> Self:
        """A limit for a filter that is not applied would silently do nothing."""
        everywhere = {
            *self.quality_filters,
            *(f for o in self.per_source.values() for f in o.quality_filters or ()),
        }
        _check_used(self.thresholds, everywhere, "thresholds")
        for source, own in self.per_source.items():
            _check_used(
                own.thresholds,
                set(self.filters_for(source).quality_filters),
                f"per_source.{source}.thresholds",
            )
        return self


def _check_used(thresholds: Mapping[str, float | None], filters: set[str], field_path: str) -> None:
    for rule in thresholds:
        if FILTER_BY_RULE[rule] not in filters:
            raise ValueError(
                f"{field_path}: {rule} belongs to {FILTER_BY_RULE[rule]}, which is not applied"
            )
