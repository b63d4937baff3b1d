"""Clusters of copies: which there are, who belongs to them, who stayed, and why each other went.

A list of clusters reads two narrow columns, part by part; members, verdicts and pairs are read for
the chosen clusters only, and texts for the members that are shown.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.copies import EDGES
from infra.dataset import VERDICTS, BrokenPromise, Dataset, NotCommitted, PartRef
from infra.errors import UserError
from infra.excerpts import parse_evidence, read_rows
from infra.fingerprint import unit_interval
from infra.ledger import KEPT
from infra.records import RunRecord
from infra.storage import Storage

Order = Literal["largest", "random"]
EXACT, NEAR = COPIES = ("exact_duplicate", "near_duplicate")
TEXT = 400_000  # characters of a text that are looked at
SHOWN = 5  # clusters named by a message
Place = tuple[int, int]  # part among all parts of the documents, and row in it


class NoClusters(UserError):
    """What was asked for is not there; the message says what is."""


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
        similarity: of the two; ``None`` where no verified pair links them.
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
        members: those that stay; then those dropped as copies, the least similar first; then others.
        judged: whether select has spoken; if not, all are compared with the first member.
    """

    name: str
    members: Sequence[Member]
    judged: bool

    @property
    def sources(self) -> dict[str, int]:
        """Members by source, the most frequent first."""
        return dict(Counter(str(member.source) for member in self.members).most_common())

    @property
    def reasons(self) -> dict[str, int]:
        """Members that went by reason, the most frequent first."""
        gone = (m.reason or str(m.verdict) for m in self.members if m.verdict and not m.stays)
        return dict(Counter(gone).most_common())

    @property
    def stays(self) -> list[Member]:
        """The members that are in the corpus."""
        return [member for member in self.members if member.stays]


@dataclass(frozen=True)
class Copies:
    """The marks of a run beside the documents and verdicts they belong to.

    Attributes:
        marks: the data set of deduplication.
        documents: the parts of the documents, one per part of ``marks``.
        corpus: what select made of it, if it did.
    """

    marks: Dataset
    documents: Sequence[PartRef]
    corpus: Dataset | None

    @staticmethod
    def of(storage: Storage, record: RunRecord) -> "Copies":
        """What a run found.

        Raises:
            NoClusters: if the run has not deduplicated.
        """
        there = {entry.fingerprint: entry for entry in record.stages}
        made = {entry.stage: entry for entry in record.stages if entry.source is None}
        if "dedup" not in made:
            raise NoClusters(
                f"run {record.run} of {record.recipe} stopped before dedup; go on from"
            )
        marks = made["dedup"].open(storage)
        documents: list[PartRef] = []
        for item in marks.manifest.inputs:
            if item["stage"] != "annotate" and item["fingerprint"] in there:
                documents += there[item["fingerprint"]].open(storage).parts
        if [part.rows for part in documents] != [part.rows for part in marks.parts]:
            raise BrokenPromise(f"{marks.storage.url}: its rows are not those of the documents")
        corpus = None
        if "select" in made:
            try:
                corpus = made["select"].open(storage)
            except NotCommitted:
                corpus = None
        return Copies(marks, documents, corpus)

    @property
    def judges(self) -> Sequence[PartRef | None]:
        """Per part the one of the corpus that tells its verdicts."""
        if self.corpus is None or len(self.corpus.parts) != len(self.documents):
            return [None] * len(self.documents)
        return self.corpus.parts


def pick(
    copies: Copies, n: int, order: Order = "largest", *, seed: int = 0, source: str | None = None
) -> list[str]:
    """The names of some clusters, the same ones at every call.

    Args:
        copies: of a run.
        n: how many.
        order: ``largest`` first, or a ``random`` sample: names are digests, so those that follow a
            point drawn from the seed are one; a larger sample holds the smaller ones.
        seed: of the sample.
        source: only clusters with a document of this source.

    Raises:
        NoClusters: if there is no such source.
    """
    parts = [
        marked
        for marked, part in zip(copies.marks.parts, copies.documents, strict=True)
        if source in (None, part.source)
    ]
    if source is not None and not parts:
        known = sorted({str(part.source) for part in copies.documents})
        raise NoClusters(f"no source is named {source!r}; there are {', '.join(known)}")
    point = f"{int(unit_interval('clusters', seed) * 2**32):08x}"
    best: dict[str, tuple[int, str]] = {}
    for part in parts:
        table = part.table(["cluster", "cluster_size"])
        table = table.filter(pc.is_valid(table["cluster"]))
        first = (
            pc.negate(table["cluster_size"])
            if order == "largest"
            else pc.less(table["cluster"], point).cast(pa.int32())
        )
        rows = pa.table({"first": first, "cluster": table["cluster"]})
        rows = rows.group_by(["first", "cluster"]).aggregate([])
        rows = rows.sort_by([("first", "ascending"), ("cluster", "ascending")])
        for row in rows.slice(0, n).to_pylist():
            best[row["cluster"]] = (row["first"], row["cluster"])
        best = {name: best[name] for name in sorted(best, key=lambda one: best[one])[:n]}
    return list(best)


def named(copies: Copies, name: str) -> str:
    """The cluster of this name, or whose name begins so.

    Raises:
        NoClusters: if there is none, or several.
    """
    found: set[str] = set()
    for part in copies.marks.parts:
        column = part.table(["cluster"])["cluster"]
        hit = column.filter(pc.starts_with(column, name.lower()).fill_null(False))
        found.update(hit.unique().to_pylist())
    if len(found) == 1 or name in found:
        return name if name in found else found.pop()
    if not found:
        raise NoClusters(f"no cluster is named {name!r}; without --cluster, the largest are listed")
    shown = ", ".join(sorted(found)[:SHOWN])
    raise NoClusters(f"{len(found):,} clusters have a name that begins with {name!r}: {shown}")


