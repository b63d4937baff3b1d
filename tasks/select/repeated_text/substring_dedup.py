"""Runs of words that an earlier document has: found by two exchanges, the second one of few rows.

First fingerprints meet; documents that share one send the hashes of the runs around it, and of each
run the first document that has it is known. A run that two documents share holds a fingerprint
that they share, so none is missed.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.dataset.dataset import PartRef
from infra.formats.arrow_text import utf8_buffers
from tasks.select.pii_mask import Cut, apply_edits, merge_cuts
from tasks.select.repeated_text.config import SubstringDedupConfig
from tasks.select.repeated_text.hash_datasets import HASH_COLUMN
from tasks.select.repeated_text.pass_state import (
    PassResult,
    PassShuffle,
    flatten,
    group_runs,
    save_state,
)
from tasks.select.repeated_text.trim import extend_to_whitespace
from tasks.select.repeated_text.word_hashes import WordRuns, count_words
from tasks.select.write_part import PartInputs

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
REASON = "repeated_substring"
# Words per row. Sent: hash, document. Shared: document, hash. Runs: hash, whether an earlier level
# cut it there, document. Found: document, hash, first document.
HASH_ROW_WIDTH, SHARED_ROW_WIDTH, RUN_ROW_WIDTH, MATCH_ROW_WIDTH = 2, 2, 3, 3


def send_fingerprints(shuffle: PassShuffle, part: int, fingerprints: PartRef) -> None:
    """Send the fingerprints of a part's documents that stay so far."""
    rows = flatten(
        fingerprints.table([HASH_COLUMN])[HASH_COLUMN],
        shuffle.remaining(part),
        shuffle.part_offsets[part],
    )
    exchange = shuffle.open_shuffle("hashes", shuffle.partitions, HASH_ROW_WIDTH)
    exchange.write_rows(part, shuffle.partition_of(rows[:, 0]), rows)


def find_shared(shuffle: PassShuffle, partition: int) -> int:
    """Tell the parts which fingerprints several documents have; how many rows that takes."""
    rows = shuffle.open_shuffle("hashes", shuffle.partitions, HASH_ROW_WIDTH).read_partition(
        partition, shuffle.parts
    )
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    same = rows[1:, 0] == rows[:-1, 0]
    shared = np.append(same, False) | np.append(False, same)
    out = rows[shared[: len(rows)]][:, ::-1]
    shuffle.to_parts("shared", SHARED_ROW_WIDTH).write_rows(
        partition, shuffle.part_of(out[:, 0]), out
    )
    return len(out)


def send_runs(
    shuffle: PassShuffle, part: int, inputs: PartInputs, run_words: int, partitions: int
) -> None:
    """Send the hashes of the runs around shared fingerprints."""
    shared = _sort_rows(
        shuffle.to_parts("shared", SHARED_ROW_WIDTH).read_partition(part, range(shuffle.partitions))
    )
    trimmed = shuffle.previous_state(part)["trimmed"]
    found = [np.zeros((0, RUN_ROW_WIDTH), np.uint64)]
    for number, run, data in _iter_texts(shuffle, part, inputs, shared):
        text = WordRuns(data, run_words)
        hashes = text.runs_containing(shared[run, 1])
        out = np.zeros((len(hashes), RUN_ROW_WIDTH), np.uint64)
        out[:, 0], out[:, 2] = hashes, number
        cuts = trimmed.get(str(number - shuffle.part_offsets[part]), {"cuts": []})["cuts"]
        if cuts:
            out[:, 1] = ~np.isin(hashes, full_runs(text, run_words, cuts))
        found.append(out)
    rows = np.concatenate(found)
    places = (rows[:, 0] % np.uint64(partitions)).astype(np.int64)
    shuffle.open_shuffle("runs", partitions, RUN_ROW_WIDTH).write_rows(part, places, rows)


def full_runs(text: WordRuns, run_words: int, cuts: Sequence[Cut]) -> U64:
    """The hashes of the runs of so many words that lose nothing to cuts, in characters."""
    hit = np.zeros(len(text.starts) + 1, np.int64)
    for start, end in cuts:
        hit[1:] |= (text.starts < end) & (text.ends > start)
    before = np.cumsum(hit)  # words that are cut, before each word
    lost_none: npt.NDArray[np.bool_] = before[run_words:] == before[:-run_words]
    return text.hashes[lost_none]


def find_runs(shuffle: PassShuffle, partition: int, partitions: int) -> None:
    """Tell the parts which runs of theirs an earlier document has, and which is the first.

    A document that lost some of a run to an earlier level does not have it: what others lost for
    its sake would be nowhere.
    """
    rows = shuffle.open_shuffle("runs", partitions, RUN_ROW_WIDTH).read_partition(
        partition, shuffle.parts
    )
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    new = np.ones(len(rows), bool)
    new[1:] = rows[1:, 0] != rows[:-1, 0]
    first = rows[np.flatnonzero(new)[np.cumsum(new) - 1]] if len(rows) else rows
    out = np.column_stack([rows[:, 2], rows[:, 0], first[:, 2]])
    out = out[(first[:, 1] == 0) & (first[:, 2] < rows[:, 2])]
    shuffle.to_parts("matches", MATCH_ROW_WIDTH).write_rows(
        partition, shuffle.part_of(out[:, 0]), out
    )


@dataclass(frozen=True)
class Coverage:
    """What earlier documents have of one text.

    Attributes:
        cuts: the runs, in characters, in order and apart from each other.
        longest_run: the longest of them in words, in characters.
        first_document: the document that has most of it first.
        fraction: of the text's words that lie in runs.
    """

    cuts: list[tuple[int, int]]
    longest_run: tuple[int, int]
    first_document: int
    fraction: float


