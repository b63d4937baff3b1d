"""Survivor selection within duplicate clusters, partitioned by cluster."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.compute.arrays import I64
from infra.dataset.tables import read_table
from infra.removals.match import REMOVED, Removal
from infra.store.storage import Storage
from tasks.select.eligibility import Eligibility
from tasks.select.part_inputs import PartInputs
from tasks.select.plan import SelectionPlan
from tasks.select.repeated_text.pass_state import save_eligible, save_state
from tasks.select.repeated_text.url_dedup import load_url_duplicates
from tasks.select.survivors import EXACT, NEAR, NO_SURVIVOR, choose_survivors

CANDIDATE_SCHEMA = pa.schema(
    [
        ("cluster", pa.string()),
        ("number", pa.int64()),  # documents are numbered through all parts
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
    plan: SelectionPlan, part: int, inputs: PartInputs, removals: Sequence[Removal]
) -> None:
    """Send a part's documents that have duplicates to the partitions of their clusters.

    Also save which documents are removed or dropped as other versions of a URL, and which remain
    eligible.
    """
    eligibility = Eligibility.load(plan, part)
    dropped: dict[str, Any] = {
        str(row): {
            "reason": REMOVED,
            "evidence": removals[eligibility.removal_index[row]].to_json(),
        }
        for row in np.flatnonzero(eligibility.removal_index >= 0).tolist()
    }
    url_duplicates = load_url_duplicates(plan, part)
    dropped |= {str(row): verdict for row, verdict in url_duplicates.items()}
    plan.work.write(_dropped_file(part), json.dumps(dropped).encode(), durable=False)
    eligible = eligibility.eligible.copy()
    eligible[list(url_duplicates)] = False
    save_eligible(plan, part, eligible)
    # A document that is not eligible cannot survive, but pairs may refer to it for its exact group.
    labels = inputs.duplicate_labels.table(["cluster", "exact_group", "cluster_size"])
    chosen = np.flatnonzero(labels["cluster_size"].to_numpy() > 1)
    documents = inputs.documents.table(["id", "url"])
    table = pa.table(
        {
            "cluster": labels["cluster"].take(chosen),
            "number": pa.array(plan.starts[part] + chosen, pa.int64()),
            "part": pa.array(np.full(len(chosen), part), pa.int64()),
            "source": pa.array(np.full(len(chosen), inputs.source_index), pa.int64()),
            "exact_group": labels["exact_group"].take(chosen),
            "id": documents["id"].take(chosen),
            "url": documents["url"].take(chosen),
            "rank": pa.array(list(eligibility.rank_keys[chosen]), pa.list_(pa.float64())),
            "passed": pa.array(eligible[chosen]),
        },
        schema=CANDIDATE_SCHEMA,
    )
    plan.candidates.write_table(part, plan.partition_of(table["cluster"]), table)


def send_pairs(plan: SelectionPlan, mapper: int, duplicate_labels: Storage, file: str) -> None:
    """Send one file of verified pairs to the partitions of their clusters."""
    pairs = read_table(duplicate_labels, file)
    starts = np.array(plan.starts)
    ends = [starts[pairs[f"part_{s}"].to_numpy()] + pairs[f"row_{s}"].to_numpy() for s in "ab"]
    columns = [pairs["cluster"], *map(pa.array, ends), pairs["similarity"], pairs["band"]]
    table = pa.table(columns, schema=PAIR_SCHEMA)
    plan.pairs.write_table(mapper, plan.partition_of(table["cluster"]), table)


def select_partition(
    plan: SelectionPlan, partition: int, n_files: int
) -> list[tuple[int, str, int]]:
    """Choose the survivors of a partition's clusters; send each part its dropped documents.

    Returns (source, reason, number of dropped documents) of each.
    """
    documents = plan.candidates.read_table_partition(partition, plan.ranges, CANDIDATE_SCHEMA)
    pairs = plan.pairs.read_table_partition(partition, range(n_files), PAIR_SCHEMA)
    numbers = documents["number"].to_numpy()  # ascending: mappers are parts, in order
    group = exact_groups(documents)
    ends = [group[np.searchsorted(numbers, pairs[side].to_numpy())] for side in "ab"]
    result = choose_survivors(
        preference_order(documents),
        group,
        np.column_stack(ends),
        pairs["similarity"].to_numpy(),
        pairs["band"].to_numpy().astype(np.int64),
    )
    dropped = np.flatnonzero(result.survivor != NO_SURVIVOR)
    survivor = result.survivor[dropped]
    reasons = np.where(result.exact[dropped], EXACT, NEAR)
    table = pa.table(
        {
            "number": numbers[dropped],
            "reason": pa.array(reasons.tolist(), pa.string()),
            "survivor": documents["id"].take(survivor),
            "url": documents["url"].take(survivor),
            "similarity": result.similarity[dropped],
            "band": result.band[dropped],
        },
        schema=DROPPED_SCHEMA,
    )
    parts = documents["part"].to_numpy()
    plan.dropped.write_table(partition, parts[dropped], table)
    distinct = np.unique(survivor)
    plan.survivors.write_rows(
        partition, parts[distinct], numbers[distinct].astype(np.uint64).reshape(-1, 1)
    )
    sources = documents["source"].to_numpy()[dropped].tolist()
    counts = Counter(zip(sources, reasons.tolist(), strict=True))
    return [(source, reason, count) for (source, reason), count in sorted(counts.items())]


def exact_groups(candidates: pa.Table) -> I64:
    """Return the exact group of each document, numbered from 0."""
    n = candidates.num_rows
    coded = pc.dictionary_encode(candidates["exact_group"].combine_chunks())
    codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.where(codes < 0, np.arange(n), codes + n)


def preference_order(candidates: pa.Table) -> I64:
    """Return the indices of the eligible documents, the most preferred first."""
    eligible = np.flatnonzero(candidates["passed"].to_numpy(zero_copy_only=False))
    keys = pa.table({"id": candidates["id"], "number": candidates["number"]}).take(eligible)
    ranks = candidates["rank"].combine_chunks().take(pa.array(eligible))
    names = [f"rank {index}" for index in range(len(ranks[0]) if len(ranks) else 0)]
    for index, name in enumerate(names):
        keys = keys.add_column(index, name, pc.list_element(ranks, index))
    order = pc.sort_indices(keys, [(name, "ascending") for name in [*names, "id", "number"]])
    indices: I64 = eligible[order.to_numpy()]
    return indices


def collect_dropped(plan: SelectionPlan, part: int) -> str:
    """Save what is dropped from a part as duplicate or removed; return the digest of it."""
    rows = plan.dropped.read_table_partition(
        part, range(plan.n_partitions), DROPPED_SCHEMA
    ).to_pylist()
    dropped = json.loads(plan.work.read(_dropped_file(part)))
    for verdict in sorted(rows, key=lambda item: int(item["number"])):
        evidence = {name: verdict[name] for name in ("survivor", "url", "similarity")}
        if verdict["reason"] == NEAR and verdict["band"] >= 0:
            evidence["band"] = verdict["band"]
        row = verdict["number"] - plan.starts[part]
        dropped[str(row)] = {"reason": verdict["reason"], "evidence": evidence}
    survivors = [
        plan.survivors.read_partition(part, range(plan.n_partitions)),
        plan.url_survivors.read_partition(part, range(plan.n_url_partitions)),
    ]
    kept = np.unique(np.concatenate(survivors)).astype(np.int64) - plan.starts[part]
    state = {"dropped": dropped, "trimmed": {}, "keeps": kept.tolist()}
    return save_state(plan, 0, part, state)


def _dropped_file(part: int) -> str:
    return f"dropped_before_clusters/{part}.json"
