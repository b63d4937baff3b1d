"""Runs of words that an earlier document has, found by two shuffles, the second one of few rows.

The first shuffle finds fingerprints that several documents share. The second one compares only the
runs that contain such a fingerprint, and finds the first document that has each. A run that two
documents share contains a fingerprint that they share, so no run is missed.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.compute.arrays import U8, U64, Bools
from infra.compute.phases import PhaseRunner
from infra.dataset.dataset import PartRef
from infra.formats.arrow_text import utf8_buffers
from tasks.select.part_inputs import PartInputs
from tasks.select.pii_mask import Cut, apply_edits, extend_to_whitespace, merge_cuts
from tasks.select.repeated_text.config import SubstringDedupConfig
from tasks.select.repeated_text.hash_datasets import HASH_COLUMN
from tasks.select.repeated_text.pass_state import (
    PassPlan,
    PassResult,
    flatten,
    group_runs,
    n_partitions,
)
from tasks.select.repeated_text.word_hashes import WordRuns, count_words, winnowing_params

REASON = "repeated_substring"
# Rows of hashes: hash, document. Rows of shared hashes: document, hash. Rows of runs: hash, whether
# an earlier pass cut it in this document, document. Rows of matches: document, hash, first document.
HASH_ROW_WIDTH, SHARED_ROW_WIDTH, RUN_ROW_WIDTH, MATCH_ROW_WIDTH = 2, 2, 3, 3


def run_pass(
    runner: PhaseRunner,
    plan: PassPlan,
    part_inputs: Sequence[PartInputs],
    fingerprints: Sequence[PartRef],
    config: SubstringDedupConfig,
) -> list[PassResult]:
    """Run the pass; return the result for each part."""
    payloads: list[tuple[Any, ...]] = [(plan, p, fingerprints[p]) for p in plan.ranges]
    runner.run("fingerprints", send_fingerprints, payloads)
    payloads = [(plan, number) for number in range(plan.n_partitions)]
    shared = sum(runner.run("shared fingerprints", find_shared, payloads))
    # An upper bound: a fingerprint is in this many runs, some of which are equal.
    n = n_partitions(shared * winnowing_params(config.min_run_words)[1])
    payloads = [(plan, p, part_inputs[p], config.min_run_words, n) for p in plan.ranges]
    runner.run("word runs", send_runs, payloads)
    payloads = [(plan, number, n) for number in range(n)]
    runner.run("repeated runs", find_runs, payloads)
    payloads = [(plan, p, part_inputs[p], config, n) for p in plan.ranges]
    runner.run("coverage", find_coverage, payloads)
    payloads = [(plan, part, inputs.documents) for part, inputs in enumerate(part_inputs)]
    runner.run("substring survivor ids", PassPlan.send_ids, payloads)
    payloads = [(plan, part, inputs, config) for part, inputs in enumerate(part_inputs)]
    results = runner.run("substring cuts", apply_substring_dedup, payloads)
    return [PassResult(*result) for result in results]


def send_fingerprints(plan: PassPlan, part: int, fingerprints: PartRef) -> None:
    """Send the fingerprints of a part's remaining documents."""
    column = fingerprints.table([HASH_COLUMN])[HASH_COLUMN]
    rows = flatten(column, plan.remaining(part), plan.starts[part])
    shuffle = plan.shuffle("hashes", plan.n_partitions, HASH_ROW_WIDTH)
    shuffle.write_rows(part, plan.partition_of(rows[:, 0]), rows)


def find_shared(plan: PassPlan, partition: int) -> int:
    """Send the parts the fingerprints that several documents have; return the number of rows."""
    rows = plan.shuffle("hashes", plan.n_partitions, HASH_ROW_WIDTH).read_partition(
        partition, plan.ranges
    )
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    same = rows[1:, 0] == rows[:-1, 0]
    shared = np.append(same, False) | np.append(False, same)
    out = rows[shared[: len(rows)]][:, ::-1]
    plan.shuffle_to_ranges("shared", SHARED_ROW_WIDTH).write_rows(
        partition, plan.range_of(out[:, 0]), out
    )
    return len(out)


