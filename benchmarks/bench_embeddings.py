"""Word vectors beside their peers on the same text: quality over three seeds, and speed per core.

    python -m benchmarks.bench_embeddings [--megabytes N] [--seeds N] [--family NAME]

word2vec beside gensim at equal settings, each on one core: the accuracy on planted analogies (``tests/lm/planted.py``, with
noise), Spearman's correlation with WordSim-353 after training on Python sources of the installed packages, which every
machine has, and raw words per second of CPU time there. Quality is compared by the means over the seeds: ours may be below
by at most two standard errors of the difference. GloVe beside bicleaner-ai-glove on the same counts of the same text: the mean loss of a cell after as many epochs, and cells per second of CPU time. Exits with 1 if ours
is worse than the noise or slower, its loss more than 1 % higher, or GloVe less than three times as fast.

The peers are installed into an environment of their own the first time; WordSim-353 is among gensim's test data.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_tokenize import texts
from benchmarks.train_peers import peer_interpreter, run_json
from infra.compute.arrays import F32
from infra.compute.phases import PhaseRunner
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context
from infra.formats.megatron import TRAIN, TokenShards
from infra.store.storage import Storage
from lm.models.embedding.corpus import Corpus, divide_texts
from lm.models.embedding.files import Vocabulary, WordVectors
from lm.models.glove import train as glove
from lm.models.glove.config import GloveEntry
from lm.models.registry import parse_entry
from lm.models.word2vec import train as word2vec
from lm.models.word2vec.config import Word2vecEntry
from tasks.evaluate.gold_sets import GoldSet
from tasks.evaluate.word_vectors import score_gold_set, summarize
from tests.lm import corpora, planted

PEERS = ("gensim==4.4.0", "bicleaner-ai-glove==0.2.1")
SCRIPT = Path(__file__).parent / "peers" / "embeddings_peer.py"
SENTENCES, NOISE = 3000, 0.5
# gensim changes the learning rate after so many words. With its default, 10,000, it would be higher on a small text.
PEER_BATCH_WORDS = 1000
GLOVE_EPOCHS, GLOVE_SPEED, GLOVE_LOSS = 15, 3.0, 1.01
# Ours, and what gensim calls the same.
WORD2VEC: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("skipgram, negative sampling", {"algorithm": "skipgram"}, {}),
    ("cbow, negative sampling", {"algorithm": "cbow"}, {}),
    ("skipgram, hierarchical softmax", {"algorithm": "skipgram"}, {"loss": "hierarchical_softmax"}),
    ("cbow, hierarchical softmax", {"algorithm": "cbow"}, {"loss": "hierarchical_softmax"}),
    ("skipgram, n-grams of 3 to 6", {"max_n": 6, "buckets": 100_000}, {}),
)


@dataclass(frozen=True)
class Text:
    """A text for both.

    Attributes:
        tokens: the token shards that ours reads.
        folder: holds ``words.txt`` for the peer.
        measure: returns the quality of a model.
    """

    tokens: Dataset
    folder: Path
    measure: Callable[[WordVectors], float]


def write_text(root: Path, documents: list[str], measure: Callable[[WordVectors], float]) -> Text:
    """Commit token shards, and write the words of their training documents for the peer."""
    tokens = corpora.token_shards(root, documents=documents)
    shards = TokenShards(tokens, TRAIN)
    ids = [shards.read_document(number)[:-1].tolist() for number in range(shards.num_documents)]
    words = divide_texts(corpora.tokenizer().decode_batch(ids), lowercase=True)
    text = "\n".join(" ".join(item) for item in words)
    (root / "words.txt").write_text(text, encoding="utf-8")
    return Text(tokens, root, measure)


def train_ours(
    root: Path, text: Text, config: Word2vecEntry, seed: int
) -> tuple[WordVectors, float, int]:
    """Return the model, the CPU seconds of training, and the words read."""
    ctx = replace(corpora.context(root), seed=seed)
    runner = PhaseRunner(ctx.cluster, ctx.reporter, ctx.storage, "train")
    corpus = Corpus(ctx.storage, text.tokens, config.model, config.name)
    vocabulary = corpus.build_vocabulary(runner)
    stream = corpus.write_stream(runner)
    job = word2vec.prepare_job(runner, config, seed, stream, vocabulary)
    start = time.process_time()
    word2vec.train_rounds(runner, job)
    seconds = time.process_time() - start
    return word2vec.finish(job, vocabulary), seconds, sum(vocabulary.counts) * config.optim.epochs


def train_peer(
    python: Path, text: Text, config: Word2vecEntry, seed: int
) -> tuple[WordVectors, float, int]:
    """The same with gensim."""
    model, optim = config.model, config.optim
    settings = {
        "vector_size": model.vector_size,
        "window": model.window,
        "min_count": model.min_count,
        "sg": int(model.algorithm == "skipgram"),
        "hs": int(optim.loss == "hierarchical_softmax"),
        "negative": 0 if optim.loss == "hierarchical_softmax" else optim.negatives,
        "sample": optim.subsample,
        "alpha": config.lr,
        "min_alpha": optim.min_lr,
        "epochs": optim.epochs,
        "seed": seed,
        "batch_words": PEER_BATCH_WORDS,
        "ngrams": [model.min_n, model.max_n, model.buckets] if model.max_n else None,
    }
    command = [str(python), str(SCRIPT), "word2vec", str(text.folder), json.dumps(settings)]
    answer = run_json(command, 1)
    vectors: F32 = np.load(text.folder / "peer-vectors.npy")
    vocabulary = Vocabulary(answer["vocabulary"], [0] * len(vectors))
    peer = WordVectors(vocabulary, vectors, {"unit": "word", "lowercase": True})
    return peer, answer["seconds"], answer["words"] * optim.epochs


def compare_word2vec(
    name: str, root: Path, python: Path, text: Text, config: Word2vecEntry, seeds: Sequence[int]
) -> bool:
    """Print a row; return whether ours is as good and as fast."""
    quality: dict[str, list[float]] = {"ours": [], "gensim": []}
    speed: dict[str, list[float]] = {"ours": [], "gensim": []}
    for seed in seeds:
        runs = {
            "ours": train_ours(root / f"{name} {seed}", text, config, seed),
            "gensim": train_peer(python, text, config, seed),
        }
        for who, (model, seconds, words) in runs.items():
            quality[who].append(text.measure(model))
            speed[who].append(words / seconds)
    means = {who: statistics.mean(values) for who, values in quality.items()}
    errors = [statistics.variance(values) / len(values) for values in quality.values()]
    noise = 2 * sum(errors) ** 0.5
    rates = {who: statistics.median(values) / 1e3 for who, values in speed.items()}
    ratio = rates["ours"] / rates["gensim"]
    print(
        f"{name:32} quality {means['gensim']:.3f}, ours {means['ours']:.3f} (noise {noise:.3f}); "
        f"thousand words/s {rates['gensim']:6.0f}, ours {rates['ours']:6.0f}, {ratio:.2f} x",
        flush=True,
    )
    return means["ours"] >= means["gensim"] - noise and ratio >= 1


def measure_planted(model: WordVectors) -> float:
    """Return the accuracy on planted analogies."""
    return planted.evaluate(model)[0]


def measure_wordsim(path: Path) -> Callable[[WordVectors], float]:
    """Return a function for Spearman's correlation with a file of word pairs."""
    gold = GoldSet("wordsim353", "similarity", path.read_bytes())

    def measure(model: WordVectors) -> float:
        result = score_gold_set(model, gold, "evaluate")
        metrics = summarize([gold], result.rows)
        return float(metrics["similarity"]["wordsim353"]["spearman"])

    return measure


