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

from infra.dataset.dataset import VERDICTS, Dataset, PartRef
from infra.dataset.ledger import KEPT
from infra.schemas.duplicate_pairs import EDGES, REJECTED
from views.documents.texts import parse_evidence, read_rows
from views.duplicates.clusters import Copies

COPIES = ("exact_duplicate", "near_duplicate")  # reasons that name a survivor
TEXT = 400_000  # characters of a text that are looked at
MOST = 1_000  # members of a cluster that are held, of those that stay and of the others each
BATCH = 10_000  # pairs that are looked at together
COLUMNS = ("cluster", "part_a", "row_a", "part_b", "row_b", "similarity", "band")
Place = tuple[int, int]  # part among all parts of the documents, and row in it


@dataclass(frozen=True)
class Member:
    """A document of a cluster.

    Attributes:
        place: number of its part among all parts of the documents, and row in that part.
        id: its id.
        source: the source it came from.
        group: what it shares with its exact copies; ``None`` if it has none.
        verdict: of select: ``kept``, ``dropped`` or ``failed``; ``None`` if select has not judged it.
        reason: why select dropped it.
        evidence: what that rests on.
        against: the member it is compared with: the survivor it was dropped for; else the most
            similar one that stays; ``None`` for the one that the others are compared with.
        similarity: of the two; ``None`` where they were not compared.
        verified: whether it reached the threshold.
        band: the first band that nominated the pair; ``None`` for exact copies and for pairs that
            were compared as members of one cluster.
        exact: whether the normalised texts of the two are equal.
        url: its address, once `described`.
        title: its title, once `described`.
    """

    place: Place
    id: str
    source: str | None
    group: str | None
    verdict: str | None = None
    reason: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    against: Place | None = None
    similarity: float | None = None
    verified: bool = False
    band: int | None = None
    exact: bool = False
    url: str | None = None
    title: str | None = None

    @property
    def stays(self) -> bool:
        """Whether it is in the corpus."""
        return self.verdict == KEPT


@dataclass(frozen=True)
class Cluster:
    """Documents that exact equality and verified pairs link.

    Attributes:
        name: its name in the column ``cluster``.
        judged: whether select has spoken; if not, all are compared with the first member.
        sources: documents by source.
        stay: how many are in the corpus.
        reasons: how many went, by reason.
        members: those that stay; then those dropped as copies, the least similar first; then
            others. Of a large cluster perhaps not all.
    """

    name: str
    judged: bool
    sources: Mapping[str, int]
    stay: int
    reasons: Mapping[str, int]
    members: Sequence[Member]

    @property
    def documents(self) -> int:
        """Its members, held or not."""
        return sum(self.sources.values())


def load(copies: Copies, names: Sequence[str], most: int | None = MOST) -> list[Cluster]:
    """Clusters with their members, verdicts and similarities, in the order of the names.

    Args:
        copies: of a run.
        names: of clusters.
        most: members of a cluster that are held, of those that stay and of the others each, the
            first ones; ``None`` holds all. All are counted.
    """
    drafts = {name: _Draft() for name in names}
    wanted = pa.array(list(names), pa.string())
    for number, (part, text, judge) in enumerate(
        zip(copies.marks.parts, copies.documents, copies.judges, strict=True)
    ):
        column = part.table(["cluster"])["cluster"]
        rows = np.flatnonzero(pc.is_in(column, value_set=wanted).to_numpy()).tolist()
        if not rows:
            continue
        found = read_rows(part, rows, ("id", "exact_group", "cluster"))
        said = _verdicts(part, judge, rows) if judge else [NOTHING] * len(rows)
        for row, item, verdict in zip(rows, found, said, strict=True):
            drafts[item["cluster"]].add((number, row), item, text.source, verdict, most)
    pairs = _pairs(copies.marks, drafts)
    judged = copies.corpus is not None
    return [
        Cluster(
            name,
            judged,
            dict(draft.sources.most_common()),
            len(draft.stay) + draft.more_stay,
            dict(draft.reasons.most_common()),
            _compared(draft, pairs[name]),
        )
        for name, draft in drafts.items()
    ]


Said = tuple[str | None, str | None, str | None]  # verdict, reason, evidence
NOTHING: Said = (None, None, None)


