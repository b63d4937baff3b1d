"""The election over the cluster: candidates and pairs meet by cluster, verdicts return by part."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.tables import read_table
from infra.removals.match import REMOVED, Removal
from infra.store.storage import Storage
from tasks.select.config import SourceFilters
from tasks.select.repeated_text.pass_state import save_eligible, save_state
from tasks.select.repeated_text.url_dedup import load_url_duplicates
from tasks.select.selection_shuffle import SelectionShuffle, check_eligibility
from tasks.select.survivors import EXACT, NEAR, NO_SURVIVOR, choose_survivors
from tasks.select.write_part import PartInputs

I64 = npt.NDArray[np.int64]

CANDIDATE_SCHEMA = pa.schema(
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
PAIR_SCHEMA = pa.schema(
    [
        ("cluster", pa.string()),
        ("a", pa.int64()),
        ("b", pa.int64()),
        ("similarity", pa.float64()),
        ("band", pa.int16()),
    ]
)
DROPPED_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("reason", pa.string()),
        ("survivor", pa.string()),
        ("url", pa.string()),
        ("similarity", pa.float64()),
        ("band", pa.int16()),
    ]
)


def send_candidates(
    shuffle: SelectionShuffle,
    part: int,
    inputs: PartInputs,
    filters: SourceFilters,
    removals: Sequence[Removal],
) -> int:
    """Send a part's documents that have copies to the election.

    Returns:
        How many documents of the part pass the rules. One that was taken out passes nothing.
    """
    found = check_eligibility(shuffle, inputs, filters, removals)
    taken: dict[str, Any] = {
        str(row): {"reason": REMOVED, "evidence": removals[found.removal_index[row]].to_json()}
        for row in np.flatnonzero(found.removal_index >= 0).tolist()
    }
    elsewhere = load_url_duplicates(shuffle, part)
    taken |= {str(row): loss for row, loss in elsewhere.items()}
    shuffle.work.write(f"taken/{part}.json", json.dumps(taken).encode())
    stands = found.eligible.copy()
    stands[list(elsewhere)] = False
    save_eligible(shuffle.work, part, stands)
    # A document that does not stand cannot be elected, but pairs may name it for its group.
    marks = inputs.duplicate_labels.table(["cluster", "exact_group", "cluster_size"])
    chosen = np.flatnonzero(marks["cluster_size"].to_numpy() > 1)
    table = pa.table(
        {
            "cluster": marks["cluster"].take(chosen),
            "number": pa.array(shuffle.part_offsets[part] + chosen, pa.int64()),
            "part": pa.array(np.full(len(chosen), part), pa.int64()),
            "source": pa.array(np.full(len(chosen), inputs.source_index), pa.int64()),
            "exact_group": marks["exact_group"].take(chosen),
            "id": found.documents["id"].take(chosen),
            "url": found.documents["url"].take(chosen),
            "rank": pa.array(list(found.rank_keys[chosen]), pa.list_(pa.float64())),
            "passed": pa.array(stands[chosen]),
        },
        schema=CANDIDATE_SCHEMA,
    )
    shuffle.candidates.write_table(part, shuffle.partition_of(table["cluster"]), table)
    return int(found.eligible.sum())


def send_pairs(
    shuffle: SelectionShuffle, mapper: int, duplicate_labels: Storage, file: str
) -> None:
    """Send one file of verified pairs to the election."""
    found = read_table(duplicate_labels, file)
    starts = np.array(shuffle.part_offsets)
    ends = [starts[found[f"part_{s}"].to_numpy()] + found[f"row_{s}"].to_numpy() for s in "ab"]
    columns = [found["cluster"], *map(pa.array, ends), found["similarity"], found["band"]]
    table = pa.table(columns, schema=PAIR_SCHEMA)
    shuffle.pairs.write_table(mapper, shuffle.partition_of(table["cluster"]), table)


def select_partition(
    shuffle: SelectionShuffle, partition: int, n_files: int
) -> list[tuple[int, str, int]]:
    """Elect among the clusters of a partition, and tell each part what it loses.

    Returns:
        (source, reason, documents) of what is lost.
    """
    copies = shuffle.candidates.read_table_partition(partition, shuffle.parts, CANDIDATE_SCHEMA)
    pairs = shuffle.pairs.read_table_partition(partition, range(n_files), PAIR_SCHEMA)
    numbers = copies["number"].to_numpy()  # ascending: parts send in their order
    group = exact_groups(copies)
    ends = [group[np.searchsorted(numbers, pairs[side].to_numpy())] for side in "ab"]
    found = choose_survivors(
        preference_order(copies),
        group,
        np.column_stack(ends),
        pairs["similarity"].to_numpy(),
        pairs["band"].to_numpy().astype(np.int64),
    )
    lost = np.flatnonzero(found.survivor != NO_SURVIVOR)
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
    shuffle.survivors.write_rows(partition, copies["part"].to_numpy()[named], stay)
    places = copies["part"].to_numpy()[lost]
    shuffle.dropped.write_table(partition, places, pa.table(out, schema=DROPPED_SCHEMA))
    sources = copies["source"].to_numpy()[lost].tolist()
    tally = Counter(zip(sources, reasons.tolist(), strict=True))
    return [(source, reason, count) for (source, reason), count in sorted(tally.items())]


def exact_groups(candidates: pa.Table) -> I64:
    """The exact group of each document, numbered from 0."""
    n = candidates.num_rows
    named = pc.dictionary_encode(candidates["exact_group"].combine_chunks())
    codes = pc.fill_null(named.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.where(codes < 0, np.arange(n), codes + n)


def preference_order(candidates: pa.Table) -> I64:
    """The documents that passed, the most preferred first."""
    passed = np.flatnonzero(candidates["passed"].to_numpy(zero_copy_only=False))
    keys = pa.table({"id": candidates["id"], "number": candidates["number"]}).take(passed)
    ranks = candidates["rank"].combine_chunks().take(pa.array(passed))
    width = len(ranks[0]) if len(ranks) else 0
    for place in range(width):
        keys = keys.add_column(place, f"rank {place}", pc.list_element(ranks, place))
    order = pc.sort_indices(
        keys, [(name, "ascending") for name in _sort_columns(keys.column_names)]
    )
    chosen: I64 = passed[order.to_numpy()]
    return chosen


def _sort_columns(names: list[str]) -> list[str]:
    return [*(name for name in names if name.startswith("rank")), "id", "number"]


def collect_dropped(shuffle: SelectionShuffle, part: int) -> str:
    """Write down what a part loses, to copies and to removals; the digest of it."""
    found = shuffle.dropped.read_table_partition(
        part, range(shuffle.partitions), DROPPED_SCHEMA
    ).to_pylist()
    out = json.loads(shuffle.work.read(f"taken/{part}.json"))
    for loss in sorted(found, key=lambda item: int(item["number"])):
        evidence = {
            "survivor": loss["survivor"],
            "url": loss["url"],
            "similarity": loss["similarity"],
        }
        if loss["reason"] == NEAR and loss["band"] >= 0:
            evidence["band"] = loss["band"]
        row = loss["number"] - shuffle.part_offsets[part]
        out[str(row)] = {"reason": loss["reason"], "evidence": evidence}
    named = [
        shuffle.survivors.read_partition(part, range(shuffle.partitions)),
        shuffle.url_survivors.read_partition(part, range(shuffle.url_partitions)),
    ]
    keeps = (
        np.unique(np.concatenate(named)).astype(np.int64) - shuffle.part_offsets[part]
    ).tolist()
    return save_state(shuffle.work, 0, part, {"dropped": out, "trimmed": {}, "keeps": keeps})
