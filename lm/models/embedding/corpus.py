"""Divide the training documents into words, count them, and number them by how often they occur.

Two phases over the parts of the token shards. The first one divides each part into words, numbered in the
order in which they appear in it; the second one replaces these by numbers of the whole vocabulary. What it
writes is the *stream*: the numbers of all words in the order of the text, ``END`` after each document.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import regex
from tokenizers import Tokenizer

from infra.compute.arrays import I32, I64
from infra.compute.phases import PhaseRunner
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
        counts: Counter[str] = Counter()
        for number in numbers:
            counts.update(self._load_counts(number))
        frequent = (item for item in counts.items() if item[1] >= self.section.min_count)
        ordered = sorted(frequent, key=lambda item: (-item[1], item[0]))[: self.section.max_words]
        if len(ordered) < 2:
            raise NoWordsError(
                f"train.{self.name}.model.min_count: {len(ordered)} of {len(counts):,} words occur "
                f"{self.section.min_count} times or more in the training documents; at least 2 are needed"
            )
        vocabulary = Vocabulary([word for word, _ in ordered], [count for _, count in ordered])
        self.work.write("vocabulary.json", vocabulary.to_bytes(), durable=False)
        return vocabulary

    def write_stream(self, runner: PhaseRunner) -> "Stream":
        """Write the stream; the vocabulary was built before."""
        payloads = [(self, number) for number in range(len(self.parts))]
        return Stream(self.work, tuple(runner.run("encode words", encode_part, payloads)))

    def _load_counts(self, number: int) -> dict[str, int]:
        counts: dict[str, int] = json.loads(self.work.read(f"counts/{number:06d}.json"))
        return counts


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
    counts = np.bincount(numbers[numbers >= 0], minlength=len(index)).tolist()
    corpus.work.write(f"words/{number:06d}", numbers.astype("<i4").tobytes(), durable=False)
    text = json.dumps(dict(zip(index, counts, strict=True)))
    corpus.work.write(f"counts/{number:06d}.json", text.encode(), durable=False)
    return sum(counts)


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
    local = [index.get(word, RARE) for word in corpus._load_counts(number)]
    lookup = np.array([*local, END], np.int32)  # the last one is that of END, which is -1
    numbers = lookup[np.frombuffer(corpus.work.read(f"words/{number:06d}"), "<i4")]
    stream = numbers[numbers != RARE].astype("<i4")
    corpus.work.write(f"stream/{number:06d}", stream.tobytes(), durable=False)
    return len(stream)
