"""The stage `suites` with released models on real token shards and their index."""

from pathlib import Path
from typing import Any

import pytest

from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context
from infra.schemas.metrics import METRIC_ROWS, read_items, read_metrics
from lm.models.model_kind import CAUSAL, VECTORS, ModelKind
from lm.scoring.huggingface import HuggingFaceModel
from tasks.index import task as index_task
from tasks.index.config import IndexConfig
from tasks.suites import task
from tests.evaluate import tiny
from tests.lm.corpora import context, texts, token_shards
from tests.suites.files import write_suite

# Document 0 is in the training split, document 3 is held out.
TRAINED, HELD_OUT = texts(140)[0], texts(140)[3]
FRESH = "Nobody at the market had ever heard of the lighthouse, its keeper or the nine grey geese."


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def data(store: Path) -> tuple[Dataset, Dataset]:
    tokens = token_shards(store)
    ctx, config = context(store), IndexConfig(group_tokens=3_000)
    spec = index_task.spec(ctx, config=config, tokens=tokens)
    return tokens, index_task.build(ctx, spec, config=config, tokens=tokens)


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("suites")
    choices = [
        {"id": f"q{n}", "context": text[:60], "choices": [" the corn", text[60:]], "gold": 1}
        for n, text in enumerate([TRAINED, HELD_OUT, FRESH])
    ]
    panel = [
        {"id": name, "text": text, "domain": domain, "cluster": domain}
        for name, text, domain in (
            ("a", TRAINED, "known"), ("b", FRESH, "new"), ("c", FRESH.upper(), "new"), ("d", "A crow.", "new"),
        )
    ]  # fmt: skip
    pairs = [{"good": "A crow never saw the sea.", "bad": "A crow saw never the sea."}]
    return [
        write_suite(folder, "choices", choices, type="multiple_choice", delimiter=""),
        write_suite(folder, "panel", panel, type="perplexity"),
        write_suite(folder, "pairs", [*pairs * 1], type="minimal_pairs"),
    ]


def release(ctx: Context, tmp_path: Path, kind: ModelKind = CAUSAL, seed: int = 0) -> Dataset:
    folder = tiny.save(tmp_path / f"tiny{seed}", 300, seed)
    return tiny.release(ctx, folder, f"tiny{seed}", kind)


def run(store: Path, data: tuple[Dataset, Dataset], suites: list[str], model: Dataset) -> Dataset:
    arguments: dict[str, Any] = {
        "suites": suites,
        "model": model,
        "tokens": data[0],
        "index": data[1],
    }
    ctx = context(store)
    return task.build(ctx, task.spec(ctx, **arguments), **arguments)


@pytest.fixture(scope="module")
def done(
    store: Path,
    data: tuple[Dataset, Dataset],
    suites: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Dataset:
    model = release(context(store), tmp_path_factory.mktemp("model"))
    return run(store, data, suites, model)


def test_every_item_has_a_row_and_every_suite_its_metrics(done: Dataset) -> None:
    assert done.counts.to_json() == {"in": 8, "kept": 8, "dropped": {}, "failed": {}}
    names = {row["name"] for row in done.stats[METRIC_ROWS]}
    assert {
        "suite.choices.accuracy",
        "suite.choices.accuracy_norm",
        "suite.choices.bits_per_byte",
    } < names
    assert {
        "suite.panel.bits_per_byte",
        "suite.panel.new.bits_per_byte",
        "suite.pairs.accuracy",
    } < names
    assert {"suite.panel.clean.bits_per_byte", "suite.choices.clean.accuracy"} < names
    assert read_metrics(done).num_rows == len(names)
    weights = [row["weight"] for row in read_items(done).to_pylist() if row["suite"] == "panel"]
    assert weights == [len(text.encode()) for text in (TRAINED, FRESH, FRESH.upper(), "A crow.")]


def test_items_in_the_training_text_are_found_with_a_document(done: Dataset) -> None:
    found = done.stats["contamination"]
    panel = found["panel"]
    assert (panel["items"], panel["contaminated"], panel["whole"], panel["too_short"]) == (
        4,
        1,
        1,
        1,
    )
    [example] = panel["examples"]
    assert example["item"] == "a"
    assert example["document"] == "d0"
    assert example["url"] == "https://example.org/0"
    assert (example["license"], example["first_token"]) == ("CC0-1.0", 0)
    assert example["longest"] == example["words"] == example["covered"]
    by_name = {row["name"]: row for row in done.stats[METRIC_ROWS]}
    assert by_name["suite.panel.bits_per_byte"]["n"] == 4
    assert by_name["suite.panel.clean.bits_per_byte"]["n"] == 3
    assert "suite.panel.known.clean.bits_per_byte" not in by_name


def test_the_same_weights_are_never_scored_twice(
    store: Path,
    data: tuple[Dataset, Dataset],
    suites: list[str],
    done: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ctx = context(store)
    again = tiny.release(ctx, tiny.save(tmp_path / "again", 300), "another name")
    monkeypatch.setattr(HuggingFaceModel, "score_continuations", None)
    monkeypatch.setattr(HuggingFaceModel, "score_texts", None)
    second = run(store, data, suites[::-1], again)  # other data set: name and order differ
    assert second.fingerprint != done.fingerprint
    first = {row["name"]: row for row in done.stats[METRIC_ROWS]}
    assert {row["name"]: row for row in second.stats[METRIC_ROWS]} == first


def test_other_weights_are_scored(
    store: Path, data: tuple[Dataset, Dataset], suites: list[str], done: Dataset, tmp_path: Path
) -> None:
    other = run(store, data, suites, release(context(store), tmp_path, seed=1))
    assert other.stats[METRIC_ROWS] != done.stats[METRIC_ROWS]
    assert other.stats["contamination"] == done.stats["contamination"]


def test_a_model_without_probabilities_is_skipped_with_a_reason(
    store: Path, data: tuple[Dataset, Dataset], suites: list[str], tmp_path: Path
) -> None:
    done = run(store, data, suites, release(context(store), tmp_path, VECTORS, seed=2))
    assert done.counts.to_json()["dropped"] == {"no_probability": 8}
    assert done.stats[METRIC_ROWS] == []
    assert done.stats["contamination"]["panel"]["contaminated"] == 1


def test_bad_rows_are_failures(
    store: Path, data: tuple[Dataset, Dataset], tmp_path: Path, done: Dataset
) -> None:
    rows: list[Any] = [{"text": f"Text {n}."} for n in range(30)]
    path = write_suite(tmp_path, "texts", [*rows, "{"], type="perplexity")
    model = release(context(store), tmp_path)
    result = run(store, data, [path], model)
    assert result.counts.to_json()["failed"] == {"bad_row": 1}
    assert result.counts.kept == 30
    assert done.fingerprint != result.fingerprint
