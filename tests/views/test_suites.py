"""Suites in the report and in `gristmill models`: the figures of the data sets, and answers that follow from them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cli.models import models as models_command
from flows.steps import STEPS
from infra.schemas.metrics import CONTAMINATED_FILE, Item, read_metrics
from tests.views.real_run import RealRun, pages, recipe
from views.history.training_data import run_from_model
from views.models.comparison import compare_models
from views.models.suites import ScoredModel, compare_on_suites, load_scored_models
from views.report.page import render
from views.report.report_run import ReportRun
from views.report.sections import memorization, suites


def test_items_of_the_corpus_are_found_and_unknown_ones_are_not(real_run: RealRun) -> None:
    found = real_run.dataset("suites", "tiny").stats["contamination"]["panel"]
    trained = set(real_run.dataset("index").table(["url"])["url"].to_pylist())
    known = [page.url for page in pages() if page.reason is None][:12]
    assert found["items"] == 24
    assert found["whole"] == sum(url in trained for url in known) > 6
    named = set(json.loads(real_run.dataset("suites", "tiny").read(CONTAMINATED_FILE))["panel"])
    assert {url for url in known if url in trained} <= named
    # Sentences are made from few frames: some unknown text shares 13 words with a page by chance.
    assert found["contaminated"] == len(named) <= found["whole"] + 2


def test_the_section_shows_every_metric_and_where_items_stand(real_run: RealRun) -> None:
    section = suites.collect(ReportRun(real_run.storage, real_run.record, STEPS))
    assert section is not None
    assert section.models == ["tiny", "late"]
    [row] = section.rows
    assert (row.suite, row.metric) == ("panel", "bits_per_byte")
    by_name = {m["name"]: m for m in read_metrics(real_run.dataset("suites", "late")).to_pylist()}
    assert row.cells[1] == by_name["suite.panel.bits_per_byte"]
    assert row.clean[1] == by_name["suite.panel.clean.bits_per_byte"]
    assert len(section.charts) == 1
    assert section.examples
    traced = run_from_model(real_run.dataset("train", "tiny"), "train")
    for example in section.examples:
        first, tokens = example.row["first_token"], example.row["tokens"]
        steps = traced.sampler.steps_containing(first, first + tokens, traced.steps)
        assert list(example.steps["tiny"]) == sorted(steps)[:3]
    page = render(real_run.storage, real_run.record, STEPS)
    assert 'id="suites"' in page
    assert page.count('data-metric="suite.panel.bits_per_byte"') == 1
    assert len(re.findall(r'<tr data-document="[0-9a-f]{32}"', page)) >= len(section.examples)


def test_models_are_compared_on_suites_and_held_out_documents(real_run: RealRun) -> None:
    models = load_scored_models(real_run.storage, real_run.record)
    verdicts = {item.metric: item for item in compare_on_suites(models)}
    assert set(verdicts) == {"suite.panel.bits_per_byte", "bits_per_byte"}
    for name, item in verdicts.items():
        values = [model.metrics[name]["value"] for model in models]
        assert item.difference == pytest.approx(values[0] - values[1], abs=1e-5)
        assert item.low <= item.difference <= item.high
    panel = verdicts["suite.panel.bits_per_byte"]
    assert (panel.answer, panel.n) == ("better" if panel.difference < 0 else "worse", 24)
    assert panel.p_value is not None
    assert panel.p_value < 0.05


def test_a_model_is_not_better_than_itself(real_run: RealRun) -> None:
    [model, _] = load_scored_models(real_run.storage, real_run.record)
    verdicts = compare_on_suites([model, replace(model, name="twin", entry="twin")])
    assert {item.answer for item in verdicts} == {"cannot be told"}
    assert {item.items_needed for item in verdicts} == {None}


def test_seeds_of_an_entry_are_compared_as_a_group(real_run: RealRun) -> None:
    first, second = load_scored_models(real_run.storage, real_run.record)
    models = [
        replace(model, name=f"{entry}-seed{seed}", entry=entry)
        for entry, pair in (("a", (first, second)), ("b", (second, first)))
        for seed, model in enumerate(pair)
    ]
    for item in compare_on_suites(models):
        assert item.seeds == (2, 2)
        assert item.answer == "cannot be told"
        assert item.difference == pytest.approx(0)


def scored(name: str, entry: str, level: float, base: str | None = None) -> ScoredModel:
    """A model whose items are around a level, with small differences between them."""
    items = [Item(str(n), str(n), level + 0.01 * ((7 * n) % 5), 1.0) for n in range(40)]
    return ScoredModel(name, entry, {}, {("panel", "bits_per_byte"): items}, (), {}, "", base)


@pytest.mark.parametrize("base", [None, "base"])
def test_seeds_beside_a_single_model_are_compared_each_for_itself(base: str | None) -> None:
    levels = {"many-seed1": 1.0, "many-seed2": 3.0}
    models = [scored("base", "base", 2.0)]
    models += [scored(name, "many", level, base) for name, level in levels.items()]
    verdicts = compare_on_suites(models)
    assert {item.seeds for item in verdicts} == {(1, 1)}
    found = {frozenset((item.a, item.b)): abs(item.difference) for item in verdicts}
    assert found == {frozenset((name, "base")): pytest.approx(1.0) for name in levels}
    if base:
        assert [item.answer for item in verdicts] == ["better", "worse"]


def test_models_prints_the_suites(real_run: RealRun, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(real_run.folder, real_run.folder / "sources")))
    result = CliRunner().invoke(models_command, [str(path), "--json"])
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert {item["model"] for item in value["suites"]} == {"tiny", "late"}
    assert {item["metric"] for item in value["comparisons"]} == {
        "suite.panel.bits_per_byte",
        "bits_per_byte",
    }
    text = compare_models(real_run.storage, real_run.record, STEPS).to_text()
    assert "panel.bits_per_byte" in text
    assert "better" in text or "worse" in text


def test_what_models_repeat_is_shown_beside_held_out_passages(real_run: RealRun) -> None:
    section = memorization.collect(ReportRun(real_run.storage, real_run.record, STEPS))
    assert section is not None
    assert section.models == ["tiny", "late"]
    assert next(row.group for row in section.rows) == "trained"
    assert [row.group for row in section.rows if row.group != "personal_data"][-1] == "held_out"
    rows = real_run.dataset("memorization", "tiny").table().to_pylist()
    passages = [row for row in rows if row["group"] != "personal_data"]
    trained = [row["memorized"][0] for row in passages if row["split"] == "train"]
    cell = section.rows[0].cells[0]
    assert cell is not None
    assert cell["value"] == pytest.approx(sum(trained) / len(trained), abs=1e-6)
    near = section.rows[0].near[0]
    assert near is not None
    assert near["value"] >= cell["value"]
    page = render(real_run.storage, real_run.record, STEPS)
    assert page.count('data-group="held_out"') == 1
    assert page.count('data-cost="tiny"') == 1
