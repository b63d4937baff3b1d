"""References to the environment in a recipe: expanded where used, kept and masked where stored."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from infra.config import ConfigModel
from infra.errors import UserError
from infra.store.cache_dir import ENV_VAR
from infra.store.environment import expand, has_reference, mask, mask_errors


class Inner(ConfigModel):
    """A section."""

    uri: str | None = None
    count: int = 1


class Outer(ConfigModel):
    """A section with others in it."""

    paths: tuple[str, ...] = ()
    options: dict[str, Any] = Field(default_factory=dict)
    inner: Inner = Field(default_factory=Inner)
    entries: tuple[Inner, ...] = ()


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "pass/word")
    monkeypatch.setenv("COUNT", "12")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("MISSING", raising=False)


def test_references_are_expanded_in_all_strings() -> None:
    value = {
        "a": ["${SECRET}", "x${COUNT}y${MISSING:-z}"],
        "b": {"c": "${EMPTY:-d}${EMPTY}"},
        "e": 1,
    }
    assert expand(value) == {"a": ["pass/word", "x12yz"], "b": {"c": "d"}, "e": 1}
    assert has_reference(value)
    assert not has_reference({"a": ["$SECRET", "{SECRET}", 1]})
    with pytest.raises(ValueError, match="MISSING"):
        expand(["${MISSING}"])


def test_the_cache_folder_needs_no_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENV_VAR, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert expand("${GRISTMILL_CACHE}/books") == f"{tmp_path}/gristmill/books"
    monkeypatch.setenv(ENV_VAR, "/elsewhere")
    assert expand("${GRISTMILL_CACHE}/books") == "/elsewhere/books"


def test_a_section_has_values_and_its_dump_has_references() -> None:
    given = {
        "paths": ["a", "http://h/x?sig=${SECRET}"],
        "options": {"env": {"TOKEN": "${SECRET}"}},
        "inner": {"uri": "http://u:${SECRET}@h", "count": "${COUNT}"},
        "entries": [{"uri": "${SECRET}"}, {"uri": "plain"}],
    }
    model = Outer.model_validate(given)
    assert model.paths == ("a", "http://h/x?sig=pass/word")
    assert model.inner == Inner.model_validate({"uri": "http://u:${SECRET}@h", "count": "${COUNT}"})
    assert (model.inner.uri, model.inner.count) == ("http://u:pass/word@h", 12)
    assert model.options == {"env": {"TOKEN": "pass/word"}}
    assert model.to_json()["inner"] == {"uri": "http://u:pass/word@h", "count": 12}
    for dump in (model.to_record(), model.model_dump(mode="json"), model.model_dump()):
        assert "pass" not in str(dump)
        assert Outer.model_validate(dump) == model
    assert model.to_record()["entries"] == [
        {"uri": "${SECRET}", "count": 1},
        {"uri": "plain", "count": 1},
    ]


@pytest.mark.parametrize(
    ("given", "loc"),
    [
        ({"inner": {"count": "${SECRET}"}}, ("inner", "count")),
        ({"inner": {"uri": "${MISSING}"}}, ("inner", "uri")),
        ({"entries": [{}, {"uri": "${SECRET}", "colour": "${SECRET}"}]}, ("entries", 1, "colour")),
        ({"paths": ["${SECRET}", 1]}, ("paths", 1)),
    ],
)
def test_a_mistake_is_reported_at_its_field_without_the_value(
    given: dict[str, Any], loc: tuple[int | str, ...]
) -> None:
    with pytest.raises(ValidationError) as error:
        Outer.model_validate(given)
    (mistake,) = error.value.errors()
    assert mistake["loc"] == loc
    assert "pass/word" not in str(error.value)
    assert "pass/word" not in str(mistake)


def test_values_are_masked_in_messages_also_when_quoted() -> None:
    expand("${SECRET}${COUNT}")
    assert mask("at http://u:pass/word@h and http://u:pass%2Fword@h: 12") == (
        "at http://u:${SECRET}@h and http://u:${SECRET}@h: 12"
    )
    assert mask({"a": ["pass/word"]}) == {"a": ["${SECRET}"]}


class _ClientError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UserError("no pass/word"), UserError),
        (FileNotFoundError("pass/word"), FileNotFoundError),
        (ConnectionError("pass/word"), OSError),
        (_ClientError("pass/word"), RuntimeError),
    ],
)
def test_an_error_that_shows_a_value_is_masked(error: Exception, kind: type[Exception]) -> None:
    expand("${SECRET}")
    with pytest.raises(kind) as masked, mask_errors():
        raise error
    assert "pass/word" not in str(masked.value)
    assert masked.value.__suppress_context__


def test_another_error_is_raised_as_it_is() -> None:
    error = _ClientError("nothing to hide")
    with pytest.raises(_ClientError) as same, mask_errors():
        raise error
    assert same.value is error
