"""The levels below whole documents, one after the other, over the cluster."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from infra.compute.progress import Progress
from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.stage import Context
from infra.store.storage import Storage
from tasks.select.config import SelectConfig
from tasks.select.repeated_text import line_dedup as lines
from tasks.select.repeated_text import substring_dedup as substrings
from tasks.select.repeated_text.config import Lines, Substrings
from tasks.select.repeated_text.hash_datasets import count_hashes
from tasks.select.repeated_text.line_hashes import build_lines
from tasks.select.repeated_text.pass_state import Ground, Ruled, receivers
from tasks.select.repeated_text.winnowed_hashes import build_fingerprints
from tasks.select.repeated_text.word_hashes import gram_and_window
from tasks.select.write_part import Triple

Told = Counter[tuple[int, str]]


def run_levels(
    ctx: Context,
    work: Storage,
    config: SelectConfig,
    documents: Sequence[Dataset],
    triples: Sequence[Triple],
    digests: dict[int, str],
) -> tuple[int, Told, Told]:
    """Apply the levels that the recipe asks for.

    Args:
        ctx: the run.
        work: the folder of the selection, with what the elections among documents left.
        config: the recipe's section.
        documents: the sources' documents.
        triples: their parts.
        digests: of what is known of each part; brought up to date.

    Returns:
        The last level; how many documents each source loses by reason; and how many stay with
        less text, likewise.
    """
    level = 0
    lost: Told = Counter()
    trimmed: Told = Counter()
    if config.lines is not None:
        level += 1
        hashed = build_lines(ctx, config.lines, documents)
        ground = _ground(ctx, work, level, triples, hashed)
        for part, ruled in _lines(ctx, ground, triples, hashed, config.lines):
            _note(triples[part], lines.REASON, ruled, lost, trimmed)
            digests[part] = ruled.digest
    if config.substrings is not None:
        level += 1
        taken = build_fingerprints(ctx, config.substrings.words, documents)
        ground = _ground(ctx, work, level, triples, taken)
        for part, ruled in _substrings(ctx, ground, triples, taken, config.substrings):
            _note(triples[part], substrings.REASON, ruled, lost, trimmed)
            digests[part] = ruled.digest
    return level, lost, trimmed


def _ground(
    ctx: Context, work: Storage, level: int, triples: Sequence[Triple], hashed: Sequence[PartRef]
) -> Ground:
    starts = [0]
    for triple in triples:
        starts.append(starts[-1] + triple.documents.rows)
    rows = sum(count for _, count in ctx.cluster.map(count_hashes, [(part,) for part in hashed]))
    sources = tuple(triple.source for triple in triples)
    return Ground(work, level, tuple(starts), sources, receivers(rows))


def _note(triple: Triple, reason: str, ruled: Ruled, lost: Told, trimmed: Told) -> None:
    lost[triple.source, reason] += ruled.dropped
    trimmed[triple.source, reason] += ruled.trimmed


def _lines(
    ctx: Context,
    ground: Ground,
    triples: Sequence[Triple],
    hashed: Sequence[PartRef],
    config: Lines,
) -> Iterator[tuple[int, Ruled]]:
    parts = list(ground.parts)
    payloads: list[tuple[Any, ...]] = [
        (ground, part, hashed[part], triples[part].documents, config) for part in parts
    ]
    _run(ctx, "hashes", lines.send_lines, payloads)
    partitions = range(ground.partitions)
    _run(ctx, "lines", lines.find_lines, [(ground, number, config) for number in partitions])
    _run(ctx, "names", lines.ask_names, [(ground, part, config) for part in parts])
    _run(ctx, "answers", answer, [(ground, part, triples[part].documents) for part in parts])
    payloads = [(ground, part, triples[part], config) for part in parts]
    yield from ctx.cluster.map(lines.rule_lines, payloads)


def _substrings(
    ctx: Context,
    ground: Ground,
    triples: Sequence[Triple],
    taken: Sequence[PartRef],
    config: Substrings,
) -> Iterator[tuple[int, Ruled]]:
    parts = list(ground.parts)
    _run(ctx, "hashes", substrings.send_fingerprints, [(ground, p, taken[p]) for p in parts])
    payloads = [(ground, number) for number in range(ground.partitions)]
    shared = sum(rows for _, rows in ctx.cluster.map(substrings.find_shared, payloads))
    # A fingerprint lies in this many runs at most; which of them differ is not known yet.
    n = receivers(shared * gram_and_window(config.words)[1])
    _run(
        ctx, "runs", substrings.send_runs, [(ground, p, triples[p], config.words, n) for p in parts]
    )
    _run(ctx, "copies", substrings.find_runs, [(ground, number, n) for number in range(n)])
    _run(ctx, "texts", substrings.cover_texts, [(ground, p, triples[p], config, n) for p in parts])
    _run(ctx, "names", answer, [(ground, part, triples[part].documents) for part in parts])
    rule = [(ground, part, triples[part], config) for part in parts]
    yield from ctx.cluster.map(substrings.rule_substrings, rule)


def answer(ground: Ground, part: int, documents: PartRef) -> None:
    """Send the ids of a part's documents to those that asked for them."""
    ground.answer(part, documents)


def _run(
    ctx: Context, what: str, function: Callable[..., Any], payloads: Sequence[tuple[Any, ...]]
) -> None:
    for done, _ in enumerate(ctx.cluster.map(function, payloads), 1):
        note = f"repeated text: {what}, {done:,} of {len(payloads):,}"
        ctx.reporter.update(Progress("select", None, 0, len(payloads), note))
