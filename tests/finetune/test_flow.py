"""The whole pipeline in this process, from a recipe to the report's section of a task."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from flows.gates import judge_model
from flows.recipe import Recipe
from flows.steps import STEPS
from infra.dataset.dataset import try_open_dataset
from infra.dataset.model_folder import model_folder
from infra.removals.log import append_removals
from infra.removals.match import parse_removal
from infra.schemas.examples import Task
from infra.store.storage import Storage
from tasks.finetune import score_task
from tasks.finetune.baselines.fit import fit_baselines
from tests.finetune.planted_tasks import planted
from tests.finetune.tiny_runs import write_jsonl
from tests.inline import go, save_record
from tests.suites.files import write_suite
from tests.train_entry import train_entry
from tests.views.real_run import prose
from views.documents.dropped import sample_dropped
from views.history.document_history import document_history
from views.models.baselines import compare_systems
from views.models.suites import compare_on_suites, load_scored_models
from views.publish.folder import publish
from views.publish.other_systems import describe_verdict
from views.removal.exposure import update_exposure
from views.removal.impact import compute_impact
from views.removal.residue import find_residue
from views.report.page import collect_page, render
from views.verify.verify import verify_run

DOCUMENTS = 24


def recipe(root: Path) -> dict[str, Any]:
    """Documents, an encoder, and a classifier with a budget and its twin from random weights."""
    documents = [
        {"text": prose(number, "en", 12), "url": f"https://example.org/{number}"}
        for number in range(DOCUMENTS)
    ]
    rows, _ = planted("classification", 80)
    sizes = {"num_layers": 2, "hidden_size": 32, "num_heads": 4, "context_length": 64}
    return {
        "name": "tuned",
        "storage": str(root / "store"),
        "cluster": {"workers": 0},
        "sources": [
            {
                "kind": "documents",
                "name": "docs",
                "paths": [str(write_jsonl(root / "docs.jsonl", documents))],
                "license": "CC0-1.0",
                "url_column": "url",
            }
        ],
        "select": {"quality_filters": [], "languages": {}},
        "tokenize": {"vocab_size": 400, "validation_fraction": 0.2},
        "train": [
            train_entry(
                precision="fp32",
                name="encoder",
                family="encoder",
                architecture="bert",
                train_tokens=512,
                num_processes=1,
                device="cpu",
                **sizes,
            )
        ],
        "finetune": [
            {
                "name": "cue",
                "base": "encoder",
                "task": "classification",
                "data": {"files": [str(write_jsonl(root / "cue.jsonl", rows))]},
                "optim": {"epochs": 2, "batch_size": 8, "lr": 0.003},
                "baselines": {"budgets": [0.5, 1.0]},
                "run": {"num_processes": 1, "device": "cpu"},
            }
        ],
    }


@pytest.mark.usefixtures("in_process")
def test_a_recipe_ends_in_a_section_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = recipe(tmp_path)
    trained_on_sizes: list[int] = []

    def fit(task: Task, train: pa.Table, *others: Any) -> Any:
        trained_on_sizes.append(train.num_rows)
        return fit_baselines(task, train, *others)

    monkeypatch.setattr(score_task, "fit_baselines", fit)
    results = go(value, until="score")
    # Baselines are made once for the model and its twin from random weights.
    assert len(trained_on_sizes) == len(set(trained_on_sizes)) == 2
    record = save_record(value, results)
    assert [model.name for model in record.models] == ["encoder"]
    assert {model.name for model in record.finetuned} == {"cue", "cue-50pct", "cue-scratch"}
    assert all(model.release and model.score for model in record.finetuned)

    storage = Storage(str(tmp_path / "store"))
    (task,) = collect_page(storage, record, STEPS).data("finetune")
    kinds = {row.name: row.kind for row in task.systems}
    assert kinds["cue"] == kinds["cue-50pct"] == "fine-tuned"
    assert kinds["cue-scratch"] == "from random weights"
    assert {"majority", "tfidf_logistic_regression", "fasttext"} < set(kinds)
    assert next(row for row in task.systems if row.name == "cue-scratch").difference is not None
    assert sum(task.splits.values()) + sum(task.leaks.values()) == 80
    assert list(task.splits) == ["train", "validation", "test"]
    assert task.curve
    html = render(storage, record, STEPS)
    assert re.search(r'data-task="cue"', html)
    assert html.count('data-system="') >= 6

    (interpretation,) = collect_page(storage, record, STEPS).data("interpret")
    assert interpretation.name == "cue"
    assert len(interpretation.maps) == 2 * 4
    assert len(interpretation.neighbors) == len(set(interpretation.tokens))
    assert 'data-interpretation="cue"' in html
    # What is better than what is said with figures, in the report and on the card of a published model.
    folder = next(model.score for model in record.finetuned if model.name == "cue")
    scores = try_open_dataset(storage, folder) if folder else None
    assert scores is not None
    # One family of tests, of which the report shows two parts.
    compared = compare_systems(scores.stats)
    assert compared.answers == {**task.verdict.answers, **task.pretraining.answers}
    assert set(compared.answers) == {
        "majority",
        "tfidf_logistic_regression",
        "fasttext",
        "cue-scratch",
    }
    assert 'data-verdict="cue"' in html
    registered = Recipe.model_validate({**value, "release": {"models": ["cue"]}})
    version, _ = judge_model(storage, registered, record, "cue")
    publish(storage, version, str(tmp_path / "published"), STEPS)
    card = (tmp_path / "published" / "README.md").read_text()
    for name in compared.answers:
        row = next(line for line in card.splitlines() if line.startswith(f"| {name} |"))
        difference = next(item.difference for item in task.systems if item.name == name)
        assert difference is not None
        assert f"{difference['value']:+.4g}" in row
        assert f"{difference['low']:.4g} to {difference['high']:.4g}" in row
    assert describe_verdict(compared) in card
    metrics = next(item.metrics for item in task.systems if item.name == "cue")
    interval = "{low:.4g} to {high:.4g}".format(**metrics["f1_macro"])
    assert f"| **cue** | {metrics['f1_macro']['value']:.4g} | {interval} |" in card
    assert "fine-tuned for one task, classification" in card
    titles = [line for line in card.splitlines() if line.startswith("## ")]
    assert [title for title in titles if "imits" in title] == ["## Intended use and limits"]
    assert len(set(titles)) == len(titles)

    assert verify_run(storage, record, STEPS).findings == []
    dropped = sample_dropped(storage, record, STEPS, stage="prepare")
    assert {item.reason for item in dropped} == set(task.leaks)

    # A released folder was pre-trained on another corpus than that of the run.
    release = try_open_dataset(storage, record.models[0].release or "")
    assert release is not None
    moved = {**value["finetune"][0], "name": "moved", "base": str(model_folder(release))}
    found = go({**value, "finetune": [*value["finetune"], moved]}, until="prepare")
    overlaps = [r.dataset.stats.get("overlap") for r in found if r.stage == "prepare"]
    assert [overlap is None for overlap in overlaps] == [False, True]

    # Nothing is made again; a fine-tuned model has read what its base has read.
    assert all(result.cached for result in go(value, until="score"))
    trained = next(
        run
        for number in range(DOCUMENTS)
        for run in document_history(storage, f"https://example.org/{number}", STEPS).runs
        if any(event.verdict == "exposed" for event in run.events)
    )
    models = {event.details["model"] for event in trained.events if event.verdict == "exposed"}
    assert models == {"encoder", "cue", "cue-50pct"}
    removal = parse_removal("id", trained.id)
    append_removals(storage, "tuned", [removal])
    exposed = {item.model: item for item in update_exposure(storage, "tuned", [removal], STEPS)}
    assert set(exposed) == models
    assert exposed["cue"].via_models[0]["model"] == "encoder"

    # Examples have addresses, too: their models are known, and a removal reaches them.
    prepared = next(result.dataset for result in results if result.stage == "prepare")
    rows = {row["split"]: row for row in prepared.table().to_pylist()}
    (history,) = document_history(storage, rows["train"]["id"], STEPS).runs
    kept = next(event for event in history.events if event.stage == "prepare")
    assert (kept.details["file"], kept.details["row"]) == ("cue.jsonl", rows["train"]["row"])
    trained_on = {e.details["model"] for e in history.events if e.verdict == "exposed"}
    assert {"cue", "cue-scratch"} <= trained_on <= {"cue", "cue-50pct", "cue-scratch"}
    (history,) = document_history(storage, f"cue.jsonl:{rows['test']['row']}", STEPS).runs
    assert not any(event.verdict == "exposed" for event in history.events)

    removals = [parse_removal("id", rows[split]["id"]) for split in ("train", "test")]
    impact = compute_impact(storage, "tuned", removals, STEPS)
    assert [(item.documents, item.examples) for item in impact] == [(0, 1), (0, 1)]
    records = {item.model: item for item in update_exposure(storage, "tuned", removals, STEPS)}
    assert set(records) == trained_on
    assert all(item.documents == item.examples == 1 for item in records.values())
    residue = {
        item.path.split("/")[0]: item for item in find_residue(storage, "tuned", removals, STEPS)
    }
    assert residue["prepare"].documents == 2
    assert residue["score"].documents == 1
    assert {error["id"] for error in task.errors} <= set(prepared.table()["id"].to_pylist())
    append_removals(storage, "tuned", removals)
    (shown,) = collect_page(storage, record, STEPS).data("finetune")
    assert not {item["id"] for item in (*shown.errors, *shown.explanations)} & {rows["test"]["id"]}
    assert interpretation.document is not None
    append_removals(storage, "tuned", [parse_removal("id", interpretation.document)])
    assert collect_page(storage, record, STEPS).data("interpret") is None
    assert task.charts
    assert len(task.curve_systems) == 4


@pytest.mark.usefixtures("in_process")
def test_a_tuned_model_is_compared_with_its_base_on_suites(tmp_path: Path) -> None:
    value = recipe(tmp_path)
    value["train"][0] |= {"name": "decoder", "family": "decoder"}
    value["train"][0]["model"]["architecture"] = "llama"
    rows, _ = planted("chat", 24)
    value["finetune"] = [
        {
            "name": "talk",
            "base": "decoder",
            "task": "chat",
            "data": {"files": [str(write_jsonl(tmp_path / "talk.jsonl", rows))]},
            "optim": {"epochs": 1, "batch_size": 8, "lr": 0.003},
            "baselines": {"from_scratch": True, "budgets": [1.0]},
            "run": {"num_processes": 1, "device": "cpu"},
            "suites": True,
        }
    ]
    with pytest.raises(ValidationError, match=r"talk\.suites"):
        Recipe.model_validate(value)
    items = [{"text": prose(number + 100, "en", 2)} for number in range(8)]
    panel = write_suite(tmp_path, "panel", items, type="perplexity")
    value["evaluate"] = {"num_samples": 0, "suites": [panel]}
    results = go(value, until="score")
    record = save_record(value, results)
    scored = {item.name: item.suites for item in record.finetuned}
    assert {name: bool(folder) for name, folder in scored.items()} == {
        "talk": True,
        "talk-scratch": False,
    }

    storage = Storage(str(tmp_path / "store"))
    models = load_scored_models(storage, record)
    assert [(model.name, model.entry, model.base) for model in models] == [
        ("decoder", "decoder", None),
        ("talk", "talk", "decoder"),
    ]
    values = [model.metrics["suite.panel.bits_per_byte"]["value"] for model in models]
    assert values[0] != values[1]
    [verdict] = compare_on_suites(models)
    assert (verdict.metric, verdict.a, verdict.b) == (
        "suite.panel.bits_per_byte",
        "talk",
        "decoder",
    )
    assert verdict.difference == pytest.approx(values[1] - values[0], abs=1e-6)
    assert verdict.n == 8
    html = render(storage, record, STEPS)
    assert html.count('data-verdict="suite.panel.bits_per_byte"') == 1
    assert all(result.cached for result in go(value, until="score"))
