"""Lines that occur in many documents: counted by hash in partitions, then cut from the texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash

from infra.compute.arrays import U64
from infra.compute.phases import PhaseRunner
from infra.dataset.dataset import PartRef
from infra.formats.urls import url_host
from tasks.select.part_inputs import PartInputs
from tasks.select.pii_mask import apply_edits, extend_to_whitespace, merge_cuts
from tasks.select.repeated_text.config import LineDedupConfig
from tasks.select.repeated_text.hash_datasets import HASH_COLUMN
from tasks.select.repeated_text.line_hashes import locate_lines
from tasks.select.repeated_text.pass_state import PassPlan, PassResult, flatten, group_runs
from tasks.select.repeated_text.word_hashes import count_words

REASON = "repeated_lines"
# Rows of hashes: hash, document. Rows of matches: document, hash, first document with this line.
HASH_ROW_WIDTH, MATCH_ROW_WIDTH = 2, 3


def run_pass(
    runner: PhaseRunner,
    plan: PassPlan,
    part_inputs: Sequence[PartInputs],
    hashes: Sequence[PartRef],
    config: LineDedupConfig,
) -> list[PassResult]:
    """Run the pass; return the result for each part."""
    payloads: list[tuple[Any, ...]] = [
        (plan, part, hashes[part], inputs.documents, config)
        for part, inputs in enumerate(part_inputs)
    ]
    runner.run("line hashes", send_lines, payloads)
    partitions = [(plan, number, config) for number in range(plan.n_partitions)]
    runner.run("repeated lines", find_lines, partitions)
    payloads = [(plan, part, config) for part in plan.ranges]
    runner.run("line survivors", request_survivor_ids, payloads)
    payloads = [(plan, part, inputs.documents) for part, inputs in enumerate(part_inputs)]
    runner.run("line survivor ids", PassPlan.send_ids, payloads)
    payloads = [(plan, part, inputs, config) for part, inputs in enumerate(part_inputs)]
    results = runner.run("line cuts", apply_line_dedup, payloads)
    return [PassResult(*result) for result in results]


def send_lines(
    plan: PassPlan, part: int, hashes: PartRef, documents: PartRef, config: LineDedupConfig
) -> None:
    """Send the line hashes of a part's remaining documents, made distinct by site if configured."""
    column = hashes.table([HASH_COLUMN])[HASH_COLUMN]
    rows = flatten(column, plan.remaining(part), plan.starts[part])
    salts = _site_salts(documents, config)
    rows[:, 0] ^= salts[rows[:, 1].astype(np.int64) - plan.starts[part]]
    shuffle = plan.shuffle("hashes", plan.n_partitions, HASH_ROW_WIDTH)
    shuffle.write_rows(part, plan.partition_of(rows[:, 0]), rows)


def find_lines(plan: PassPlan, partition: int, config: LineDedupConfig) -> None:
    """Find the lines of a partition that enough documents have; send them to the parts."""
    rows = plan.shuffle("hashes", plan.n_partitions, HASH_ROW_WIDTH).read_partition(
        partition, plan.ranges
    )
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    new = np.ones(len(rows), bool)
    new[1:] = rows[1:, 0] != rows[:-1, 0]
    if config.scope == "source":
        # Documents are numbered source by source, so those of one source are adjacent.
        source = plan.source_of(rows[:, 1])
        new[1:] |= source[1:] != source[:-1]
    first = np.flatnonzero(new)
    length = np.diff(np.append(first, len(rows)))
    repeated = np.repeat(length >= config.min_documents, length)
    first_documents = rows[np.repeat(first, length)[repeated], 1]
    matches = np.column_stack([rows[repeated, 1], rows[repeated, 0], first_documents])
    plan.shuffle_to_ranges("matches", MATCH_ROW_WIDTH).write_rows(
        partition, plan.range_of(matches[:, 0]), matches
    )


