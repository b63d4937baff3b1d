"""Survivor selection: among documents of one URL, then within duplicate clusters; partitioned by either.

The same page occurs several times if crawls overlap or follow each other. The version that is kept
is chosen by the recipe's order of preference, whether or not the versions resemble each other.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from infra.compute.arrays import I64
from infra.compute.shuffle import Shuffle
from infra.dataset.tables import read_table
from infra.removals.match import REMOVED, Removal, canonicalize_column
from infra.store.storage import Storage
from tasks.select.eligibility import Eligibility
from tasks.select.part_inputs import PartInputs
from tasks.select.plan import SelectionPlan
from tasks.select.repeated_text.pass_state import save_eligible, save_state
from tasks.select.survivors import (
    EXACT,
    NEAR,
    NO_SURVIVOR,
    SAME_URL,
    Survivors,
    choose_survivors,
)

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
    url_duplicates = plan.url_dropped.read_table_partition(
        part, range(plan.n_url_partitions), DROPPED_SCHEMA
    ).to_pylist()
    for verdict in url_duplicates:
        evidence = {"survivor": verdict["survivor"], "url": verdict["url"]}
        row = verdict["number"] - plan.starts[part]
        dropped[str(row)] = {"reason": SAME_URL, "evidence": evidence}
    plan.work.write(_dropped_file(part), json.dumps(dropped).encode(), durable=False)
    eligible = eligibility.eligible.copy()
    eligible[[verdict["number"] - plan.starts[part] for verdict in url_duplicates]] = False
    save_eligible(plan, part, eligible)
    # A document that is not eligible cannot survive, but pairs may refer to it for its exact group.
    labels = inputs.duplicate_labels.table(["cluster", "exact_group", "cluster_size"])
    chosen = np.flatnonzero(labels["cluster_size"].to_numpy() > 1)
    columns = {
        "cluster": labels["cluster"].take(chosen),
        "exact_group": labels["exact_group"].take(chosen),
        "url": inputs.documents.table(["url"])["url"].take(chosen),
        "passed": pa.array(eligible[chosen]),
    }
    table = _candidate_table(plan, part, inputs, eligibility, chosen, columns)
    plan.candidates.write_table(part, plan.partition_of(table["cluster"]), table)


def send_url_candidates(plan: SelectionPlan, part: int, inputs: PartInputs) -> None:
    """Send a part's eligible documents with a web URL to the partitions of their URLs."""
    eligibility = Eligibility.load(plan, part)
    urls = inputs.documents.table(["url"])["url"].to_pylist()
    canonical = canonicalize_column(pa.array(urls, pa.string()))
    is_web = pc.fill_null(pc.match_substring_regex(canonical, "^https?://"), fill_value=False)
    chosen = np.flatnonzero(is_web.to_numpy(zero_copy_only=False) & eligibility.eligible)
    canonical = canonical.take(pa.array(chosen))
    columns = {
        "cluster": pa.nulls(len(chosen), pa.string()),
        "exact_group": canonical,
        "url": canonical,
        "passed": pa.array(np.ones(len(chosen), bool)),
    }
    table = _candidate_table(plan, part, inputs, eligibility, chosen, columns)
    hashes = [xxhash.xxh64_intdigest(url.encode()) for url in canonical.to_pylist()]
    partitions = np.array(hashes, np.uint64) % np.uint64(plan.n_url_partitions)
    plan.url_candidates.write_table(part, partitions.astype(np.int64), table)


def _candidate_table(
    plan: SelectionPlan,
    part: int,
    inputs: PartInputs,
    eligibility: Eligibility,
    chosen: I64,
    columns: Mapping[str, Any],
) -> pa.Table:
    """Return rows of `CANDIDATE_SCHEMA` for some documents of a part; ``columns`` are the others."""
    n = len(chosen)
    columns = {
        **columns,
        "number": pa.array(plan.starts[part] + chosen, pa.int64()),
        "part": pa.array(np.full(n, part), pa.int64()),
        "source": pa.array(np.full(n, inputs.source_index), pa.int64()),
        "id": inputs.documents.table(["id"])["id"].take(chosen),
        "rank": pa.array(list(eligibility.rank_keys[chosen]), pa.list_(pa.float64())),
    }
    return pa.table([columns[name] for name in CANDIDATE_SCHEMA.names], schema=CANDIDATE_SCHEMA)


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
    shuffles = (plan.dropped, plan.survivors)
    return _send_results(partition, documents, result, (EXACT, NEAR), shuffles)


def select_url_partition(plan: SelectionPlan, partition: int) -> list[tuple[int, str, int]]:
    """Choose one version of each page of a partition; see `select_partition`."""
    documents = plan.url_candidates.read_table_partition(partition, plan.ranges, CANDIDATE_SCHEMA)
    none = np.zeros(0, np.int64)
    pairs = none.reshape(0, 2)
    result = choose_survivors(
        preference_order(documents), exact_groups(documents), pairs, none.astype(np.float64), none
    )
    shuffles = (plan.url_dropped, plan.url_survivors)
    return _send_results(partition, documents, result, (SAME_URL, SAME_URL), shuffles)


def _send_results(
    partition: int,
    documents: pa.Table,
    result: Survivors,
    reasons_by_kind: tuple[str, str],
    shuffles: tuple[Shuffle, Shuffle],
) -> list[tuple[int, str, int]]:
    """Send each part its dropped documents, and those that others are dropped for; count the former.

    The reasons are that of exact duplicates, and that of others.
    """
    dropped = np.flatnonzero(result.survivor != NO_SURVIVOR)
    survivor = result.survivor[dropped]
    reasons = np.where(result.exact[dropped], *reasons_by_kind)
    numbers, parts = documents["number"].to_numpy(), documents["part"].to_numpy()
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
    shuffles[0].write_table(partition, parts[dropped], table)
    distinct = np.unique(survivor)
    rows = numbers[distinct].astype(np.uint64).reshape(-1, 1)
    shuffles[1].write_rows(partition, parts[distinct], rows)
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
