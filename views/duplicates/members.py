"""Load the members of duplicate clusters: which were kept, and why the others were not.

Labels, verdicts and pairs are read for the selected clusters only, and texts for the members that
are shown.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import groupby
from operator import and_, itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.ledger import KEPT
from infra.schemas.duplicate_pairs import REJECTED_PREFIX, VERIFIED_PREFIX
from views.documents.texts import parse_evidence, read_rows
from views.duplicates.clusters import DuplicateData

DUPLICATE_REASONS = ("exact_duplicate", "near_duplicate")  # their evidence names the kept document
MAX_TEXT_CHARS = 400_000  # characters of a text that are compared
MAX_MEMBERS = 1_000  # members of a cluster in memory, of the kept ones and of the others each
PAIR_BATCH_SIZE = 10_000  # pairs that are decoded at a time
PAIR_COLUMNS = ("cluster", "part_a", "row_a", "part_b", "row_b", "similarity", "band")
RowRef = tuple[int, int]  # index of the part among all parts of the documents, and row in it


@dataclass(frozen=True)
class Member:
    """A document of a cluster.

    Attributes:
        exact_group: id of its group of exact duplicates; ``None`` if it has none.
        verdict: of the selection: ``kept``, ``dropped`` or ``failed``; ``None`` if there is none.
        evidence: the values that the verdict is based on.
        compared_to: the member it is compared with: the kept document that it duplicates; else the
            most similar kept one; ``None`` for the one that the others are compared with.
        similarity: of the two; ``None`` if they were not compared.
        verified: whether the similarity reached the threshold.
        band: the first LSH band that the pair shares; ``None`` for exact duplicates and for pairs
            that were compared as members of one cluster.
        exact: whether the normalized texts of the two are equal.
        url, title: set by `with_metadata`.
    """

    row_ref: RowRef
    id: str
    source: str | None
    exact_group: str | None
    verdict: str | None = None
    reason: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    compared_to: RowRef | None = None
    similarity: float | None = None
    verified: bool = False
    band: int | None = None
    exact: bool = False
    url: str | None = None
    title: str | None = None

    @property
    def kept(self) -> bool:
        """Whether it is in the corpus."""
        return self.verdict == KEPT


@dataclass(frozen=True)
class Cluster:
    """Documents linked by exact equality and verified pairs.

    Attributes:
        id: its value in the column ``cluster``.
        selected: whether there are verdicts; if not, all are compared with the first member.
        sources: number of documents by source.
        kept: how many are in the corpus.
        reasons: how many were dropped, by reason.
        members: the kept ones; then those dropped as duplicates, the least similar first; then
            others. Of a large cluster perhaps not all.
    """

    id: str
    selected: bool
    sources: Mapping[str, int]
    kept: int
    reasons: Mapping[str, int]
    members: Sequence[Member]

    @property
    def documents(self) -> int:
        """How many members it has, loaded or not."""
        return sum(self.sources.values())


def load_clusters(
    data: DuplicateData, cluster_ids: Sequence[str], max_members: int | None = MAX_MEMBERS
) -> list[Cluster]:
    """Load clusters with their members, verdicts and similarities, in the order of the ids.

    Of the kept members and of the others, the first ``max_members`` each are loaded; ``None`` loads
    all. All are counted.
    """
    builders = {cluster_id: _ClusterBuilder() for cluster_id in cluster_ids}
    wanted = pa.array(list(cluster_ids), pa.string())
    for index, (part, documents, verdict_part) in enumerate(
        zip(data.duplicate_labels.parts, data.documents, data.verdict_parts, strict=True)
    ):
        column = part.table(["cluster"])["cluster"]
        rows = np.flatnonzero(pc.is_in(column, value_set=wanted).to_numpy()).tolist()
        if not rows:
            continue
        labels = read_rows(part, rows, ("id", "exact_group", "cluster"))
        verdicts = _read_verdicts(part, verdict_part, rows)
        for row, item, verdict in zip(rows, labels, verdicts, strict=True):
            builder = builders[item["cluster"]]
            builder.add((index, row), item, documents.source, verdict, max_members)
    pairs = _load_pairs(data.duplicate_labels, builders)
    selected = data.corpus is not None
    return [
        Cluster(
            cluster_id,
            selected,
            dict(builder.sources.most_common()),
            len(builder.kept) + builder.n_kept_omitted,
            dict(builder.reasons.most_common()),
            _compare_members(builder, pairs[cluster_id]),
        )
        for cluster_id, builder in builders.items()
    ]


Verdict = tuple[str | None, str | None, str | None]  # verdict, reason, evidence
NO_VERDICT: Verdict = (None, None, None)


class _ClusterBuilder:
    """Collects the members of a cluster part by part."""

    def __init__(self) -> None:
        self.sources: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.kept: list[Member] = []
        self.not_kept: list[Member] = []
        self.n_kept_omitted = 0
        # The first document of each exact group: pairs refer to it.
        self.group_representatives: dict[str, RowRef] = {}

    def add(
        self,
        row_ref: RowRef,
        row: Mapping[str, Any],
        source: str | None,
        ledger_verdict: Verdict,
        max_members: int | None,
    ) -> None:
        """Add a document; documents come in the order of parts and rows."""
        verdict, reason, evidence = ledger_verdict
        self.sources[str(source)] += 1
        if row["exact_group"] is not None:
            self.group_representatives.setdefault(row["exact_group"], row_ref)
        if verdict is not None and verdict != KEPT:
            self.reasons[reason or verdict] += 1
        members = self.kept if verdict == KEPT else self.not_kept
        if max_members is not None and len(members) >= max_members:
            self.n_kept_omitted += members is self.kept
            return
        parsed = parse_evidence(evidence)
        members.append(
            Member(row_ref, row["id"], source, row["exact_group"], verdict, reason, parsed)
        )

    @property
    def members(self) -> list[Member]:
        """The loaded members, in the order of the documents."""
        return sorted([*self.kept, *self.not_kept], key=lambda member: member.row_ref)

    @property
    def references(self) -> list[Member]:
        """The members that others are compared with: the kept ones, or the first one."""
        return self.kept or self.members[:1]

    def representative(self, member: Member) -> RowRef:
        """Return the document that represents a member in pairs."""
        return self.group_representatives.get(member.exact_group or "", member.row_ref)


def _read_verdicts(
    label_part: PartRef, verdict_part: PartRef | None, rows: Sequence[int]
) -> list[Verdict]:
    """Read the verdicts on some rows of a part.

    The ledger has a row per document, or lacks those that could not be annotated. Identical rows of
    a source share an id; then either all of them are in the ledger or none is, in the order of the
    documents.
    """
    if verdict_part is None:
        return [NO_VERDICT] * len(rows)
    ledger = verdict_part.verdicts(["id", "verdict", "reason", "evidence"])
    if not ledger.num_rows:
        return [NO_VERDICT] * len(rows)
    indices: list[int | None] = list(rows)
    if ledger.num_rows != label_part.num_rows:
        by_id: dict[str, list[int]] = {}
        for index, item in enumerate(ledger["id"].to_pylist()):
            by_id.setdefault(item, []).append(index)
        remaining = {item: iter(own) for item, own in by_id.items()}
        ids = label_part.table(["id"])["id"].to_pylist()
        ledger_rows = [next(remaining.get(item, iter(())), None) for item in ids]
        indices = [ledger_rows[row] for row in rows]
    taken = ledger.take(pa.array([index or 0 for index in indices], pa.int64())).to_pylist()
    return [
        NO_VERDICT if index is None else (item["verdict"], item["reason"], item["evidence"])
        for index, item in zip(indices, taken, strict=True)
    ]


@dataclass(frozen=True)
class Pair:
    """A compared pair of members: its similarity, and whether it reached the threshold."""

    similarity: float
    band: int | None
    verified: bool


PairsByMember = dict[RowRef, dict[RowRef, Pair]]


def _load_pairs(
    duplicate_labels: Dataset, builders: Mapping[str, _ClusterBuilder]
) -> dict[str, PairsByMember]:
    """Load the pairs between loaded members and those that others are compared with."""
    loaded = {key: {b.representative(m) for m in b.members} for key, b in builders.items()}
    references = {key: {b.representative(m) for m in b.references} for key, b in builders.items()}
    pairs: dict[str, PairsByMember] = {cluster_id: {} for cluster_id in builders}

    def add(cluster_id: str, one: RowRef, other: RowRef, pair: Pair) -> None:
        for member, reference in ((one, other), (other, one)):
            if reference in references[cluster_id] and member in loaded[cluster_id]:
                pairs[cluster_id].setdefault(member, {}).setdefault(reference, pair)

    # Files are sorted by cluster: only the row groups that may hold these are read.
    cluster_ids = pa.array(list(builders), pa.string())
    for cluster_id, one, other, pair in _read_pairs(
        duplicate_labels, VERIFIED_PREFIX, pc.field("cluster").isin(cluster_ids)
    ):
        add(cluster_id, one, other, pair)
    # Members without a verified pair may have a rejected one.
    unpaired = {
        ref: cluster_id
        for cluster_id in builders
        for ref in loaded[cluster_id]
        if ref not in pairs[cluster_id] and len(references[cluster_id] - {ref})
    }
    if unpaired:
        ends = {*unpaired, *(ref for key in unpaired.values() for ref in references[key])}
        cluster_of = {ref: cluster_id for cluster_id in builders for ref in loaded[cluster_id]}
        for _, one, other, pair in _read_pairs(
            duplicate_labels, REJECTED_PREFIX, _pair_filter(ends)
        ):
            cluster = cluster_of.get(one)
            if cluster is not None and cluster == cluster_of.get(other):
                add(cluster, one, other, pair)
    return pairs


def _pair_filter(row_refs: Collection[RowRef]) -> pc.Expression:
    """Filter pairs of which both ends may be among these; files are sorted, so little is read."""
    parts, rows = (pa.array(sorted({ref[k] for ref in row_refs}), pa.int64()) for k in (0, 1))
    fields = [(f"part_{end}", parts) for end in "ab"] + [(f"row_{end}", rows) for end in "ab"]
    return reduce(and_, (pc.field(name).isin(values) for name, values in fields))


def _read_pairs(
    duplicate_labels: Dataset, prefix: str, predicate: pc.Expression
) -> Iterator[tuple[str, RowRef, RowRef, Pair]]:
    for file in sorted(name for name in duplicate_labels.manifest.files if name.startswith(prefix)):
        with duplicate_labels.storage.open(duplicate_labels.manifest.files[file].name) as stream:
            table = pq.read_table(stream, filters=predicate)
        for batch in table.to_batches(max_chunksize=PAIR_BATCH_SIZE):
            columns = (batch[name].to_pylist() for name in PAIR_COLUMNS)
            for cluster, part_a, row_a, part_b, row_b, similarity, band in zip(
                *columns, strict=True
            ):
                pair = Pair(similarity, band if band >= 0 else None, prefix == VERIFIED_PREFIX)
                yield cluster, (part_a, row_a), (part_b, row_b), pair


def _compare_members(builder: _ClusterBuilder, pairs: PairsByMember) -> list[Member]:
    """Compare each member with a reference; return them in the order of ``Cluster.members``."""
    references = builder.references
    by_id = {member.id: member.row_ref for member in reversed(references)}
    by_representative = {
        builder.representative(member): member.row_ref for member in reversed(references)
    }
    representatives = {member.row_ref: builder.representative(member) for member in references}
    compared = []
    for member in builder.members:
        own = builder.representative(member)
        kept = by_id.get(str(member.evidence.get("survivor")))
        pair: Pair | None = None
        first = references[0].row_ref
        reference = first if first != member.row_ref else None
        if member.reason in DUPLICATE_REASONS and kept is not None:
            similarity = float(member.evidence.get("similarity", 1.0))
            pair, reference = Pair(similarity, member.evidence.get("band"), True), kept
        elif reference is None:
            pass
        elif own in by_representative and by_representative[own] != member.row_ref:
            pair, reference = Pair(1.0, None, True), by_representative[own]
        else:
            candidates = [
                (not other.verified, -other.similarity, by_representative[end], other)
                for end, other in pairs.get(own, {}).items()
                if end in by_representative and end != own
            ]
            if candidates:
                _, _, reference, pair = min(candidates, key=lambda item: item[:3])
        exact = reference is not None and representatives[reference] == own
        result = replace(member, compared_to=reference, exact=exact)
        if pair is not None:
            result = replace(
                result, similarity=pair.similarity, band=pair.band, verified=pair.verified
            )
        compared.append(result)
    return sorted(
        compared,
        key=lambda m: (
            m.row_ref not in representatives,
            m.reason not in DUPLICATE_REASONS,
            m.similarity or 0.0,
            m.row_ref,
        ),
    )


def with_metadata(data: DuplicateData, members: Sequence[Member]) -> list[Member]:
    """Return the members with their URLs and titles."""
    metadata = _read_columns(data, [member.row_ref for member in members], ("url", "title"))
    return [replace(member, **metadata[member.row_ref]) for member in members]


def load_member_texts(
    data: DuplicateData, row_refs: Sequence[RowRef], max_chars: int = MAX_TEXT_CHARS
) -> dict[RowRef, str]:
    """Load the texts of some documents, at most ``max_chars`` characters of each."""
    rows = _read_columns(data, row_refs, ("text",))
    return {ref: (row["text"] or "")[:max_chars] for ref, row in rows.items()}


def _read_columns(
    data: DuplicateData, row_refs: Sequence[RowRef], columns: Sequence[str]
) -> dict[RowRef, dict[str, Any]]:
    values: dict[RowRef, dict[str, Any]] = {}
    for index, refs in groupby(sorted(set(row_refs)), key=itemgetter(0)):
        rows = [row for _, row in refs]
        for row, item in zip(rows, read_rows(data.documents[index], rows, columns), strict=True):
            values[index, row] = {name: item.get(name) for name in columns}
    return values
