"""The stage `dedup`: signatures per part, then duplicate clusters over all sources."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from infra.dataset.code_version import code_digest
from infra.dataset.dataset import Dataset, PartRef, open_dataset
from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.manifest import FINGERPRINT_CHARS, DatasetNotFoundError, IntegrityError
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.dataset.tables import read_table
from infra.dataset.work_folder import build_in_work_folder
from infra.errors import UserError
from infra.formats.unicode_tables import UNICODE_VERSION
from infra.removals.match import Removal, fingerprint_input
from infra.store.storage import Storage
from tasks.dedup.candidates.lsh_params import s_curve
from tasks.dedup.config import DedupConfig
from tasks.dedup.part_groups import group_parts
from tasks.dedup.pipeline import DedupResult, PreviousResult, find_duplicates
from tasks.dedup.results import labels_file
from tasks.dedup.shuffle_plan import DedupPlan
from tasks.dedup.signatures import build_signatures

log = logging.getLogger(__name__)

STAGE = Stage("dedup", modules=("tasks.dedup.task",), libraries=("pyarrow",))
# Names the latest data set, whose similarities the next run reuses: an optimization, not a record.
LATEST_FOLDER = "work/dedup-latest"
# The modules that decide the similarity of two texts.
COMPARISON_MODULES = ("tasks.dedup.verification.batches", "tasks.dedup.verification.verify")
# File of the data set: a digest per part of what its similarities depend on, in order.
PART_DIGESTS = "parts.json"


class ClusterTooLargeError(UserError):
    """A cluster or a bucket is so large that the input or the recipe must be wrong."""


def spec(
    ctx: Context,  # noqa: ARG001
    *,
    config: DedupConfig,
    documents: Sequence[Dataset],
    annotations: Sequence[Dataset] = (),
    removals: Sequence[Removal] = (),
) -> DatasetSpec:
    """Return the data set that these sources give, in the order of the recipe."""
    settings = {**config.to_json(), "unicode": UNICODE_VERSION}
    return DatasetSpec(
        STAGE, None, settings, (*documents, *annotations), fingerprint_input(removals)
    )


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    config: DedupConfig,
    documents: Sequence[Dataset],
    annotations: Sequence[Dataset] = (),
    removals: Sequence[Removal] = (),
) -> Dataset:
    """Find exact and near duplicates over all sources.

    Annotations are given if the recipe depends on languages. Removed documents count as absent.

    Returns:
        A data set whose part k is row-aligned with the k-th part of all ``documents``, and whose
        files ``verified_pairs-*`` and ``rejected_pairs-*`` hold every pair that was compared.

    Raises:
        ClusterTooLargeError: if a cluster or a bucket is larger than the recipe allows.
    """
    folder = ctx.storage.subdir(*spec.folder.split("/"))
    try:
        return open_dataset(folder)
    except DatasetNotFoundError:
        pass
    annotated: list[Dataset | None] = [*annotations] or [None] * len(documents)
    signatures = [
        build_signatures(ctx, config, source, columns)
        for source, columns in zip(documents, annotated, strict=True)
    ]
    part_groups = group_parts(
        documents,
        signatures,
        annotations,
        rows=DedupPlan.part_group_rows(config),
        scope=config.scope,
        removals=tuple(removals),
    )
    parts = [part for source in documents for part in source.parts]
    digests = [part.content for part in parts]
    if config.languages:  # annotations decide the shingles of a text
        languages = [part.content for source in annotations for part in source.parts]
        digests = [json_sha256(pair) for pair in zip(digests, languages, strict=True)]
    latest = ctx.storage.subdir(*LATEST_FOLDER.split("/"), ctx.recipe_name or "any")
    comparison_key = _comparison_key(config)
    previous, origin = _load_previous(ctx.storage, latest, comparison_key, parts, digests)
    bands, rows = config.banding

    def find_and_commit(work: Storage) -> Dataset:
        result = find_duplicates(ctx, part_groups, config, work, folder, previous)
        _check_sizes(config, result)
        units = [
            WorkUnit(json_sha256([part.content, labels]), (part, work, index), part.num_rows)
            for index, (part, labels) in enumerate(zip(parts, result.label_digests, strict=True))
        ]
        stats = {**result.stats, "bands": bands, "rows": rows, "curve": s_curve(bands, rows)}
        return build_dataset(
            ctx,
            spec,
            units,
            label_part,
            files={PART_DIGESTS: json.dumps(digests).encode()},
            existing_files=result.files,
            stats=lambda _: stats,
        )

    partitioning = [config.partition_bytes, origin]
    data = build_in_work_folder(ctx, spec, partitioning, find_and_commit)
    latest.write(f"{comparison_key}.json", json.dumps({"folder": spec.folder}).encode())
    return data


def label_part(part: PartRef, work: Storage, index: int) -> Iterator[PartResult]:
    """Put the duplicate labels of one part beside its ids."""
    table = part.table(["id", "url"])
    labels = read_table(work, labels_file(index))
    ledger = ledger_table(STAGE.name, table["id"].to_pylist(), urls=table["url"].to_pylist())
    yield PartResult(labels.add_column(0, "id", table["id"]), ledger)


def _comparison_key(config: DedupConfig) -> str:
    """Return a digest of what decides a similarity besides the two texts."""
    facts: list[object] = [config.ngram, config.shingle_unit, config.verification, UNICODE_VERSION]
    facts.append({language: way.to_json() for language, way in config.languages.items()})
    if config.verification == "signature":
        facts += [config.num_permutations, config.seed]
    return json_sha256([facts, code_digest(COMPARISON_MODULES, ())])[:FINGERPRINT_CHARS]


def _load_previous(
    storage: Storage,
    latest: Storage,
    comparison_key: str,
    parts: Sequence[PartRef],
    part_digests: Sequence[str],
) -> tuple[PreviousResult | None, str]:
    """Return the latest data set with this key and its fingerprint, if it has parts in common."""
    try:
        folder = json.loads(latest.read(f"{comparison_key}.json"))["folder"]
        data = open_dataset(storage.subdir(*folder.split("/")))
        raw = data.read(PART_DIGESTS)
        if bytes_sha256(raw) != data.manifest.files[PART_DIGESTS].sha256:
            log.warning(
                "%s/%s: changed; all pairs are compared anew", data.storage.url, PART_DIGESTS
            )
            return None, ""
        previous_digests = json.loads(raw)
    except (
        FileNotFoundError,
        ValueError,
        KeyError,
        TypeError,
        DatasetNotFoundError,
        IntegrityError,
    ):
        return None, ""
    start_of: dict[str, int] = {}
    starts = np.cumsum([0, *(part.num_rows for part in parts)])
    for digest, start in zip(part_digests, starts, strict=False):
        start_of.setdefault(digest, int(start))
    existing = {k: start_of[d] for k, d in enumerate(previous_digests) if d in start_of}
    if not existing:
        return None, ""
    files = sorted(name for name in data.manifest.files if name != PART_DIGESTS)
    records = [data.manifest.files[name] for name in files]
    return PreviousResult(data.storage, records, existing), data.fingerprint


def _check_sizes(config: DedupConfig, result: DedupResult) -> None:
    """Raise before anything is committed if a cluster or a bucket is too large."""
    largest = result.stats["largest_clusters"]
    listed = "; ".join(
        f"{cluster['documents']:,} documents with {_display_name(cluster['members'][0])}"
        for cluster in largest
    )
    context = f"The largest clusters: {listed or 'none'}. Nothing was committed"
    if largest and largest[0]["documents"] > config.max_cluster:
        raise ClusterTooLargeError(
            f"dedup: a cluster of {largest[0]['documents']:,} documents; dedup.max_cluster allows "
            f"{config.max_cluster:,}. If these really are duplicates, raise it. {context}"
        )
    if result.largest_bucket > config.max_bucket:
        raise ClusterTooLargeError(
            f"dedup: {result.largest_bucket:,} documents share one band; dedup.max_bucket allows "
            f"{config.max_bucket:,}. Look for boilerplate that all of them contain, use more rows, "
            f"or raise it. {context}"
        )


def _display_name(member: Mapping[str, object]) -> str:
    return str(member.get("url") or member.get("title") or member["id"])
