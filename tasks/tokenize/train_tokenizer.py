"""The two data sets behind a trained tokenizer: word counts per part, and the tokenizer itself.

`words` holds the counts of each part of the corpus, so that a corpus with one more page counts only
the part that holds it. `tokenizer` is trained on the sums. Its fingerprint covers the texts but not
how they are divided into parts, so it is reused as long as the sampled texts are the same.
"""

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.dataset.ledger import LEDGER_SCHEMA as LEDGER
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.formats.arrow_text import utf8_buffers
from tasks.tokenize.bpe import normalize_texts, train_bpe
from tasks.tokenize.config import TokenizeConfig
from tasks.tokenize.holdout_split import Sizes
from tasks.tokenize.pretokenizer import PretokenizerRule
from tasks.tokenize.word_counts import FILE_SUFFIX, merge, to_parquet
from tasks.tokenize.word_table import count_word_frequencies

CODE_MODULES = ("tasks.tokenize.train_tokenizer",)
WORDS = Stage("words", modules=CODE_MODULES, libraries=("tokenizers", "pyarrow"))
TOKENIZER = Stage("tokenizer", modules=CODE_MODULES, libraries=("tokenizers", "pyarrow"))
TOKENIZER_FILE, TRAINING_FILE = "tokenizer.json", "training.json"


def build_tokenizer(
    ctx: Context, config: TokenizeConfig, corpus: Dataset, draws: Dataset, used_bytes: Sizes
) -> Dataset:
    """Train a tokenizer on part of the corpus.

    Args:
        ctx: the run.
        config: the recipe's section.
        corpus: holds the text.
        draws: the data set `sample`; its parts are row-aligned with the corpus's.
        used_bytes: int64[documents], how many leading bytes of each text to train on.
    """
    names = ("pretokenizer", "digits", "spaces", "normalization")
    options = {name: getattr(config, name) for name in names}
    units, texts_digest = [], 0
    starts = np.cumsum([0, *(part.num_rows for part in corpus.parts)])
    for index, part in enumerate(corpus.parts):
        part_bytes = used_bytes[starts[index] : starts[index + 1]]
        if part_bytes.any():
            key = json_sha256([part.content, bytes_sha256(part_bytes.astype("<i8").tobytes())])
            units.append(
                WorkUnit(key, (part, part_bytes, options), int(np.count_nonzero(part_bytes)))
            )
            texts_digest += _texts_digest(draws.parts[index], part_bytes)
    keys = tuple(unit.key for unit in units)
    counted = build_dataset(
        ctx, DatasetSpec(WORDS, None, options, (corpus,), keys), units, count_part_words
    )
    # The vocabulary depends on the texts, not on the parts that hold them.
    trained = {
        **options,
        "vocab_size": config.vocab_size,
        "special_tokens": list(config.all_special_tokens),
        "max_distinct_words": config.max_distinct_words,
    }
    key = json_sha256(f"{texts_digest:x}")
    unit = WorkUnit(key, (counted.parts, trained), 0)
    spec = DatasetSpec(TOKENIZER, None, trained, (counted,), (key,))
    return build_dataset(ctx, spec, [unit], train_tokenizer, stats=_read_training_stats)


def import_tokenizer(ctx: Context, tokenizer: bytes) -> Dataset:
    """Commit an existing ``tokenizer.json`` as a `tokenizer` data set."""
    spec = DatasetSpec(TOKENIZER, None, {"given": bytes_sha256(tokenizer)})
    return build_dataset(ctx, spec, [], train_tokenizer, files={TOKENIZER_FILE: tokenizer})


def read_tokenizer(tokenizer: Dataset) -> bytes:
    """Read the ``tokenizer.json`` of a `tokenizer` data set, trained or imported."""
    for part in tokenizer.parts:
        return part.storage.read(part.file(TOKENIZER_FILE))
    return tokenizer.read(TOKENIZER_FILE)


def _texts_digest(draws: PartRef, used_bytes: Sizes) -> int:
    """Return the sum of the digests of a part's sampled texts, which does not depend on their order."""
    rows = np.flatnonzero(used_bytes)
    content = draws.table(["content"])["content"].take(pa.array(rows)).to_pylist()
    return sum(
        int.from_bytes(blake2b(f"{text} {size}".encode(), digest_size=32).digest(), "big")
        for text, size in zip(content, used_bytes[rows].tolist(), strict=True)
    )


def count_part_words(
    part: PartRef, used_bytes: Sizes, options: Mapping[str, Any]
) -> Iterator[PartResult]:
    """Count the words of a part's sampled documents."""
    rows = np.flatnonzero(used_bytes)
    table = part.table(["id", "text"]).take(pa.array(rows))
    texts = [
        text.encode()[:size].decode(errors="ignore")
        for text, size in zip(table["text"].to_pylist(), used_bytes[rows].tolist(), strict=True)
    ]
    rule = PretokenizerRule(options["pretokenizer"], options["digits"], options["spaces"])
    column = normalize_texts(pa.array(texts, pa.large_string()), options["normalization"])
    ids = table["id"].cast(pa.string())
    kept = pa.table({"id": ids, "bytes": pa.array(used_bytes[rows], pa.int64())})
    files = {FILE_SUFFIX: to_parquet(count_word_frequencies(rule, *utf8_buffers(column)))}
    yield PartResult(kept, ledger_table(WORDS.name, ids.to_pylist()), files)


def train_tokenizer(parts: list[PartRef], options: Mapping[str, Any]) -> Iterator[PartResult]:
    """Sum the word counts of all parts and train the tokenizer on them."""
    counted = merge(parts, options["max_distinct_words"])
    rule = PretokenizerRule(options["pretokenizer"], options["digits"], options["spaces"])
    vocabulary = train_bpe(
        utf8_buffers(counted.table["word"]),
        counted.table["count"].to_numpy(),
        vocab_size=options["vocab_size"],
        special_tokens=options["special_tokens"],
        rule=rule,
        normalization=options["normalization"],
    )
    training_stats = {
        "documents": sum(part.num_rows for part in parts),
        "bytes": sum(int(part.table(["bytes"])["bytes"].to_numpy().sum()) for part in parts),
        "words": counted.occurrences,
        "distinct_words": counted.distinct,
        "min_count": counted.min_count,
        "words_left_out": counted.left_out,
        "distinct_left_out": counted.distinct - counted.table.num_rows,
    }
    files = {
        TOKENIZER_FILE: vocabulary,
        TRAINING_FILE: json.dumps(training_stats, sort_keys=True).encode(),
    }
    yield PartResult(pa.table({"id": pa.array([], pa.string())}), LEDGER.empty_table(), files)


def _read_training_stats(parts: list[PartRef]) -> Mapping[str, Any]:
    stats: dict[str, Any] = json.loads(parts[0].storage.read(parts[0].file(TRAINING_FILE)))
    return stats
