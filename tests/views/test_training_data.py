import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cli.main import main
from infra.dataset.dataset import Dataset
from infra.dataset.manifest import Counts
from infra.dataset.stage import DatasetSpec, commit_files
from infra.formats.megatron import VALIDATION, TokenShards
from infra.runs.run_records import COMPLETED, RunRecord, StageRecord, save_run
from infra.store.cache_dir import ENV_VAR
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.data.sampler import sampler_for_config, steps_containing
from lm.train.job import TrainJob
from tasks.train import task
from tests.lm.corpora import context, tiny, token_shards
from views.documents.lookup import DocumentNotFoundError
from views.history.training_data import (
    TracedRun,
    TraceError,
    documents_in_steps,
    find_run_in_progress,
    run_from_model,
    steps_with_document,
)

STEPS = 30
CHOICES: list[dict[str, Any]] = [
    {},
    {"packing": "concatenate_masked", "shuffle_window_tokens": 700},
    {"packing": "best_fit_masked"},
    {"packing": "best_fit_masked", "context_length": 64, "mixture": {"books": 1, "site": 3}},
    {"mixture": {"site": 1}},
]
SKIP = ((2, 4), (9, 15))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def tokens(store: Path) -> Dataset:
    return token_shards(store)


def model(store: Path, tokens: Dataset, config: TrainConfig) -> Dataset:
    """Commit what a training commits, without weights."""
    ctx = context(store)
    stats = {**sampler_for_config(config, 1337, tokens).to_stats(), "steps": STEPS, "skip": SKIP}
    spec = DatasetSpec(task.STAGE, config.name, {"config": config.to_json()}, (tokens,))
    return commit_files(ctx, spec, {}, counts=Counts(1, 1), stats=stats)


@pytest.fixture(params=range(len(CHOICES)))
def run(store: Path, tokens: Dataset, request: pytest.FixtureRequest) -> TracedRun:
    return run_from_model(model(store, tokens, tiny(**CHOICES[request.param])), "train/tiny")


def test_documents_lead_to_their_steps_and_steps_to_their_documents(run: TracedRun) -> None:
    whole = {item.id: item for item in documents_in_steps(run, 0, STEPS)}
    ids = run.shards.ids
    for number in (*range(0, len(ids), 9), len(ids) - 1):
        (own,) = steps_with_document(run, ids[number])
        if not own.steps:
            assert ids[number] not in whole
            continue
        assert own == whole[ids[number]]
        first, end = run.shards.document_range(number)
        assert (own.first_token, own.end_token) == (first, end)
        for step, positions in own.steps.items():
            (in_step,) = [d for d in documents_in_steps(run, step, step + 1) if d.id == ids[number]]
            assert in_step.steps == {step: positions}
    for step in np.random.default_rng(2).integers(0, STEPS, 4).tolist():
        for item in documents_in_steps(run, step, step + 1):
            assert step in whole[item.id].steps


def test_every_predicted_token_belongs_to_a_document(run: TracedRun) -> None:
    found = documents_in_steps(run, 4, 6)
    rows = [run.sampler.token_spans(run.sampler.samples(step)) for step in (4, 5)]
    predicted = sum(int((p.starts + p.lengths - p.target_starts).sum()) for p in rows)
    assert sum(item.predicted_tokens for item in found) == predicted
    held = set()
    for pieces in rows:
        for start, length in zip(pieces.starts.tolist(), pieces.lengths.tolist(), strict=True):
            held |= set(range(start, start + length))
    assert held == {t for item in found for a, b in item.token_ranges for t in range(a, b)}


@pytest.mark.parametrize("choice", CHOICES)
def test_why_and_remove_use_the_same_steps(
    store: Path, tokens: Dataset, choice: dict[str, Any]
) -> None:
    made = model(store, tokens, tiny(**choice))
    run = run_from_model(made, "train/tiny")
    for number in range(0, run.shards.num_documents, 17):
        (own,) = steps_with_document(run, run.shards.ids[number])
        assert steps_containing(made, own.first_token, own.end_token) == list(own.steps)


def test_skipped_batches_belong_to_no_document(store: Path, tokens: Dataset) -> None:
    run = run_from_model(model(store, tokens, tiny()), "train/tiny")
    plan = replace(run.sampler.plan, skip=())
    unskipped = replace(run, sampler=replace(run.sampler, plan=plan))
    assert (
        documents_in_steps(run, 2, 3)[0].predicted_tokens
        == documents_in_steps(unskipped, 4, 5)[0].predicted_tokens
    )
    tokens_of_skipped = {d.id for d in documents_in_steps(unskipped, 2, 3)}
    assert tokens_of_skipped != {d.id for d in documents_in_steps(run, 2, 3)}


def test_spellings_of_a_url_are_one(store: Path, tokens: Dataset) -> None:
    run = run_from_model(model(store, tokens, tiny()), "train/tiny")
    (one,) = steps_with_document(run, "https://example.org/7")
    assert one.id == "d7"
    assert steps_with_document(run, "http://www.example.org/7/#top") == [one]


