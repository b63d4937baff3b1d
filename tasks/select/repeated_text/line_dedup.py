"""Lines that occur in many documents: hashes meet by partition, each part learns what goes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from infra.dataset.dataset import PartRef
from infra.formats.urls import host
from tasks.select.pii_mask import mask, united
from tasks.select.repeated_text.config import Lines
from tasks.select.repeated_text.hash_datasets import COLUMN
from tasks.select.repeated_text.line_hashes import located
from tasks.select.repeated_text.pass_state import (
    Ground,
    Ruled,
    flattened,
    grouped,
    put_state,
)
from tasks.select.repeated_text.trim import tidied
from tasks.select.repeated_text.word_hashes import count_words
from tasks.select.write_part import Triple

U64 = npt.NDArray[np.uint64]
REASON = "repeated_lines"
SENT, FOUND = 2, 3  # words per row: hash, document; document, hash, first document that has it


def send_lines(
    ground: Ground, part: int, hashed: PartRef, documents: PartRef, config: Lines
) -> None:
    """Send the hashes of a part's documents that stay so far, kept apart by site if need be."""
    column = hashed.table([COLUMN])[COLUMN]
    rows = flattened(column, ground.alive(part), ground.starts[part])
    salts = _salts(documents, config)
    rows[:, 0] ^= salts[rows[:, 1].astype(np.int64) - ground.starts[part]]
    exchange = ground.exchange("hashes", ground.partitions, SENT)
    exchange.send(part, ground.partition_of(rows[:, 0]), rows)


def find_lines(ground: Ground, partition: int, config: Lines) -> None:
    """Find the lines of a partition that enough documents have; tell the parts of these."""
    rows = ground.exchange("hashes", ground.partitions, SENT).receive(partition, ground.parts)
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    new = np.ones(len(rows), bool)
    new[1:] = rows[1:, 0] != rows[:-1, 0]
    if config.scope == "source":
        # Documents are numbered source by source, so those of one source lie together.
        source = ground.source_of(rows[:, 1])
        new[1:] |= source[1:] != source[:-1]
    first = np.flatnonzero(new)
    length = np.diff(np.append(first, len(rows)))
    many = length >= config.documents
    place = np.repeat(first, length)[np.repeat(many, length)]
    found = rows[np.repeat(many, length)]
    out = np.column_stack([found[:, 1], found[:, 0], rows[place, 1]])
    ground.to_parts("found", FOUND).send(partition, ground.part_of(found[:, 1]), out)


def ask_names(ground: Ground, part: int, config: Lines) -> None:
    """Ask for the ids of the documents that are named as evidence."""
    rows = _found(ground, part)
    firsts = [_named(rows[run], config)[1] for _, run in grouped(rows[:, 0])]
    ground.ask(part, np.array([first for first in firsts if first is not None], np.uint64))


def rule_lines(ground: Ground, part: int, triple: Triple, config: Lines) -> Ruled:
    """Rule which characters of a part's texts go, and which documents are left with too little."""
    ruled = ground.before(part)
    rows = _found(ground, part)
    keeps = set(ruled["keeps"])
    dropped = trimmed = 0
    if len(rows):
        texts = triple.documents.table(["text"])["text"]
        salts = _salts(triple.documents, config)
        names = ground.names(part)
        for number, run in grouped(rows[:, 0]):
            row = number - ground.starts[part]
            lost, first = _named(rows[run], config)
            if config.keep == "first" and (rows[run, 2] == number).any():
                keeps.add(row)
            if first is None:
                continue
            text = texts[row].as_py()
            cuts, lines = line_cuts(text, lost ^ salts[row], config)
            said: dict[str, Any] = {
                "lines": lines,
                "characters": sum(end - start for start, end in cuts),
            }
            words = count_words(mask(text, (), cuts))
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
    return Ruled(put_state(ground.work, ground.level, part, ruled), dropped, trimmed)


def _salts(documents: PartRef, config: Lines) -> U64:
    """A number per document that is the same within a site: uint64[rows]; 0 in other scopes."""
    if config.scope != "site":
        return np.zeros(documents.rows, np.uint64)
    urls = documents.table(["url"])["url"].to_pylist()
    sites = [(host(url) or "") if url else "" for url in urls]
    return np.array([xxhash.xxh64_intdigest(site.encode()) for site in sites], np.uint64)


def line_cuts(text: str, lost: U64, config: Lines) -> tuple[list[tuple[int, int]], int]:
    """What goes of a text: ``(start, end)`` in characters, in order; and how many lines these are.

    A line goes with its line break. White space that is left at either end of the text goes too.
    """
    hashes, starts, ends = located(text, config)
    hit = np.isin(hashes, lost)
    cuts = united(list(zip(starts[hit].tolist(), ends[hit].tolist(), strict=True)))
    return tidied(text, cuts), int(hit.sum())


def _found(ground: Ground, part: int) -> U64:
    """What a part was told: document, hash, first document; in this order."""
    rows = ground.to_parts("found", FOUND).receive(part, range(ground.partitions))
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def _named(rows: U64, config: Lines) -> tuple[U64, int | None]:
    """The hashes that one document loses, and the document that has most of them first."""
    if config.keep == "first":
        rows = rows[rows[:, 2] != rows[:, 0]]
    if not len(rows):
        return rows[:, 1], None
    firsts, counts = np.unique(rows[:, 2], return_counts=True)
    return rows[:, 1], int(firsts[np.argmax(counts)])