class _Draft:
    """What is known of a cluster while its parts are read."""

    def __init__(self) -> None:
        self.sources: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.stay: list[Member] = []
        self.went: list[Member] = []
        self.more_stay = 0
        self.leaders: dict[str, Place] = {}  # the first of each exact group, which pairs name

    def add(
        self,
        place: Place,
        item: Mapping[str, Any],
        source: str | None,
        said: Said,
        most: int | None,
    ) -> None:
        """A further document, parts and rows in order."""
        verdict, reason, evidence = said
        self.sources[str(source)] += 1
        if item["exact_group"] is not None:
            self.leaders.setdefault(item["exact_group"], place)
        if verdict is not None and verdict != KEPT:
            self.reasons[reason or verdict] += 1
        held = self.stay if verdict == KEPT else self.went
        if most is not None and len(held) >= most:
            self.more_stay += held is self.stay
            return
        parsed = parse_evidence(evidence)
        held.append(Member(place, item["id"], source, item["exact_group"], verdict, reason, parsed))

    @property
    def members(self) -> list[Member]:
        """Those that are held, in the order of the documents."""
        return sorted([*self.stay, *self.went], key=lambda member: member.place)

    @property
    def heads(self) -> list[Member]:
        """Those that others are compared with: the ones that stay, or the very first."""
        return self.stay or self.members[:1]

    def leader(self, member: Member) -> Place:
        """The document that stands for a member in pairs."""
        return self.leaders.get(member.group or "", member.place)


def _verdicts(marks: PartRef, judge: PartRef, rows: Sequence[int]) -> list[Said]:
    """What the ledger says of some rows of a part.

    It has a row per document, or lacks those that could not be annotated. Identical rows of a
    source share an id, but then all of them are there or none is, in the order of the documents.
    """
    with judge.storage.open(judge.file(VERDICTS)) as stream:
        ledger = pq.read_table(stream, columns=["id", "verdict", "reason", "evidence"])
    if not ledger.num_rows:
        return [NOTHING] * len(rows)
    places: list[int | None] = list(rows)
    if ledger.num_rows != marks.rows:
        there: dict[str, list[int]] = {}
        for place, item in enumerate(ledger["id"].to_pylist()):
            there.setdefault(item, []).append(place)
        turns = {item: iter(found) for item, found in there.items()}
        ids = marks.table(["id"])["id"].to_pylist()
        of_row = [next(turns.get(item, iter(())), None) for item in ids]
        places = [of_row[row] for row in rows]
    known = ledger.take(pa.array([place or 0 for place in places], pa.int64())).to_pylist()
    return [
        NOTHING if place is None else (said["verdict"], said["reason"], said["evidence"])
        for place, said in zip(places, known, strict=True)
    ]


@dataclass(frozen=True)
class Pair:
    """What is known of two members: their similarity, and whether it reached the threshold."""

    similarity: float
    band: int | None
    held: bool


Linked = dict[Place, dict[Place, Pair]]


def _pairs(marks: Dataset, drafts: Mapping[str, _Draft]) -> dict[str, Linked]:
    """The pairs between members that are held and those that others are compared with."""
    held = {name: {d.leader(member) for member in d.members} for name, d in drafts.items()}
    heads = {name: {d.leader(member) for member in d.heads} for name, d in drafts.items()}
    found: dict[str, Linked] = {name: {} for name in drafts}

    def add(name: str, one: Place, other: Place, pair: Pair) -> None:
        for end, head in ((one, other), (other, one)):
            if head in heads[name] and end in held[name]:
                found[name].setdefault(end, {}).setdefault(head, pair)

    # Sorted by cluster: only the row groups that may hold these are read.
    names = pa.array(list(drafts), pa.string())
    for name, one, other, pair in _read_pairs(marks, EDGES, pc.field("cluster").isin(names)):
        add(name, one, other, pair)
    # Those that resemble nothing that stays were compared with it perhaps, and fell short.
    alone = {
        place: name
        for name in drafts
        for place in held[name]
        if place not in found[name] and len(heads[name] - {place})
    }
    ends = {*alone, *(head for name in alone.values() for head in heads[name])}
    if alone:
        wanted = _near(ends)
        of = {place: name for name in drafts for place in held[name]}
        for _, one, other, pair in _read_pairs(marks, REJECTED, wanted):
            if of.get(one) is not None and of.get(one) == of.get(other):
                add(of[one], one, other, pair)
    return found


