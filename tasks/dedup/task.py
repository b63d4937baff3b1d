"""The stage: signatures per part, one join over all of them, marks beside the documents."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.dag import Step
from infra.dataset import Dataset, PartRef, table_bytes
from infra.fingerprint import digest, digest_bytes
from infra.ledger import verdicts
from infra.progress import Progress
from infra.stage import Context, Outcome, Spec, Stage, Unit
from infra.stage import build as build_dataset
from infra.unicode import VERSION
from tasks.dedup.bands import Nominated, Nominations
from tasks.dedup.clusters import components
from tasks.dedup.config import DedupConfig
from tasks.dedup.groups import Groups, group
from tasks.dedup.signatures import band_column, build_signatures
from tasks.dedup.sketch import DIGEST
from tasks.dedup.verify import batches, similarities

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

STAGE = Stage(
    "dedup", modules=("tasks.dedup", "infra.arrow", "infra.unicode"), libraries=("pyarrow",)
)
EDGES = "edges.parquet"
EDGE_SCHEMA = pa.schema(
    [
        ("part_a", pa.int64()),
        ("row_a", pa.int64()),
        ("part_b", pa.int64()),
        ("row_b", pa.int64()),
        ("similarity", pa.float64()),
    ]
)
MARK_SCHEMA = pa.schema(
    [("exact_group", pa.string()), ("cluster", pa.string()), ("cluster_size", pa.int32())]
)
SHOWN_CLUSTERS, SHOWN_MEMBERS = 10, 5


def spec(ctx: Context, *, config: DedupConfig, documents: Sequence[Dataset]) -> Spec:  # noqa: ARG001
    """What would be made of these sources, in the order of the recipe."""
    return Spec(STAGE, None, {**config.facts(), "unicode": VERSION}, tuple(documents))


def build(
    ctx: Context, spec: Spec, *, config: DedupConfig, documents: Sequence[Dataset]
) -> Dataset:
    """Find exact and near duplicates over all sources.

    Returns:
        A data set whose part k is row-aligned with the k-th part of all ``documents``, and whose
        file ``edges.parquet`` holds the verified pairs.
    """
    corpus = _Corpus([part for source in documents for part in source.parts])
    sketches = [
        part for source in documents for part in build_signatures(ctx, config, source).parts
    ]
    groups = _groups(sketches)
    nominated = _nominate(sketches, groups, config)
    pairs = groups.first[nominated.pairs]  # documents
    similarity = _verify(ctx, corpus, pairs, config)
    passed = similarity >= config.threshold
    clusters = _Clusters(groups, components(len(groups.first), nominated.pairs[passed]))
    units = []
    for number, part in enumerate(corpus.parts):
        marks = table_bytes(clusters.marks(corpus.documents(number)))
        units.append(Unit(digest([part.content, digest_bytes(marks)]), (part, marks), part.rows))
    facts = {
        "documents": len(groups.of),
        "short_documents": int((groups.shingles[groups.of] == 0).sum()),
        "exact_groups": int((groups.sizes > 1).sum()),
        "exact_duplicates": int((groups.sizes - 1).sum()),
        "buckets": nominated.buckets,
        "largest_bucket": nominated.largest,
        "skewed_buckets": nominated.skewed,
        "pairs_left_out": nominated.left_out,
        "candidates": len(pairs),
        "verified": int(passed.sum()),
        "rejected": int((~passed).sum()),
        **clusters.facts(corpus),
    }
    return build_dataset(
        ctx,
        spec,
        units,
        mark,
        files={EDGES: table_bytes(_edges(corpus, pairs[passed], similarity[passed]))},
        facts=lambda _: facts,
    )


def mark(part: PartRef, marks: bytes) -> Iterator[Outcome]:
    """Put the marks of one part (Parquet bytes of `MARK_SCHEMA`) beside its ids."""
    table = part.table(["id", "url"])
    kept = pq.read_table(pa.BufferReader(marks)).add_column(0, "id", table["id"])
    said = verdicts(STAGE.name, table["id"].to_pylist(), urls=table["url"].to_pylist())
    yield Outcome(kept, said)


class _Corpus:
    """All parts in the order of the recipe; documents numbered through."""

    def __init__(self, parts: Sequence[PartRef]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *(part.rows for part in parts)])

    def documents(self, part: int) -> slice:
        return slice(int(self.starts[part]), int(self.starts[part + 1]))

    def place(self, documents: I64) -> I64:
        """(part, row) of each document: int64[..., 2]."""
        part = np.searchsorted(self.starts, documents, side="right") - 1
        return np.stack([part, documents - self.starts[part]], axis=-1)


class _Clusters:
    """Documents connected by exact groups and verified edges, named by their shortest text."""

    def __init__(self, groups: Groups, component: I64) -> None:
        self._groups = groups
        self._of = component[groups.of]  # the cluster of each document: its least group
        self._sizes = np.bincount(component, weights=groups.sizes, minlength=len(component))

    def marks(self, documents: slice) -> pa.Table:
        groups = self._groups
        own, clusters = groups.of[documents], self._of[documents]
        sizes = self._sizes[clusters].astype(np.int32)
        exact = [groups.name(g) if groups.sizes[g] > 1 else None for g in own]
        names = [
            groups.name(c) if size > 1 else None for c, size in zip(clusters, sizes, strict=True)
        ]
        return pa.table([exact, names, sizes], schema=MARK_SCHEMA)

    def facts(self, corpus: _Corpus) -> dict[str, Any]:
        found = np.flatnonzero(self._sizes > 1)
        # Of equally large clusters the one of the least digest comes first.
        order = sorted(found, key=lambda c: (-self._sizes[c], self._groups.name(int(c))))
        return {
            "clusters": len(found),
            "clustered_documents": int(self._sizes[found].sum()),
            "largest_clusters": [self._describe(corpus, int(c)) for c in order[:SHOWN_CLUSTERS]],
        }

    def _describe(self, corpus: _Corpus, cluster: int) -> dict[str, Any]:
        members = np.flatnonzero(self._of == cluster)
        places = corpus.place(members)
        sources = Counter(str(corpus.parts[int(part)].source) for part, _ in places)
        shown = []
        for part, row in places[:SHOWN_MEMBERS]:
            table = corpus.parts[int(part)].table(["id", "url", "title", "source"])
            shown.append(table.slice(int(row), 1).to_pylist()[0])
        return {
            "cluster": self._groups.name(cluster),
            "documents": len(members),
            "sources": dict(sorted(sources.items())),
            "members": shown,
        }


def _groups(sketches: Sequence[PartRef]) -> Groups:
    digests, shingles = [np.zeros((0, DIGEST), np.uint8)], [np.zeros(0, np.int64)]
    for part in sketches:
        table = part.table(["exact", "shingles"]).combine_chunks()
        raw = b"".join(table["exact"].to_pylist())
        digests.append(np.frombuffer(raw, np.uint8).reshape(-1, DIGEST))
        shingles.append(table["shingles"].to_numpy())
    return group(np.concatenate(digests), np.concatenate(shingles))


def _nominate(sketches: Sequence[PartRef], groups: Groups, config: DedupConfig) -> Nominated:
    """Pairs of groups that share a band; a text without shingles has no band."""
    start = int(np.searchsorted(groups.shingles, 1))
    nominations = Nominations(len(groups.first), config.bucket, config.neighbours)
    for band in range(config.bands):
        column = band_column(band)
        keys = [np.zeros(0, np.uint64)]
        keys += [part.table([column])[column].to_numpy() for part in sketches]
        nominations.add(np.concatenate(keys)[groups.first[start:]])
    found = nominations.result()
    return Nominated(
        found.pairs + start, found.buckets, found.largest, found.skewed, found.left_out
    )


def _verify(ctx: Context, corpus: _Corpus, pairs: I64, config: DedupConfig) -> F64:
    """The exact similarity of each pair of documents, computed over the cluster."""
    places = corpus.place(pairs).reshape(-1, 4)
    # Either side may come first: turned so that each pair names the smaller part first.
    turned = places[:, 0] > places[:, 2]
    places[turned] = places[turned][:, [2, 3, 0, 1]]
    work = batches(places)
    out = np.zeros(len(pairs))
    done = 0
    payloads = []
    for chosen in work:
        needed = np.unique(places[chosen][:, [0, 2]])
        parts = {int(part): corpus.parts[int(part)] for part in needed}
        payloads.append((parts, places[chosen], config.ngram))
    for index, found in ctx.cluster.map(similarities, payloads):
        out[work[index]] = found
        done += len(found)
        note = f"{done:,} of {len(pairs):,} candidate pairs verified"
        ctx.reporter.update(Progress(STAGE.name, None, 0, len(corpus.parts), note))
    return out


def _edges(corpus: _Corpus, pairs: I64, similarity: F64) -> pa.Table:
    pairs = np.sort(pairs, axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    places = corpus.place(pairs[order]).reshape(-1, 4)
    columns = [*places.T, similarity[order]]
    return pa.table([pa.array(column) for column in columns], schema=EDGE_SCHEMA)


dedup = Step("dedup", spec, build)
