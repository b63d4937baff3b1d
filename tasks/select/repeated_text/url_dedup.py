"""One document per URL: of the documents that pass the rules, one version of each page is kept.

The same page occurs several times if crawls overlap or follow each other. The version that is kept
is chosen by the recipe's order of preference, whether or not the versions resemble each other.
"""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from infra.removals.match import canonicalize_column
from tasks.select.eligibility import Eligibility
from tasks.select.part_inputs import PartInputs
from tasks.select.plan import SelectionPlan

REASON = "url_duplicate"
CANDIDATE_SCHEMA = pa.schema(
    [
        ("url", pa.string()),  # canonical
        ("number", pa.int64()),
        ("part", pa.int64()),
        ("source", pa.int64()),
        ("id", pa.string()),
        ("rank", pa.list_(pa.float64())),
    ]
)
DROPPED_SCHEMA = pa.schema(
    [("number", pa.int64()), ("survivor", pa.string()), ("url", pa.string())]
)


def send_url_candidates(plan: SelectionPlan, part: int, inputs: PartInputs) -> None:
    """Send a part's eligible documents with a web URL to the partitions of their URLs."""
    eligibility = Eligibility.load(plan, part)
    documents = inputs.documents.table(["id", "url"])
    urls = canonicalize_column(pa.array(documents["url"].to_pylist(), pa.string()))
    is_web = pc.fill_null(pc.match_substring_regex(urls, "^https?://"), fill_value=False)
    chosen = np.flatnonzero(is_web.to_numpy(zero_copy_only=False) & eligibility.eligible)
    urls = urls.take(pa.array(chosen))
    table = pa.table(
        {
            "url": urls,
            "number": pa.array(plan.starts[part] + chosen, pa.int64()),
            "part": pa.array(np.full(len(chosen), part), pa.int64()),
            "source": pa.array(np.full(len(chosen), inputs.source_index), pa.int64()),
            "id": documents["id"].take(chosen),
            "rank": pa.array(list(eligibility.rank_keys[chosen]), pa.list_(pa.float64())),
        },
        schema=CANDIDATE_SCHEMA,
    )
    hashes = [xxhash.xxh64_intdigest(url.encode()) for url in urls.to_pylist()]
    partitions = np.array(hashes, np.uint64) % np.uint64(plan.n_url_partitions)
    plan.url_candidates.write_table(part, partitions.astype(np.int64), table)


def choose_url_survivors(plan: SelectionPlan, partition: int) -> list[tuple[int, str, int]]:
    """Choose one version of each page of a partition; send each part its dropped versions.

    Returns (source, reason, number of dropped documents) of each.
    """
    table = plan.url_candidates.read_table_partition(partition, plan.ranges, CANDIDATE_SCHEMA)
    coded = pc.dictionary_encode(table["url"].combine_chunks())
    codes = coded.indices.to_numpy()
    repeated = np.bincount(codes, minlength=len(coded.dictionary))[codes] > 1
    rows = table.filter(pa.array(repeated)).to_pylist()
    rows.sort(key=lambda row: (row["url"], row["rank"], row["id"], row["number"]))
    survivors: dict[str, Any] = {}  # by URL
    columns: dict[str, list[Any]] = {name: [] for name in DROPPED_SCHEMA.names}
    parts = []
    survivor_parts: dict[int, int] = {}  # by number of the survivor
    counts: Counter[int] = Counter()
    for row in rows:
        survivor = survivors.setdefault(row["url"], row)
        if survivor is row:
            continue
        values = (row["number"], survivor["id"], row["url"])
        for name, value in zip(DROPPED_SCHEMA.names, values, strict=True):
            columns[name].append(value)
        parts.append(row["part"])
        survivor_parts[survivor["number"]] = survivor["part"]
        counts[row["source"]] += 1
    plan.url_dropped.write_table(
        partition, np.array(parts, np.int64), pa.table(columns, schema=DROPPED_SCHEMA)
    )
    numbers = np.array([*survivor_parts], np.uint64).reshape(-1, 1)
    plan.url_survivors.write_rows(
        partition, np.array([*survivor_parts.values()], np.int64), numbers
    )
    return [(source, REASON, count) for source, count in sorted(counts.items())]


def load_url_duplicates(plan: SelectionPlan, part: int) -> dict[int, dict[str, Any]]:
    """Return the documents of a part, by row, that are dropped for another version of their page."""
    rows = plan.url_dropped.read_table_partition(
        part, range(plan.n_url_partitions), DROPPED_SCHEMA
    ).to_pylist()
    return {
        row["number"] - plan.starts[part]: {
            "reason": REASON,
            "evidence": {"survivor": row["survivor"], "url": row["url"]},
        }
        for row in rows
    }
