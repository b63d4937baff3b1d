"""A model of word vectors as files, and as the word2vec text that other programs read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import load_file, save_file

from infra.compute.arrays import F32
from lm.models.embedding.subwords import hash_ngrams
from lm.models.embedding.token_text import write_field

CONFIG_FILE, MODEL_FILE, VOCABULARY_FILE = "config.json", "model.safetensors", "vocabulary.json"
VECTORS, NGRAMS = "vectors", "ngrams"  # arrays of the model file


@dataclass(frozen=True)
class Vocabulary:
    """Words and how often each occurs in the training documents, the most frequent one first."""

    words: list[str]
    counts: list[int]

    def to_bytes(self) -> bytes:
        """Return the vocabulary as JSON."""
        return json.dumps(vars(self), ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "Vocabulary":
        """Read what ``to_bytes`` wrote."""
        return cls(**json.loads(data))


@dataclass(frozen=True)
class WordVectors:
    """A model: a vector per word, and with subwords one per bucket of character n-grams.

    Attributes:
        vocabulary: the words.
        vectors: float32[words, size]; with subwords that of a word includes those of its n-grams.
        config: what ``config.json`` holds: ``unit``, ``lowercase``, and with subwords ``min_n`` and
            ``max_n``.
        ngrams: float32[buckets, size] with subwords.
    """

    vocabulary: Vocabulary
    vectors: F32
    config: Mapping[str, Any]
    ngrams: F32 | None = None
    index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index = {word: number for number, word in enumerate(self.vocabulary.words)}
        object.__setattr__(self, "index", index)

    def find(self, word: str) -> int | None:
        """Return the number of a word; ``None`` if it has no vector of its own.

        With ``unit: token`` that is the token that begins with a space, as a word does in a text, or else
        the token itself.
        """
        if self.config["unit"] == "token":
            number = self.index.get(f" {word}")
            return self.index.get(word) if number is None else number
        return self.index.get(word.lower() if self.config["lowercase"] else word)

    def vector(self, word: str) -> F32 | None:
        """Return the vector of a word; one that was not seen has that of its n-grams, if there are any."""
        number = self.find(word)
        if number is not None:
            return np.asarray(self.vectors[number])
        if self.ngrams is None:
            return None
        text = word.lower() if self.config["lowercase"] else word
        rows = hash_ngrams(text, self.config["min_n"], self.config["max_n"], len(self.ngrams))
        return np.asarray(self.ngrams[rows].mean(axis=0)) if rows else None

    def save(self, folder: Path) -> None:
        """Write the model's files."""
        arrays = {VECTORS: self.vectors} | ({} if self.ngrams is None else {NGRAMS: self.ngrams})
        save_file(
            {name: np.ascontiguousarray(item) for name, item in arrays.items()}, folder / MODEL_FILE
        )
        (folder / VOCABULARY_FILE).write_bytes(self.vocabulary.to_bytes())
        text = json.dumps(dict(self.config), indent=2, sort_keys=True)
        (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "WordVectors":
        """Load what ``save`` wrote."""
        arrays = load_file(folder / MODEL_FILE)
        return cls(
            Vocabulary.from_bytes((folder / VOCABULARY_FILE).read_bytes()),
            arrays[VECTORS],
            json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")),
            arrays.get(NGRAMS),
        )

    def write_text(self, file: BinaryIO) -> None:
        """Write the vectors of words in word2vec's text format.

        The first line holds the number of words and of values, each other one a word and its values, with
        as many digits as identify a float32. White space of tokens is written as ``write_field`` does.
        """
        size = self.vectors.shape[1]
        line = " ".join(["%s", *["%.9g"] * size]) + "\n"
        file.write(f"{len(self.vectors)} {size}\n".encode())
        file.writelines(
            (line % (write_field(word), *vector.tolist())).encode()
            for word, vector in zip(self.vocabulary.words, self.vectors, strict=True)
        )
