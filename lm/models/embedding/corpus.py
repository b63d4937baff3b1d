"""Divide the training documents into words, count them, and number them by how often they occur.

Two phases over the parts of the token shards. The first one divides each part into words, numbered in the
order in which they appear in it; the last one replaces these by numbers of the whole vocabulary. What it
writes is the *stream*: the numbers of all words in the order of the text, ``END`` after each document.
Between them, counts are shuffled into ranges of words and added up, and only words that may get a vector
come together in one process.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import nsmallest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex
from tokenizers import Tokenizer

from infra.compute.arrays import I32, I64
from infra.compute.phases import PhaseRunner
from infra.compute.shuffle import Shuffle
from infra.dataset.dataset import Dataset, PartRef
from infra.errors import UserError
from infra.formats.megatron import TRAIN, iter_split_parts, read_split
from infra.store.storage import Storage
from lm.models.embedding.files import Vocabulary
from lm.models.embedding.sections import EmbeddingSection
from lm.models.embedding.token_text import token_texts

END = -1  # in the stream: the end of a document
RARE = -2  # while a part is encoded: a word that is not in the vocabulary
BATCH_TOKENS = 1 << 18  # decoded at a time: their words are Python objects
WORD = regex.compile(r"[\p{L}\p{M}\p{N}_]+(?:['’][\p{L}\p{M}]+)*")
ITEM_BYTES = 4
# Tokens of the text per range of words: the task of a range holds the distinct words of as many at most.
RANGE_TOKENS = 1 << 24
COUNTS = pa.schema([("word", pa.large_string()), ("count", pa.int64())])


class NoWordsError(UserError):
    """The training split has no word that occurs often enough."""


@dataclass(frozen=True)
class Corpus:
    """The training split of token shards, and the work folder. Picklable.

    Attributes:
        work: the work folder.
        tokens: the token shards.
        section: the entry's `model`.
        name: of the model, for messages.
    """

    work: Storage
    tokens: Dataset
    section: EmbeddingSection
    name: str

    @property
    def parts(self) -> list[PartRef]:
        """The parts with tokens of the training split."""
        return [part for part, _ in iter_split_parts(self.tokens, TRAIN)]

    def build_vocabulary(self, runner: PhaseRunner) -> Vocabulary:
        """Count the words of all parts; return those that get a vector.

        Raises:
            NoWordsError: if there are fewer than two.
        """
        numbers = range(len(self.parts))
        runner.run("count words", count_part, [(self, number) for number in numbers])
        ranges = range(self.counts.n_partitions)
        distinct = runner.run("add up words", add_up_words, [(self, number) for number in ranges])
        ordered: list[tuple[str, int]] = []
        for number in ranges:
            frequent = Vocabulary.from_bytes(self.work.read(_frequent_file(number)))
            ordered += zip(frequent.words, frequent.counts, strict=True)
            ordered = nsmallest(
                self.section.max_words, ordered, key=lambda item: (-item[1], item[0])
            )
        if len(ordered) < 2:
            raise NoWordsError(
                f"train.{self.name}.model.min_count: {len(ordered)} of {sum(distinct):,} words occur "
                f"{self.section.min_count} times or more in the training documents; at least 2 are needed"
            )
        vocabulary = Vocabulary([word for word, _ in ordered], [count for _, count in ordered])
        self.work.write("vocabulary.json", vocabulary.to_bytes(), durable=False)
        return vocabulary

    @property
    def counts(self) -> Shuffle:
        """The shuffle of the parts' counts into ranges of words."""
        ranges = -(-self.tokens.stats["tokens"][TRAIN] // RANGE_TOKENS)
        return Shuffle(self.work.subdir("counts"), max(1, ranges), 1)

    def write_stream(self, runner: PhaseRunner) -> "Stream":
        """Write the stream; the vocabulary was built before."""
        payloads = [(self, number) for number in range(len(self.parts))]
        return Stream(self.work, tuple(runner.run("encode words", encode_part, payloads)))


@dataclass(frozen=True)
class Stream:
    """The numbers of all words, in the order of the text. Picklable.

    Attributes:
        work: the work folder.
        lengths: of each part's stream.
    """

    work: Storage
    lengths: tuple[int, ...]

    @cached_property
    def starts(self) -> I64:
        """Where each part begins, and the end: int64[parts + 1]."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return sum(self.lengths)

    def read(self, start: int, stop: int) -> I32:
        """Return the numbers at ``[start, stop)``, which may be in several parts."""
        pieces = [np.zeros(0, np.int32)]
        for number, first in enumerate(self.starts[:-1].tolist()):
            low, high = max(start, first) - first, min(stop, first + self.lengths[number]) - first
            if low < high:
                name = f"stream/{number:06d}"
                data = self.work.read(name, low * ITEM_BYTES, high * ITEM_BYTES)
                pieces.append(np.frombuffer(data, "<i4").astype(np.int32))
        return np.concatenate(pieces)


def count_part(corpus: Corpus, number: int) -> int:
    """Divide a part into words; write their numbers and counts. Returns the number of words."""
    part, section = corpus.parts[number], corpus.section
    dtype = str(corpus.tokens.stats.get("dtype", "uint16"))
    stream = read_split(part, dtype, TRAIN).astype(np.int64)
    tokenizer_json = corpus.tokens.read("tokenizer.json")
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    texts = token_texts(tokenizer_json) if section.unit == "token" else []
    index: dict[str, int] = {}
    arrays = [np.zeros(0, np.int32)]
    for documents in _batches(stream, int(corpus.tokens.stats["eos_id"])):
        if section.unit == "token":
            words = [[texts[item] for item in ids] for ids in documents]
        else:
            words = divide_texts(tokenizer.decode_batch(documents), lowercase=section.lowercase)
        arrays += (
            np.array([*(index.setdefault(word, len(index)) for word in item), END], np.int32)
            for item in words
        )
    numbers = np.concatenate(arrays)
    counts = np.bincount(numbers[numbers >= 0], minlength=len(index))
    corpus.work.write(f"words/{number:06d}", numbers.astype("<i4").tobytes(), durable=False)
    distinct = list(index)
    corpus.work.write(_words_file(number), json.dumps(distinct).encode(), durable=False)
    ranges = corpus.counts.n_partitions
    partition = np.array([zlib.crc32(word.encode()) % ranges for word in distinct], np.int64)
    table = pa.table({"word": distinct, "count": counts}, schema=COUNTS)
    corpus.counts.write_table(number, partition, table)
    return int(counts.sum())


def add_up_words(corpus: Corpus, number: int) -> int:
    """Write the words of a range that may get a vector; return how many different ones it has."""
    parts = range(len(corpus.parts))
    table = corpus.counts.read_table_partition(number, parts, COUNTS)
    table = table.group_by("word").aggregate([("count", "sum")])
    frequent = table.filter(pc.field("count_sum") >= corpus.section.min_count)
    frequent = frequent.sort_by([("count_sum", "descending"), ("word", "ascending")])
    frequent = frequent.slice(0, corpus.section.max_words)
    vocabulary = Vocabulary(frequent["word"].to_pylist(), frequent["count_sum"].to_pylist())
    corpus.work.write(_frequent_file(number), vocabulary.to_bytes(), durable=False)
    return int(table.num_rows)


def _words_file(number: int) -> str:
    return f"words/{number:06d}.json"


def _frequent_file(number: int) -> str:
    return f"frequent/{number:06d}.json"


def divide_texts(texts: Sequence[str], *, lowercase: bool) -> list[list[str]]:
    """Return the words of each text."""
    return [WORD.findall(text.lower() if lowercase else text) for text in texts]


def _batches(ids: I64, eos: int) -> Iterator[list[list[int]]]:
    """Yield documents without their end, about ``BATCH_TOKENS`` tokens at a time."""
    ends = np.flatnonzero(ids == eos)
    batch: list[list[int]] = []
    start = first = 0
    for end in ends.tolist():
        batch.append(ids[start:end].tolist())
        start = end + 1
        if start - first >= BATCH_TOKENS:
            yield batch
            batch, first = [], start
    if batch:
        yield batch


def encode_part(corpus: Corpus, number: int) -> int:
    """Write a part's piece of the stream; return its length."""
    vocabulary = Vocabulary.from_bytes(corpus.work.read("vocabulary.json"))
    index = {word: number for number, word in enumerate(vocabulary.words)}
    words = json.loads(corpus.work.read(_words_file(number)))
    local = [index.get(word, RARE) for word in words]
    lookup = np.array([*local, END], np.int32)  # the last one is that of END, which is -1
    numbers = lookup[np.frombuffer(corpus.work.read(f"words/{number:06d}"), "<i4")]
    stream = numbers[numbers != RARE].astype("<i4")
    corpus.work.write(f"stream/{number:06d}", stream.tobytes(), durable=False)
    return len(stream)
