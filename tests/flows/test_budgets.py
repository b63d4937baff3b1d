"""Budgets of a recipe: what is exceeded after a run, the event of it, and who is told."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.server.utilities.user_templates import render_user_template_sync
from pydantic import ValidationError

from flows import events
from flows.automations import recipe_automations, server_automations
from flows.budgets import count_corpus_tokens
from flows.events import BUDGET_EXCEEDED, EventReporter
from flows.recipe import Recipe
from flows.schedule_config import BudgetConfig
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage
from tests.e2e.corpora import docstrings, recipe, write_jsonl
from tests.inline import go, save_record

Emitted = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def tokenized(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], RunRecord]:
    """A recipe whose corpus was tokenized, and the record of the run."""
    folder = tmp_path_factory.mktemp("budget")
    write_jsonl(folder / "a.jsonl", list(docstrings()[:30]))
    value = recipe(folder / "data", folder)
    value["sources"][0]["paths"] = [f"{folder}/*.jsonl"]
    value["select"] = {"languages": {}, "quality_filters": [], "pii": "keep"}
    return value, save_record(value, go(value))


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> Emitted:
    """The events that would be sent to a server."""
    sent: Emitted = []

    def emit(event: str, payload: dict[str, Any], **_: Any) -> None:
        sent.append((event, payload))

    monkeypatch.setattr(events, "emit_event", emit)
    return sent


def finish(value: dict[str, Any], record: RunRecord, **budget: Any) -> None:
    parsed = Recipe.model_validate({**value, "budget": budget})
    EventReporter(parsed, record.run, "pipeline").run_finished(Storage(value["storage"]), record)


def test_a_run_says_which_budgets_are_exceeded(
    tokenized: tuple[dict[str, Any], RunRecord], emitted: Emitted
) -> None:
    value, record = tokenized
    finish(value, record, max_store_size="1kB", max_corpus_tokens=100)
    exceeded = [payload for event, payload in emitted if event == BUDGET_EXCEEDED]
    files = [path for path in Path(value["storage"]).rglob("*") if path.is_file()]
    store, tokens = exceeded
    assert (store["budget"], store["limit"]) == ("max_store_size", 1000)
    assert store["value"] == sum(path.stat().st_size for path in files)
    assert store["reason"].endswith("budget.max_store_size is 1kB")
    assert (tokens["budget"], tokens["limit"]) == ("max_corpus_tokens", 100)
    (published,) = (payload for event, payload in emitted if event == events.CORPUS_PUBLISHED)
    assert tokens["value"] == published["tokens"] > 100


def test_a_run_within_its_budgets_says_nothing(
    tokenized: tuple[dict[str, Any], RunRecord], emitted: Emitted
) -> None:
    value, record = tokenized
    count = count_corpus_tokens(Storage(value["storage"]), record)
    finish(value, record, max_store_size="1GB", max_corpus_tokens=count)
    finish(value, record)
    assert BUDGET_EXCEEDED not in {event for event, _ in emitted}


@pytest.mark.parametrize("size", ["", "much", "-5GB"])
def test_a_wrong_size_names_its_field(size: str) -> None:
    with pytest.raises(ValidationError) as error:
        BudgetConfig.model_validate({"max_store_size": size})
    assert [item["loc"] for item in error.value.errors()] == [("max_store_size",)]


def test_an_exceeded_budget_is_reported_if_there_is_somebody_to_tell() -> None:
    by_name = {item.name: item for item in server_automations(uuid4())}
    assert by_name.keys() - {item.name for item in server_automations()} == {
        *("gristmill: failed runs", "gristmill: late runs", "gristmill: exceeded budgets")
    }
    trigger = by_name["gristmill: exceeded budgets"].trigger.model_dump(mode="json")
    assert trigger["expect"] == [BUDGET_EXCEEDED]
    assert trigger["match"] == {"prefect.resource.id": "gristmill.recipe.*"}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"reason": "12.5% of the corpus is new"}, "12.5% of the corpus is new"),
        ({}, "gristmill.model.outdated"),
        ({"reason": 7}, "7"),
    ],
)
def test_an_event_from_outside_needs_no_reason(payload: dict[str, Any], reason: str) -> None:
    (_, retrain) = recipe_automations("wiki", {"corpus": uuid4(), "retrain": uuid4()})
    template = retrain.model_dump()["actions"][0]["parameters"]["reason"]["template"]
    event = {"event": "gristmill.model.outdated", "payload": payload}
    assert render_user_template_sync(template, {"event": event}) == reason


def test_a_long_reason_fits_into_the_parameter() -> None:
    (_, retrain) = recipe_automations("wiki", {"corpus": uuid4(), "retrain": uuid4()})
    template = retrain.model_dump()["actions"][0]["parameters"]["reason"]["template"]
    event = {"event": "e", "payload": {"reason": "r" * 203}}
    assert render_user_template_sync(template, {"event": event}) == "r" * 197 + "..."
