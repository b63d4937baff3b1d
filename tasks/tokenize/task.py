"""The stage: draws per part, one tokenizer for all, token shards per part.

Three data sets come of it. `sample` holds each document's draws, `tokenizer` the vocabulary with
the documents that made it, `tokenize` the shards. Each finds what an earlier run left: a corpus
with another page draws only for that page's part, and keeps its tokenizer (and so its other
shards) unless the page fell into the sample.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from infra.dag import Step
from infra.dataset import Dataset, PartRef, open_dataset
from infra.fingerprint import digest, digest_bytes
from infra.ledger import verdicts
from infra.stage import Context, Outcome, Spec, Stage, Unit
from infra.stage import build as build_dataset
from infra.storage import Storage, StorageError, open_url
from tasks.tokenize.bpe import train
from tasks.tokenize.config import TokenizeConfig
from tasks.tokenize.encode import BadTokenizer, Encoder
from tasks.tokenize.shards import figures, tokenize_documents
from tasks.tokenize.split import SCHEMA as DRAWS
from tasks.tokenize.split import Sampled, cut, sample, survey, texts_of

STAGE = Stage(
    "tokenize", modules=("tasks.tokenize", "infra.tokens"), libraries=("tokenizers", "pyarrow")
)
SAMPLE = Stage("sample", modules=("tasks.tokenize.split",), libraries=("pyarrow",))
TOKENIZER = Stage(
    "tokenizer",
    modules=("tasks.tokenize.bpe", "tasks.tokenize.split", "tasks.tokenize.encode"),
    libraries=("tokenizers",),
)
JSON = "tokenizer.json"


def spec(ctx: Context, *, config: TokenizeConfig, corpus: Dataset) -> Spec:
    """What would be made of this corpus.

    Raises:
        StorageError: if the recipe names a tokenizer that is not there.
        BadTokenizer: if that file is no tokenizer, or lacks the end-of-text token.
    """
    facts = {"seed": ctx.seed, **config.facts()}
    given = _given(config)
    if given is not None:
        for trained_only in ("vocab_size", "style", "sample_bytes"):
            del facts[trained_only]
        facts["tokenizer"] = digest_bytes(given)  # the file counts, not where it lies
    return Spec(STAGE, None, facts, (corpus,))


def _given(config: TokenizeConfig) -> bytes | None:
    """The existing tokenizer that the recipe names, if it names one."""
    if config.tokenizer is None:
        return None
    try:
        with open_url(config.tokenizer) as file:
            data = file.read()
    except FileNotFoundError:
        raise StorageError(f"tokenize.tokenizer: no file {config.tokenizer!r}") from None
    try:
        Encoder(data, config.end_of_text)
    except BadTokenizer as error:
        raise BadTokenizer(f"tokenize.tokenizer: {config.tokenizer}: {error}") from None
    return data


def build(ctx: Context, spec: Spec, *, config: TokenizeConfig, corpus: Dataset) -> Dataset:
    """Train the tokenizer, if none is given, and write the corpus as token shards.

    Returns:
        A data set whose part k holds the shards of the corpus's part k, with ``tokenizer.json``.
    """
    drawn = build_sample(ctx, corpus)
    draws = pa.concat_tables([DRAWS.empty_table(), *(part.table() for part in drawn.parts)])
    limit = cut(draws["split_draw"].to_numpy(), config.validation)
    given = _given(config)
    if given is None:
        chosen = sample(draws, limit, config.sample_bytes)
        home = build_tokenizer(ctx, config, corpus, drawn, draws["content"].to_pylist(), chosen)
    else:
        home = build_dataset(ctx, _spec_of_given(given), [], train_tokenizer, files={JSON: given})
    vocabulary = read_tokenizer(home)
    encoder = Encoder(vocabulary, config.end_of_text)
    options = {"end_of_text": config.end_of_text, "seed": ctx.seed, "limit": limit}
    units = [
        Unit(digest([part.content, encoder.digest, limit]), (part, home, options), part.rows)
        for part in corpus.parts
    ]
    return build_dataset(
        ctx,
        spec,
        units,
        tokenize_part,
        files={JSON: vocabulary},
        facts=lambda parts: figures(parts, encoder),
    )


def build_sample(ctx: Context, corpus: Dataset) -> Dataset:
    """The draws of every document of a corpus; part k is row-aligned with the corpus's."""
    units = [Unit(part.content, (part, ctx.seed), part.rows) for part in corpus.parts]
    spec = Spec(SAMPLE, None, {"seed": ctx.seed}, (corpus,))
    return build_dataset(ctx, spec, units, survey_part)