def compute_coverage(text: WordRuns, run_words: int, hashes: U64, first_documents: U64) -> Coverage:
    """What is covered of a text by runs that earlier documents have.

    Args:
        text: the text's runs, at least one of which is among those below.
        run_words: of a run.
        hashes: ascending; runs that earlier documents have.
        first_documents: the first document that has each.
    """
    place = np.minimum(np.searchsorted(hashes, text.hashes), len(hashes) - 1)
    begins = np.flatnonzero(hashes[place] == text.hashes)
    step = np.zeros(len(text.starts) + 1, np.int64)
    step[begins] += 1
    step[begins + run_words] -= 1
    covered = np.concatenate([[False], np.cumsum(step)[:-1] > 0, [False]])
    edge = np.flatnonzero(covered[1:] != covered[:-1])
    from_, to = edge[::2], edge[1::2]
    longest = int(np.argmax(to - from_))
    inside = begins[(begins >= from_[longest]) & (begins < to[longest])]
    names, counts = np.unique(first_documents[place[inside]], return_counts=True)
    cuts = list(zip(text.starts[from_].tolist(), text.ends[to - 1].tolist(), strict=True))
    share = float((to - from_).sum() / len(text.starts))
    return Coverage(cuts, cuts[longest], int(names[np.argmax(counts)]), share)


def find_coverage(
    shuffle: PassShuffle,
    part: int,
    inputs: PartInputs,
    config: SubstringDedupConfig,
    partitions: int,
) -> None:
    """Find what earlier documents have of a part's texts, and ask for the names of these.

    A document that is asked for is one that others lose text for.
    """
    rows = _sort_rows(
        shuffle.to_parts("matches", MATCH_ROW_WIDTH).read_partition(part, range(partitions))
    )
    out: dict[str, Any] = {}
    asked = [np.zeros(0, np.uint64)]
    for number, run, data in _iter_texts(shuffle, part, inputs, rows):
        hashes, firsts = rows[run, 1], rows[run, 2]
        found = compute_coverage(
            WordRuns(data, config.min_run_words), config.min_run_words, hashes, firsts
        )
        if config.action == "trim" or found.fraction > config.max_duplicate_fraction:
            out[str(number - shuffle.part_offsets[part])] = [
                found.cuts,
                found.longest_run,
                found.first_document,
                found.fraction,
            ]
            asked.append(np.unique(firsts))
    shuffle.work.write(
        f"{shuffle.pass_index}/coverage/{part}.json", json.dumps(out).encode(), durable=False
    )
    shuffle.request_ids(part, np.concatenate(asked))


def apply_substring_dedup(
    shuffle: PassShuffle, part: int, inputs: PartInputs, config: SubstringDedupConfig
) -> PassResult:
    """Rule which characters of a part's texts go, and which documents go as a whole."""
    ruled = shuffle.previous_state(part)
    covers = json.loads(shuffle.work.read(f"{shuffle.pass_index}/coverage/{part}.json"))
    names = shuffle.ids(part)
    keeps = {*ruled["keeps"], *shuffle.requested(part)}
    ruled["keeps"] = sorted(keeps)
    dropped = trimmed = 0
    texts = inputs.documents.table(["text"])["text"] if covers and config.action == "trim" else None
    for row, (runs, span, first, share) in covers.items():
        said = {"survivor": names[first], "span": span, "fraction": round(share, 4)}
        if texts is None:
            if int(row) not in keeps:
                limit = {"required": "<=", "threshold": config.max_duplicate_fraction}
                ruled["dropped"][row] = {"reason": REASON, "evidence": {**said, **limit}}
                ruled["trimmed"].pop(row, None)
                dropped += 1
            continue
        text = texts[int(row)].as_py()
        before = ruled["trimmed"].get(row, {"cuts": [], "evidence": {}})
        cuts = extend_to_whitespace(
            text, merge_cuts([*before["cuts"], *_extend_over_whitespace(text, runs)])
        )
        words = count_words(apply_edits(text, (), cuts))
        if words < config.min_words and int(row) not in keeps:
            said |= {"words": words, "required": ">=", "threshold": config.min_words}
            ruled["dropped"][row] = {"reason": REASON, "evidence": said}
            ruled["trimmed"].pop(row, None)
            dropped += 1
        else:
            done = {
                **before["evidence"].get("trimmed", {}),
                "substrings": len(runs),
                "characters": sum(end - start for start, end in cuts),
                **said,
            }
            ruled["trimmed"][row] = {"cuts": cuts, "evidence": {"trimmed": done}}
            trimmed += 1
    return PassResult(save_state(shuffle.work, shuffle.pass_index, part, ruled), dropped, trimmed)


def _extend_over_whitespace(text: str, runs: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Each run with the white space after it, where white space or nothing is before it."""
    for start, end in runs:
        stop = end
        if start == 0 or text[start - 1].isspace():
            while stop < len(text) and text[stop].isspace():
                stop += 1
        yield start, stop


def _sort_rows(rows: U64) -> U64:
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def _iter_texts(
    shuffle: PassShuffle, part: int, inputs: PartInputs, rows: U64
) -> Iterator[tuple[int, slice, U8]]:
    """Each document that sorted rows speak of: its number, its rows, its text in UTF-8."""
    if len(rows):
        offsets, data = utf8_buffers(inputs.documents.table(["text"])["text"])
        for number, run in group_runs(rows[:, 0]):
            row = number - shuffle.part_offsets[part]
            yield number, run, data[offsets[row] : offsets[row + 1]]
