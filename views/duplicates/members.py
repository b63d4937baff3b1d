"""Who belongs to a cluster, who of them stayed, and why each other went.

Marks, verdicts and pairs are read for the chosen clusters only, and texts for the members that are
shown.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import and_
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dataset.dataset import VERDICTS_SUFFIX, Dataset, PartRef
from infra.dataset.ledger import KEPT
from infra.schemas.duplicate_pairs import REJECTED_PREFIX, VERIFIED_PREFIX
from views.documents.texts import parse_evidence, read_rows
from views.duplicates.clusters import DuplicateData

DUPLICATE_REASONS = ("exact_duplicate", "near_duplicate")  # reasons that name a survivor
MAX_TEXT_CHARS = 400_000  # characters of a text that are looked at
MAX_MEMBERS = 1_000  # members of a cluster that are held, of those that stay and of the others each
PAIR_BATCH_SIZE = 10_000  # pairs that are looked at together
PAIR_COLUMNS = ("cluster", "part_a", "row_a", "part_b", "row_b", "similarity", "band")
RowRef = tuple[int, int]  # part among all parts of the documents, and row in it


@dataclass(frozen=True)
class Member:
    """A document of a cluster.

    Attributes:
        row_ref: number of its part among all parts of the documents, and row in that part.
        id: its id.
        source: the source it came from.
        exact_group: what it shares with its exact copies; ``None`` if it has none.
        verdict: of select: ``kept``, ``dropped`` or ``failed``; ``None`` if select has not judged it.
        reason: why select dropped it.
        evidence: what that rests on.
        compared_to: the member it is compared with: the survivor it was dropped for; else the most
            similar one that stays; ``None`` for the one that the others are compared with.
        similarity: of the two; ``None`` where they were not compared.
        verified: whether it reached the threshold.
        band: the first band that nominated the pair; ``None`` for exact copies and for pairs that
            were compared as members of one cluster.
        exact: whether the normalised texts of the two are equal.
        url: its address, once `with_metadata`.
        title: its title, once `with_metadata`.
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
    """Documents that exact equality and verified pairs link.

    Attributes:
        id: its name in the column ``cluster``.
        selected: whether select has spoken; if not, all are compared with the first member.
        sources: documents by source.
        kept: how many are in the corpus.
        reasons: how many went, by reason.
        members: those that stay; then those dropped as copies, the least similar first; then
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
        """Its members, held or not."""
        return sum(self.sources.values())


def load_clusters(
    data: DuplicateData, cluster_ids: Sequence[str], max_members: int | None = MAX_MEMBERS
) -> list[Cluster]:
    """Clusters with their members, verdicts and similarities, in the order of the names.

    Args:
        data: of a run.
        cluster_ids: of clusters.
        max_members: members of a cluster that are held, of those that stay and of the others each, the
            first ones; ``None`` holds all. All are counted.
    """
    drafts = {name: _ClusterBuilder() for name in cluster_ids}
    wanted = pa.array(list(cluster_ids), pa.string())
    for number, (part, text, judge) in enumerate(
        zip(data.duplicate_labels.parts, data.documents, data.verdict_parts, strict=True)
    ):
        column = part.table(["cluster"])["cluster"]
        rows = np.flatnonzero(pc.is_in(column, value_set=wanted).to_numpy()).tolist()
        if not rows:
            continue
        found = read_rows(part, rows, ("id", "exact_group", "cluster"))
        said = _read_verdicts(part, judge, rows) if judge else [NO_VERDICT] * len(rows)
        for row, item, verdict in zip(rows, found, said, strict=True):
            drafts[item["cluster"]].add((number, row), item, text.source, verdict, max_members)
    pairs = _load_pairs(data.duplicate_labels, drafts)
    judged = data.corpus is not None
    return [
        Cluster(
            name,
            judged,
            dict(draft.sources.most_common()),
            len(draft.kept) + draft.n_kept_omitted,
            dict(draft.reasons.most_common()),
            _compare_members(draft, pairs[name]),
        )
        for name, draft in drafts.items()
    ]


Verdict = tuple[str | None, str | None, str | None]  # verdict, reason, evidence
NO_VERDICT: Verdict = (None, None, None)


class _ClusterBuilder:
    """What is known of a cluster while its parts are read."""

    def __init__(self) -> None:
        self.sources: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.kept: list[Member] = []
        self.not_kept: list[Member] = []
        self.n_kept_omitted = 0
        self.group_representatives: dict[
            str, RowRef
        ] = {}  # the first of each exact group, which pairs name

    def add(
        self,
        row_ref: RowRef,
        row: Mapping[str, Any],
        source: str | None,
        ledger_verdict: Verdict,
        max_members: int | None,
    ) -> None:
        """A further document, parts and rows in order."""
        verdict, reason, evidence = ledger_verdict
        self.sources[str(source)] += 1
        if row["exact_group"] is not None:
            self.group_representatives.setdefault(row["exact_group"], row_ref)
        if verdict is not None and verdict != KEPT:
            self.reasons[reason or verdict] += 1
        held = self.kept if verdict == KEPT else self.not_kept
        if max_members is not None and len(held) >= max_members:
            self.n_kept_omitted += held is self.kept
            return
        parsed = parse_evidence(evidence)
        held.append(Member(row_ref, row["id"], source, row["exact_group"], verdict, reason, parsed))

    @property
    def members(self) -> list[Member]:
        """Those that are held, in the order of the documents."""
        return sorted([*self.kept, *self.not_kept], key=lambda member: member.row_ref)

    @property
    def references(self) -> list[Member]:
        """Those that others are compared with: the ones that stay, or the very first."""
        return self.kept or self.members[:1]

    def representative(self, member: Member) -> RowRef:
        """The document that stands for a member in pairs."""
        return self.group_representatives.get(member.exact_group or "", member.row_ref)


def _read_verdicts(
    label_part: PartRef, verdict_part: PartRef, rows: Sequence[int]
) -> list[Verdict]:
    """What the ledger says of some rows of a part.

    It has a row per document, or lacks those that could not be annotated. Identical rows of a
    source share an id, but then all of them are there or none is, in the order of the documents.
    """
    with verdict_part.storage.open(verdict_part.file(VERDICTS_SUFFIX)) as stream:
        ledger = pq.read_table(stream, columns=["id", "verdict", "reason", "evidence"])
    if not ledger.num_rows:
        return [NO_VERDICT] * len(rows)
    places: list[int | None] = list(rows)
    if ledger.num_rows != label_part.num_rows:
        there: dict[str, list[int]] = {}
        for place, item in enumerate(ledger["id"].to_pylist()):
            there.setdefault(item, []).append(place)
        turns = {item: iter(found) for item, found in there.items()}
        ids = label_part.table(["id"])["id"].to_pylist()
        of_row = [next(turns.get(item, iter(())), None) for item in ids]
        places = [of_row[row] for row in rows]
    known = ledger.take(pa.array([place or 0 for place in places], pa.int64())).to_pylist()
    return [
        NO_VERDICT if place is None else (said["verdict"], said["reason"], said["evidence"])
        for place, said in zip(places, known, strict=True)
    ]


@dataclass(frozen=True)
class Pair:
    """What is known of two members: their similarity, and whether it reached the threshold."""

    similarity: float
    band: int | None
    verified: bool


PairsByMember = dict[RowRef, dict[RowRef, Pair]]


def _load_pairs(
    duplicate_labels: Dataset, builders: Mapping[str, _ClusterBuilder]
) -> dict[str, PairsByMember]:
    """The pairs between members that are held and those that others are compared with."""
    held = {
        name: {d.representative(member) for member in d.members} for name, d in builders.items()
    }
    heads = {
        name: {d.representative(member) for member in d.references} for name, d in builders.items()
    }
    found: dict[str, PairsByMember] = {name: {} for name in builders}

    def add(name: str, one: RowRef, other: RowRef, pair: Pair) -> None:
        for end, head in ((one, other), (other, one)):
            if head in heads[name] and end in held[name]:
                found[name].setdefault(end, {}).setdefault(head, pair)

    # Sorted by cluster: only the row groups that may hold these are read.
    names = pa.array(list(builders), pa.string())
    for name, one, other, pair in _read_pairs(
        duplicate_labels, VERIFIED_PREFIX, pc.field("cluster").isin(names)
    ):
        add(name, one, other, pair)
    # Those that resemble nothing that stays were compared with it perhaps, and fell short.
    alone = {
        place: name
        for name in builders
        for place in held[name]
        if place not in found[name] and len(heads[name] - {place})
    }
    ends = {*alone, *(head for name in alone.values() for head in heads[name])}
    if alone:
        wanted = _pair_filter(ends)
        of = {place: name for name in builders for place in held[name]}
        for _, one, other, pair in _read_pairs(duplicate_labels, REJECTED_PREFIX, wanted):
            if of.get(one) is not None and of.get(one) == of.get(other):
                add(of[one], one, other, pair)
    return found


def _pair_filter(row_refs: Collection[RowRef]) -> pc.Expression:
    """Pairs of which both ends may be among these places; sorted by place, so little is read."""
    parts, rows = (pa.array(sorted({p[k] for p in row_refs}), pa.int64()) for k in (0, 1))
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
            for name, part_a, row_a, part_b, row_b, similarity, band in zip(*columns, strict=True):
                pair = Pair(similarity, band if band >= 0 else None, prefix == VERIFIED_PREFIX)
                yield name, (part_a, row_a), (part_b, row_b), pair


def _compare_members(builder: _ClusterBuilder, pairs: PairsByMember) -> list[Member]:
    """Members in the order in which they are told, each with the one it is compared with."""
    heads = builder.references
    by_id = {member.id: member.row_ref for member in reversed(heads)}
    by_leader = {builder.representative(member): member.row_ref for member in reversed(heads)}
    leaders = {member.row_ref: builder.representative(member) for member in heads}
    out = []
    for member in builder.members:
        own = builder.representative(member)
        place = by_id.get(str(member.evidence.get("survivor")))
        told: Pair | None = None
        first = heads[0].row_ref
        against = first if first != member.row_ref else None
        if member.reason in DUPLICATE_REASONS and place is not None:
            said = member.evidence
            told, against = Pair(float(said.get("similarity", 1.0)), said.get("band"), True), place
        elif against is None:
            pass
        elif own in by_leader and by_leader[own] != member.row_ref:
            told, against = Pair(1.0, None, True), by_leader[own]
        else:
            near = [
                (not pair.verified, -pair.similarity, by_leader[head], pair)
                for head, pair in pairs.get(own, {}).items()
                if head in by_leader and head != own
            ]
            if near:
                _, _, against, told = min(near, key=lambda one: one[:3])
        exact = against is not None and leaders[against] == own
        compared = replace(member, compared_to=against, exact=exact)
        if told is not None:
            compared = replace(
                compared, similarity=told.similarity, band=told.band, verified=told.verified
            )
        out.append(compared)
    return sorted(
        out,
        key=lambda m: (
            m.row_ref not in leaders,
            m.reason not in DUPLICATE_REASONS,
            m.similarity or 0.0,
            m.row_ref,
        ),
    )


def with_metadata(data: DuplicateData, members: Sequence[Member]) -> list[Member]:
    """The same members with address and title."""
    found = _read_columns(data, [member.row_ref for member in members], ("url", "title"))
    return [replace(member, **found[member.row_ref]) for member in members]


def load_member_texts(
    data: DuplicateData, row_refs: Sequence[RowRef], max_chars: int = MAX_TEXT_CHARS
) -> dict[RowRef, str]:
    """The texts of some documents, at most ``max_chars`` characters of each."""
    found = _read_columns(data, row_refs, ("text",))
    return {place: (row["text"] or "")[:max_chars] for place, row in found.items()}


def _read_columns(
    data: DuplicateData, row_refs: Sequence[RowRef], columns: Sequence[str]
) -> dict[RowRef, dict[str, Any]]:
    found: dict[RowRef, dict[str, Any]] = {}
    for number, rows in _group_by_part(row_refs):
        for row, item in zip(rows, read_rows(data.documents[number], rows, columns), strict=True):
            found[number, row] = {name: item.get(name) for name in columns}
    return found


def _group_by_part(row_refs: Sequence[RowRef]) -> Iterator[tuple[int, list[int]]]:
    rows: dict[int, set[int]] = {}
    for number, row in row_refs:
        rows.setdefault(number, set()).add(row)
    yield from ((number, sorted(found)) for number, found in sorted(rows.items()))