def _near(places: Collection[Place]) -> pc.Expression:
    """Pairs of which both ends may be among these places; sorted by place, so little is read."""
    parts, rows = (pa.array(sorted({p[k] for p in places}), pa.int64()) for k in (0, 1))
    fields = [(f"part_{end}", parts) for end in "ab"] + [(f"row_{end}", rows) for end in "ab"]
    return reduce(and_, (pc.field(name).isin(values) for name, values in fields))


def _read_pairs(
    marks: Dataset, prefix: str, wanted: pc.Expression
) -> Iterator[tuple[str, Place, Place, Pair]]:
    for file in sorted(name for name in marks.manifest.files if name.startswith(prefix)):
        with marks.storage.open(marks.manifest.files[file].name) as stream:
            table = pq.read_table(stream, filters=wanted)
        for batch in table.to_batches(max_chunksize=BATCH):
            columns = (batch[name].to_pylist() for name in COLUMNS)
            for name, part_a, row_a, part_b, row_b, similarity, band in zip(*columns, strict=True):
                pair = Pair(similarity, band if band >= 0 else None, prefix == EDGES)
                yield name, (part_a, row_a), (part_b, row_b), pair


def _compared(draft: _Draft, pairs: Linked) -> list[Member]:
    """Members in the order in which they are told, each with the one it is compared with."""
    heads = draft.heads
    by_id = {member.id: member.place for member in reversed(heads)}
    by_leader = {draft.leader(member): member.place for member in reversed(heads)}
    leaders = {member.place: draft.leader(member) for member in heads}
    out = []
    for member in draft.members:
        own = draft.leader(member)
        place = by_id.get(str(member.evidence.get("survivor")))
        told: Pair | None = None
        first = heads[0].place
        against = first if first != member.place else None
        if member.reason in COPIES and place is not None:
            said = member.evidence
            told, against = Pair(float(said.get("similarity", 1.0)), said.get("band"), True), place
        elif against is None:
            pass
        elif own in by_leader and by_leader[own] != member.place:
            told, against = Pair(1.0, None, True), by_leader[own]
        else:
            near = [
                (not pair.held, -pair.similarity, by_leader[head], pair)
                for head, pair in pairs.get(own, {}).items()
                if head in by_leader and head != own
            ]
            if near:
                _, _, against, told = min(near, key=lambda one: one[:3])
        exact = against is not None and leaders[against] == own
        compared = replace(member, against=against, exact=exact)
        if told is not None:
            compared = replace(
                compared, similarity=told.similarity, band=told.band, verified=told.held
            )
        out.append(compared)
    return sorted(
        out,
        key=lambda m: (
            m.place not in leaders,
            m.reason not in COPIES,
            m.similarity or 0.0,
            m.place,
        ),
    )


def described(copies: Copies, members: Sequence[Member]) -> list[Member]:
    """The same members with address and title."""
    found = _read(copies, [member.place for member in members], ("url", "title"))
    return [replace(member, **found[member.place]) for member in members]


def texts(copies: Copies, places: Sequence[Place], length: int = TEXT) -> dict[Place, str]:
    """The texts of some documents, at most ``length`` characters of each."""
    found = _read(copies, places, ("text",))
    return {place: (row["text"] or "")[:length] for place, row in found.items()}


def _read(
    copies: Copies, places: Sequence[Place], columns: Sequence[str]
) -> dict[Place, dict[str, Any]]:
    found: dict[Place, dict[str, Any]] = {}
    for number, rows in _by_part(places):
        for row, item in zip(rows, read_rows(copies.documents[number], rows, columns), strict=True):
            found[number, row] = {name: item.get(name) for name in columns}
    return found


def _by_part(places: Sequence[Place]) -> Iterator[tuple[int, list[int]]]:
    rows: dict[int, set[int]] = {}
    for number, row in places:
        rows.setdefault(number, set()).add(row)
    yield from ((number, sorted(found)) for number, found in sorted(rows.items()))
