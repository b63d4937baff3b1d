"""Word vectors are released, evaluated and explained as any other model, without a probability."""

from pathlib import Path
from typing import Any

import pytest

from infra.dataset.dataset import Dataset
from infra.store import external_files
from lm.models.registry import parse_entry
from tasks.evaluate import task as evaluate
from tasks.evaluate.config import EvaluateConfig, WordVectorsConfig
from tasks.evaluate.gold_sets import GoldSetError, load_gold_sets
from tasks.release import task as release
from tasks.train import task as train
from tests.lm import corpora, planted
from tests.servers import free_port
from views.history.training_data import TraceError, run_from_model
from views.removal.exposure import exposed_steps

ENTRIES: dict[str, dict[str, Any]] = {
    "word2vec": {"model": {"vector_size": 30}},
    "glove": {"model": {"vector_size": 30}, "optim": {"x_max": 10, "epochs": 15}},
}


def gold_files(folder: Path) -> WordVectorsConfig:
    """Write a file of each kind, with rows that are bad and rows with unknown words."""
    pairs = [f"{a}\t{b}\t{score}" for a, b, score in planted.similarities()]
    pairs += [
        "# a comment",
        "",
        "one\ttwo",
        "one\ttwo\tthree",
        f"{pairs[0].split()[0]}\tunknown\t1",
    ]
    (folder / "pairs.tsv").write_text("\n".join(pairs), encoding="utf-8")
    questions = [": roles", *(" ".join(question) for question in planted.analogies()), "a b c"]
    questions.append(f"{planted.word(0, 0)} {planted.word(0, 1)} {planted.word(1, 0)} unknown")
    (folder / "questions.txt").write_text("\n".join(questions) + "\n", encoding="utf-8")
    return WordVectorsConfig(
        similarity=(str(folder / "pairs.tsv"),),
        analogies=(str(folder / "questions.txt"),),
        neighbors=(planted.word(3, 1), "unknown"),
        num_neighbors=3,
    )


def build(root: Path, family: str, config: EvaluateConfig) -> tuple[Dataset, Dataset, Dataset]:
    """Train, release and evaluate."""
    ctx = corpora.context(root)
    tokens = corpora.token_shards(root, documents=planted.documents(8000))
    entry = parse_entry({"name": "vectors", "family": family, **ENTRIES[family]})
    spec = train.spec(ctx, config=entry, tokens=tokens)
    model = train.build(ctx, spec, config=entry, tokens=tokens)
    export = release.build(
        ctx, release.spec(ctx, model=model, tokens=tokens), model=model, tokens=tokens
    )
    plan = evaluate.spec(ctx, config=config, model=export, tokens=tokens)
    return model, export, evaluate.build(ctx, plan, config=config, model=export, tokens=tokens)


