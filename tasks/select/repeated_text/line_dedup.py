"""Lines that occur in many documents: hashes meet by partition, each part learns what goes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from infra.dataset.dataset import PartRef
from infra.formats.urls import url_host
from tasks.select.pii_mask import apply_edits, merge_cuts
from tasks.select.repeated_text.config import LineDedupConfig
from tasks.select.repeated_text.hash_datasets import HASH_COLUMN
from tasks.select.repeated_text.line_hashes import locate_lines
from tasks.select.repeated_text.pass_state import (
    PassResult,
    PassShuffle,
    flatten,
    group_runs,
    save_state,
)
from tasks.select.repeated_text.trim import extend_to_whitespace
from tasks.select.repeated_text.word_hashes import count_words
from tasks.select.write_part import PartInputs

U64 = npt.NDArray[np.uint64]
REASON = "repeated_lines"
HASH_ROW_WIDTH, MATCH_ROW_WIDTH = (
    2,
    3,
)  # words per row: hash, document; document, hash, first document that has it


def send_lines(
    shuffle: PassShuffle, part: int, hashed: PartRef, documents: PartRef, config: LineDedupConfig
) -> None:
    """Send the hashes of a part's documents that stay so far, kept apart by site if need be."""
    column = hashed.table([HASH_COLUMN])[HASH_COLUMN]
    rows = flatten(column, shuffle.remaining(part), shuffle.part_offsets[part])
    salts = _site_salts(documents, config)
    rows[:, 0] ^= salts[rows[:, 1].astype(np.int64) - shuffle.part_offsets[part]]
    exchange = shuffle.open_shuffle("hashes", shuffle.partitions, HASH_ROW_WIDTH)
    exchange.write_rows(part, shuffle.partition_of(rows[:, 0]), rows)


def find_lines(shuffle: PassShuffle, partition: int, config: LineDedupConfig) -> None:
    """Find the lines of a partition that enough documents have; tell the parts of these."""
    rows = shuffle.open_shuffle("hashes", shuffle.partitions, HASH_ROW_WIDTH).read_partition(
        partition, shuffle.parts
    )
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    new = np.ones(len(rows), bool)
    new[1:] = rows[1:, 0] != rows[:-1, 0]
    if config.scope == "source":
        # Documents are numbered source by source, so those of one source lie together.
        source = shuffle.source_of(rows[:, 1])
        new[1:] |= source[1:] != source[:-1]
    first = np.flatnonzero(new)
    length = np.diff(np.append(first, len(rows)))
    many = length >= config.min_documents
    place = np.repeat(first, length)[np.repeat(many, length)]
    found = rows[np.repeat(many, length)]
    out = np.column_stack([found[:, 1], found[:, 0], rows[place, 1]])
    shuffle.to_parts("matches", MATCH_ROW_WIDTH).write_rows(
        partition, shuffle.part_of(found[:, 1]), out
    )


def request_survivor_ids(shuffle: PassShuffle, part: int, config: LineDedupConfig) -> None:
    """Ask for the ids of the documents that are named as evidence."""
    rows = _read_matches(shuffle, part)
    firsts = [_removed_hashes(rows[run], config)[1] for _, run in group_runs(rows[:, 0])]
    shuffle.request_ids(part, np.array([first for first in firsts if first is not None], np.uint64))


def apply_line_dedup(
    shuffle: PassShuffle, part: int, inputs: PartInputs, config: LineDedupConfig
) -> PassResult:
    """Rule which characters of a part's texts go, and which documents are left with too little."""
    ruled = shuffle.previous_state(part)
    rows = _read_matches(shuffle, part)
    keeps = set(ruled["keeps"])
    dropped = trimmed = 0
    if len(rows):
        texts = inputs.documents.table(["text"])["text"]
        salts = _site_salts(inputs.documents, config)
        names = shuffle.ids(part)
        for number, run in group_runs(rows[:, 0]):
            row = number - shuffle.part_offsets[part]
            lost, first = _removed_hashes(rows[run], config)
            if config.keep == "first" and (rows[run, 2] == number).any():
                keeps.add(row)
            if first is None:
                continue
            text = texts[row].as_py()
            cuts, lines = find_line_cuts(text, lost ^ salts[row], config)
            said: dict[str, Any] = {
                "lines": lines,
                "characters": sum(end - start for start, end in cuts),
            }
            words = count_words(apply_edits(text, (), cuts))
            if words < config.min_words and row not in keeps:
                said |= {"words": words, "required": ">=", "threshold": config.min_words}
                name = "survivor" if config.keep == "first" else "first"
                evidence = {name: names[first], **said}
                ruled["dropped"][str(row)] = {"reason": REASON, "evidence": evidence}
                dropped += 1
            else:
                evidence = {"trimmed": {**said, "first": names[first]}}
                ruled["trimmed"][str(row)] = {"cuts": cuts, "evidence": evidence}
                trimmed += 1
    ruled["keeps"] = sorted(keeps)
    return PassResult(save_state(shuffle.work, shuffle.pass_index, part, ruled), dropped, trimmed)


def _site_salts(documents: PartRef, config: LineDedupConfig) -> U64:
    """A number per document that is the same within a site: uint64[rows]; 0 in other scopes."""
    if config.scope != "site":
        return np.zeros(documents.num_rows, np.uint64)
    urls = documents.table(["url"])["url"].to_pylist()
    sites = [(url_host(url) or "") if url else "" for url in urls]
    return np.array([xxhash.xxh64_intdigest(site.encode()) for site in sites], np.uint64)


def find_line_cuts(
    text: str, removed_hashes: U64, config: LineDedupConfig
) -> tuple[list[tuple[int, int]], int]:
    """What goes of a text: ``(start, end)`` in characters, in order; and how many lines these are.

    A line goes with its line break. White space that is left at either end of the text goes too.
    """
    hashes, starts, ends = locate_lines(text, config)
    hit = np.isin(hashes, removed_hashes)
    cuts = merge_cuts(list(zip(starts[hit].tolist(), ends[hit].tolist(), strict=True)))
    return extend_to_whitespace(text, cuts), int(hit.sum())


def _read_matches(shuffle: PassShuffle, part: int) -> U64:
    """What a part was told: document, hash, first document; in this order."""
    rows = shuffle.to_parts("matches", MATCH_ROW_WIDTH).read_partition(
        part, range(shuffle.partitions)
    )
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def _removed_hashes(rows: U64, config: LineDedupConfig) -> tuple[U64, int | None]:
    """The hashes that one document loses, and the document that has most of them first."""
    if config.keep == "first":
        rows = rows[rows[:, 2] != rows[:, 0]]
    if not len(rows):
        return rows[:, 1], None
    firsts, counts = np.unique(rows[:, 2], return_counts=True)
    return rows[:, 1], int(firsts[np.argmax(counts)])