def test_unknown_steps_and_documents_are_refused(store: Path, tokens: Dataset) -> None:
    run = run_from_model(model(store, tokens, tiny()), "train/tiny")
    held_out = TokenShards(tokens, VALIDATION).ids[0]
    for first, end in ((0, 0), (3, 2), (0, STEPS + 1)):
        with pytest.raises(TraceError, match=r"tiny has 30 steps; give A:B"):
            documents_in_steps(run, first, end)
    with pytest.raises(TraceError, match="held out"):
        steps_with_document(run, held_out)
    with pytest.raises(DocumentNotFoundError, match=r"elsewhere"):
        steps_with_document(run, "https://elsewhere.org")
    with pytest.raises(DocumentNotFoundError, match="dead"):
        steps_with_document(run, "dead")


def test_a_run_in_progress_is_traced_as_far_as_it_is(
    store: Path, tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_VAR, str(tmp_path))
    storage = Storage(str(store))
    assert find_run_in_progress(storage, "tiny") is None
    folder = tmp_path / "train" / "abc"
    folder.mkdir(parents=True)
    job = TrainJob(tiny(), 1337, tokens.storage, folder, skip=SKIP)
    job.save()
    lines = [{"step": 10}, {"step": 12}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = find_run_in_progress(storage, "tiny")
    assert run is not None
    assert (run.steps, run.in_progress) == (12, True)
    committed = run_from_model(model(store, tokens, tiny()), "train/tiny")
    assert documents_in_steps(run, 0, 12) == documents_in_steps(committed, 0, 12)
    with pytest.raises(TraceError, match="12 steps so far"):
        documents_in_steps(run, 0, 13)
    left = tmp_path / "train" / "left"  # by a version whose settings are no longer possible
    left.mkdir()
    (left / "job.json").write_text(
        json.dumps({**job.to_json(), "config": {"name": "tiny", "model": {"num_layers": 0}}})
    )
    again = find_run_in_progress(storage, "tiny")
    assert again is not None
    assert again.path == run.path
    assert find_run_in_progress(storage, "other") is None
    assert find_run_in_progress(Storage(str(store / "elsewhere")), "tiny") is None


@pytest.fixture
def recipe(store: Path, tokens: Dataset, tmp_path: Path) -> Path:
    data = [tokens, model(store, tokens, tiny(**CHOICES[3]))]
    stages = [
        StageRecord.from_dataset(item, seconds=0, cached=False, entry=entry)
        for item, entry in zip(data, (None, "tiny"), strict=True)
    ]
    record = RunRecord("small", "20260101-000000-aaaa", "2026", 0, COMPLETED, stages=stages)
    save_run(Storage(str(store)), record)
    path = tmp_path / "small.yaml"
    entry = "{name: tiny, model: {num_layers: 2, hidden_size: 32, num_heads: 4}, data: {train_tokens: 1}}"
    path.write_text(
        f"name: small\nstorage: {store}\nsources:\n  - {{name: site, kind: web, start_urls: [https://a.b]}}\n"
        f"train: [{entry}]\n"
    )
    return path


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["trace", *map(str, arguments)])


def test_the_command_shows_both_directions(recipe: Path) -> None:
    there = cli(recipe, "--steps", "3:5", "--json")
    assert there.exit_code == 0, there.output
    value = json.loads(there.stdout)
    assert value["steps"] == [3, 5]
    document = value["documents"][0]
    back = json.loads(cli(recipe, "--url", document["url"], "--json").stdout)
    at = {item["step"]: item for item in back["documents"][0]["steps"]}
    for item in document["steps"]:
        assert at[item["step"]] == item
    assert at[document["steps"][0]["step"]]["batch"] == document["steps"][0]["step"] + 2
    assert cli(recipe, "--steps", "3:4").stdout.startswith("step 3 of 30 of tiny (train/tiny-")
    shown = cli(recipe, "--steps", "3:5", "--limit", 2)
    assert shown.stdout.startswith("steps 3 to 4 of 30 of tiny (train/tiny-")
    assert f"… {len(value['documents']) - 2} more" in shown.stdout
    assert (
        f"step {document['steps'][0]['step']}  batch" in cli(recipe, "--id", document["id"]).stdout
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of --steps A:B, --url and --id is expected"),
        (("--steps", "3"), "--steps 3: A:B is expected"),
        (("--steps", "3:99"), "tiny has 30 steps"),
        (("--steps", "1:2", "--model", "huge"), "--model huge: train has tiny"),
        (("--steps", "1:2", "--in-progress"), "no run in progress on this machine named tiny"),
    ],
)
def test_the_command_says_what_is_wrong(
    recipe: Path,
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ENV_VAR, str(tmp_path))
    done = cli(recipe, *arguments)
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output
