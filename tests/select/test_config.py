"""The section `select`: inherited settings, and errors with their field."""

from typing import Any

import pytest
from pydantic import ValidationError

from tasks.select.config import SelectConfig


def read(**fields: Any) -> SelectConfig:
    return SelectConfig.model_validate(fields)


def test_defaults_are_finewebs() -> None:
    filters = read().filters_for("site")
    assert filters.languages == {"en": 0.65}
    assert filters.quality_filters == ("gopher_repetition", "gopher_quality", "c4", "fineweb")
    assert filters.pii == "mask"


def test_a_source_replaces_some_settings_and_inherits_the_others() -> None:
    config = read(
        thresholds={"fineweb_short_lines": 0.7, "c4_sentences": 2},
        per_source={
            "library": {
                "quality_filters": ["gopher_quality", "fineweb"],
                "thresholds": {"fineweb_short_lines": 0.9, "fineweb_newlines": None},
            },
            "mail": {"languages": {}, "pii": "drop"},
        },
    )
    library = config.filters_for("library")
    assert library.quality_filters == ("gopher_quality", "fineweb")
    assert library.thresholds == {
        "fineweb_short_lines": 0.9,
        "fineweb_newlines": None,
        "c4_sentences": 2,
    }
    assert library.languages == {"en": 0.65}
    assert (config.filters_for("mail").languages, config.filters_for("mail").pii) == ({}, "drop")
    assert config.filters_for("site").thresholds == {"fineweb_short_lines": 0.7, "c4_sentences": 2}
    assert config.filters_for(None) == config.filters_for("site")


@pytest.mark.parametrize(
    ("fields", "location", "words"),
    [
        (
            {"quality_filters": ["gopher"]},
            ("quality_filters", 0),
            "no quality filter is named 'gopher'",
        ),
        ({"languages": {"eng": 0.5}}, ("languages", "eng", "[key]"), "no language is named 'eng'"),
        ({"languages": {"en": 65}}, ("languages", "en"), "less than or equal to 1"),
        (
            {"thresholds": {"short": 1}},
            ("thresholds", "short", "[key]"),
            "no rule is named 'short'",
        ),
        ({"pii": "hide"}, ("pii",), "'keep', 'mask' or 'drop'"),
        ({"qualty": []}, ("qualty",), "not permitted"),
        (
            {"per_source": {"library": {"quality_filters": ["nope"]}}},
            ("per_source", "library", "quality_filters", 0),
            "no quality filter",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_field(
    fields: dict[str, Any], location: tuple[str | int, ...], words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        read(**fields)
    (fault,) = caught.value.errors()
    assert fault["loc"] == location
    assert words in fault["msg"]


@pytest.mark.parametrize(
    "fields",
    [
        {"quality_filters": ["c4"], "thresholds": {"fineweb_newlines": 0.5}},
        {"per_source": {"library": {"quality_filters": [], "thresholds": {"c4_sentences": 1}}}},
    ],
)
def test_a_threshold_without_effect_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="which is not applied"):
        read(**fields)


def test_a_general_threshold_may_apply_to_one_source_only() -> None:
    read(
        quality_filters=[],
        thresholds={"c4_sentences": 3},
        per_source={"site": {"quality_filters": ["c4"]}},
    )
