"""Rules over columns: the same verdict as rule by rule, row by row."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.schemas.quality_rules import RULES
from tasks.select.config import SelectConfig, SourceFilters
from tasks.select.rules import (
    PASSED,
    apply_rules,
    evidence_columns,
    required_columns,
    rule_evidence,
    rule_reasons,
)
from tests.select.annotations import annotation, table


def filters(**fields: Any) -> SourceFilters:
    return SelectConfig.model_validate({"languages": {}, **fields}).filters_for("site")


def reasons(rows: list[dict[str, Any]], **fields: Any) -> list[str | None]:
    own = filters(**fields)
    names = rule_reasons(own)
    failed = apply_rules(table(rows), own).tolist()
    return [None if rule == PASSED else names[rule] for rule in failed]


def by_definition(row: dict[str, Any], chosen: SourceFilters) -> str | None:
    """The definition."""
    if chosen.languages:
        min_score = chosen.languages.get(row["language"])
        if min_score is None or row["language_score"] < min_score:
            return "language"
    for name in chosen.quality_filters:
        for rule in RULES[name]:
            threshold = chosen.thresholds.get(rule.name, rule.threshold)
            if threshold is None or not rule.applies_to(row["language"]):
                continue
            if not rule.passes(row[rule.signal], threshold):
                return rule.name
    private = row["pii"] or row["pii_title"] or row["pii_chapters"]
    return "pii" if chosen.pii == "drop" and private else None


ROWS = st.lists(
    st.builds(
        annotation,
        language=st.sampled_from(["en", "de", "zh", "th"]),
        language_score=st.sampled_from([0.3, 0.65, 1.0]),
        gopher_quality_word_count=st.sampled_from([3, 50, 100_000, 100_001]),
        gopher_quality_mean_word_length=st.sampled_from([2.0, 3.0, 10.0, 11.0]),
        gopher_quality_stop_words=st.integers(0, 8),
        c4_curly_brace=st.booleans(),
        c4_sentences=st.integers(0, 6),
        fineweb_short_line_fraction=st.sampled_from([0.0, 0.67, 0.68, 1.0]),
        gopher_repetition_dup_line_fraction=st.sampled_from([0.0, 0.3, 0.31]),
        pii=st.sampled_from([[], [{"start": 0, "end": 1, "kind": "email"}]]),
        pii_title=st.sampled_from([[], [], [{"start": 0, "end": 1, "kind": "ip"}]]),
        pii_chapters=st.sampled_from(
            [[], [], [{"chapter": 0, "start": 0, "end": 1, "kind": "ip"}]]
        ),
    ),
    max_size=6,
)
CHOICES = st.fixed_dictionaries(
    {
        "languages": st.sampled_from([{}, {"en": 0.65}, {"de": 0.3, "zh": 1.0}]),
        "quality_filters": st.lists(st.sampled_from(sorted(RULES)), unique=True),
        "pii": st.sampled_from(["keep", "mask", "drop"]),
    }
)


@given(ROWS, CHOICES)
def test_columns_give_what_rows_give(rows: list[dict[str, Any]], fields: dict[str, Any]) -> None:
    chosen = filters(**fields)
    assert reasons(rows, **fields) == [by_definition(row, chosen) for row in rows]
    # Only the columns that are declared are read.
    narrow = table(rows).select(required_columns(chosen))
    assert apply_rules(narrow, chosen).tolist() == apply_rules(table(rows), chosen).tolist()
    for row, reason in enumerate(reasons(rows, **fields)):
        if reason is not None:
            proof = table(rows).select(sorted(evidence_columns(chosen, {reason})))
            assert rule_evidence(proof, chosen, row, reason)


def test_thresholds_are_inclusive_and_can_be_changed_or_disabled() -> None:
    rows = [annotation(fineweb_short_line_fraction=value) for value in (0.67, 0.671, 0.95)]
    short = "fineweb_short_lines"
    assert reasons(rows) == [None, short, short]
    assert reasons(rows, thresholds={short: 0.9}) == [None, None, short]
    assert reasons(rows, thresholds={short: None}) == [None, None, None]
    assert reasons(rows, quality_filters=["c4"]) == [None, None, None]


def test_filters_are_applied_in_the_listed_order() -> None:
    row = annotation(c4_sentences=0, fineweb_newline_word_ratio=1.0, language="de")
    assert reasons([row], quality_filters=["fineweb", "c4"]) == ["fineweb_newlines"]
    assert reasons([row], quality_filters=["c4", "fineweb"]) == ["c4_sentences"]
    assert reasons([row], languages={"en": 0.5}) == ["language"]


def test_evidence_has_the_value_and_the_threshold() -> None:
    rows = table(
        [
            annotation(c4_sentences=2, language="de", language_score=0.4),
            annotation(
                pii=[{"start": i, "end": i + 1, "kind": "ip"} for i in (0, 4)],
                pii_title=[{"start": 0, "end": 9, "kind": "email"}],
            ),
        ]
    )
    chosen = filters(languages={"de": 0.5}, thresholds={"c4_sentences": 3}, pii="drop")
    assert rule_evidence(rows, chosen, 0, "language") == {
        "language": "de",
        "score": 0.4,
        "threshold": 0.5,
    }
    assert rule_evidence(rows, chosen, 0, "c4_sentences") == {
        "signal": "c4_sentences",
        "value": 2,
        "required": ">=",
        "threshold": 3,
    }
    assert rule_evidence(rows, chosen, 1, "pii") == {"kinds": {"email": 1, "ip": 2}}


@pytest.mark.parametrize("language", ["en", "fr"])
def test_stop_words_are_required_in_english_only(language: str) -> None:
    row = annotation(gopher_quality_stop_words=0, language=language)
    expected = "gopher_quality_stop_words" if language == "en" else None
    assert reasons([row]) == [expected]


def test_text_of_phrases_needs_characters_instead_of_words() -> None:
    """Thai has spaces between phrases: twelve "words" of it are some fifty words of English."""
    phrases = {"gopher_quality_word_count": 12, "fineweb_newline_word_ratio": 0.4}
    rows = [
        annotation(language="th", characters=250, **phrases),
        annotation(language="th", characters=199, **phrases),
        annotation(language="zh", characters=250, **phrases),
        annotation(language="en", characters=250, **phrases),
    ]
    assert reasons(rows) == [
        None,
        "gopher_quality_too_few_characters",
        "gopher_quality_too_few_words",
        "gopher_quality_too_few_words",
    ]
