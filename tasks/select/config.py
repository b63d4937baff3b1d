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
        f"{key!r} is not a preference; use {', '.join(SIMPLE_KEYS)}, or highest: or lowest: with "
        f"one of {', '.join(sorted(NUMERIC_COLUMNS))}"
    )


Preference = Annotated[str, AfterValidator(_check_preference)]


class SourceOverride(ConfigModel):
    """Settings of one source that replace the general ones; omitted settings are the general ones."""

    languages: dict[Language, Score] | None = Field(
        None, description="replaces the general languages"
    )
    quality_filters: tuple[Filter, ...] | None = Field(
        None, description="replaces the general filters"
    )
    thresholds: dict[RuleName, Threshold | None] = Field(
        default_factory=dict, description="thresholds added to the general ones"
    )
    pii: PiiAction | None = Field(None, description="replaces the general action")


class SourceFilters(ConfigModel):
    """The filters that a document of one source must pass before duplicates are considered."""

    languages: dict[Language, Score]
    quality_filters: tuple[Filter, ...]
    thresholds: dict[RuleName, Threshold | None]
    pii: PiiAction


class SelectConfig(ConfigModel):
    """Which documents become the corpus.

    The defaults are FineWeb's for English (datatrove ``examples/fineweb.py``): language score 0.65
    and the rules of Gopher, C4 and FineWeb with their published thresholds
    (``infra/schemas/quality_rules.py``).
    """

    languages: dict[Language, Score] = Field(
        default_factory=lambda: {"en": 0.65},
        description="languages to keep, each with its minimum score; empty keeps every language",
    )
    quality_filters: tuple[Filter, ...] = Field(
        ("gopher_repetition", "gopher_quality", "c4", "fineweb"),
        description="quality filters, applied in this order; empty applies none",
    )
    thresholds: dict[RuleName, Threshold | None] = Field(
        default_factory=dict,
        description="thresholds of single rules instead of the published ones; null disables a rule",
    )
    pii: PiiAction = Field(
        "mask",
        description="personal data: keep it, mask it by its kind, or drop documents that contain any",
    )
    per_source: dict[str, SourceOverride] = Field(
        default_factory=dict, description="settings of single sources, by source name"
    )
    prefer: tuple[Preference, ...] = Field(
        ("source", "longest"),
        description="which of several duplicates is kept, by these criteria in order: source (as the "
        "recipe lists them), longest, shortest, newest, oldest (by the document's date), "
        "highest:SIGNAL or lowest:SIGNAL of an annotation; the smaller id decides last",
    )
    dedup_urls: bool = Field(
        False,
        description="keep one document per web URL, chosen by prefer among those that pass the rules, "
        "before duplicates are considered",
    )
    line_dedup: LineDedupConfig | None = Field(
        None, description="cut repeated lines from the kept texts; omitted: none"
    )
    substring_dedup: SubstringDedupConfig | None = Field(
        None, description="cut long runs of words that an earlier document has; omitted: none"
    )
    max_source_duplicate_fraction: float = Field(
        0.9,
        ge=0,
        le=1,
        description="maximum fraction of a source's documents that may be lost to deduplication; "
        "beyond it the run stops",
    )
    min_source_documents: int = Field(
        20,
        ge=1,
        description="documents a source needs before max_source_duplicate_fraction is checked",
    )

    def filters_for(self, source: str | None) -> SourceFilters:
        """Return the filters of one source."""
        own = self.per_source.get(source or "", SourceOverride.model_validate({}))
        filters = self.quality_filters if own.quality_filters is None else own.quality_filters
        return SourceFilters(
            languages=self.languages if own.languages is None else own.languages,
            quality_filters=filters,
            thresholds={**self.thresholds, **own.thresholds},
            pii=self.pii if own.pii is None else own.pii,
        )

    @model_validator(mode="after")
    def _reject_unused_thresholds(self) -> Self:
        """Reject a threshold of a filter that is not applied: it would silently have no effect."""
        everywhere = {
            *self.quality_filters,
            *(f for o in self.per_source.values() for f in o.quality_filters or ()),
        }
        _check_used(self.thresholds, everywhere, "thresholds")
        for source, own in self.per_source.items():
            applied = {*self.filters_for(source).quality_filters}
            _check_used(own.thresholds, applied, f"per_source.{source}.thresholds")
        return self


def _check_used(thresholds: Mapping[str, float | None], filters: set[str], field_path: str) -> None:
    for rule in thresholds:
        if FILTER_BY_RULE[rule] not in filters:
            raise ValueError(
                f"{field_path}: {rule} belongs to {FILTER_BY_RULE[rule]}, which is not applied"
            )
