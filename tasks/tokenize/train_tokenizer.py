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
from infra.dataset.fingerprint import digest, digest_bytes
from infra.dataset.ledger import SCHEMA as LEDGER
from infra.dataset.ledger import verdicts
from infra.dataset.stage import Context, Outcome, Spec, Stage, Unit
from infra.dataset.stage import build as build_dataset
from infra.formats.arrow_text import utf8
from tasks.tokenize.bpe import build, normalised
from tasks.tokenize.config import TokenizeConfig
from tasks.tokenize.holdout_split import Sizes
from tasks.tokenize.pretokenizer import Rule
from tasks.tokenize.word_counts import SUFFIX, merge, to_parquet
from tasks.tokenize.word_table import count

CODE = ("tasks.tokenize.train_tokenizer",)
WORDS = Stage("words", modules=CODE, libraries=("tokenizers", "pyarrow"))
TOKENIZER = Stage("tokenizer", modules=CODE, libraries=("tokenizers", "pyarrow"))
JSON, TRAINING = "tokenizer.json", "training.json"


def build_tokenizer(
    ctx: Context, config: TokenizeConfig, corpus: Dataset, drawn: Dataset, used: Sizes
) -> Dataset:
    """A tokenizer trained on some documents.

    Args:
        ctx: the run.
        config: the recipe's section.
        corpus: holds the text.
        drawn: the corpus's draws, part by part.
        used: int64[documents] bytes of each text that train it, from its beginning.
    """
    rule = {"style": config.style, "digits": config.digits, "spaces": config.spaces}
    options = {**rule, "normalisation": config.normalisation}
    units, texts = [], 0
    starts = np.cumsum([0, *(part.rows for part in corpus.parts)])
    for number, part in enumerate(corpus.parts):
        here = used[starts[number] : starts[number + 1]]
        if here.any():
            key = digest([part.content, digest_bytes(here.astype("<i8").tobytes())])
            units.append(Unit(key, (part, here, options), int(np.count_nonzero(here))))
            texts += _identity(drawn.parts[number], here)
    raw = tuple(unit.key for unit in units)
    counted = build_dataset(ctx, Spec(WORDS, None, options, (corpus,), raw), units, count_words)
    # The vocabulary depends on which texts there are, not on where they lie.
    trained = {
        **options,
        "vocab_size": config.vocab_size,
        "specials": list(config.specials),
        "distinct_words": config.distinct_words,
    }
    key = digest(f"{texts:x}")
    unit = Unit(key, (counted.parts, trained), 0)
    spec = Spec(TOKENIZER, None, trained, (counted,), (key,))
    return build_dataset(ctx, spec, [unit], train_tokenizer, facts=_facts)


def given_tokenizer(ctx: Context, tokenizer: bytes) -> Dataset:
    """A tokenizer that was there before."""
    spec = Spec(TOKENIZER, None, {"given": digest_bytes(tokenizer)})
    return build_dataset(ctx, spec, [], train_tokenizer, files={JSON: tokenizer})


def read_tokenizer(home: Dataset) -> bytes:
    """The ``tokenizer.json`` of a `tokenizer` data set, trained or given."""
    for part in home.parts:
        return part.storage.read(part.file(JSON))
    return home.read(JSON)


def _identity(draws: PartRef, used: Sizes) -> int:
    """The sum of the digests of a part's texts as far as they are used: the same in any order."""
    rows = np.flatnonzero(used)
    content = draws.table(["content"])["content"].take(pa.array(rows)).to_pylist()
    return sum(
        int.from_bytes(blake2b(f"{text} {size}".encode(), digest_size=32).digest(), "big")
        for text, size in zip(content, used[rows].tolist(), strict=True)
    )


def count_words(part: PartRef, used: Sizes, options: Mapping[str, Any]) -> Iterator[Outcome]:
    """The words of a part's documents, as far as they are used."""
    rows = np.flatnonzero(used)
    table = part.table(["id", "text"]).take(pa.array(rows))
    texts = [
        text.encode()[:size].decode(errors="ignore")
        for text, size in zip(table["text"].to_pylist(), used[rows].tolist(), strict=True)
    ]
    rule = Rule(options["style"], options["digits"], options["spaces"])
    column = normalised(pa.array(texts, pa.large_string()), options["normalisation"])
    ids = table["id"].cast(pa.string())
    kept = pa.table({"id": ids, "bytes": pa.array(used[rows], pa.int64())})
    files = {SUFFIX: to_parquet(count(rule, *utf8(column)))}
    yield Outcome(kept, verdicts(WORDS.name, ids.to_pylist()), files)


def train_tokenizer(parts: list[PartRef], options: Mapping[str, Any]) -> Iterator[Outcome]:
    """Sum the counts and merge."""
    counted = merge(parts, options["distinct_words"])
    rule = Rule(options["style"], options["digits"], options["spaces"])
    vocabulary = build(
        utf8(counted.table["word"]),
        counted.table["count"].to_numpy(),
        vocab_size=options["vocab_size"],
        specials=options["specials"],
        rule=rule,
        normalisation=options["normalisation"],
    )
    said = {
        "documents": sum(part.rows for part in parts),
        "bytes": sum(int(part.table(["bytes"])["bytes"].to_numpy().sum()) for part in parts),
        "words": counted.occurrences,
        "distinct_words": counted.distinct,
        "least_count": counted.least,
        "words_left_out": counted.left_out,
        "distinct_left_out": counted.distinct - counted.table.num_rows,
    }
    files = {JSON: vocabulary, TRAINING: json.dumps(said, sort_keys=True).encode()}
    yield Outcome(pa.table({"id": pa.array([], pa.string())}), LEDGER.empty_table(), files)


def _facts(parts: list[PartRef]) -> Mapping[str, Any]:
    facts: dict[str, Any] = json.loads(parts[0].storage.read(parts[0].file(TRAINING)))
    return facts
