import json
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra.dataset.dataset import Dataset
from infra.dataset.ledger import ledger_table
from infra.dataset.manifest import IntegrityError
from infra.dataset.model_folder import _local_folder, model_folder
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.errors import UserError
from infra.formats.megatron import TokenShards, token_dtype
from infra.schemas.metrics import read_items, read_metrics
from infra.store.cache_dir import ENV_VAR
from infra.store.storage import Storage
from lm.interpret import MAX_PARAMETERS
from lm.models.model_kind import CAUSAL, MASKED, ModelKind
from lm.scoring.huggingface import HuggingFaceModel
from tasks.evaluate import eval_plan as planning
from tasks.evaluate import task
from tasks.evaluate.baselines import choose_documents, contiguous_runs
from tasks.evaluate.config import EvaluateConfig
from tests.evaluate import tiny
from tests.shard_writer import TokenShardWriter
from tests.tokenize.corpora import context, encoder, variations

CONFIG = EvaluateConfig(num_samples=3, prompt_tokens=4, max_new_tokens=6)
ENCODER = encoder()
STAGE = Stage("tokenize", ("tests.evaluate.test_task",))


def one_part(name: str, documents: list[tuple[str, str, str]]) -> list[PartResult]:
    """A part of token shards from ``(split, source, text)`` triples."""
    writers = {split: TokenShardWriter(token_dtype(400)) for split in ("train", "validation")}
    encoded = ENCODER.encode([text for _, _, text in documents])
    rows = []
    for number, ((split, source, text), ids) in enumerate(zip(documents, encoded, strict=True)):
        assert not isinstance(ids, Exception)
        writers[split].add(ids)
        rows.append(
            {
                "id": f"{name}{number}",
                "url": f"https://example.org/{name}{number}",
                "source": source,
                "language": "de" if number % 3 == 0 else "en",
                "split": split,
                "tokens": len(ids),
                "bytes": len(text.encode()),
            }
        )
    files: dict[str, bytes] = {}
    for split, writer in writers.items():
        if len(writer):
            files |= {f"{split}.bin": writer.bin_bytes(), f"{split}.idx": writer.idx_bytes()}
    ids_ = [str(row["id"]) for row in rows]
    return [PartResult(pa.Table.from_pylist(rows), ledger_table("tokenize", ids_), files)]


