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
from infra.formats.arrow_text import utf8
from tasks.select.pii_mask import Cut, mask, united
from tasks.select.repeated_text.config import Substrings
from tasks.select.repeated_text.hash_datasets import COLUMN
from tasks.select.repeated_text.pass_state import Ground, Ruled, flattened, grouped, put_state
from tasks.select.repeated_text.trim import tidied
from tasks.select.repeated_text.word_hashes import Passages, count_words
from tasks.select.write_part import Triple

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
REASON = "repeated_substring"
# Words per row. Sent: hash, document. Shared: document, hash. Runs: hash, whether an earlier level
# cut it there, document. Found: document, hash, first document.
SENT, SHARED, RUNS, FOUND = 2, 2, 3, 3


def send_fingerprints(ground: Ground, part: int, taken: PartRef) -> None:
    """Send the fingerprints of a part's documents that stay so far."""
    rows = flattened(taken.table([COLUMN])[COLUMN], ground.alive(part), ground.starts[part])
    exchange = ground.exchange("hashes", ground.partitions, SENT)
    exchange.send(part, ground.partition_of(rows[:, 0]), rows)


def find_shared(ground: Ground, partition: int) -> int:
    """Tell the parts which fingerprints several documents have; how many rows that takes."""
    rows = ground.exchange("hashes", ground.partitions, SENT).receive(partition, ground.parts)
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    same = rows[1:, 0] == rows[:-1, 0]
    shared = np.append(same, False) | np.append(False, same)
    out = rows[shared[: len(rows)]][:, ::-1]
    ground.to_parts("shared", SHARED).send(partition, ground.part_of(out[:, 0]), out)
    return len(out)


def send_runs(ground: Ground, part: int, triple: Triple, words: int, partitions: int) -> None:
    """Send the hashes of the runs around shared fingerprints."""
    shared = _sorted(ground.to_parts("shared", SHARED).receive(part, range(ground.partitions)))
    trimmed = ground.before(part)["trimmed"]
    found = [np.zeros((0, RUNS), np.uint64)]
    for number, run, data in _texts(ground, part, triple, shared):
        text = Passages(data, words)
        hashes = text.near(shared[run, 1])
        out = np.zeros((len(hashes), RUNS), np.uint64)
        out[:, 0], out[:, 2] = hashes, number
        cuts = trimmed.get(str(number - ground.starts[part]), {"cuts": []})["cuts"]
        if cuts:
            out[:, 1] = ~np.isin(hashes, whole(text, words, cuts))
        found.append(out)
    rows = np.concatenate(found)
    places = (rows[:, 0] % np.uint64(partitions)).astype(np.int64)
    ground.exchange("runs", partitions, RUNS).send(part, places, rows)


def whole(text: Passages, words: int, cuts: Sequence[Cut]) -> U64:
    """The hashes of the runs of so many words that lose nothing to cuts, in characters."""
    hit = np.zeros(len(text.starts) + 1, np.int64)
    for start, end in cuts:
        hit[1:] |= (text.starts < end) & (text.ends > start)
    before = np.cumsum(hit)  # words that are cut, before each word
    lost_none: npt.NDArray[np.bool_] = before[words:] == before[:-words]
    return text.hashes[lost_none]


def find_runs(ground: Ground, partition: int, partitions: int) -> None:
    """Tell the parts which runs of theirs an earlier document has, and which is the first.

    A document that lost some of a run to an earlier level does not have it: what others lost for
    its sake would be nowhere.
    """
    rows = ground.exchange("runs", partitions, RUNS).receive(partition, ground.parts)
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    new = np.ones(len(rows), bool)
    new[1:] = rows[1:, 0] != rows[:-1, 0]
    first = rows[np.flatnonzero(new)[np.cumsum(new) - 1]] if len(rows) else rows
    out = np.column_stack([rows[:, 2], rows[:, 0], first[:, 2]])
    out = out[(first[:, 1] == 0) & (first[:, 2] < rows[:, 2])]
    ground.to_parts("found", FOUND).send(partition, ground.part_of(out[:, 0]), out)


@dataclass(frozen=True)
class Cover:
    """What earlier documents have of one text.

    Attributes:
        cuts: the runs, in characters, in order and apart from each other.
        span: the longest of them in words, in characters.
        first: the document that has most of it first.
        share: of the text's words that lie in runs.
    """

    cuts: list[tuple[int, int]]
    span: tuple[int, int]
    first: int
    share: float


