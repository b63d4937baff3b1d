"""The election over the cluster: candidates and pairs meet by cluster, verdicts return by part."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import read_table
from infra.removals.match import REASON as REMOVED
from infra.removals.match import Removal
from infra.store.storage import Storage
from tasks.select.config import Gates
from tasks.select.repeated_text.pass_state import put_standing, put_state
from tasks.select.repeated_text.url_dedup import address_losses
from tasks.select.selection_shuffle import Poll, standing
from tasks.select.survivors import EXACT, NEAR, STAYS, elect
from tasks.select.write_part import Triple

I64 = npt.NDArray[np.int64]

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


def survey(poll: Poll, part: int, triple: Triple, gates: Gates, removals: Sequence[Removal]) -> int:
    """Send a part's documents that have copies to the election.

    Returns:
        How many documents of the part pass the rules. One that was taken out passes nothing.
    """
    found = standing(poll, triple, gates, removals)
    taken: dict[str, Any] = {
        str(row): {"reason": REMOVED, "evidence": removals[found.gone[row]].facts()}
        for row in np.flatnonzero(found.gone >= 0).tolist()
    }
    elsewhere = address_losses(poll, part)
    taken |= {str(row): loss for row, loss in elsewhere.items()}
    poll.work.put(f"taken/{part}.json", json.dumps(taken).encode())
    stands = found.passed.copy()
    stands[list(elsewhere)] = False
    put_standing(poll.work, part, stands)
    # A document that does not stand cannot be elected, but pairs may name it for its group.
    marks = triple.marks.table(["cluster", "exact_group", "cluster_size"])
    chosen = np.flatnonzero(marks["cluster_size"].to_numpy() > 1)
    table = pa.table(
        {
            "cluster": marks["cluster"].take(chosen),
            "number": pa.array(poll.starts[part] + chosen, pa.int64()),
            "part": pa.array(np.full(len(chosen), part), pa.int64()),
            "source": pa.array(np.full(len(chosen), triple.source), pa.int64()),
            "exact_group": marks["exact_group"].take(chosen),
            "id": found.documents["id"].take(chosen),
            "url": found.documents["url"].take(chosen),
            "rank": pa.array(list(found.order[chosen]), pa.list_(pa.float64())),
            "passed": pa.array(stands[chosen]),
        },
        schema=CANDIDATE,
    )
    poll.candidates.send_table(part, poll.place(table["cluster"]), table)
    return int(found.passed.sum())


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
    copies = poll.candidates.receive_table(partition, poll.parts, CANDIDATE)
    pairs = poll.pairs.receive_table(partition, range(files), PAIR)
    numbers = copies["number"].to_numpy()  # ascending: parts send in their order
    group = groups_of(copies)
    ends = [group[np.searchsorted(numbers, pairs[side].to_numpy())] for side in "ab"]
    found = elect(
        preference(copies),
        group,
        np.column_stack(ends),
        pairs["similarity"].to_numpy(),
        pairs["band"].to_numpy().astype(np.int64),
    )
    lost = np.flatnonzero(found.survivor != STAYS)
    survivor = found.survivor[lost]
    reasons = np.where(found.exact[lost], EXACT, NEAR)
    out = {
        "number": numbers[lost],
        "reason": pa.array(reasons.tolist(), pa.string()),
        "survivor": copies["id"].take(survivor),
        "url": copies["url"].take(survivor),
        "similarity": found.similarity[lost],
        "band": found.band[lost],
    }
    named = np.unique(survivor)
    stay = numbers[named].astype(np.uint64).reshape(-1, 1)
    poll.survivors.send(partition, copies["part"].to_numpy()[named], stay)
    places = copies["part"].to_numpy()[lost]
    poll.losses.send_table(partition, places, pa.table(out, schema=LOSS))
    sources = copies["source"].to_numpy()[lost].tolist()
    tally = Counter(zip(sources, reasons.tolist(), strict=True))
    return [(source, reason, count) for (source, reason), count in sorted(tally.items())]


def groups_of(copies: pa.Table) -> I64:
    """The exact group of each document, numbered from 0."""
    n = copies.num_rows
    named = pc.dictionary_encode(copies["exact_group"].combine_chunks())
    codes = pc.fill_null(named.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.where(codes < 0, np.arange(n), codes + n)


def preference(copies: pa.Table) -> I64:
    """The documents that passed, the most preferred first."""
    passed = np.flatnonzero(copies["passed"].to_numpy(zero_copy_only=False))
    keys = pa.table({"id": copies["id"], "number": copies["number"]}).take(passed)
    ranks = copies["rank"].combine_chunks().take(pa.array(passed))
    width = len(ranks[0]) if len(ranks) else 0
    for place in range(width):
        keys = keys.add_column(place, f"rank {place}", pc.list_element(ranks, place))
    order = pc.sort_indices(keys, [(name, "ascending") for name in _by(keys.column_names)])
    chosen: I64 = passed[order.to_numpy()]
    return chosen


def _by(names: list[str]) -> list[str]:
    return [*(name for name in names if name.startswith("rank")), "id", "number"]


def gather(poll: Poll, part: int) -> str:
    """Write down what a part loses, to copies and to removals; the digest of it."""
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
    named = [
        poll.survivors.receive(part, range(poll.partitions)),
        poll.address_survivors.receive(part, range(poll.addresses)),
    ]
    keeps = (np.unique(np.concatenate(named)).astype(np.int64) - poll.starts[part]).tolist()
    return put_state(poll.work, 0, part, {"dropped": out, "trimmed": {}, "keeps": keeps})
