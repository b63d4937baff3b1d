"""The stage: rules per part, one election over all copies, then the corpus part by part."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from infra.compute.progress import Progress
from infra.dataset.dataset import SHORT, Dataset, DatasetNotFoundError, IntegrityError, open_dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.errors import UserError
from infra.removals.match import Removal, fingerprint_input
from infra.schemas.duplicate_pairs import VERIFIED_PREFIX
from infra.store.storage import Storage, StorageError
from tasks.select.cluster_selection import (
    collect_dropped,
    select_partition,
    send_candidates,
    send_pairs,
)
from tasks.select.config import SelectConfig, SourceFilters
from tasks.select.repeated_text.line_dedup import REASON as LINES
from tasks.select.repeated_text.pass_state import load_state
from tasks.select.repeated_text.passes import run_passes
from tasks.select.repeated_text.substring_dedup import REASON as SUBSTRINGS
from tasks.select.repeated_text.url_dedup import REASON as ADDRESS
from tasks.select.repeated_text.url_dedup import choose_url_survivors, send_url_candidates
from tasks.select.selection_shuffle import PREFIX_DIGITS, SelectionShuffle
from tasks.select.survivors import EXACT, NEAR
from tasks.select.write_part import STAGE as NAME
from tasks.select.write_part import PartInputs, write_corpus_part

STAGE = Stage(NAME, modules=("tasks.select.task",), libraries=("pyarrow",))
MAX_SHOWN_CLUSTERS = 10
# Documents with copies, and verified pairs, that a worker looks at together.
CANDIDATES_PER_PARTITION, PAIRS_PER_PARTITION = 200_000, 2_000_000
MAX_PARTITIONS = 16**PREFIX_DIGITS


class TooManyDuplicatesError(UserError):
    """A source loses so large a share of its documents to duplication that something is wrong."""


def spec(
    ctx: Context,  # noqa: ARG001
    *,
    config: SelectConfig,
    documents: Sequence[Dataset],
    annotations: Sequence[Dataset],
    duplicate_labels: Dataset,
    removals: Sequence[Removal] = (),
) -> DatasetSpec:
    """What would be made of these data sets, less what was taken out.

    Raises:
        UserError: if ``per_source`` names a source that is not in the recipe.
    """
    names = [data.source for data in documents]
    for source in config.per_source:
        if source not in names:
            known = ", ".join(sorted(str(name) for name in names))
            raise UserError(
                f"select.per_source.{source}: no source has this name; there are {known}"
            )
    return DatasetSpec(
        STAGE,
        None,
        config.to_json(),
        (*documents, *annotations, duplicate_labels),
        fingerprint_input(removals),
    )


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    config: SelectConfig,
    documents: Sequence[Dataset],
    annotations: Sequence[Dataset],
    duplicate_labels: Dataset,
    removals: Sequence[Removal] = (),
) -> Dataset:
    """Choose the corpus.

    A document that was taken out is dropped before any rule is asked and has no part in the
    election. Only parts that hold such a document, or a copy of one, are written anew.

    Raises:
        TooManyDuplicatesError: if a source loses more than ``max_source_duplicate_fraction`` to
            duplication.
        IntegrityError: if documents, annotations and duplicate labels do not belong together.
    """
    try:
        return _build(ctx, spec, config, documents, annotations, duplicate_labels, removals)
    except (OSError, StorageError) as error:
        # Another run of the same recipe may have finished first and tidied up.
        try:
            return open_dataset(ctx.storage.subdir(*spec.folder.split("/")))
        except DatasetNotFoundError:
            raise error from None


def _build(
    ctx: Context,
    spec: DatasetSpec,
    config: SelectConfig,
    documents: Sequence[Dataset],
    annotations: Sequence[Dataset],
    duplicate_labels: Dataset,
    removals: Sequence[Removal],
) -> Dataset:
    triples = _align_parts(documents, annotations, duplicate_labels)
    gates = [config.filters_for(data.source) for data in documents]
    work = ctx.storage.subdir("work", "select", spec.fingerprint[:SHORT])
    poll = _plan_shuffle(work, config, triples, duplicate_labels)
    passed = [0] * len(documents)
    payloads = [
        (poll, part, triple, gates[triple.source_index], removals)
        for part, triple in enumerate(triples)
    ]
    losses = _choose_url_survivors(ctx, poll, payloads)
    for done, (part, count) in enumerate(ctx.cluster.map(send_candidates, payloads), 1):
        passed[triples[part].source_index] += count
        note = f"{done:,} of {len(triples):,} parts judged"
        ctx.reporter.update(Progress(STAGE.name, None, 0, len(triples), note))
    losses += _choose_survivors(ctx, poll, duplicate_labels)
    _check_duplicate_fraction(config, documents, passed, losses, duplicate_labels)
    known = dict(ctx.cluster.map(collect_dropped, [(poll, part) for part in poll.parts]))
    level, lost, trimmed = run_passes(ctx, work, config, documents, triples, known)
    losses += lost
    _check_duplicate_fraction(config, documents, passed, losses, duplicate_labels)
    units = [
        WorkUnit(
            json_sha256(
                [
                    t.documents.content,
                    t.annotations.content,
                    t.duplicate_labels.content,
                    t.source_index,
                    known[part],
                ]
            ),
            (t, gates[t.source_index], work, level, part),
            t.annotations.num_rows,
        )
        for part, t in enumerate(triples)
    ]
    reasons = [ADDRESS] * config.dedup_urls + [EXACT, NEAR]
    reasons += [LINES] * bool(config.line_dedup) + [SUBSTRINGS] * bool(config.substring_dedup)
    facts = {
        "sources": {
            str(data.source): {
                "passed_rules": passed[place],
                **{reason: losses[place, reason] for reason in reasons},
                **{f"trimmed_{reason}": n for (at, reason), n in trimmed.items() if at == place},
            }
            for place, data in enumerate(documents)
        }
    }
    data = build_dataset(ctx, spec, units, build_corpus_part, stats=lambda _: facts)
    work.remove_tree()
    return data


def build_corpus_part(
    inputs: PartInputs, filters: SourceFilters, work: Storage, pass_index: int, part: int
) -> Iterator[PartResult]:
    """The corpus of one part, after the elections and the levels up to this one."""
    known = load_state(work, pass_index, part)
    yield from write_corpus_part(inputs, filters, known["dropped"], known["trimmed"])


def _plan_shuffle(
    work: Storage,
    config: SelectConfig,
    part_inputs: Sequence[PartInputs],
    duplicate_labels: Dataset,
) -> SelectionShuffle:
    """The election, cut so that a worker holds a bounded number of candidates."""
    starts = np.cumsum([0, *(triple.documents.num_rows for triple in part_inputs)])
    documents = duplicate_labels.stats["clustered_documents"]
    pairs = duplicate_labels.stats["verified"] + duplicate_labels.stats["within_clusters_verified"]
    partitions = 1
    while partitions < MAX_PARTITIONS and partitions < max(
        documents / CANDIDATES_PER_PARTITION, pairs / PAIRS_PER_PARTITION
    ):
        partitions *= 2
    addresses = -(-int(starts[-1]) // CANDIDATES_PER_PARTITION) if config.dedup_urls else 0
    return SelectionShuffle(work, partitions, tuple(starts.tolist()), config.prefer, addresses)


def _choose_url_survivors(
    ctx: Context, shuffle: SelectionShuffle, payloads: Sequence[tuple[Any, ...]]
) -> Counter[tuple[int, str]]:
    """Elect one document per web address, if the recipe asks for it; what each source loses."""
    losses: Counter[tuple[int, str]] = Counter()
    if shuffle.url_partitions:
        for _ in ctx.cluster.map(send_url_candidates, payloads):
            pass
    held = [(shuffle, partition) for partition in range(shuffle.url_partitions)]
    for _, found in ctx.cluster.map(choose_url_survivors, held):
        for source, reason, count in found:
            losses[source, reason] += count
    return losses


def _choose_survivors(
    ctx: Context, shuffle: SelectionShuffle, duplicate_labels: Dataset
) -> Counter[tuple[int, str]]:
    """Hold the election; how many documents each source loses, by reason."""
    files = [
        record.name
        for name, record in sorted(duplicate_labels.manifest.files.items())
        if name.startswith(VERIFIED_PREFIX)
    ]
    sent = [(shuffle, sender, duplicate_labels.storage, file) for sender, file in enumerate(files)]
    for _ in ctx.cluster.map(send_pairs, sent):
        pass
    losses: Counter[tuple[int, str]] = Counter()
    held = [(shuffle, partition, len(files)) for partition in range(shuffle.partitions)]
    for _, found in ctx.cluster.map(select_partition, held):
        for source, reason, count in found:
            losses[source, reason] += count
    return losses


def _align_parts(
    documents: Sequence[Dataset], annotations: Sequence[Dataset], duplicate_labels: Dataset
) -> list[PartInputs]:
    parts = [
        (source, texts, noted)
        for source, (data, annotated) in enumerate(zip(documents, annotations, strict=True))
        for texts, noted in zip(data.parts, annotated.parts, strict=True)
    ]
    out = []
    for (source, texts, noted), marked in zip(parts, duplicate_labels.parts, strict=True):
        if (
            noted.name != texts.name
            or marked.num_rows != texts.num_rows
            or noted.num_rows > texts.num_rows
        ):
            raise IntegrityError(
                f"{texts.storage.url} part {texts.name}: {texts.num_rows} documents, but "
                f"{noted.num_rows} notes in part {noted.name} and {marked.num_rows} marks"
            )
        out.append(PartInputs(source, texts, noted, marked))
    return out


def _check_duplicate_fraction(
    config: SelectConfig,
    documents: Sequence[Dataset],
    passed: Sequence[int],
    dropped: Mapping[tuple[int, str], int],
    duplicate_labels: Dataset,
) -> None:
    """Stop before anything is committed if a source loses too much."""
    for place, data in enumerate(documents):
        gone = sum(count for (source, _), count in dropped.items() if source == place)
        had = passed[place]
        if had < config.min_source_documents or gone <= config.max_source_duplicate_fraction * had:
            continue
        largest = [
            f"{cluster['documents']} documents with {_display_name(cluster['members'][0])}"
            for cluster in duplicate_labels.stats["largest_clusters"]
            if str(data.source) in cluster["sources"]
        ]
        raise TooManyDuplicatesError(
            f"select: source {data.source!r} would lose {gone} of its {had} documents "
            f"({gone / had:.1%}) to duplication; select.max_source_duplicate_fraction allows "
            f"{config.max_source_duplicate_fraction:.0%}. Its largest clusters: "
            f"{'; '.join(largest[:MAX_SHOWN_CLUSTERS]) or 'none among the ten largest of all'} "
            f"(gristmill clusters RECIPE --source {data.source} shows more). "
            f"If these are copies indeed, raise select.max_source_duplicate_fraction; nothing was committed"
        )


def _display_name(member: Mapping[str, Any]) -> str:
    return str(member.get("url") or member.get("title") or member["id"])
