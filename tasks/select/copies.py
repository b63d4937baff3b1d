"""The election over the cluster: candidates and pairs meet by cluster, verdicts return by part."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset import read_table
from infra.exchange import Exchange
from infra.fingerprint import digest
from infra.removals import REASON as REMOVED
from infra.removals import Removal, removed_of
from infra.storage import Storage
from tasks.select.config import Gates
from tasks.select.elect import NEAR, Candidate, elect
from tasks.select.judge import columns, judge
from tasks.select.part import Triple
from tasks.select.rank import ranks, signals

I64 = npt.NDArray[np.int64]
DIGITS = 4  # hexadecimal digits of a cluster's name that choose its partition

CANDIDATE = pa.schema(
    [
        ("cluster", pa.string()),
        ("number", pa.int64()),  # documents of all parts numbered through
        ("part", pa.int64()),
        ("source", pa.int64()),
        ("exact_group", pa.string()),
        ("id", pa.string()),
        ("url", pa.string()),
        ("rank", pa.list_(pa.float64())),
        ("passed", pa.bool_()),
    ]
)
PAIR = pa.schema(
    [
        ("cluster", pa.string()),
        ("a", pa.int64()),
        ("b", pa.int64()),
        ("similarity", pa.float64()),
        ("band", pa.int16()),
    ]
)
LOSS = pa.schema(
    [
        ("number", pa.int64()),
        ("reason", pa.string()),
        ("survivor", pa.string()),
        ("url", pa.string()),
        ("similarity", pa.float64()),
        ("band", pa.int16()),
    ]
)


@dataclass(frozen=True)
class Poll:
    """Where an election's rows pass; picklable.

    Attributes:
        work: a folder of its own.
        partitions: of clusters; a power of two, at most 16**`DIGITS`.
        starts: the number of the first document of each part, and the number of all.
        order: the recipe's order of preference.
    """

    work: Storage
    partitions: int
    starts: tuple[int, ...]
    order: tuple[str, ...]

    @property
    def candidates(self) -> Exchange:
        """From parts to partitions."""
        return Exchange(self.work.at("candidates"), self.partitions, 1)

    @property
    def pairs(self) -> Exchange:
        """From files of pairs to partitions."""
        return Exchange(self.work.at("pairs"), self.partitions, 1)

    @property
    def losses(self) -> Exchange:
        """From partitions to parts."""
        return Exchange(self.work.at("losses"), len(self.starts) - 1, 1)

    def place(self, clusters: pa.ChunkedArray) -> I64:
        """The partition of each cluster."""
        heads = pc.dictionary_encode(pc.utf8_slice_codeunits(clusters, 0, DIGITS)).combine_chunks()
        if not len(heads):
            return np.zeros(0, np.int64)
        values = np.array([int(head, 16) for head in heads.dictionary.to_pylist()], np.int64)
        found: I64 = values[heads.indices.to_numpy()] % self.partitions
        return found


def survey(poll: Poll, part: int, triple: Triple, gates: Gates, removals: Sequence[Removal]) -> int:
    """Send a part's documents that have copies to the election.

    Returns:
        How many documents of the part pass the rules. One that was taken out passes nothing.
    """
    notes = triple.notes.table(sorted({*columns(gates), *signals(poll.order)}))
    noted = np.arange(triple.documents.rows) if triple.rows is None else triple.rows
    gone = removed_of(triple.documents, removals)
    documents = triple.documents.table(["id", "url", "date"])
    # A document without annotations cannot be elected, but pairs may name it for its group.
    passed = np.zeros(triple.documents.rows, bool)
    passed[noted] = judge(notes, gates).passed & (gone[noted] < 0)
    order = np.zeros((triple.documents.rows, len(poll.order)))
    order[noted] = ranks(poll.order, triple.source, documents.take(noted), notes)
    marks = triple.marks.table(["cluster", "exact_group", "cluster_size"])
    chosen = np.flatnonzero(marks["cluster_size"].to_numpy() > 1)
    table = pa.table(
        {
            "cluster": marks["cluster"].take(chosen),
            "number": pa.array(poll.starts[part] + chosen, pa.int64()),
            "part": pa.array(np.full(len(chosen), part), pa.int64()),
            "source": pa.array(np.full(len(chosen), triple.source), pa.int64()),
            "exact_group": marks["exact_group"].take(chosen),
            "id": documents["id"].take(chosen),
            "url": documents["url"].take(chosen),
            "rank": pa.array(list(order[chosen]), pa.list_(pa.float64())),
            "passed": pa.array(passed[chosen]),
        },
        schema=CANDIDATE,
    )
    poll.candidates.send_table(part, poll.place(table["cluster"]), table)
    taken = {
        str(row): {"reason": REMOVED, "evidence": removals[gone[row]].facts()}
        for row in np.flatnonzero(gone >= 0).tolist()
    }
    poll.work.put(f"taken/{part}.json", json.dumps(taken).encode())
    return int(passed.sum())


def send_pairs(poll: Poll, sender: int, marks: Storage, file: str) -> None:
    """Send one file of verified pairs to the election."""
    found = read_table(marks, file)
    starts = np.array(poll.starts)
    ends = [starts[found[f"part_{s}"].to_numpy()] + found[f"row_{s}"].to_numpy() for s in "ab"]
    columns = [found["cluster"], *map(pa.array, ends), found["similarity"], found["band"]]
    table = pa.table(columns, schema=PAIR)
    poll.pairs.send_table(sender, poll.place(table["cluster"]), table)


def hold(poll: Poll, partition: int, files: int) -> list[tuple[int, str, int]]:
    """Elect among the clusters of a partition, and tell each part what it loses.

    Returns:
        (source, reason, documents) of what is lost.
    """
    parts = range(len(poll.starts) - 1)
    copies = poll.candidates.receive_table(partition, parts, CANDIDATE).to_pylist()
    pairs = poll.pairs.receive_table(partition, range(files), PAIR).to_pylist()
    group = {row["number"]: row["exact_group"] or row["number"] for row in copies}
    by_number = {row["number"]: row for row in copies if row["passed"]}
    candidates = [
        Candidate(number, tuple(row["rank"]), row["id"], group[number])
        for number, row in by_number.items()
    ]
    lost = elect(
        candidates,
        [
            (group.get(p["a"], p["a"]), group.get(p["b"], p["b"]), p["similarity"], p["band"])
            for p in pairs
        ],
    )
    out: dict[str, list[Any]] = {name: [] for name in LOSS.names}
    places = []
    for number, loss in sorted(lost.items()):
        survivor = by_number[loss.survivor]
        values = (number, loss.reason, survivor["id"], survivor["url"], loss.similarity, loss.band)
        for name, value in zip(LOSS.names, values, strict=True):
            out[name].append(value)
        places.append(by_number[number]["part"])
    poll.losses.send_table(partition, np.array(places, np.int64), pa.table(out, schema=LOSS))
    tally = Counter((by_number[n]["source"], loss.reason) for n, loss in lost.items())
    return [(source, reason, count) for (source, reason), count in sorted(tally.items())]


def gather(poll: Poll, part: int) -> str:
    """Write down what a part loses, to copies and to removals, by row.

    Returns:
        Its digest, which names the part's unit of work.
    """
    found = poll.losses.receive_table(part, range(poll.partitions), LOSS).to_pylist()
    out = json.loads(poll.work.read(f"taken/{part}.json"))
    for loss in sorted(found, key=lambda item: int(item["number"])):
        evidence = {
            "survivor": loss["survivor"],
            "url": loss["url"],
            "similarity": loss["similarity"],
        }
        if loss["reason"] == NEAR and loss["band"] >= 0:
            evidence["band"] = loss["band"]
        row = loss["number"] - poll.starts[part]
        out[str(row)] = {"reason": loss["reason"], "evidence": evidence}
    poll.work.put(f"dropped/{part}.json", json.dumps(out).encode())
    return digest(out)


def dropped(work: Storage, part: int) -> dict[str, Any]:
    """What `gather` wrote down."""
    found: dict[str, Any] = json.loads(work.read(f"dropped/{part}.json"))
    return found