def cover(text: Passages, words: int, hashes: U64, firsts: U64) -> Cover:
    """What is covered of a text by runs that earlier documents have.

    Args:
        text: the text's runs, at least one of which is among those below.
        words: of a run.
        hashes: ascending; runs that earlier documents have.
        firsts: the first document that has each.
    """
    place = np.minimum(np.searchsorted(hashes, text.hashes), len(hashes) - 1)
    begins = np.flatnonzero(hashes[place] == text.hashes)
    step = np.zeros(len(text.starts) + 1, np.int64)
    step[begins] += 1
    step[begins + words] -= 1
    covered = np.concatenate([[False], np.cumsum(step)[:-1] > 0, [False]])
    edge = np.flatnonzero(covered[1:] != covered[:-1])
    from_, to = edge[::2], edge[1::2]
    longest = int(np.argmax(to - from_))
    inside = begins[(begins >= from_[longest]) & (begins < to[longest])]
    names, counts = np.unique(firsts[place[inside]], return_counts=True)
    cuts = list(zip(text.starts[from_].tolist(), text.ends[to - 1].tolist(), strict=True))
    share = float((to - from_).sum() / len(text.starts))
    return Cover(cuts, cuts[longest], int(names[np.argmax(counts)]), share)


def cover_texts(
    ground: Ground, part: int, triple: Triple, config: Substrings, partitions: int
) -> None:
    """Find what earlier documents have of a part's texts, and ask for the names of these.

    A document that is asked for is one that others lose text for.
    """
    rows = _sorted(ground.to_parts("found", FOUND).receive(part, range(partitions)))
    out: dict[str, Any] = {}
    asked = [np.zeros(0, np.uint64)]
    for number, run, data in _texts(ground, part, triple, rows):
        hashes, firsts = rows[run, 1], rows[run, 2]
        found = cover(Passages(data, config.words), config.words, hashes, firsts)
        if config.action == "trim" or found.share > config.max_share:
            out[str(number - ground.starts[part])] = [
                found.cuts,
                found.span,
                found.first,
                found.share,
            ]
            asked.append(np.unique(firsts))
    ground.work.put(f"{ground.level}/covers/{part}.json", json.dumps(out).encode(), durable=False)
    ground.ask(part, np.concatenate(asked))


def rule_substrings(ground: Ground, part: int, triple: Triple, config: Substrings) -> Ruled:
    """Rule which characters of a part's texts go, and which documents go as a whole."""
    ruled = ground.before(part)
    covers = json.loads(ground.work.read(f"{ground.level}/covers/{part}.json"))
    names = ground.names(part)
    keeps = {*ruled["keeps"], *ground.asked(part)}
    ruled["keeps"] = sorted(keeps)
    dropped = trimmed = 0
    texts = triple.documents.table(["text"])["text"] if covers and config.action == "trim" else None
    for row, (runs, span, first, share) in covers.items():
        said = {"survivor": names[first], "span": span, "share": round(share, 4)}
        if texts is None:
            if int(row) not in keeps:
                limit = {"required": "<=", "threshold": config.max_share}
                ruled["dropped"][row] = {"reason": REASON, "evidence": {**said, **limit}}
                ruled["trimmed"].pop(row, None)
                dropped += 1
            continue
        text = texts[int(row)].as_py()
        before = ruled["trimmed"].get(row, {"cuts": [], "evidence": {}})
        cuts = tidied(text, united([*before["cuts"], *_parted(text, runs)]))
        words = count_words(mask(text, (), cuts))
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
    return Ruled(put_state(ground.work, ground.level, part, ruled), dropped, trimmed)


def _parted(text: str, runs: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Each run with the white space after it, where white space or nothing is before it."""
    for start, end in runs:
        stop = end
        if start == 0 or text[start - 1].isspace():
            while stop < len(text) and text[stop].isspace():
                stop += 1
        yield start, stop


def _sorted(rows: U64) -> U64:
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def _texts(ground: Ground, part: int, triple: Triple, rows: U64) -> Iterator[tuple[int, slice, U8]]:
    """Each document that sorted rows speak of: its number, its rows, its text in UTF-8."""
    if len(rows):
        offsets, data = utf8(triple.documents.table(["text"])["text"])
        for number, run in grouped(rows[:, 0]):
            row = number - ground.starts[part]
            yield number, run, data[offsets[row] : offsets[row + 1]]
