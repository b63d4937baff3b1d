"""Small corpora for the tests of token shards."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import document_id, json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.dataset.tables import table_bytes
from infra.schemas.text_digests import DIGESTS_SCHEMA, DIGESTS_SUFFIX, digest_texts
from infra.store.storage import Storage
from tasks.tokenize.bpe import train_bpe_from_texts
from tasks.tokenize.encode import Encoder
from tasks.tokenize.pretokenizer import PretokenizerRule, PretokenizerStyle

STAGE = Stage("select", ("tests.tokenize.corpora",))
EOS = "<|endoftext|>"

PROSE = (
    "It was the best of times, it was the worst of times, it was the age of wisdom.",
    "Call me Ishmael. Some years ago, never mind how long precisely, I went to sea.",
    "Es war einmal ein König, der hatte eine Tochter, die war schöner als der Tag.",
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "Il était une fois 1234567 princes; ils n'eurent ni château ni royaume.\n\n\t Fin.",
)


def table(
    texts: Sequence[str | None], language: str = "en", clusters: Sequence[str | None] = ()
) -> pa.Table:
    """A part of a corpus with the columns that the stage reads."""
    n = len(texts)
    urls = [f"https://example.org/{json_sha256(text)[:8]}" for text in texts]
    ids = [
        document_id("site", url, (text or "").encode())
        for url, text in zip(urls, texts, strict=True)
    ]
    column = pa.array(list(texts), pa.large_string())
    digests = digest_texts(column)
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "url": pa.array(urls, pa.string()),
            "source": pa.array(["site"] * n, pa.string()),
            "language": pa.array([language] * n, pa.string()),
            "license": pa.array([None] * n, pa.string()),
            "text": column,
            "cluster": pa.array(list(clusters) or [None] * n, pa.string()),
            **{name: digests[name] for name in DIGESTS_SCHEMA.names},
        }
    )


def variations(count: int, start: int = 0) -> list[str]:
    """Distinct texts that share most of their words."""
    return [
        f"Page {number}. {PROSE[number % len(PROSE)]} {PROSE[number * 7 % 3]} End {number * 31}."
        for number in range(start, start + count)
    ]


def context(root: Path | str, seed: int = 1337, workers: int = 0) -> Context:
    """A run in this process, or on ``workers`` Dask workers."""
    cluster = DaskCluster(ClusterConfig.model_validate({"workers": workers}))
    return Context(Storage(str(root)), seed, cluster, NullReporter())


def corpus(ctx: Context, parts: Sequence[pa.Table]) -> Dataset:
    """A committed corpus."""
    names = [json_sha256(part["id"].to_pylist()) for part in parts]
    units = [
        WorkUnit(name, (part,), part.num_rows) for name, part in zip(names, parts, strict=True)
    ]
    return build_dataset(ctx, DatasetSpec(STAGE, None, {"parts": names}), units, keep_all)


def keep_all(part: pa.Table) -> list[PartResult]:
    """Commit a table unchanged, its text digests in a file of their own as `select` does."""
    digests = table_bytes(part.select(DIGESTS_SCHEMA.names))
    rows = part.drop_columns(DIGESTS_SCHEMA.names)
    ledger = ledger_table("select", part["id"].to_pylist())
    return [PartResult(rows, ledger, {DIGESTS_SUFFIX: digests})]


def encoder(style: PretokenizerStyle = "gpt2", vocab_size: int = 400) -> Encoder:
    """A small tokenizer trained on `PROSE`."""
    return Encoder(
        train_bpe_from_texts(
            PROSE, vocab_size=vocab_size, special_tokens=[EOS], rule=PretokenizerRule(style)
        ),
        EOS,
    )
