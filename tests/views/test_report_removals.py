"""The report's section on removals: what is in force, what it took, which models had seen it."""

from pathlib import Path

import pytest

from infra.dataset.dataset import Dataset
from infra.removals.log import append_removals
from infra.removals.match import parse_removal
from tests.views.datasets import SITE, Road, walk
from views.removal.exposure import update_exposure
from views.report.page import render
from views.report.removals import build_removals


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    return walk(tmp_path_factory.mktemp("road"))


def steps(model: Dataset, first: int, end: int) -> list[int]:
    del model
    return [7, 11] if first < end else []


def test_a_store_without_removals_has_no_section(road: Road) -> None:
    assert road.record is not None
    assert build_removals(road.storage, "quickstart", None) is None
    assert 'id="removals"' not in render(road.storage, road.record)


def test_removals_with_counts_notes_and_models(tmp_path: Path) -> None:
    road = walk(tmp_path)
    assert road.record is not None
    gone = parse_removal("url", f"{SITE}/page/10?<b>")
    shown = parse_removal("url", f"{SITE}/page/10")
    append_removals(road.storage, "quickstart", [gone, shown], "asked <i>by mail</i>")
    update_exposure(road.storage, "quickstart", [shown], steps)
    found = build_removals(road.storage, "quickstart", road.datasets["select all"])
    assert found is not None
    assert [item.documents for item in found.applied] == [0, 0], "this run did not know of it"
    assert len(found.models) == 2
    page = render(road.storage, road.record)
    assert 'href="#removals"' in page
    assert "asked &lt;i&gt;by mail&lt;/i&gt;" in page
    assert "<i>by mail" not in page
    assert f"{SITE}/page/10?%3Cb%3E" in page
    assert all(mark.path in page for mark in found.models)
    assert "7 to 11" in page


def test_a_damaged_record_does_not_spoil_a_page(tmp_path: Path) -> None:
    road = walk(tmp_path, until="select")
    assert road.record is not None
    road.storage.write("removals/quickstart/x.json", b"{}")
    assert 'id="removals"' not in render(road.storage, road.record)