def entry(model: dict[str, Any], optim: dict[str, Any]) -> Word2vecEntry:
    """Return an entry of the recipe."""
    fields = {"name": "vectors", "family": "word2vec", "model": model, "optim": optim}
    parsed = parse_entry(fields)
    assert isinstance(parsed, Word2vecEntry)
    return parsed


def bench_word2vec(
    python: Path, texts: Sequence[tuple[str, Text, int]], seeds: Sequence[int]
) -> bool:
    """Compare all settings on texts: title, text, size of vectors."""
    met = True
    for title, text, size in texts:
        words = (text.folder / "words.txt").stat().st_size
        print(
            f"\n{title}: {words / 1e6:.1f} MB of words; load {os.getloadavg()[0]:.1f}", flush=True
        )
        for name, section, own in WORD2VEC:
            config = entry({"vector_size": size, **section}, own)
            met &= compare_word2vec(name, text.folder, python, text, config, seeds)
    return met


def bench_glove(root: Path, python: Path, text: Text, seeds: Sequence[int]) -> bool:
    """Compare on the counts of a text."""
    settings = {"x_max": 10, "epochs": GLOVE_EPOCHS}
    config = parse_entry({"name": "vectors", "family": "glove", "optim": settings})
    assert isinstance(config, GloveEntry)
    losses: dict[str, list[float]] = {"ours": [], "peer": []}
    speed: dict[str, list[float]] = {"ours": [], "peer": []}
    cells = 0
    for seed in seeds:
        ctx = replace(corpora.context(root / f"glove {seed}"), seed=seed)
        runner = PhaseRunner(ctx.cluster, ctx.reporter, ctx.storage, "train")
        corpus = Corpus(ctx.storage, text.tokens, config.model, config.name)
        words = len(corpus.build_vocabulary(runner).words)
        job = glove.GloveJob(config, seed, corpus.write_stream(runner), words)
        job, cells = glove.count_cells(runner, job)
        start = time.process_time()
        glove.train_rounds(runner, job)
        speed["ours"].append(cells * GLOVE_EPOCHS / (time.process_time() - start))
        rows, columns, logs, weights = load_cells(job)
        own = [load_side(job, side) for side in (glove.ROW, glove.COLUMN)]
        losses["ours"].append(mean_loss(own[0], own[1], rows, columns, logs, weights))
        cells_file = text.folder / "cells.npz"
        upper = rows <= columns  # as the peer's own counts: its words have one vector, not two
        counts = np.exp(logs[upper], dtype=np.float64)
        np.savez(cells_file, size=words, rows=rows[upper], columns=columns[upper], counts=counts)
        peer_settings = {"size": config.model.vector_size, "lr": config.optim.lr, "seed": seed}
        peer_settings |= settings
        command = [str(python), str(SCRIPT), "glove", str(text.folder), json.dumps(peer_settings)]
        answer = run_json(command, 1)
        speed["peer"].append(answer["cells"] * GLOVE_EPOCHS / answer["seconds"])
        with np.load(text.folder / "peer-glove.npz") as arrays:
            side = arrays["vectors"], arrays["biases"]
        losses["peer"].append(mean_loss(side, side, rows, columns, logs, weights))
    means = {who: statistics.mean(values) for who, values in losses.items()}
    rates = {who: statistics.median(values) / 1e6 for who, values in speed.items()}
    ratio = rates["ours"] / rates["peer"]
    print(
        f"\nGloVe, {cells:,} cells, {GLOVE_EPOCHS} epochs: loss {means['peer']:.4f}, ours {means['ours']:.4f}; "
        f"million cells/s {rates['peer']:.2f}, ours {rates['ours']:.2f}, {ratio:.2f} x",
        flush=True,
    )
    return means["ours"] <= GLOVE_LOSS * means["peer"] and ratio >= GLOVE_SPEED


