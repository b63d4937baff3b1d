"""Train on the cluster, round by round, and commit the model.

A round is a piece of the text of about ``ROUND_WORDS`` words, divided among the replicas: each trains on its own
from the same weights, and what they have changed is added up, by blocks of rows. One replica reads a shorter text
several times in a round. Weights between rounds are
files of the work folder, so a crash costs at most a round; rounds, pieces and blocks follow from the text
and the recipe, never from the number of workers.
"""

import io
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from infra.compute.arrays import F32, U64
from infra.compute.phases import PhaseRunner
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.stage import Context, DatasetSpec, Stage
from infra.store.storage import Storage
from lm.models.embedding.corpus import Corpus, NoWordsError, Stream
from lm.models.embedding.files import Vocabulary, WordVectors
from lm.models.embedding.simd import pad_to_lanes
from lm.models.embedding.subwords import hash_ngrams
from lm.models.embedding.train import build_word_vectors, words_spec
from lm.models.word2vec.config import Word2vecEntry
from lm.models.word2vec.input_rows import InputRows, mean_rows
from lm.models.word2vec.model import Schedule, Weights, train_words
from lm.models.word2vec.output_layer import OutputLayer, huffman_layer, sampling_layer

STAGE = Stage(
    "train",
    modules=("lm.models.word2vec.train",),
    libraries=("numpy", "numba", "regex", "tokenizers"),
)
ROUND_WORDS = 1 << 20
# With a large vocabulary rounds are longer, so that writing the weights does not take most of the time.
ROUND_WORDS_PER_ROW = 8
BLOCK_BYTES = 1 << 26  # of weights and changes that are in memory when they are added up
UINT32 = 1 << 32
LAYER_FILE = "layer.npz"
Pieces = tuple[tuple[int, int, int], ...]  # (epoch, start, stop) each


@dataclass(frozen=True)
class TrainingJob:
    """What the tasks of all rounds need. Picklable.

    Attributes:
        config: the entry.
        seed: of the model.
        stream: the text.
        words: number of words with a vector.
        rounds: for each round what its replicas read, each one piece after the other.
    """

    config: Word2vecEntry
    seed: int
    stream: Stream
    words: int
    rounds: tuple[tuple[Pieces, ...], ...] = ()

    @property
    def work(self) -> Storage:
        """The work folder."""
        return self.stream.work

    @property
    def size(self) -> int:
        """Values of a row of the weights."""
        return pad_to_lanes(self.config.model.vector_size)

    @property
    def input_rows(self) -> int:
        """Rows of the input weights."""
        return self.words + (self.config.model.buckets if self.config.model.max_n else 0)

    def epoch_key(self, epoch: int) -> np.uint64:
        """Return the key of an epoch's random numbers; -1: of the initial weights."""
        return np.uint64(int(json_sha256([self.seed, "word2vec", epoch])[:16], 16))

    @property
    def blocks(self) -> list[slice]:
        """The rows of all weights in blocks, of which one of the weights and of each change fit into memory."""
        rows, replicas = self.input_rows + self.words, self.config.optim.replicas
        step = max(1, BLOCK_BYTES // (4 * self.size * (replicas + 1)))
        return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]

    def save_initial_weights(self) -> None:
        """Save the weights before the first round: uniform in ±1 / size, outputs 0, as gensim does.

        word2vec.c draws from half that range, which learns more slowly from a small text.
        """
        size = self.config.model.vector_size
        draw = np.random.default_rng(int(self.epoch_key(-1))).random
        for number, block in enumerate(self.blocks):
            rows = np.zeros((block.stop - block.start, self.size), np.float32)
            inputs = min(block.stop, self.input_rows) - block.start
            if inputs > 0:
                rows[:inputs, :size] = (draw((inputs, size), np.float32) * 2 - 1) / size
            self.save_block(0, number, rows)

    def save_block(self, number: int, block: int, rows: F32) -> None:
        """Save a block of the weights at the beginning of a round."""
        self.work.write(weights_file(number, block), rows.tobytes(), durable=False)

    def load_block(self, number: int, block: int) -> F32:
        """Return a block of the weights at the beginning of a round."""
        data = self.work.read(weights_file(number, block))
        return np.frombuffer(data, np.float32).reshape(-1, self.size)

    def load_change(self, number: int, replica: int, block: int) -> F32:
        """Return a block of what a replica has changed in a round."""
        span, width = self.blocks[block], 4 * self.size
        name = change_file(number, replica)
        data = self.work.read(name, span.start * width, span.stop * width)
        return np.frombuffer(data, np.float32).reshape(-1, self.size)

    def load_rows(self, number: int, count: int) -> F32:
        """Return the first rows of the weights at the beginning of a round."""
        rows = np.empty((count, self.size), np.float32)
        for block, span in enumerate(self.blocks):
            if span.start < count:
                kept = min(span.stop, count) - span.start
                rows[span.start : span.start + kept] = self.load_block(number, block)[:kept]
        return rows

    def load_layer(self) -> tuple[InputRows, OutputLayer, U64]:
        """Load what ``prepare`` saved."""
        with np.load(io.BytesIO(self.work.read(LAYER_FILE)), allow_pickle=False) as arrays:
            layer = OutputLayer(*(arrays[name] for name in OutputLayer._fields))
            rows = InputRows(arrays["row_starts"], arrays["rows"])
            return rows, layer._replace(negatives=int(layer.negatives)), arrays["keep"]