def send_runs(
    plan: PassPlan, part: int, inputs: PartInputs, run_words: int, n_run_partitions: int
) -> None:
    """Send the hashes of the runs that contain shared fingerprints."""
    shared = _sort_rows(
        plan.shuffle_to_ranges("shared", SHARED_ROW_WIDTH).read_partition(
            part, range(plan.n_partitions)
        )
    )
    trimmed = plan.previous_state(part)["trimmed"]
    runs = [np.zeros((0, RUN_ROW_WIDTH), np.uint64)]
    for number, run, data in _iter_texts(plan, part, inputs, shared):
        text = WordRuns(data, run_words)
        hashes = text.runs_containing(shared[run, 1])
        out = np.zeros((len(hashes), RUN_ROW_WIDTH), np.uint64)
        out[:, 0], out[:, 2] = hashes, number
        cuts = trimmed.get(str(number - plan.starts[part]), {"cuts": []})["cuts"]
        if cuts:
            out[:, 1] = ~np.isin(hashes, full_runs(text, run_words, cuts))
        runs.append(out)
    rows = np.concatenate(runs)
    partition = (rows[:, 0] % np.uint64(n_run_partitions)).astype(np.int64)
    plan.shuffle("runs", n_run_partitions, RUN_ROW_WIDTH).write_rows(part, partition, rows)


def full_runs(text: WordRuns, run_words: int, cuts: Sequence[Cut]) -> U64:
    """Return the hashes of the runs of ``run_words`` words that no cut (in characters) touches."""
    hit = np.zeros(len(text.starts) + 1, np.int64)
    for start, end in cuts:
        hit[1:] |= (text.starts < end) & (text.ends > start)
    before = np.cumsum(hit)  # words that are cut, before each word
    whole: Bools = before[run_words:] == before[:-run_words]
    return text.hashes[whole]


def find_runs(plan: PassPlan, partition: int, n_run_partitions: int) -> None:
    """Send the parts those of their runs that an earlier document has, with the first such document.

    A document that lost part of a run to an earlier pass does not count: if others lost the run in
    its favor, no copy would remain.
    """
    rows = plan.shuffle("runs", n_run_partitions, RUN_ROW_WIDTH).read_partition(
        partition, plan.ranges
    )
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    new = np.ones(len(rows), bool)
    new[1:] = rows[1:, 0] != rows[:-1, 0]
    first = rows[np.flatnonzero(new)[np.cumsum(new) - 1]] if len(rows) else rows
    out = np.column_stack([rows[:, 2], rows[:, 0], first[:, 2]])
    out = out[(first[:, 1] == 0) & (first[:, 2] < rows[:, 2])]
    plan.shuffle_to_ranges("matches", MATCH_ROW_WIDTH).write_rows(
        partition, plan.range_of(out[:, 0]), out
    )


@dataclass(frozen=True)
class Coverage:
    """The parts of one text that earlier documents have.

    Attributes:
        cuts: the covered spans ``(start, end)`` in characters, ordered and disjoint.
        longest_run: the span with the most words.
        first_document: the document that most often has the runs of that span first.
        fraction: fraction of the text's words that are covered.
    """

    cuts: list[tuple[int, int]]
    longest_run: tuple[int, int]
    first_document: int
    fraction: float


def compute_coverage(text: WordRuns, run_words: int, hashes: U64, first_documents: U64) -> Coverage:
    """Return which parts of a text are covered by runs that earlier documents have.

    ``hashes`` are such runs, ascending, at least one of which is in the text; ``first_documents`` are
    the first documents that have each.
    """
    index = np.minimum(np.searchsorted(hashes, text.hashes), len(hashes) - 1)
    begins = np.flatnonzero(hashes[index] == text.hashes)
    step = np.zeros(len(text.starts) + 1, np.int64)
    step[begins] += 1
    step[begins + run_words] -= 1
    covered = np.concatenate([[False], np.cumsum(step)[:-1] > 0, [False]])
    edge = np.flatnonzero(covered[1:] != covered[:-1])
    first, last = edge[::2], edge[1::2]
    longest = int(np.argmax(last - first))
    inside = begins[(begins >= first[longest]) & (begins < last[longest])]
    documents, counts = np.unique(first_documents[index[inside]], return_counts=True)
    cuts = list(zip(text.starts[first].tolist(), text.ends[last - 1].tolist(), strict=True))
    fraction = float((last - first).sum() / len(text.starts))
    return Coverage(cuts, cuts[longest], int(documents[np.argmax(counts)]), fraction)


