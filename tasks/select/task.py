"""The stage `select`: rules per part, survivor selection among duplicates, then the corpus."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from infra.compute.phases import PhaseRunner
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.dataset.work_folder import build_in_work_folder
from infra.errors import UserError
from infra.removals.match import Removal, fingerprint_input
from infra.schemas.duplicate_pairs import VERIFIED_PREFIX
from infra.store.storage import Storage
from tasks.select.cluster_selection import (
    collect_dropped,
    select_partition,
    select_url_partition,
    send_candidates,
    send_pairs,
    send_url_candidates,
)
from tasks.select.config import SelectConfig, SourceFilters
from tasks.select.eligibility import Eligibility, check_eligibility
from tasks.select.part_inputs import PartInputs, align_parts
from tasks.select.plan import PREFIX_DIGITS, SelectionPlan
from tasks.select.repeated_text.line_dedup import REASON as LINES
from tasks.select.repeated_text.pass_state import load_state
from tasks.select.repeated_text.passes import DocumentCounts, run_passes
from tasks.select.repeated_text.substring_dedup import REASON as SUBSTRINGS
from tasks.select.survivors import EXACT, NEAR, SAME_URL
from tasks.select.write_part import STAGE as NAME
from tasks.select.write_part import write_corpus_part

STAGE = Stage(NAME, modules=("tasks.select.task",), libraries=("pyarrow",))
MAX_SHOWN_CLUSTERS = 10
# Documents that have duplicates, and verified pairs, that a worker processes together.
CANDIDATES_PER_PARTITION, PAIRS_PER_PARTITION = 200_000, 2_000_000
MAX_PARTITIONS = 16**PREFIX_DIGITS


class TooManyDuplicatesError(UserError):
    """A source loses so large a fraction of its documents to deduplication that it must be wrong."""


def spec(
    ctx: Context,  # noqa: ARG001
    *,
    config: SelectConfig,
    documents: Sequence[Dataset],
    annotations: Sequence[Dataset],
    duplicate_labels: Dataset,
    removals: Sequence[Removal] = (),
) -> DatasetSpec:
    """Return the data set that these inputs give, without the removed documents.

    Raises:
        UserError: if ``per_source`` names a source that is not in the recipe.
    """
    names = [data.source for data in documents]
    for source in config.per_source:
        if source not in names:
            known = ", ".join(sorted(str(name) for name in names))
            raise UserError(
                f"select.per_source.{source}: no source has this name; the sources are {known}"
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
    """Choose the corpus: the kept documents, and the digests of their texts beside each part.

    A removed document is dropped before the rules are checked and does not take part in survivor
    selection. Only parts that hold a removed document, or a duplicate of one, are written again.

    Raises:
        TooManyDuplicatesError: if a source loses more than ``max_source_duplicate_fraction`` to
            deduplication.
        IntegrityError: if documents, annotations and duplicate labels do not belong together.
    """
    part_inputs = align_parts(documents, annotations, duplicate_labels)
    filters = [config.filters_for(data.source) for data in documents]
    starts = np.cumsum([0, *(inputs.documents.num_rows for inputs in part_inputs)]).tolist()
    partitions = _partition_counts(config, starts[-1], duplicate_labels)

    def select_and_commit(work: Storage) -> Dataset:
        n_partitions, n_url_partitions = partitions
        plan = SelectionPlan(
            work, tuple(starts[:-1]), starts[-1], n_partitions, config.prefer, n_url_partitions
        )
        runner = PhaseRunner(ctx.cluster, ctx.reporter, work, STAGE.name)
        passed = _check_rules(runner, plan, part_inputs, filters, removals)
        dropped = _choose_survivors(runner, plan, part_inputs, removals, duplicate_labels)
        _check_duplicate_fraction(config, documents, passed, dropped, duplicate_labels)
        digests = runner.run("dropped documents", collect_dropped, [(plan, p) for p in plan.ranges])
        last_pass, repeated, trimmed = run_passes(
            ctx, runner, plan, config, documents, part_inputs, digests
        )
        dropped += repeated
        _check_duplicate_fraction(config, documents, passed, dropped, duplicate_labels)
        units = [
            WorkUnit(
                json_sha256([*inputs.contents, inputs.source_index, digests[part]]),
                (inputs, filters[inputs.source_index], plan, last_pass, part),
                inputs.annotations.num_rows,
            )
            for part, inputs in enumerate(part_inputs)
        ]
        stats = {"sources": _source_stats(config, documents, passed, dropped, trimmed)}
        return build_dataset(ctx, spec, units, build_corpus_part, stats=lambda _: stats)

    return build_in_work_folder(ctx, spec, partitions, select_and_commit)


def build_corpus_part(
    inputs: PartInputs, filters: SourceFilters, plan: SelectionPlan, last_pass: int, part: int
) -> Iterator[PartResult]:
    """Yield the corpus of one part, from the saved results of all phases."""
    failed_rule = Eligibility.load(plan, part).failed_rule
    state = load_state(plan, last_pass, part)
    yield from write_corpus_part(inputs, filters, failed_rule, state["dropped"], state["trimmed"])


def _partition_counts(
    config: SelectConfig, n_documents: int, duplicate_labels: Dataset
) -> tuple[int, int]:
    """Return the numbers of partitions of clusters and of URLs that bound a worker's memory."""
    documents = duplicate_labels.stats["clustered_documents"]
    pairs = duplicate_labels.stats["verified"] + duplicate_labels.stats["intra_cluster_verified"]
    n_partitions = 1
    while n_partitions < MAX_PARTITIONS and n_partitions < max(
        documents / CANDIDATES_PER_PARTITION, pairs / PAIRS_PER_PARTITION
    ):
        n_partitions *= 2
    return n_partitions, (-(-n_documents // CANDIDATES_PER_PARTITION) if config.dedup_urls else 0)


def _check_rules(
    runner: PhaseRunner,
    plan: SelectionPlan,
    part_inputs: Sequence[PartInputs],
    filters: Sequence[SourceFilters],
    removals: Sequence[Removal],
) -> Counter[int]:
    """Apply the rules to all parts; return the number of eligible documents by source."""
    payloads = [
        (plan, part, inputs, filters[inputs.source_index], removals)
        for part, inputs in enumerate(part_inputs)
    ]
    passed: Counter[int] = Counter()
    for inputs, count in zip(
        part_inputs, runner.run("rules", check_eligibility, payloads), strict=True
    ):
        passed[inputs.source_index] += count
    return passed


def _choose_survivors(
    runner: PhaseRunner,
    plan: SelectionPlan,
    part_inputs: Sequence[PartInputs],
    removals: Sequence[Removal],
    duplicate_labels: Dataset,
) -> DocumentCounts:
    """Choose one document per URL (if asked for), then the survivors of all clusters.

    Returns the numbers of dropped documents.
    """
    parts = list(enumerate(part_inputs))
    results: list[list[Any]] = []
    if plan.n_url_partitions:
        payloads: list[tuple[Any, ...]] = [(plan, part, inputs) for part, inputs in parts]
        runner.run("URLs", send_url_candidates, payloads)
        payloads = [(plan, partition) for partition in range(plan.n_url_partitions)]
        results += runner.run("URL survivors", select_url_partition, payloads)
    payloads = [(plan, part, inputs, removals) for part, inputs in parts]
    runner.run("candidates", send_candidates, payloads)
    files = [
        record.name
        for name, record in sorted(duplicate_labels.manifest.files.items())
        if name.startswith(VERIFIED_PREFIX)
    ]
    payloads = [(plan, k, duplicate_labels.storage, file) for k, file in enumerate(files)]
    runner.run("verified pairs", send_pairs, payloads)
    payloads = [(plan, partition, len(files)) for partition in range(plan.n_partitions)]
    results += runner.run("survivors", select_partition, payloads)
    dropped: DocumentCounts = Counter()
    for source, reason, count in (item for result in results for item in result):
        dropped[source, reason] += count
    return dropped


def _source_stats(
    config: SelectConfig,
    documents: Sequence[Dataset],
    passed: Mapping[int, int],
    dropped: Mapping[tuple[int, str], int],
    trimmed: Mapping[tuple[int, str], int],
) -> dict[str, Any]:
    """Return the counts of each source."""
    reasons = [SAME_URL] * config.dedup_urls + [EXACT, NEAR]
    reasons += [LINES] * bool(config.line_dedup) + [SUBSTRINGS] * bool(config.substring_dedup)
    return {
        str(data.source): {
            "passed_rules": passed[index],
            **{reason: dropped[index, reason] for reason in reasons},
            **{
                f"trimmed_{reason}": n for (source, reason), n in trimmed.items() if source == index
            },
        }
        for index, data in enumerate(documents)
    }


def _check_duplicate_fraction(
    config: SelectConfig,
    documents: Sequence[Dataset],
    passed: Mapping[int, int],
    dropped: Mapping[tuple[int, str], int],
    duplicate_labels: Dataset,
) -> None:
    """Raise before anything is committed if a source loses too many documents."""
    max_fraction = config.max_source_duplicate_fraction
    for index, data in enumerate(documents):
        n_dropped = sum(count for (source, _), count in dropped.items() if source == index)
        n_passed = passed[index]
        if n_passed < config.min_source_documents or n_dropped <= max_fraction * n_passed:
            continue
        largest = [
            f"{cluster['documents']} documents with {_display_name(cluster['members'][0])}"
            for cluster in duplicate_labels.stats["largest_clusters"]
            if str(data.source) in cluster["sources"]
        ]
        raise TooManyDuplicatesError(
            f"select: source {data.source!r} would lose {n_dropped} of its {n_passed} documents "
            f"({n_dropped / n_passed:.1%}) to deduplication; select.max_source_duplicate_fraction "
            f"allows {max_fraction:.0%}. Its largest clusters: "
            f"{'; '.join(largest[:MAX_SHOWN_CLUSTERS]) or 'none among the ten largest of all'} "
            f"(gristmill clusters RECIPE --source {data.source} shows more). If these really are "
            f"duplicates, raise select.max_source_duplicate_fraction. Nothing was committed"
        )


def _display_name(member: Mapping[str, Any]) -> str:
    return str(member.get("url") or member.get("title") or member["id"])
