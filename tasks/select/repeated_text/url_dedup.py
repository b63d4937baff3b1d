"""One document per web address: those that pass the rules meet by canonical URL.

The same page comes in several times when crawls overlap or follow each other. Only one version
stays, by the recipe's order of preference, whether or not the versions resemble each other.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from infra.removals.match import Removal, canonicalize_column
from tasks.select.config import SourceFilters
from tasks.select.selection_shuffle import SelectionShuffle, check_eligibility
from tasks.select.write_part import PartInputs

REASON = "url_duplicate"
CANDIDATE_SCHEMA = pa.schema(
    [
        ("address", pa.string()),
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


def send_url_candidates(
    shuffle: SelectionShuffle,
    part: int,
    inputs: PartInputs,
    filters: SourceFilters,
    removals: Sequence[Removal],
) -> None:
    """Send a part's documents that pass the rules and have a web address to the election."""
    found = check_eligibility(shuffle, inputs, filters, removals)
    urls = pa.array(found.documents["url"].to_pylist(), pa.string())
    addresses = canonicalize_column(urls)
    web = pc.fill_null(pc.match_substring_regex(addresses, "^https?://"), fill_value=False)
    chosen = np.flatnonzero(web.to_numpy(zero_copy_only=False) & found.eligible)
    addresses = addresses.take(pa.array(chosen))
    table = pa.table(
        {
            "address": addresses,
            "number": pa.array(shuffle.part_offsets[part] + chosen, pa.int64()),
            "part": pa.array(np.full(len(chosen), part), pa.int64()),
            "source": pa.array(np.full(len(chosen), inputs.source_index), pa.int64()),
            "id": found.documents["id"].take(chosen),
            "rank": pa.array(list(found.rank_keys[chosen]), pa.list_(pa.float64())),
        },
        schema=CANDIDATE_SCHEMA,
    )
    hashes = [xxhash.xxh64_intdigest(address.encode()) for address in addresses.to_pylist()]
    places = np.array(hashes, np.uint64) % np.uint64(shuffle.url_partitions)
    shuffle.url_candidates.write_table(part, places.astype(np.int64), table)


def choose_url_survivors(shuffle: SelectionShuffle, partition: int) -> list[tuple[int, str, int]]:
    """Elect one version of each page of a partition, and tell each part what it loses.

    Returns:
        (source, reason, documents) of what is lost.
    """
    table = shuffle.url_candidates.read_table_partition(partition, shuffle.parts, CANDIDATE_SCHEMA)
    names = pc.dictionary_encode(table["address"].combine_chunks())
    places = names.indices.to_numpy()
    several = np.bincount(places, minlength=len(names.dictionary))[places] > 1
    rows = table.filter(pa.array(several)).to_pylist()
    rows.sort(key=lambda row: (row["address"], row["rank"], row["id"], row["number"]))
    stays: dict[str, Any] = {}
    out: dict[str, list[Any]] = {name: [] for name in DROPPED_SCHEMA.names}
    parts = []
    named: dict[int, int] = {}  # survivors, and their parts
    tally: Counter[int] = Counter()
    for row in rows:
        survivor = stays.setdefault(row["address"], row)
        if survivor is row:
            continue
        values = (row["number"], survivor["id"], row["address"])
        for name, value in zip(DROPPED_SCHEMA.names, values, strict=True):
            out[name].append(value)
        parts.append(row["part"])
        named[survivor["number"]] = survivor["part"]
        tally[row["source"]] += 1
    shuffle.url_dropped.write_table(
        partition, np.array(parts, np.int64), pa.table(out, schema=DROPPED_SCHEMA)
    )
    stay = np.array([*named], np.uint64).reshape(-1, 1)
    shuffle.url_survivors.write_rows(partition, np.array([*named.values()], np.int64), stay)
    return [(source, REASON, count) for source, count in sorted(tally.items())]


def load_url_duplicates(shuffle: SelectionShuffle, part: int) -> dict[int, dict[str, Any]]:
    """The documents of a part, by row, that stay away for another version of their page."""
    found = shuffle.url_dropped.read_table_partition(
        part, range(shuffle.url_partitions), DROPPED_SCHEMA
    ).to_pylist()
    return {
        row["number"] - shuffle.part_offsets[part]: {
            "reason": REASON,
            "evidence": {"survivor": row["survivor"], "url": row["url"]},
        }
        for row in found
    }