def weights_file(number: int, block: int) -> str:
    """Return the name of a block of the weights at the beginning of a round."""
    return f"weights/{number:06d}-{block:06d}"


def change_file(number: int, replica: int) -> str:
    """Return the name of what a replica, one of several, has changed in a round."""
    return f"changes/{number:06d}-{replica:03d}"


def spec(ctx: Context, config: Word2vecEntry, tokens: Dataset) -> DatasetSpec:
    """Describe the model that is trained on the words of these token shards."""
    settings = {"optim": {**config.optim.to_json(), "lr": config.lr}}
    return words_spec(STAGE, ctx, config, config.model, settings, tokens)


def build(ctx: Context, spec: DatasetSpec, config: Word2vecEntry, tokens: Dataset) -> Dataset:
    """Train, and commit the model.

    Returns:
        A data set of ``model.safetensors`` (the vectors), ``vocabulary.json``, ``config.json`` and
        ``tokenizer.json``.

    Raises:
        NoWordsError: if fewer than two words occur often enough, or none beside another.
    """

    def train(runner: PhaseRunner, corpus: Corpus) -> tuple[WordVectors, dict[str, Any]]:
        vocabulary = corpus.build_vocabulary(runner)
        seed = config.model_seed(ctx.seed)
        job = prepare_job(runner, config, seed, corpus.write_stream(runner), vocabulary)
        pairs = train_rounds(runner, job)
        if not pairs:
            raise NoWordsError(
                f"train.{config.name}: no two words with a vector are beside each other; check "
                "model.min_count and optim.subsample"
            )
        targets = float(config.optim.negatives + 1)
        if config.optim.loss == "hierarchical_softmax":
            targets = mean_path_length(job, vocabulary)
        stats = {
            "algorithm": config.model.algorithm,
            "epochs": float(config.optim.epochs),
            "pairs": pairs,
            "training_flops": round(6 * pairs * targets * config.model.vector_size),
        }
        return finish(job, vocabulary), stats

    partitioning, passes = [ROUND_WORDS], config.optim.epochs
    return build_word_vectors(ctx, spec, config, config.model, tokens, partitioning, passes, train)


def prepare_job(
    runner: PhaseRunner,
    config: Word2vecEntry,
    seed: int,
    stream: Stream,
    vocabulary: Vocabulary,
) -> TrainingJob:
    """Return the job with its rounds; what its tasks load is saved."""
    job = TrainingJob(config, seed, stream, len(vocabulary.words))
    runner.run("build output layer", prepare, [(job,)])
    return replace(job, rounds=divide(job))


def train_rounds(runner: PhaseRunner, job: TrainingJob) -> int:
    """Train all rounds; the last one's weights stay. Returns the number of pairs."""
    pairs = 0
    for number, pieces in enumerate(job.rounds):
        name = f"train round {number + 1} of {len(job.rounds)}"
        replicas = range(len(pieces))
        pairs += sum(
            runner.run(name, train_piece, [(job, number, replica) for replica in replicas])
        )
        blocks = range(len(job.blocks))
        if len(pieces) > 1:
            name = f"add up round {number + 1} of {len(job.rounds)}"
            runner.run(name, add_up_block, [(job, number, block) for block in blocks])
            for replica in replicas:
                job.work.remove(change_file(number, replica))
        for block in blocks:
            job.work.remove(weights_file(number, block))
    return pairs


