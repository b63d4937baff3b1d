"""Small corpora for the tests of token shards."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from infra.compute.cluster import Cluster, ClusterConfig
from infra.compute.progress import Silent
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import digest, document_id
from infra.dataset.ledger import verdicts
from infra.dataset.stage import Context, Outcome, Spec, Stage, Unit, build
from infra.store.storage import Storage
from tasks.tokenize.bpe import train
from tasks.tokenize.encode import Encoder
from tasks.tokenize.pretokenizer import Rule, Style

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
    """Documents as `select` leaves them, as far as these stages read them."""
    n = len(texts)
    urls = [f"https://example.org/{digest(text)[:8]}" for text in texts]
    ids = [
        document_id("site", url, (text or "").encode())
        for url, text in zip(urls, texts, strict=True)
    ]
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "url": pa.array(urls, pa.string()),
            "source": pa.array(["site"] * n, pa.string()),
            "language": pa.array([language] * n, pa.string()),
            "text": pa.array(list(texts), pa.large_string()),
            "cluster": pa.array(list(clusters) or [None] * n, pa.string()),
        }
    )


def variations(count: int, start: int = 0) -> list[str]:
    """Different texts made of the same few words."""
    return [
        f"Page {number}. {PROSE[number % len(PROSE)]} {PROSE[number * 7 % 3]} End {number * 31}."
        for number in range(start, start + count)
    ]


def context(root: Path | str, seed: int = 1337, workers: int = 0) -> Context:
    """A run that works in this process, unless told otherwise."""
    cluster = Cluster(ClusterConfig.model_validate({"workers": workers}))
    return Context(Storage(str(root)), seed, cluster, Silent())


def corpus(ctx: Context, parts: Sequence[pa.Table]) -> Dataset:
    """A committed corpus."""
    names = [digest(part["id"].to_pylist()) for part in parts]
    units = [Unit(name, (part,), part.num_rows) for name, part in zip(names, parts, strict=True)]
    return build(ctx, Spec(STAGE, None, {"parts": names}), units, keep)


def keep(part: pa.Table) -> list[Outcome]:
    """Pass a table on."""
    return [Outcome(part, verdicts("select", part["id"].to_pylist()))]


def encoder(style: Style = "gpt2", vocab_size: int = 400) -> Encoder:
    """A small tokenizer that knows the words of `PROSE`."""
    return Encoder(train(PROSE, vocab_size=vocab_size, specials=[EOS], rule=Rule(style)), EOS)