def tokenized(ctx: Context, held: int = 12) -> Dataset:
    documents = [
        ("validation" if number < held else "train", "books" if number % 4 == 0 else "site", text)
        for number, text in enumerate(variations(60))
    ]
    units = [
        WorkUnit(str(at), (f"p{at}-", documents[at : at + 20]), 20)
        for at in range(0, len(documents), 20)
    ]
    return build_dataset(
        ctx,
        DatasetSpec(STAGE, None, {"held": held}),
        units,
        one_part,
        files={"tokenizer.json": ENCODER._json},
        stats=lambda _: {"vocab_size": ENCODER.vocab_size, "eos_id": ENCODER.eos_id},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny", ENCODER.vocab_size)


def run(
    root: Path | str, folder: Path, config: EvaluateConfig = CONFIG, held: int = 12
) -> tuple[Dataset, Dataset]:
    ctx = context(root)
    tokens, model = tokenized(ctx, held), tiny.release(ctx, folder)
    spec = task.spec(ctx, config=config, model=model, tokens=tokens)
    return task.build(ctx, spec, config=config, model=model, tokens=tokens), tokens


def test_figures_are_those_of_the_model_and_the_text(tmp_path: Path, folder: Path) -> None:
    done, tokens = run(tmp_path, folder)
    held = TokenShards(tokens, "validation")
    model = HuggingFaceModel(folder, ENCODER.eos_id)
    nats = [item.sum() for item in model.score_texts([held.read_document(i) for i in range(12)])]
    size = sum(len(text.encode()) for text in variations(12))
    found = done.stats["metrics"]
    assert found["bits_per_byte"] == pytest.approx(sum(nats) / math.log(2) / size, abs=1e-4)
    assert (found["documents"], found["tokens"], found["bytes"]) == (12, len(held), size)
    rows = done.table().to_pylist()
    assert [row["id"] for row in rows] == held.ids
    assert [row["model_nats"] for row in rows] == pytest.approx(nats, rel=1e-5)
    assert done.counts.to_json() == {"in": 12, "kept": 12, "dropped": {}, "failed": {}}
    # Counting knows these texts well, an untrained model does not.
    bits = {name: rates["bits_per_byte"] for name, rates in found["baselines"].items()}
    assert bits["trigram"] < bits["unigram"] < found["bits_per_byte"]
    assert set(found["by_source"]) == {"books", "site"}
    assert set(found["by_language"]) == {"de", "en"}
    assert done.stats["baselines"]["tokens"] == len(TokenShards(tokens, "train"))
    assert done.source == "tiny"
    [row] = read_metrics(done).to_pylist()
    assert (row["name"], row["value"], row["n"]) == ("bits_per_byte", found["bits_per_byte"], 12)
    assert row["low"] < row["value"] < row["high"]
    items = read_items(done).to_pylist()
    assert [item["item"] for item in items] == held.ids
    assert sum(item["weight"] for item in items) == size


@pytest.mark.parametrize("kind", [CAUSAL, MASKED], ids=lambda kind: kind.name)
def test_settings_of_another_kind_of_model_do_not_evaluate_again(
    tmp_path: Path, folder: Path, kind: ModelKind
) -> None:
    ctx = context(tmp_path)
    tokens, model = tokenized(ctx), tiny.release(ctx, folder, kind=kind)

    def fingerprint(**changes: int) -> str:
        config = CONFIG.model_copy(update=changes)
        return task.spec(ctx, config=config, model=model, tokens=tokens).fingerprint

    is_encoder = kind is MASKED
    assert (fingerprint(max_masked_tokens=7) == fingerprint()) != is_encoder
    assert (fingerprint(num_samples=2, top_k=3) == fingerprint()) == is_encoder
    assert fingerprint(max_tokens=7) != fingerprint()
    other = tiny.release(ctx, folder, "other", ModelKind("classification", "text-classification"))
    with pytest.raises(UserError):
        task.spec(ctx, config=CONFIG, model=other, tokens=tokens)


def test_baselines_are_the_same_whichever_samples_a_model_draws(
    tmp_path: Path, folder: Path
) -> None:
    for number in (0, 3):
        run(tmp_path, folder, CONFIG.model_copy(update={"num_samples": number}))
    assert len(list((tmp_path / "evaluate").iterdir())) == 2
    assert len(list((tmp_path / "baselines").iterdir())) == 1


def test_samples_continue_held_out_documents(tmp_path: Path, folder: Path) -> None:
    done, tokens = run(tmp_path, folder)
    samples = done.stats["samples"]
    assert len(samples) == 3
    texts = dict(zip(TokenShards(tokens, "validation").ids, variations(12), strict=True))
    for sample in samples:
        # A cut inside a character shows as U+FFFD.
        shown = (sample["prompt"] + sample["continuation"]).rstrip("\ufffd")
        assert texts[sample["id"]].startswith(shown)
        assert sample["generated"]


def test_groups_and_processes_do_not_change_the_bytes(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = run(tmp_path / "one", folder)
    two, _ = run(tmp_path / "two", folder)
    assert one.storage.read("manifest.json") == two.storage.read("manifest.json")
    monkeypatch.setattr(planning, "BATCH_TOKENS", 50)
    grouped, _ = run(tmp_path / "three", folder)
    assert len(grouped.parts) > 3
    assert grouped.stats["samples"] == one.stats["samples"]
    before, after = one.stats["metrics"], grouped.stats["metrics"]
    assert after["bits_per_byte"] == pytest.approx(before["bits_per_byte"], abs=1e-5)
    assert after["baselines"] == before["baselines"]


def test_a_budget_leaves_documents_out_and_says_so(tmp_path: Path, folder: Path) -> None:
    config = CONFIG.model_copy(update={"max_documents": 5, "max_document_tokens": 10})
    done, _ = run(tmp_path, folder, config)
    assert done.counts.to_json() == {
        "in": 12,
        "kept": 5,
        "dropped": {"over_budget": 7},
        "failed": {},
    }
    for row in done.table().to_pylist():
        assert row["tokens"] == 10 < row["document_tokens"]
        assert 0 < row["bytes"] < 60
    config = CONFIG.model_copy(update={"max_tokens": 1})
    assert run(tmp_path, folder, config)[0].counts.kept == 1


def test_baselines_are_counted_once_for_all_models(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = run(tmp_path, folder)
    monkeypatch.setattr("tasks.evaluate.baselines.estimate_model", None)
    other = tiny.save(tmp_path / "other", ENCODER.vocab_size, seed=1)
    second, _ = run(tmp_path, other)
    assert second.stats["metrics"]["baselines"] == first.stats["metrics"]["baselines"]
    assert second.stats["metrics"]["bits_per_byte"] != first.stats["metrics"]["bits_per_byte"]


def test_other_weights_under_the_same_configuration_are_scored_anew(
    tmp_path: Path, folder: Path
) -> None:
    ctx = context(tmp_path)
    tokens = tokenized(ctx)
    other = tiny.save(tmp_path / "other" / "tiny", ENCODER.vocab_size, seed=1)
    specs = [
        task.spec(ctx, config=CONFIG, model=model, tokens=tokens)
        for model in (tiny.release(ctx, folder), tiny.release(context(tmp_path / "b"), other))
    ]
    assert specs[0].fingerprint != specs[1].fingerprint


def test_another_model_card_does_not_score_anew(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = run(tmp_path, folder)
    monkeypatch.setattr(task, "run_unit", None)  # must not be needed, nor what it calls
    monkeypatch.setattr(task, "explain_document", None)
    carded = tmp_path / "carded"
    shutil.copytree(folder, carded)
    (carded / "README.md").write_text("A model card.")
    second, _ = run(tmp_path, carded)
    assert second.fingerprint != first.fingerprint
    assert second.content == first.content


def test_a_model_is_explained_by_a_unit_of_work_unless_it_is_large(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(tmp_path)
    tokens = tokenized(ctx)

    def evaluate(name: str, parameters: int) -> Dataset:
        model = tiny.release(ctx, folder, name, parameters=parameters)
        spec = task.spec(ctx, config=CONFIG, model=model, tokens=tokens)
        return task.build(ctx, spec, config=CONFIG, model=model, tokens=tokens)

    small = evaluate("small", MAX_PARAMETERS)
    assert small.stats["interpretation"]["id"] == min(small.table()["id"].to_pylist())
    assert len(small.stats["interpretation"]["maps"]) == 2
    assert json.loads(small.storage.read(small.parts[-1].file(task.INTERPRETATION_FILE)))
    assert "too_large_to_explain" not in small.stats
    monkeypatch.setattr(task, "explain_document", None)  # must not be needed
    large = evaluate("large", MAX_PARAMETERS + 1)
    assert large.stats["too_large_to_explain"] == MAX_PARAMETERS + 1
    assert "interpretation" not in large.stats
    assert small.table().num_rows == large.table().num_rows == 12


def test_without_held_out_documents_the_setting_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(task.NoValidationDataError, match=r"tokenize\.validation"):
        run(tmp_path, folder, held=0)


def test_a_model_in_a_remote_store_is_copied(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_VAR, str(tmp_path / "cache"))
    _local_folder.cache_clear()
    ctx = context("memory://evaluate")
    model = tiny.release(ctx, folder)
    copied = model_folder(model)
    assert copied.is_relative_to(tmp_path / "cache")
    assert (copied / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    # A copy that is not what was committed is not used, even if its size is right.
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])
    _local_folder.cache_clear()
    model_folder(model)
    assert weights.read_bytes() == (folder / "model.safetensors").read_bytes()
    local = tiny.release(context(tmp_path), folder)
    assert model_folder(local).is_relative_to(tmp_path)
    empty = Dataset(Storage(str(tmp_path)), tokenized(context(tmp_path)).manifest)
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        model_folder(empty)


def test_a_remote_model_that_was_changed_is_refused(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_VAR, str(tmp_path / "cache"))
    _local_folder.cache_clear()
    model = tiny.release(context("memory://changed"), folder)
    name = model.manifest.files["config.json"].name
    model.storage.write(name, model.storage.read(name) + b" ")
    with pytest.raises(IntegrityError, match=r"config\.json"):
        model_folder(model)


def test_a_large_training_split_is_sampled_for_the_baselines(tmp_path: Path) -> None:
    train = TokenShards(tokenized(context(tmp_path)), "train")
    lengths = np.diff(train.document_starts)
    assert choose_documents(train, 10**9, 1).tolist() == list(range(48))
    some = choose_documents(train, 500, 1)
    assert 0 < lengths[some].sum() <= 500
    assert some.tolist() == sorted(some.tolist())
    assert len(choose_documents(train, 1, 1)) == 1
    for chosen in (some, np.arange(48)):
        expected = [word for row in chosen for word in train.read_document(int(row)).tolist()]
        for size in (1, 200, 10**9):
            pieces = list(contiguous_runs(train, chosen, size))
            assert [word for piece in pieces for word in piece.tolist()] == expected
