"""The stage `tokenize`: draws per part, one tokenizer, token shards per part.

It commits four data sets: `sample` (each document's draws), `words` (the word counts of the documents
that the tokenizer is trained on), `tokenizer` (the vocabulary) and `tokenize` (the shards). Each
reuses the parts of earlier runs: a corpus with one more page draws only for that page's part, and
keeps its tokenizer and all other shards unless the page is sampled for training the tokenizer.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import Dataset, PartRef, open_dataset
from infra.dataset.failure_limit import FailureLimit
from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import (
    Context,
    DatasetSpec,
    PartResult,
    Stage,
    WorkUnit,
    build_dataset,
)
from infra.schemas.text_digests import read_with_digests
from infra.store.external_files import open_url
from infra.store.storage import Storage, StorageError
from tasks.tokenize.canaries import choose_documents, make_canaries, plant
from tasks.tokenize.config import TokenizeConfig
from tasks.tokenize.encode import Encoder, InvalidTokenizerError
from tasks.tokenize.holdout_split import SCHEMA as DRAWS
from tasks.tokenize.holdout_split import draw_documents, holdout_threshold, training_bytes
from tasks.tokenize.shards import tokenize_documents
from tasks.tokenize.stats import tokenizer_stats
from tasks.tokenize.train_tokenizer import (
    TOKENIZER_FILE,
    build_tokenizer,
    import_tokenizer,
    read_tokenizer,
)

STAGE = Stage(
    "tokenize",
    modules=("tasks.tokenize.task",),
    libraries=("tokenizers", "pyarrow"),
    failure_limit=FailureLimit(1, 0.01),
)
SAMPLE = Stage("sample", modules=("tasks.tokenize.holdout_split",), libraries=("pyarrow",))
# Keys that have no effect on an existing tokenizer.
TRAINING_ONLY_KEYS = (
    "vocab_size", "pretokenizer", "digits", "spaces", "normalization", "special_tokens",
    "train_bytes", "max_distinct_words",
)  # fmt: skip


def spec(ctx: Context, *, config: TokenizeConfig, corpus: Dataset) -> DatasetSpec:
    """Describe the data set to build from this corpus.

    Raises:
        InvalidTokenizerError: if the recipe names a tokenizer that is missing or cannot be used.
    """
    settings = {"seed": ctx.seed, **config.to_json()}
    if config.canaries is None:
        del settings["canaries"]
    tokenizer = load_given_tokenizer(config)
    if tokenizer is not None:
        for name in TRAINING_ONLY_KEYS:
            del settings[name]
        settings["tokenizer"] = bytes_sha256(tokenizer)  # its content, not its path
    return DatasetSpec(STAGE, None, settings, (corpus,))


def load_given_tokenizer(config: TokenizeConfig) -> bytes | None:
    """Read the existing tokenizer that the recipe names; ``None`` if it names none.

    Raises:
        InvalidTokenizerError: if it cannot be read, is not a tokenizer or lacks the end-of-text
            token.
    """
    if config.tokenizer is None:
        return None
    try:
        with open_url(config.tokenizer) as file:
            data = file.read()
    except FileNotFoundError:
        raise InvalidTokenizerError(
            f"tokenize.tokenizer: file not found: {config.tokenizer!r}"
        ) from None
    except (IsADirectoryError, NotADirectoryError, PermissionError, StorageError) as error:
        raise InvalidTokenizerError(f"tokenize.tokenizer: {error}") from None
    try:
        Encoder(data, config.end_of_text)
    except InvalidTokenizerError as error:
        raise InvalidTokenizerError(f"tokenize.tokenizer: {config.tokenizer}: {error}") from None
    return data


def build(ctx: Context, spec: DatasetSpec, *, config: TokenizeConfig, corpus: Dataset) -> Dataset:
    """Train a tokenizer unless the recipe names one, and write the corpus as token shards.

    Returns:
        A data set whose part k holds the shards of the corpus's part k, with ``tokenizer.json``.
    """
    sample = build_sample(ctx, corpus)
    canaries = [] if config.canaries is None else make_canaries(config.canaries, ctx.seed)
    wanted = ["split_draw", "sample_draw", "bytes", *(["id"] if canaries else [])]
    columns = pa.schema([DRAWS.field(name) for name in wanted])
    parts = [part.table(columns.names) for part in sample.parts]
    draws = pa.concat_tables([columns.empty_table(), *parts])
    split_draws = draws["split_draw"].to_numpy()
    threshold = holdout_threshold(split_draws, config.validation_fraction)
    given = load_given_tokenizer(config)
    if given is None:
        sizes = draws["bytes"].to_numpy()
        used_bytes = training_bytes(
            split_draws, draws["sample_draw"].to_numpy(), sizes, threshold, config.train_bytes
        )
        tokenizer = build_tokenizer(ctx, config, corpus, sample, used_bytes)
    else:
        tokenizer = import_tokenizer(ctx, given)
    tokenizer_json = read_tokenizer(tokenizer)
    encoder = Encoder(tokenizer_json, config.end_of_text)
    options = {"end_of_text": config.end_of_text, "seed": ctx.seed, "threshold": threshold}
    planted: Mapping[str, Sequence[str]] = {}
    if canaries:
        trained = draws["id"].filter(pa.array(split_draws >= threshold))
        planted = choose_documents(canaries, trained.to_pylist(), ctx.seed)
    units = []
    for part, drawn in zip(corpus.parts, parts, strict=True):
        ids = drawn["id"].to_pylist() if planted else []
        own = {name: planted[name] for name in ids if name in planted}
        key = [part.content, encoder.digest, threshold, *([own] if own else [])]
        arguments = (part, tokenizer, {**options, "canaries": own})
        units.append(WorkUnit(json_sha256(key), arguments, part.num_rows))
    return build_dataset(
        ctx,
        spec,
        units,
        tokenize_part,
        files={TOKENIZER_FILE: tokenizer_json},
        stats=lambda parts: {
            **tokenizer_stats(parts, encoder),
            "training": dict(tokenizer.stats) or None,
            **({"canaries": [canary.to_json() for canary in canaries]} if canaries else {}),
        },
    )


def build_sample(ctx: Context, corpus: Dataset) -> Dataset:
    """Draw for every document of a corpus; part k is row-aligned with the corpus's part k."""
    units = [WorkUnit(part.content, (part, ctx.seed), part.num_rows) for part in corpus.parts]
    spec = DatasetSpec(SAMPLE, None, {"seed": ctx.seed}, (corpus,))
    return build_dataset(ctx, spec, units, draw_part)


def draw_part(part: PartRef, seed: int) -> Iterator[PartResult]:
    """Draw for the documents of one part of the corpus."""
    table = read_with_digests(part, ["id"])
    yield PartResult(
        draw_documents(table, seed), ledger_table(SAMPLE.name, table["id"].to_pylist())
    )


@lru_cache(maxsize=1)
def _load_encoder(tokenizer: Storage, fingerprint: str, end_of_text: str) -> Encoder:  # noqa: ARG001
    """Load a tokenizer; this process keeps it for the next part."""
    return Encoder(read_tokenizer(open_dataset(tokenizer)), end_of_text)


def tokenize_part(
    part: PartRef, tokenizer: Dataset, options: Mapping[str, Any]
) -> Iterator[PartResult]:
    """Write the token shards of one part of the corpus."""
    encoder = _load_encoder(tokenizer.storage, tokenizer.fingerprint, options["end_of_text"])
    table = read_with_digests(part, ["id", "url", "source", "language", "license", "text"])
    if options["canaries"]:
        table = plant(table, options["canaries"])
    yield tokenize_documents(
        table, encoder, seed=options["seed"], threshold=options["threshold"], stage=STAGE.name
    )
