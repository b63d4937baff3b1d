"""Which segment a run takes: a new one, the newest, or that of the trained models."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.planner import plan_pipeline
from flows.recipe import Recipe
from flows.segments import choose_segments, require_models
from infra.errors import UserError
from infra.store.storage import Storage
from tasks.acquire.task import has_settings
from tasks.acquire.web.config import WebSource
from tests.e2e.corpora import recipe, write_jsonl
from tests.inline import go, save_record


def with_files(tmp_path: Path) -> dict[str, Any]:
    write_jsonl(tmp_path / "a.jsonl", ["The miller ground the corn."])
    value = recipe(tmp_path / "data", tmp_path)
    value["sources"][0]["paths"] = [f"{tmp_path}/*.jsonl"]
    return value


def test_the_newest_segment_is_taken_although_files_were_added(tmp_path: Path) -> None:
    value = with_files(tmp_path)
    parsed = Recipe.model_validate(value)
    storage = Storage(value["storage"])
    assert choose_segments(storage, parsed, "newest") == {}, "nothing was acquired yet"
    (acquired,) = go(value, until="acquire")
    save_record(value, [acquired])
    write_jsonl(tmp_path / "b.jsonl", ["Another document."])
    assert choose_segments(storage, parsed, "new") == {}
    segments = choose_segments(storage, parsed, "newest")
    step = plan_pipeline(parsed, "acquire", segments=segments).steps[0]
    assert (step.folder, step.why) == (acquired.folder, "committed")
    assert plan_pipeline(parsed, "acquire").steps[0].why == "input changed"


def test_a_segment_of_other_settings_is_not_taken(tmp_path: Path) -> None:
    value = with_files(tmp_path)
    save_record(value, go(value, until="acquire"))
    value["sources"][0]["max_row_bytes"] = 1_000_000
    assert choose_segments(Storage(value["storage"]), Recipe.model_validate(value), "newest") == {}


def test_without_a_trained_model_there_is_nothing_to_evaluate(tmp_path: Path) -> None:
    value = with_files(tmp_path)
    save_record(value, go(value, until="acquire"))
    parsed = Recipe.model_validate(value)
    segments = choose_segments(Storage(value["storage"]), parsed, "trained")
    assert segments == {}
    with pytest.raises(UserError):
        require_models(plan_pipeline(parsed, "evaluate", segments=segments))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"delay": 9.0}, True),
        ({"recrawl": "weekly"}, True),
        ({"max_pages": 5}, False),
        ({"snapshot": "mine"}, False),
        ({"recrawl": "never"}, False),
    ],
)
def test_a_crawl_counts_whenever_it_was_made(change: dict[str, Any], same: bool) -> None:
    class Segment:
        class manifest:  # noqa: N801 - stands for the attribute
            config: dict[str, Any]

    settings = {
        "name": "s", "kind": "web", "start_urls": ["http://example.org/"], "recrawl": "daily"
    }  # fmt: skip
    Segment.manifest.config = WebSource.model_validate(settings).crawl_key(
        datetime(2020, 1, 31, tzinfo=UTC)
    )
    source = WebSource.model_validate({**settings, **change})
    assert has_settings(Segment, source) is same  # type: ignore[arg-type]