def request_survivor_ids(plan: PassPlan, part: int, config: LineDedupConfig) -> None:
    """Request the ids of the documents that the evidence names."""
    rows = _read_matches(plan, part)
    firsts = [_removed_hashes(rows[run], config)[1] for _, run in group_runs(rows[:, 0])]
    plan.request_ids(part, np.array([first for first in firsts if first is not None], np.uint64))


def apply_line_dedup(
    plan: PassPlan, part: int, inputs: PartInputs, config: LineDedupConfig
) -> PassResult:
    """Cut repeated lines from a part's texts, and drop documents that are left with too few words."""
    state = plan.previous_state(part)
    rows = _read_matches(plan, part)
    keeps = set(state["keeps"])
    dropped = trimmed = 0
    if len(rows):
        texts = inputs.documents.table(["text"])["text"]
        salts = _site_salts(inputs.documents, config)
        ids = plan.ids(part)
        for number, run in group_runs(rows[:, 0]):
            row = number - plan.starts[part]
            removed, first = _removed_hashes(rows[run], config)
            if config.keep == "first" and (rows[run, 2] == number).any():
                keeps.add(row)
            if first is None:
                continue
            text = texts[row].as_py()
            cuts, lines = find_line_cuts(text, removed ^ salts[row], config)
            evidence: dict[str, Any] = {
                "lines": lines,
                "characters": sum(end - start for start, end in cuts),
            }
            words = count_words(apply_edits(text, (), cuts))
            if words < config.min_words and row not in keeps:
                evidence |= {"words": words, "required": ">=", "threshold": config.min_words}
                name = "survivor" if config.keep == "first" else "first"
                evidence = {name: ids[first], **evidence}
                state["dropped"][str(row)] = {"reason": REASON, "evidence": evidence}
                dropped += 1
            else:
                evidence = {"trimmed": {**evidence, "first": ids[first]}}
                state["trimmed"][str(row)] = {"cuts": cuts, "evidence": evidence}
                trimmed += 1
    state["keeps"] = sorted(keeps)
    return PassResult(plan.save_state(part, state), dropped, trimmed)


def _site_salts(documents: PartRef, config: LineDedupConfig) -> U64:
    """Return a number per document that is equal within a site: uint64[rows]; 0 in other scopes."""
    if config.scope != "site":
        return np.zeros(documents.num_rows, np.uint64)
    urls = documents.table(["url"])["url"].to_pylist()
    sites = [(url_host(url) or "") if url else "" for url in urls]
    return np.array([xxhash.xxh64_intdigest(site.encode()) for site in sites], np.uint64)


def find_line_cuts(
    text: str, removed_hashes: U64, config: LineDedupConfig
) -> tuple[list[tuple[int, int]], int]:
    """Return what to cut from a text, ``(start, end)`` in characters, and the number of lines.

    A line is cut with its line break, and white space that is left at either end of the text too.
    """
    hashes, starts, ends = locate_lines(text, config)
    hit = np.isin(hashes, removed_hashes)
    cuts = merge_cuts(list(zip(starts[hit].tolist(), ends[hit].tolist(), strict=True)))
    return extend_to_whitespace(text, cuts), int(hit.sum())


def _read_matches(plan: PassPlan, part: int) -> U64:
    """Read the matches of a part, sorted by document, then hash."""
    rows = plan.shuffle_to_ranges("matches", MATCH_ROW_WIDTH).read_partition(
        part, range(plan.n_partitions)
    )
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def _removed_hashes(rows: U64, config: LineDedupConfig) -> tuple[U64, int | None]:
    """Return the hashes that one document loses, and the document that most often has them first."""
    if config.keep == "first":
        rows = rows[rows[:, 2] != rows[:, 0]]
    if not len(rows):
        return rows[:, 1], None
    firsts, counts = np.unique(rows[:, 2], return_counts=True)
    return rows[:, 1], int(firsts[np.argmax(counts)])
