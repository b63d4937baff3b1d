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
from tasks.select.repeated_text.config import LineDedupConfig, SubstringDedupConfig
from tasks.select.repeated_text.hash_datasets import count_hashes
from tasks.select.repeated_text.line_hashes import build_line_hashes
from tasks.select.repeated_text.pass_state import PassResult, PassShuffle, n_partitions
from tasks.select.repeated_text.winnowed_hashes import build_fingerprints
from tasks.select.repeated_text.word_hashes import winnowing_params
from tasks.select.write_part import PartInputs

DocumentCounts = Counter[tuple[int, str]]


def run_passes(
    ctx: Context,
    work: Storage,
    config: SelectConfig,
    documents: Sequence[Dataset],
    part_inputs: Sequence[PartInputs],
    digests: dict[int, str],
) -> tuple[int, DocumentCounts, DocumentCounts]:
    """Apply the levels that the recipe asks for.

    Args:
        ctx: the run.
        work: the folder of the selection, with what the elections among documents left.
        config: the recipe's section.
        documents: the sources' documents.
        part_inputs: their parts.
        digests: of what is known of each part; brought up to date.

    Returns:
        The last level; how many documents each source loses by reason; and how many stay with
        less text, likewise.
    """
    level = 0
    lost: DocumentCounts = Counter()
    trimmed: DocumentCounts = Counter()
    if config.line_dedup is not None:
        level += 1
        hashed = build_line_hashes(ctx, config.line_dedup, documents)
        ground = _plan_shuffle(ctx, work, level, part_inputs, hashed)
        for part, ruled in _run_line_dedup(ctx, ground, part_inputs, hashed, config.line_dedup):
            _add_counts(part_inputs[part], lines.REASON, ruled, lost, trimmed)
            digests[part] = ruled.digest
    if config.substring_dedup is not None:
        level += 1
        taken = build_fingerprints(ctx, config.substring_dedup.min_run_words, documents)
        ground = _plan_shuffle(ctx, work, level, part_inputs, taken)
        for part, ruled in _run_substring_dedup(
            ctx, ground, part_inputs, taken, config.substring_dedup
        ):
            _add_counts(part_inputs[part], substrings.REASON, ruled, lost, trimmed)
            digests[part] = ruled.digest
    return level, lost, trimmed


def _plan_shuffle(
    ctx: Context,
    work: Storage,
    level: int,
    part_inputs: Sequence[PartInputs],
    hashed: Sequence[PartRef],
) -> PassShuffle:
    starts = [0]
    for triple in part_inputs:
        starts.append(starts[-1] + triple.documents.num_rows)
    rows = sum(count for _, count in ctx.cluster.map(count_hashes, [(part,) for part in hashed]))
    sources = tuple(triple.source_index for triple in part_inputs)
    return PassShuffle(work, level, tuple(starts), sources, n_partitions(rows))


def _add_counts(
    inputs: PartInputs,
    reason: str,
    result: PassResult,
    dropped: DocumentCounts,
    trimmed: DocumentCounts,
) -> None:
    dropped[inputs.source_index, reason] += result.dropped
    trimmed[inputs.source_index, reason] += result.trimmed


def _run_line_dedup(
    ctx: Context,
    shuffle: PassShuffle,
    part_inputs: Sequence[PartInputs],
    hashed: Sequence[PartRef],
    config: LineDedupConfig,
) -> Iterator[tuple[int, PassResult]]:
    parts = list(shuffle.parts)
    payloads: list[tuple[Any, ...]] = [
        (shuffle, part, hashed[part], part_inputs[part].documents, config) for part in parts
    ]
    _run_tasks(ctx, "hashes", lines.send_lines, payloads)
    partitions = range(shuffle.partitions)
    _run_tasks(ctx, "lines", lines.find_lines, [(shuffle, number, config) for number in partitions])
    _run_tasks(
        ctx, "names", lines.request_survivor_ids, [(shuffle, part, config) for part in parts]
    )
    _run_tasks(
        ctx, "answers", send_ids, [(shuffle, part, part_inputs[part].documents) for part in parts]
    )
    payloads = [(shuffle, part, part_inputs[part], config) for part in parts]
    yield from ctx.cluster.map(lines.apply_line_dedup, payloads)


def _run_substring_dedup(
    ctx: Context,
    shuffle: PassShuffle,
    part_inputs: Sequence[PartInputs],
    fingerprints: Sequence[PartRef],
    config: SubstringDedupConfig,
) -> Iterator[tuple[int, PassResult]]:
    parts = list(shuffle.parts)
    _run_tasks(
        ctx, "hashes", substrings.send_fingerprints, [(shuffle, p, fingerprints[p]) for p in parts]
    )
    payloads = [(shuffle, number) for number in range(shuffle.partitions)]
    shared = sum(rows for _, rows in ctx.cluster.map(substrings.find_shared, payloads))
    # A fingerprint lies in this many runs at most; which of them differ is not known yet.
    n = n_partitions(shared * winnowing_params(config.min_run_words)[1])
    _run_tasks(
        ctx,
        "runs",
        substrings.send_runs,
        [(shuffle, p, part_inputs[p], config.min_run_words, n) for p in parts],
    )
    _run_tasks(ctx, "copies", substrings.find_runs, [(shuffle, number, n) for number in range(n)])
    _run_tasks(
        ctx,
        "texts",
        substrings.find_coverage,
        [(shuffle, p, part_inputs[p], config, n) for p in parts],
    )
    _run_tasks(
        ctx, "names", send_ids, [(shuffle, part, part_inputs[part].documents) for part in parts]
    )
    rule = [(shuffle, part, part_inputs[part], config) for part in parts]
    yield from ctx.cluster.map(substrings.apply_substring_dedup, rule)


def send_ids(shuffle: PassShuffle, part: int, documents: PartRef) -> None:
    """Send the ids of a part's documents to those that asked for them."""
    shuffle.send_ids(part, documents)


def _run_tasks(
    ctx: Context, label: str, function: Callable[..., Any], payloads: Sequence[tuple[Any, ...]]
) -> None:
    for done, _ in enumerate(ctx.cluster.map(function, payloads), 1):
        note = f"repeated text: {label}, {done:,} of {len(payloads):,}"
        ctx.reporter.update(Progress("select", None, 0, len(payloads), note))