def survey_part(part: PartRef, seed: int) -> Iterator[Outcome]:
    """Draws for one part of the corpus."""
    table = part.table(["id", "text", "cluster"])
    yield Outcome(survey(table, seed), verdicts(SAMPLE.name, table["id"].to_pylist()))


def build_tokenizer(
    ctx: Context,
    config: TokenizeConfig,
    corpus: Dataset,
    drawn: Dataset,
    content: Sequence[str],
    chosen: Sequence[Sampled],
) -> Dataset:
    """A tokenizer trained on some documents: one part, whose rows are these documents.

    Args:
        ctx: the run.
        config: the recipe's section.
        corpus: holds the text.
        drawn: the corpus's draws.
        content: digest of each document's text.
        chosen: the documents to train on.
    """
    options = {
        "vocab_size": config.vocab_size,
        "style": config.style,
        "end_of_text": config.end_of_text,
    }
    # The vocabulary depends on which texts there are, not on where they lie.
    key = digest(sorted([content[item.row], item.bytes] for item in chosen))
    unit = Unit(key, (_located(corpus.parts, chosen), options), len(chosen))
    spec = Spec(TOKENIZER, None, options, (drawn,), (key,))
    return build_dataset(ctx, spec, [unit], train_tokenizer)


def _spec_of_given(tokenizer: bytes) -> Spec:
    return Spec(TOKENIZER, None, {"given": digest_bytes(tokenizer)})


def read_tokenizer(home: Dataset) -> bytes:
    """The ``tokenizer.json`` of a `tokenizer` data set, trained or given."""
    for part in home.parts:
        return part.storage.read(part.file(JSON))
    return home.read(JSON)


Located = list[tuple[PartRef, list[tuple[int, int]]]]


def _located(parts: Sequence[PartRef], chosen: Sequence[Sampled]) -> Located:
    """The chosen documents by part: ``(row in the part, bytes of its text)``."""
    starts = np.cumsum([0, *(part.rows for part in parts)])
    rows: dict[int, list[tuple[int, int]]] = {}
    for item in chosen:
        number = int(np.searchsorted(starts, item.row, side="right")) - 1
        rows.setdefault(number, []).append((item.row - int(starts[number]), item.bytes))
    return [(parts[number], here) for number, here in sorted(rows.items())]


def train_tokenizer(located: Located, options: dict[str, Any]) -> Iterator[Outcome]:
    """Train on the chosen documents, a part in memory at a time."""
    ids: list[str] = []

    def texts() -> Iterator[str]:
        for part, rows in located:
            table = part.table(["id", "text"]).take([row for row, _ in rows])
            ids.extend(table["id"].to_pylist())
            for text, (_, size) in zip(texts_of(table), rows, strict=True):
                yield text.encode()[:size].decode(errors="ignore")

    vocabulary = train(texts(), **options)
    sizes = [size for _, rows in located for _, size in rows]
    table = pa.table({"id": pa.array(ids, pa.string()), "bytes": pa.array(sizes, pa.int64())})
    yield Outcome(table, verdicts(TOKENIZER.name, ids), {JSON: vocabulary})


@lru_cache(maxsize=1)
def _encoder(home: Storage, fingerprint: str, end_of_text: str) -> Encoder:  # noqa: ARG001
    """A loaded tokenizer, kept for the next part that this process works on."""
    return Encoder(read_tokenizer(open_dataset(home)), end_of_text)


def tokenize_part(part: PartRef, home: Dataset, options: dict[str, Any]) -> Iterator[Outcome]:
    """Token shards of one part of the corpus."""
    encoder = _encoder(home.storage, home.fingerprint, options["end_of_text"])
    table = part.table(["id", "url", "source", "language", "text", "cluster"])
    yield tokenize_documents(
        table, encoder, seed=options["seed"], limit=options["limit"], stage=STAGE.name
    )


tokenize = Step("tokenize", spec, build)
