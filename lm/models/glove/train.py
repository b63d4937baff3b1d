"""Count co-occurrences and train on the cluster, in bounded memory, and commit the model.

Counting: pieces of the text are counted one by one, their pairs shuffled into ranges by a hash, and each range added up.

Training: rows and columns of the matrix are divided into as many groups of words. In a round each task trains the cells
of one group of rows and one of columns, and no two tasks share either (Gemulla et al. 2011), so that all may run at the
same time with the result of one after the other. Tables between rounds are files of the work folder: a crash costs at
most a round. Pieces, groups and rounds follow from the text and the recipe, never from the number of workers.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infra.compute.arrays import F32, I32, I64
from infra.compute.phases import PhaseRunner
from infra.compute.shuffle import Shuffle
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.mixers import splitmix64
from infra.dataset.stage import Context, DatasetSpec, Stage
from infra.store.storage import Storage
from lm.models.embedding.corpus import Corpus, NoWordsError, Stream
from lm.models.embedding.files import Vocabulary, WordVectors
from lm.models.embedding.simd import pad_to_lanes
from lm.models.embedding.train import build_word_vectors, words_spec
from lm.models.glove.config import GloveEntry
from lm.models.glove.cooccurrence import ONE, cells_of_pairs, count_pairs, merge_pairs
from lm.models.glove.model import Cells, Table, train_cells

STAGE = Stage(
    "train",
    modules=("lm.models.glove.train",),
    libraries=("numpy", "numba", "regex", "tokenizers"),
)
# Pairs of a piece of the text, and of a range of pairs: 16 bytes each, several times.
PIECE_PAIRS = 1 << 22
RANGE_PAIRS = 1 << 22
GROUP_CELLS = 1 << 22  # with more cells than this per group there is one more group
MAX_GROUPS = 32
CELL_WORDS = 2  # 64-bit words of a cell in the second shuffle: row and column, count
ROW, COLUMN = 0, 1  # sides of the matrix
FLOPS_PER_VALUE = 12  # of a cell: a product, and for both vectors gradient, step and square


@dataclass(frozen=True)
class GloveJob:
    """What the tasks of all phases need. Picklable.

    Attributes:
        config: the entry.
        seed: of the model.
        stream: the text.
        words: number of words with a vector.
        ranges: number of ranges of pairs.
        groups: number of groups of words.
    """

    config: GloveEntry
    seed: int
    stream: Stream
    words: int
    ranges: int = 1
    groups: int = 1

    @property
    def work(self) -> Storage:
        """The work folder."""
        return self.stream.work

    @property
    def piece_words(self) -> int:
        """Words of a piece of the text."""
        return max(1, PIECE_PAIRS // self.config.model.window)

    @property
    def pieces(self) -> range:
        """The numbers of the pieces of the text."""
        return range(-(-len(self.stream) // self.piece_words))

    @property
    def pairs(self) -> Shuffle:
        """The shuffle of pairs into ranges."""
        return Shuffle(self.work.subdir("pairs"), self.ranges, 2)

    @property
    def cells(self) -> Shuffle:
        """The shuffle of cells into blocks, ``row group * groups + column group``."""
        return Shuffle(self.work.subdir("cells"), self.groups**2, CELL_WORDS)

    def group_size(self, group: int) -> int:
        """Return the number of words of a group: those whose number has this remainder."""
        return len(range(group, self.words, self.groups))

    def random(self, *key: Any) -> np.random.Generator:
        """Return a generator of its own for a purpose."""
        return np.random.default_rng(int(json_sha256([self.seed, "glove", *key])[:16], 16))

    def initial_table(self, side: int, group: int) -> Table:
        """Return the table of a group before training (GloVe's C program: uniform, biases too)."""
        size, n = self.config.model.vector_size, self.group_size(group)
        padded = pad_to_lanes(size)
        random = self.random("initial", side, group)
        vectors = np.zeros((n, 2 * padded), np.float32)
        vectors[:, :size] = (random.random((n, size), np.float32) - np.float32(0.5)) / size
        vectors[:, padded:] = 1
        biases = np.ones((n, 2), np.float32)
        biases[:, 0] = (random.random(n, np.float32) - np.float32(0.5)) / size
        return Table(vectors, biases)

    def load_table(self, number: int, side: int, group: int) -> Table:
        """Return the table of a group at the beginning of a round."""
        if number == 0:
            return self.initial_table(side, group)
        data = self.work.read(table_file(number - 1, side, group))
        width, n = 2 * pad_to_lanes(self.config.model.vector_size), self.group_size(group)
        values = np.frombuffer(data, np.float32).copy()
        return Table(values[: n * width].reshape(n, width), values[n * width :].reshape(n, 2))

    def save_table(self, number: int, side: int, group: int, table: Table) -> None:
        """Save the table of a group at the end of a round."""
        with self.work.create(table_file(number, side, group), durable=False) as file:
            for array in table:
                file.write(array.tobytes())

    def load_cells(self, row_group: int, column_group: int) -> Cells:
        """Load what ``order_cells`` saved."""
        data = self.work.read(_cells_file(row_group, column_group))
        rows, columns, logs, weights = np.frombuffer(data, "<i4").reshape(4, -1).copy()
        return Cells(rows, columns, logs.view(np.float32), weights.view(np.float32))


def table_file(number: int, side: int, group: int) -> str:
    """Return the name of the table of a group at the end of a round."""
    return f"tables/{number:06d}-{side}-{group:03d}"


def _cells_file(row_group: int, column_group: int) -> str:
    return f"blocks/{row_group:03d}-{column_group:03d}"


def spec(ctx: Context, config: GloveEntry, tokens: Dataset) -> DatasetSpec:
    """Describe the model that is trained on the words of these token shards."""
    return words_spec(STAGE, ctx, config, config.model, {"optim": config.optim.to_json()}, tokens)


def build(ctx: Context, spec: DatasetSpec, config: GloveEntry, tokens: Dataset) -> Dataset:
    """Count, train, and commit the model.

    Returns:
        A data set of ``model.safetensors`` (the vectors), ``vocabulary.json``, ``config.json`` and
        ``tokenizer.json``.

    Raises:
        NoWordsError: if fewer than two words occur often enough, or none beside another.
    """

    def train(runner: PhaseRunner, corpus: Corpus) -> tuple[WordVectors, dict[str, Any]]:
        vocabulary = corpus.build_vocabulary(runner)
        stream = corpus.write_stream(runner)
        seed = config.model_seed(ctx.seed)
        job, cells = count_cells(runner, GloveJob(config, seed, stream, len(vocabulary.words)))
        losses = train_rounds(runner, job)
        epochs, size = config.optim.epochs, config.model.vector_size
        stats = {
            "epochs": float(epochs),
            "cells": cells,
            "loss": losses[-1] / cells,
            "training_flops": FLOPS_PER_VALUE * cells * epochs * size,
        }
        return finish(job, vocabulary), stats

    # The text is read once; its cells are visited in each epoch.
    partitioning, passes = [PIECE_PAIRS, RANGE_PAIRS, GROUP_CELLS], 1
    return build_word_vectors(ctx, spec, config, config.model, tokens, partitioning, passes, train)


def count_cells(runner: PhaseRunner, job: GloveJob) -> tuple[GloveJob, int]:
    """Count all pairs, and save the cells of each block; return the job and the number of cells."""
    possible = len(job.stream) * job.config.model.window
    job = replace(job, ranges=max(1, -(-possible // (4 * RANGE_PAIRS))))
    runner.run("count pairs", count_piece, [(job, number) for number in job.pieces])
    sizes = runner.run(
        "add up pairs", add_up_range, [(job, number) for number in range(job.ranges)]
    )
    cells = sum(sizes)
    if not cells:
        raise NoWordsError(
            f"train.{job.config.name}: no two words with a vector are beside each other; check "
            "model.min_count"
        )
    job = replace(job, groups=min(MAX_GROUPS, job.words, -(-cells // GROUP_CELLS)))
    numbers = range(job.ranges)
    runner.run("group cells", group_cells, [(job, number) for number in numbers])
    blocks = [(job, row, column) for row in range(job.groups) for column in range(job.groups)]
    runner.run("order cells", order_cells, blocks)
    return job, cells


def count_piece(job: GloveJob, number: int) -> int:
    """Count the pairs of a piece of the text, and write them by range."""
    window, start = job.config.model.window, number * job.piece_words
    before = min(window, start)  # words of the piece before that pair with the first ones
    words = job.stream.read(start - before, start + job.piece_words)
    rows = count_pairs(words, before, window, job.words)
    ranges = splitmix64(rows[:, 0], np.uint64(0)) % np.uint64(job.ranges)
    job.pairs.write_rows(number, ranges.astype(np.int64), rows)
    return len(rows)


def add_up_range(job: GloveJob, number: int) -> int:
    """Add up the pairs of a range; return the number of their cells."""
    rows = merge_pairs(job.pairs.read_partition(number, job.pieces))
    job.work.write(f"sums/{number:06d}", rows.astype("<u8").tobytes(), durable=False)
    low, high = np.divmod(rows[:, 0], np.uint64(job.words))
    return 2 * len(rows) - int((low == high).sum())


def group_cells(job: GloveJob, number: int) -> int:
    """Write the cells of a range by block."""
    rows = np.frombuffer(job.work.read(f"sums/{number:06d}"), "<u8").reshape(-1, 2)
    row, column, counts = cells_of_pairs(rows, job.words)
    blocks = (row % job.groups) * job.groups + column % job.groups
    packed = np.stack([(row << 32 | column).astype(np.uint64), counts], axis=1)
    job.cells.write_rows(number, blocks, packed)
    return len(row)


def order_cells(job: GloveJob, row_group: int, column_group: int) -> int:
    """Save the cells of a block in a random order, which all epochs keep (Pennington et al.)."""
    packed = job.cells.read_partition(row_group * job.groups + column_group, range(job.ranges))
    packed = packed[np.argsort(packed[:, 0], kind="stable")]
    packed = packed[job.random("order", row_group, column_group).permutation(len(packed))]
    counts = packed[:, 1] / ONE
    rows: I64 = (packed[:, 0] >> np.uint64(32)).astype(np.int64) // job.groups
    columns: I64 = (packed[:, 0] & np.uint64(0xFFFFFFFF)).astype(np.int64) // job.groups
    arrays: tuple[I32, I32, F32, F32] = (
        rows.astype("<i4"),
        columns.astype("<i4"),
        np.array([math.log(count) for count in counts.tolist()], "<f4"),
        cell_weights(counts, job.config.optim.x_max, job.config.optim.alpha),
    )
    with job.work.create(_cells_file(row_group, column_group), durable=False) as file:
        for array in arrays:
            file.write(array.tobytes())
    return len(packed)


def cell_weights(counts: Any, x_max: float, alpha: float) -> F32:
    """Return f(x) of counts: min(1, (x / x_max) ** alpha)."""
    return np.array([min(1.0, math.pow(x / x_max, alpha)) for x in counts.tolist()], "<f4")


def train_rounds(runner: PhaseRunner, job: GloveJob) -> list[float]:
    """Train all rounds; the last one's tables stay. Returns the loss of each epoch."""
    losses = []
    for epoch in range(job.config.optim.epochs):
        loss = 0.0
        for shift in range(job.groups):
            number = epoch * job.groups + shift
            total = job.config.optim.epochs * job.groups
            name = f"train round {number + 1} of {total}"
            payloads = [(job, number, group) for group in range(job.groups)]
            loss += math.fsum(runner.run(name, train_block, payloads))
            for side in (ROW, COLUMN) if number else ():
                for group in range(job.groups):
                    job.work.remove(table_file(number - 1, side, group))
        losses.append(loss)
    return losses


def train_block(job: GloveJob, number: int, row_group: int) -> float:
    """Train one block in one round; return the sum of the losses of its cells."""
    column_group = (row_group + number) % job.groups
    rows = job.load_table(number, ROW, row_group)
    columns = job.load_table(number, COLUMN, column_group)
    cells = job.load_cells(row_group, column_group)
    loss = train_cells(cells, rows, columns, np.float32(job.config.optim.lr))
    job.save_table(number, ROW, row_group, rows)
    job.save_table(number, COLUMN, column_group, columns)
    return loss


def finish(job: GloveJob, vocabulary: Vocabulary) -> WordVectors:
    """Return the model: of each word the sum of its two vectors."""
    model, rounds = job.config.model, job.config.optim.epochs * job.groups
    vectors = np.zeros((job.words, model.vector_size), np.float32)
    for group in range(job.groups):
        for side in (ROW, COLUMN):
            table = job.load_table(rounds, side, group)
            vectors[group :: job.groups] += table.vectors[:, : model.vector_size]
    config = {"family": "glove", "unit": model.unit, "lowercase": model.lowercase}
    return WordVectors(vocabulary, vectors, config)
