"""The tokenizer's data sets: words counted part by part, summed and merged in one step.

`words` holds what each part's documents add to the counts, so that a corpus with another page
counts that page's part alone. `tokenizer` is made of the sums; it is known by the texts that made
it, wherever they lie, and found again as long as these are the same.
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
    """A tokenizer trained on some documents.

    Args:
        ctx: the run.
        config: the recipe's section.
        corpus: holds the text.
        draws: the corpus's draws, part by part.
        used_bytes: int64[documents] bytes of each text that train it, from its beginning.
    """
    rule = {"pretokenizer": config.pretokenizer, "digits": config.digits, "spaces": config.spaces}
    options = {**rule, "normalization": config.normalization}
    units, texts = [], 0
    starts = np.cumsum([0, *(part.num_rows for part in corpus.parts)])
    for number, part in enumerate(corpus.parts):
        here = used_bytes[starts[number] : starts[number + 1]]
        if here.any():
            key = json_sha256([part.content, bytes_sha256(here.astype("<i8").tobytes())])
            units.append(WorkUnit(key, (part, here, options), int(np.count_nonzero(here))))
            texts += _texts_digest(draws.parts[number], here)
    raw = tuple(unit.key for unit in units)
    counted = build_dataset(
        ctx, DatasetSpec(WORDS, None, options, (corpus,), raw), units, count_part_words
    )
    # The vocabulary depends on which texts there are, not on where they lie.
    trained = {
        **options,
        "vocab_size": config.vocab_size,
        "special_tokens": list(config.all_special_tokens),
        "max_distinct_words": config.max_distinct_words,
    }
    key = json_sha256(f"{texts:x}")
    unit = WorkUnit(key, (counted.parts, trained), 0)
    spec = DatasetSpec(TOKENIZER, None, trained, (counted,), (key,))
    return build_dataset(ctx, spec, [unit], train_tokenizer, stats=_read_training_stats)


def import_tokenizer(ctx: Context, tokenizer: bytes) -> Dataset:
    """A tokenizer that was there before."""
    spec = DatasetSpec(TOKENIZER, None, {"given": bytes_sha256(tokenizer)})
    return build_dataset(ctx, spec, [], train_tokenizer, files={TOKENIZER_FILE: tokenizer})


def read_tokenizer(tokenizer: Dataset) -> bytes:
    """The ``tokenizer.json`` of a `tokenizer` data set, trained or given."""
    for part in tokenizer.parts:
        return part.storage.read(part.file(TOKENIZER_FILE))
    return tokenizer.read(TOKENIZER_FILE)


def _texts_digest(draws: PartRef, used_bytes: Sizes) -> int:
    """The sum of the digests of a part's texts as far as they are used: the same in any order."""
    rows = np.flatnonzero(used_bytes)
    content = draws.table(["content"])["content"].take(pa.array(rows)).to_pylist()
    return sum(
        int.from_bytes(blake2b(f"{text} {size}".encode(), digest_size=32).digest(), "big")
        for text, size in zip(content, used_bytes[rows].tolist(), strict=True)
    )


def count_part_words(
    part: PartRef, used_bytes: Sizes, options: Mapping[str, Any]
) -> Iterator[PartResult]:
    """The words of a part's documents, as far as they are used."""
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
    """Sum the counts and merge."""
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
    said = {
        "documents": sum(part.num_rows for part in parts),
        "bytes": sum(int(part.table(["bytes"])["bytes"].to_numpy().sum()) for part in parts),
        "words": counted.occurrences,
        "distinct_words": counted.distinct,
        "min_count": counted.min_count,
        "words_left_out": counted.left_out,
        "distinct_left_out": counted.distinct - counted.table.num_rows,
    }
    files = {TOKENIZER_FILE: vocabulary, TRAINING_FILE: json.dumps(said, sort_keys=True).encode()}
    yield PartResult(pa.table({"id": pa.array([], pa.string())}), LEDGER.empty_table(), files)


def _read_training_stats(parts: list[PartRef]) -> Mapping[str, Any]:
    facts: dict[str, Any] = json.loads(parts[0].storage.read(parts[0].file(TRAINING_FILE)))
    return facts