def divide(job: TrainingJob) -> tuple[tuple[Pieces, ...], ...]:
    """Return the rounds of all epochs."""
    replicas, length = job.config.optim.replicas, len(job.stream)
    epochs = range(job.config.optim.epochs)
    words = max(ROUND_WORDS, ROUND_WORDS_PER_ROW * (job.input_rows + job.words))
    pieces = -(-length * replicas // words)
    if pieces == 1:  # then there is one replica
        per_round = words // length
        return tuple(
            (tuple((epoch, 0, length) for epoch in epochs[first : first + per_round]),)
            for first in epochs[::per_round]
        )
    bounds = [length * piece // pieces for piece in range(pieces + 1)]
    one_pass = list(pairwise(bounds))
    return tuple(
        tuple(((epoch, *piece),) for piece in one_pass[first : first + replicas])
        for epoch in epochs
        for first in range(0, pieces, replicas)
    )


def prepare(job: TrainingJob) -> int:
    """Save the output layer, the input rows of words, how often each is read, and the first weights."""
    vocabulary = Vocabulary.from_bytes(job.work.read("vocabulary.json"))
    model, optim = job.config.model, job.config.optim
    if optim.loss == "hierarchical_softmax":
        layer = huffman_layer(vocabulary.counts)
    else:
        layer = sampling_layer(vocabulary.counts, optim.negatives, optim.negative_exponent)
    rows = [[number] for number in range(job.words)]
    if model.max_n:
        for number, word in enumerate(vocabulary.words):
            ngrams = hash_ngrams(word, model.min_n, model.max_n, model.buckets)
            rows[number] += [job.words + bucket for bucket in ngrams]
    lengths = [0, *map(len, rows)]
    arrays = {
        **layer._asdict(),
        "row_starts": np.cumsum(lengths, dtype=np.int64),
        "rows": np.array([row for item in rows for row in item], np.int32),
        "keep": keep_thresholds(vocabulary, optim.subsample),
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    job.work.write(LAYER_FILE, buffer.getvalue(), durable=False)
    job.save_initial_weights()
    return job.words


def keep_thresholds(vocabulary: Vocabulary, subsample: float) -> U64:
    """Return for each word which 32 random bits, as a number, are the largest with which it is read."""
    if not subsample:
        return np.full(len(vocabulary.counts), UINT32 - 1, np.uint64)
    total = sum(vocabulary.counts)
    ratios = [subsample * total / count for count in vocabulary.counts]
    return np.array(
        [min(UINT32 - 1, int((math.sqrt(ratio) + ratio) * UINT32)) for ratio in ratios], np.uint64
    )


def train_piece(job: TrainingJob, number: int, replica: int) -> int:
    """Train one replica in one round; return the number of pairs."""
    values = job.load_rows(number, job.input_rows + job.words)
    rows, layer, keep = job.load_layer()
    model, optim, length = job.config.model, job.config.optim, len(job.stream)
    schedule = Schedule(
        cbow=model.algorithm == "cbow",
        window=model.window,
        keep=keep,
        lr=job.config.lr,
        min_lr=optim.min_lr,
        total=length * optim.epochs,
    )
    pairs = 0
    for epoch, start, stop in job.rounds[number][replica]:
        pairs += train_words(
            job.stream.read(start, stop),
            start,
            job.epoch_key(epoch),
            epoch * length + start,
            Weights(*np.split(values, [job.input_rows])),
            rows,
            layer,
            schedule,
        )
    if len(job.rounds[number]) == 1:
        for block, span in enumerate(job.blocks):
            job.save_block(number + 1, block, values[span])
        return pairs
    with job.work.create(change_file(number, replica), durable=False) as file:
        for block, span in enumerate(job.blocks):
            file.write((values[span] - job.load_block(number, block)).tobytes())
    return pairs


def add_up_block(job: TrainingJob, number: int, block: int) -> int:
    """Add what the replicas have changed in a round to a block of rows; return how many they are."""
    replicas = range(len(job.rounds[number]))
    changes = [job.load_change(number, replica, block) for replica in replicas]
    rows = job.load_block(number, block) + add_adaptively(changes)
    job.save_block(number + 1, block, rows)
    return len(rows)


def add_adaptively(changes: list[F32]) -> F32:
    """Add up the changes of replicas, two and two, row by row (Adasum, Maleki et al. 2020, arXiv:2006.02924).

    Changes in different directions are added; equal ones, which each replica has made on its own, are averaged.
    """
    while len(changes) > 1:
        pairs = zip(changes[::2], changes[1::2], strict=False)
        rest = changes[len(changes) // 2 * 2 :]
        changes = [_add_pair(*pair) for pair in pairs] + rest
    return changes[0]


def _add_pair(x: F32, y: F32) -> F32:
    product, xx, yy = ((a * b).sum(axis=1, dtype=np.float64) for a, b in ((x, y), (x, x), (y, y)))
    scales = (1 - product / (2 * np.where(square > 0, square, 1)) for square in (xx, yy))
    x_scale, y_scale = (scale.astype(np.float32)[:, None] for scale in scales)
    total: F32 = x_scale * x + y_scale * y
    return total


def finish(job: TrainingJob, vocabulary: Vocabulary) -> WordVectors:
    """Return the model: of each word the mean of its input rows."""
    inputs = job.load_rows(len(job.rounds), job.input_rows)
    rows, _, _ = job.load_layer()
    model, size = job.config.model, job.config.model.vector_size
    subwords = {"min_n": model.min_n, "max_n": model.max_n} if model.max_n else {}
    vectors = mean_rows(inputs, rows) if model.max_n else inputs
    return WordVectors(
        vocabulary,
        np.ascontiguousarray(vectors[: job.words, :size]),
        {"family": "word2vec", "unit": model.unit, "lowercase": model.lowercase, **subwords},
        np.ascontiguousarray(inputs[job.words :, :size]) if model.max_n else None,
    )


def mean_path_length(job: TrainingJob, vocabulary: Vocabulary) -> float:
    """Return the mean number of nodes from the root to a word of the text."""
    lengths = np.diff(job.load_layer()[1].starts)
    return float(np.average(lengths, weights=np.array(vocabulary.counts)))