def load_cells(job: glove.GloveJob) -> tuple[Any, Any, Any, Any]:
    """Return the rows, columns, logarithms and weights of all cells."""
    blocks = []
    for row_group in range(job.groups):
        for column_group in range(job.groups):
            cells = job.load_cells(row_group, column_group)
            rows = cells.rows * job.groups + row_group
            blocks.append((rows, cells.columns * job.groups + column_group, *cells[2:]))
    rows, columns, logs, weights = (np.concatenate(item) for item in zip(*blocks, strict=True))
    return rows, columns, logs, weights


def load_side(job: glove.GloveJob, side: int) -> tuple[Any, Any]:
    """Return the vectors and biases of one side of the matrix after training."""
    size, rounds = job.config.model.vector_size, job.config.optim.epochs * job.groups
    vectors, biases = np.zeros((job.words, size)), np.zeros(job.words)
    for group in range(job.groups):
        table = job.load_table(rounds, side, group)
        vectors[group :: job.groups] = table.vectors[:, :size]
        biases[group :: job.groups] = table.biases[:, 0]
    return vectors, biases


def mean_loss(
    one: tuple[Any, Any], other: tuple[Any, Any], rows: Any, columns: Any, logs: Any, weights: Any
) -> float:
    """Return the mean of f(x) (prediction - ln x) ** 2 / 2."""
    total = 0.0
    for start in range(0, len(rows), 1 << 16):
        i, j = rows[start : start + (1 << 16)], columns[start : start + (1 << 16)]
        product = (one[0][i] * other[0][j]).sum(axis=1)
        error = product + one[1][i] + other[1][j] - logs[start : start + (1 << 16)]
        total += float((weights[start : start + (1 << 16)] * error**2).sum()) / 2
    return total / len(rows)


def check_export(root: Path, python: Path) -> bool:
    """Return whether gensim reads both files of an export, with the same vectors."""
    from lm.models.embedding.export import TEXT_FILE

    tokens = corpora.token_shards(root, documents=planted.documents(2000))
    ctx: Context = corpora.context(Storage(str(root)).url)
    config = entry({"vector_size": 50}, {"epochs": 1})
    model = word2vec.build(ctx, word2vec.spec(ctx, config, tokens), config, tokens)
    folder = model.storage.local_path()
    assert folder is not None
    with (root / TEXT_FILE).open("wb") as file:
        WordVectors.load(folder).write_text(file)
    for name in ("vocabulary.json", "model.safetensors"):
        (root / name).write_bytes(model.read(name))
    answer = run_json([str(python), str(SCRIPT), "load", str(root), "-"], 1)
    same = answer["equal"] and answer["neighbors"] == answer["neighbors_of_array"]
    print(f"gensim reads vectors.txt and model.safetensors, with equal vectors: {same}", flush=True)
    return bool(same)


def main() -> None:
    """Measure, print, and exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--family", choices=("word2vec", "glove"))
    options = parser.parse_args()
    python = peer_interpreter(PEERS)
    seeds = range(1, options.seeds + 1)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        found = next(python.parent.parent.rglob("test_data/wordsim353.tsv"))
        real = write_text(root / "sources", texts(options.megabytes), measure_wordsim(found))
        met = True
        if options.family in (None, "glove"):
            met &= bench_glove(root, python, real, seeds)
        if options.family in (None, "word2vec"):
            met &= check_export(root / "export", python)
            documents = planted.documents(SENTENCES, noise=NOISE)
            toy = write_text(root / "planted", documents, measure_planted)
            both = (
                ("planted analogies", toy, 50),
                ("WordSim-353 on Python sources", real, 100),
            )
            met &= bench_word2vec(python, both, seeds)
    sys.exit(not met)


if __name__ == "__main__":
    main()