def find_coverage(
    plan: PassPlan,
    part: int,
    inputs: PartInputs,
    config: SubstringDedupConfig,
    n_run_partitions: int,
) -> None:
    """Save which parts of a part's texts earlier documents have; request the ids of these documents.

    The documents whose ids are requested are those that others lose text for.
    """
    rows = _sort_rows(
        plan.shuffle_to_ranges("matches", MATCH_ROW_WIDTH).read_partition(
            part, range(n_run_partitions)
        )
    )
    covered: dict[str, Any] = {}
    requested = [np.zeros(0, np.uint64)]
    for number, run, data in _iter_texts(plan, part, inputs, rows):
        hashes, firsts = rows[run, 1], rows[run, 2]
        coverage = compute_coverage(
            WordRuns(data, config.min_run_words), config.min_run_words, hashes, firsts
        )
        if config.action == "trim" or coverage.fraction > config.max_duplicate_fraction:
            covered[str(number - plan.starts[part])] = [
                coverage.cuts,
                coverage.longest_run,
                coverage.first_document,
                coverage.fraction,
            ]
            requested.append(np.unique(firsts))
    plan.work.write(_coverage_file(plan, part), json.dumps(covered).encode(), durable=False)
    plan.request_ids(part, np.concatenate(requested))


def apply_substring_dedup(
    plan: PassPlan, part: int, inputs: PartInputs, config: SubstringDedupConfig
) -> PassResult:
    """Cut covered text from a part's documents, or drop documents, as the recipe says."""
    state = plan.previous_state(part)
    covered = json.loads(plan.work.read(_coverage_file(plan, part)))
    ids = plan.ids(part)
    keeps = {*state["keeps"], *plan.requested(part)}
    state["keeps"] = sorted(keeps)
    dropped = trimmed = 0
    trim = config.action == "trim"
    texts = inputs.documents.table(["text"])["text"] if covered and trim else None
    for row, (runs, span, first, fraction) in covered.items():
        evidence = {"survivor": ids[first], "span": span, "fraction": round(fraction, 4)}
        if texts is None:
            if int(row) not in keeps:
                limit = {"required": "<=", "threshold": config.max_duplicate_fraction}
                state["dropped"][row] = {"reason": REASON, "evidence": {**evidence, **limit}}
                state["trimmed"].pop(row, None)
                dropped += 1
            continue
        text = texts[int(row)].as_py()
        before = state["trimmed"].get(row, {"cuts": [], "evidence": {}})
        cuts = extend_to_whitespace(
            text, merge_cuts([*before["cuts"], *_extend_over_whitespace(text, runs)])
        )
        words = count_words(apply_edits(text, (), cuts))
        if words < config.min_words and int(row) not in keeps:
            evidence |= {"words": words, "required": ">=", "threshold": config.min_words}
            state["dropped"][row] = {"reason": REASON, "evidence": evidence}
            state["trimmed"].pop(row, None)
            dropped += 1
        else:
            summary = {
                **before["evidence"].get("trimmed", {}),
                "substrings": len(runs),
                "characters": sum(end - start for start, end in cuts),
                **evidence,
            }
            state["trimmed"][row] = {"cuts": cuts, "evidence": {"trimmed": summary}}
            trimmed += 1
    return PassResult(plan.save_state(part, state), dropped, trimmed)


def _coverage_file(plan: PassPlan, part: int) -> str:
    return f"{plan.pass_index}/coverage/{part}.json"


def _extend_over_whitespace(text: str, runs: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Yield each run, with the white space after it if white space or nothing precedes it."""
    for start, end in runs:
        stop = end
        if start == 0 or text[start - 1].isspace():
            while stop < len(text) and text[stop].isspace():
                stop += 1
        yield start, stop


def _sort_rows(rows: U64) -> U64:
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def _iter_texts(
    plan: PassPlan, part: int, inputs: PartInputs, rows: U64
) -> Iterator[tuple[int, slice, U8]]:
    """Yield each document of sorted rows: its number, its rows, its text in UTF-8."""
    if len(rows):
        offsets, data = utf8_buffers(inputs.documents.table(["text"])["text"])
        for number, run in group_runs(rows[:, 0]):
            row = number - plan.starts[part]
            yield number, run, data[offsets[row] : offsets[row + 1]]