def load(copies: Copies, names: Sequence[str]) -> list[Cluster]:
    """The members of clusters with their verdicts and similarities, in the order of the names."""
    members: dict[str, list[Member]] = {name: [] for name in names}
    wanted = pa.array(list(names), pa.string())
    for number, (part, text, judge) in enumerate(
        zip(copies.marks.parts, copies.documents, copies.judges, strict=True)
    ):
        column = part.table(["cluster"])["cluster"]
        rows = np.flatnonzero(pc.is_in(column, value_set=wanted).to_numpy()).tolist()
        if not rows:
            continue
        found = read_rows(part, rows, ("id", "exact_group", "cluster"))
        said = _verdicts(part, judge, rows) if judge else [{}] * len(rows)
        for row, item, verdict in zip(rows, found, said, strict=True):
            member = Member((number, row), item["id"], text.source, item["exact_group"], **verdict)
            members[item["cluster"]].append(member)
    pairs = _pairs(copies.marks, wanted)
    judged = copies.corpus is not None
    return [Cluster(name, _compared(members[name], pairs[name]), judged) for name in names]


def _verdicts(marks: PartRef, judge: PartRef, rows: Sequence[int]) -> list[dict[str, Any]]:
    """What the ledger says of some rows of a part.

    It has a row per document, or lacks those that could not be annotated. Identical rows of a
    source share an id, but then all of them are there or none is, in the order of the documents.
    """
    with judge.storage.open(judge.file(VERDICTS)) as stream:
        ledger = pq.read_table(stream, columns=["id", "verdict", "reason", "evidence"])
    if not ledger.num_rows:
        return [{} for _ in rows]
    places: list[int | None] = list(rows)
    if ledger.num_rows != marks.rows:
        ids = marks.table(["id"])["id"].to_pylist()
        there: dict[str, list[int]] = {}
        for place, item in enumerate(ledger["id"].to_pylist()):
            there.setdefault(item, []).append(place)
        turns = {item: iter(found) for item, found in there.items()}
        of_row = [next(turns.get(item, iter(())), None) for item in ids]
        places = [of_row[row] for row in rows]
    known = ledger.take(pa.array([place or 0 for place in places], pa.int64())).to_pylist()
    return [
        {
            "verdict": said["verdict"],
            "reason": said["reason"],
            "evidence": parse_evidence(said["evidence"]),
        }
        if place is not None
        else {}
        for place, said in zip(places, known, strict=True)
    ]


Linked = dict[Place, dict[Place, tuple[float, int | None]]]


def _pairs(marks: Dataset, wanted: "pa.Array[Any]") -> dict[str, Linked]:
    """The verified pairs of clusters; reads the row groups that may hold them."""
    found: dict[str, Linked] = {name: {} for name in wanted.to_pylist()}
    for file in sorted(name for name in marks.manifest.files if name.startswith(EDGES)):
        with marks.storage.open(marks.manifest.files[file].name) as stream:
            table = pq.read_table(stream, filters=pc.field("cluster").isin(wanted))
        columns = (table[name].to_pylist() for name in table.column_names)
        for name, part_a, row_a, part_b, row_b, similarity, band in zip(*columns, strict=True):
            one, other = (part_a, row_a), (part_b, row_b)
            said = (similarity, band if band >= 0 else None)
            found[name].setdefault(one, {})[other] = said
            found[name].setdefault(other, {})[one] = said
    return found


def _compared(members: Sequence[Member], pairs: Linked) -> list[Member]:
    """Members in the order in which they are told, each with the one it is compared with."""
    # Pairs name the first document of an exact group.
    leader: dict[str, Place] = {}
    for member in members:
        if member.group is not None:
            leader.setdefault(member.group, member.place)
    of = {member.place: leader.get(member.group or "", member.place) for member in members}
    stay = [member for member in members if member.stays] or list(members[:1])
    by_id = {member.id: member.place for member in reversed(stay)}
    by_leader = {of[member.place]: member.place for member in reversed(stay)}
    out = []
    for member in members:
        own = of[member.place]
        place = by_id.get(str(member.evidence.get("survivor")))
        found: tuple[float | None, Place | None, int | None]
        if member.reason in COPIES and place is not None:
            said = member.evidence
            found = (float(said.get("similarity", 1.0)), place, said.get("band"))
        elif own in by_leader and by_leader[own] != member.place:
            found = (1.0, by_leader[own], None)
        else:
            near = [
                (-similarity, by_leader[other], band)
                for other, (similarity, band) in pairs.get(own, {}).items()
                if other in by_leader
            ]
            best = min(near, key=lambda one: one[:2], default=None)
            first = stay[0].place if stay[0].place != member.place else None
            found = (-best[0], best[1], best[2]) if best else (None, first, None)
        exact = found[1] is not None and of[found[1]] == own
        out.append(
            replace(member, similarity=found[0], against=found[1], band=found[2], exact=exact)
        )
    heads = {member.place for member in stay}
    return sorted(
        out,
        key=lambda m: (m.place not in heads, m.reason not in COPIES, m.similarity or 0.0, m.place),
    )


def described(copies: Copies, members: Sequence[Member]) -> list[Member]:
    """The same members with address and title."""
    found = _read(copies, [member.place for member in members], ("url", "title"))
    return [replace(member, **found[member.place]) for member in members]


def texts(copies: Copies, places: Sequence[Place]) -> dict[Place, str]:
    """The texts of some documents, at most `TEXT` characters of each."""
    found = _read(copies, places, ("text",))
    return {place: (row["text"] or "")[:TEXT] for place, row in found.items()}


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