@pytest.mark.parametrize("family", ENTRIES)
def test_word_vectors_are_released_and_measured(tmp_path: Path, family: str) -> None:
    config = EvaluateConfig(word_vectors=gold_files(tmp_path))
    model, export, scores = build(tmp_path / "store", family, config)
    names = {"config.json", "vocabulary.json", "vectors.txt", "model.safetensors", "README.md"}
    assert set(export.manifest.files) == {*names, "tokenizer.json"}
    assert b"load_word2vec_format" in export.read("README.md")
    assert export.read("vectors.txt").startswith(f"{planted.VOCABULARY} 30\n".encode())
    metrics, pairs, questions = scores.stats["metrics"], planted.similarities(), planted.analogies()
    assert metrics["kind"] == export.stats["kind"] == "vectors"
    assert "bits_per_byte" not in metrics
    similarity = metrics["similarity"]["pairs"]
    assert (similarity["pairs"], similarity["scored"]) == (len(pairs) + 1, len(pairs))
    assert similarity["spearman"] > 0.6
    assert similarity["spearman_all"] != similarity["spearman"]  # one pair has an unknown word
    analogies = metrics["analogies"]["questions"]
    count = len(questions)
    assert (analogies["questions"], analogies["scored"]) == (count + 1, count)
    assert analogies["accuracy"] == analogies["by_section"]["roles"]["accuracy"] > 0.9
    assert analogies["accuracy_all"] == pytest.approx(analogies["accuracy"] * count / (count + 1))
    assert dict(scores.counts.failed) == {"bad_row": 3}
    assert dict(scores.counts.dropped) == {"out_of_vocabulary": 2}
    bad = [
        row["evidence"]
        for part in scores.parts
        for row in part.verdicts().to_pylist()
        if row["verdict"] == "failed"
    ]
    line = len(pairs) + 3
    assert f'"line": {line}' in bad[0]
    assert '"file": "pairs"' in bad[0]
    near, unknown = scores.stats["neighbors"]
    assert len(near["neighbors"]) == 3
    assert all("03" in item["word"] or "role1" in item["word"] for item in near["neighbors"])
    assert unknown == {"word": "unknown", "neighbors": None}
    drawn = {near["word"], *(item["word"] for item in near["neighbors"])}
    assert set(scores.stats["projection"]) == drawn
    # All documents were read in all passes, and there are no other steps to trace.
    assert exposed_steps(model, 0, 1) == [0]
    with pytest.raises(TraceError):
        run_from_model(model, "")


def test_without_files_the_neighbors_of_frequent_words_are_shown(tmp_path: Path) -> None:
    config = EvaluateConfig(word_vectors=WordVectorsConfig(num_frequent=4))
    _, export, scores = build(tmp_path, "word2vec", config)
    assert len(scores.stats["neighbors"]) == 4
    assert scores.counts.n_in == 0
    ctx, tokens = (
        corpora.context(tmp_path),
        corpora.token_shards(tmp_path, documents=planted.documents(8000)),
    )
    # What concerns language models only does not measure word vectors again.
    changed = EvaluateConfig(max_tokens=3, word_vectors=config.word_vectors)
    again = evaluate.spec(ctx, config=changed, model=export, tokens=tokens)
    assert again.fingerprint == scores.fingerprint
    # A file that changes between plan and work would give scores of other rows under its name.
    file = tmp_path / "pairs.tsv"
    file.write_text("a\tb\t1\n")
    config = EvaluateConfig(word_vectors=WordVectorsConfig(similarity=(str(file),)))
    spec = evaluate.spec(ctx, config=config, model=export, tokens=tokens)
    file.write_text("a\tb\t2\n")
    with pytest.raises(GoldSetError):
        evaluate.build(ctx, spec, config=config, model=export, tokens=tokens)


def gold_error(**files: str) -> str:
    config = WordVectorsConfig.model_validate({kind: [url] for kind, url in files.items()})
    with pytest.raises(GoldSetError) as error:
        load_gold_sets(config)
    return str(error.value)


def test_a_file_of_another_form_is_refused_with_its_first_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("# WordSim\ntiger cat 7.35\nbook paper 7.46\n")
    message = gold_error(similarity=str(path))
    assert "evaluate.word_vectors.similarity.0" in message
    assert "pairs.txt" in message
    assert "line 2" in message
    path.write_text("\n# nothing\n")
    assert "pairs.txt" in gold_error(analogies=str(path))
    path.write_text("".join("a\tb\t1\n" for _ in range(19)) + "a b\n")  # one bad row of 20 may be
    [gold] = load_gold_sets(WordVectorsConfig(similarity=(str(path),)))
    assert gold.name == "pairs"


def test_a_file_that_cannot_be_read_is_named_with_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_files, "READ_TIMEOUT_S", 0.1)
    port = free_port()
    for url in (
        str(tmp_path / "none.txt"), str(tmp_path), f"http://127.0.0.1:{port}/pairs.tsv"
    ):  # fmt: skip
        message = gold_error(similarity=url)
        assert "evaluate.word_vectors.similarity.0" in message
        assert url in message
